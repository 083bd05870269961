// fovea run: observes this machine until it is told to stop, and takes over a changed configuration meanwhile.

import { existsSync } from "node:fs";
import type { Command } from "commander";
import { createRequestCounts } from "../api/requests.ts";
import { type Assembly, assemble, type Surroundings } from "../assembly.ts";
import type { Config, ConfigInput } from "../config-schema.ts";
import { keepDoor } from "../door.ts";
import { createLog, errorText, type Log, type LogFormat, writeStderr } from "../log.ts";
import { keepObserving } from "../observing.ts";
import { places } from "../places.ts";
import { openRecorder } from "../recorder.ts";
import { openReplay } from "../replay.ts";
import {
  type LoadTime,
  loadSettings,
  type Settings,
  type SettingsWatch,
  watchSettings,
} from "../settings.ts";
import { createThrottle } from "../throttle.ts";
import { feedWatchdog, type Watchdog } from "../watchdog.ts";
import { configFileFlag, strayVariables } from "./config.ts";
import { createConfigStatus, type StatusKeeper } from "./config-status.ts";
import { configFlag, flag } from "./flags.ts";
import type { World } from "./world.ts";

export type RunOptions = {
  config?: string;
  dataDir?: string;
  listen?: string;
  replay?: string;
  replayLoop?: boolean;
  record?: string;
};

/** What else a process does that is not run from a terminal. */
export type RunHost = {
  /** Called before each reading of the configuration; throws for a file that must not be believed. */
  checkConfigFile(file: string): void;
  /** Keeps a line of the log. */
  write(line: string): void;
  /** Called when the configuration is known to be right, before anything is opened. */
  configured(): void;
};

const terminal: RunHost = {
  checkConfigFile: () => undefined, // It is the user's own process.
  write: writeStderr,
  configured: () => undefined,
};

/** The default file is watched even where it does not exist yet. */
export function configSource({ env }: Pick<World, "env">, { config, dataDir, listen }: RunOptions) {
  const file = config ?? places.configFile;
  const overrides: ConfigInput = {
    ...(dataDir === undefined ? {} : { dataDir }),
    ...(listen === undefined ? {} : { listen }),
  };
  const load = (time: LoadTime): Settings => {
    // One that was there and is gone is no default: it is told.
    const given = config !== undefined || time.inForce?.filled.includes(file) === true || existsSync(file);
    return loadSettings({ env, overrides, ...time, ...(given ? { file } : {}) });
  };
  return { file, load };
}

/** Lines that a person reads on a terminal are text. */
const formatOf = ({ err }: World, { log: { format } }: Config): LogFormat =>
  format === "auto" ? (err.columns === undefined ? "json" : "text") : format;

const openLog = (world: World, config: Config, { write }: RunHost): Log =>
  createLog({ level: config.log.level, format: formatOf(world, config), now: Date.now, write });

type Run = {
  readonly world: World;
  readonly log: Log;
  readonly surroundings: Surroundings;
  readonly poll: SettingsWatch["poll"];
  readonly keep: SettingsWatch["keep"];
  readonly status: StatusKeeper;
  readonly watchdog: Watchdog;
};

function inForceNow({ world, log, status }: Run, settings: Settings): void {
  log.setLevel(settings.config.log.level);
  log.setFormat(formatOf(world, settings.config));
  status.applied(settings);
}

const refuse = ({ log, status }: Run, error: unknown): void => {
  const problems = errorText(error).split("\n");
  status.refused(problems);
  log.warn("the changed configuration is refused; the one before stays in force", { problems });
};

/** Ticks until the stop, or until other parts are needed: for `next`, with `inForce` to go back to. */
async function runUntilChange(
  run: Run,
  assembly: Assembly,
  start: Settings,
): Promise<{ readonly inForce: Settings; readonly next: Settings | undefined }> {
  const { world, log, poll, watchdog } = run;
  const changed = new AbortController();
  let inForce = start;
  let next: Settings | undefined;
  let ready = false;
  const ticked = () => {
    watchdog.ticked(inForce.config.tick);
    if (!ready) world.notifier.ready(`observing; API at ${assembly.url}`);
    ready = true;
    const change = poll();
    if (change === undefined) return;
    if ("error" in change) return refuse(run, change.error);
    if (!assembly.apply(change.settings)) {
      next = change.settings;
      changed.abort();
      return;
    }
    inForce = change.settings;
    watchdog.ticked(inForce.config.tick); // The loop waits for as long from here on.
    inForceNow(run, inForce);
    log.info("the changed configuration is in force");
  };
  await assembly.run(AbortSignal.any([world.stop, changed.signal]), ticked);
  return { inForce, next: world.stop.aborted ? undefined : next };
}

/** Opens parts for the changed configuration; where that fails, for the one before. */
async function reassemble(
  run: Run,
  next: Settings,
  before: Settings,
): Promise<{ assembly: Assembly; settings: Settings }> {
  const { log, surroundings } = run;
  try {
    const assembly = await assemble(next, surroundings);
    inForceNow(run, next);
    log.info("the changed configuration is in force; its parts were opened anew", { url: assembly.url });
    return { assembly, settings: next };
  } catch (error) {
    refuse(run, error); // What keeps the old one from opening again as well ends the run.
    run.keep(before);
    return { assembly: await assemble(before, surroundings), settings: before };
  }
}

/** What the next assembly asks for in the same way stays open meanwhile. */
function foresee({ observing, door }: Surroundings, next: Settings | undefined): void {
  observing.foresee(next?.config);
  door.foresee(next?.config);
}

async function runAll(run: Run, first: Settings): Promise<void> {
  const { world, log, surroundings } = run;
  let settings = first;
  let assembly = await assemble(settings, surroundings);
  const { node } = settings.config;
  log.info("started", { version: world.build.version, node, url: assembly.url });
  for (;;) {
    let next: Settings | undefined;
    foresee(surroundings, undefined);
    {
      await using open = assembly;
      ({ inForce: settings, next } = await runUntilChange(run, open, settings));
      foresee(surroundings, next);
      if (next === undefined) world.notifier.stopping();
      else world.notifier.reloading();
    }
    if (next === undefined) return;
    ({ assembly, settings } = await reassemble(run, next, settings));
  }
}

/** Resolves after a stop, when everything is closed. */
export async function runAppliance(world: World, options: RunOptions, host: RunHost): Promise<void> {
  const { file, load: read } = configSource(world, options);
  const load: typeof read = (how) => {
    host.checkConfigFile(file);
    return read(how);
  };
  const { first, poll, keep } = watchSettings({ files: [file], load });
  const log = openLog(world, first.config, host);
  host.configured();
  const warnings = strayVariables(world.env);
  for (const warning of warnings) log.warn("a variable of the environment means nothing", { warning });
  const status = createConfigStatus({ file, warnings, log, first });
  const { replay, replayLoop = false } = options;
  const openBackend: World["openBackend"] =
    replay === undefined
      ? world.openBackend
      : () => Promise.resolve(openReplay({ file: replay, loop: replayLoop, now: Date.now }));
  using recorder =
    options.record === undefined ? undefined : openRecorder({ file: options.record, now: Date.now, log });
  const recorded: typeof openBackend = async (config, asked) => {
    const backend = await openBackend(config, asked);
    return recorder?.record(backend) ?? backend;
  };
  await using observing = keepObserving({ openBackend: recorded, now: Date.now, log });
  await using door = keepDoor({ log });
  const surroundings: Surroundings = {
    build: world.build,
    log,
    now: Date.now,
    startedAt: Date.now(),
    counts: createRequestCounts(),
    throttle: createThrottle({
      settings: first.throttle,
      elapsedMs: () => performance.now(),
      now: Date.now,
    }),
    observing,
    door,
    loadAddonLibraries: world.loadAddonLibraries,
    guard: world.guard,
    configStatus: status.status,
    runtimeDir: world.env["RUNTIME_DIRECTORY"]?.split(":")[0],
  };
  using watchdog = feedWatchdog({ notifier: world.notifier, elapsedMs: () => performance.now() });
  await runAll({ world, log, surroundings, poll, keep, status, watchdog }, first);
  log.info("stopped", { reason: errorText(world.stop.reason) });
  log.flush();
}

/** Of a console that goes, and of a container that is stopped, no signal tells everywhere. */
async function runInConsole(world: World, options: RunOptions): Promise<void> {
  const { stop, shutdownSignal } = world;
  const shutdown = shutdownSignal === undefined ? [] : [await shutdownSignal()];
  await runAppliance({ ...world, stop: AbortSignal.any([stop, ...shutdown]) }, options, terminal);
}

/** The flags of a run, which a service is installed with too. */
export const addRunFlags = (verb: Command): Command =>
  verb
    .addOption(configFileFlag())
    .addOption(configFlag("-d, --data-dir <dir>", `where the store is; ${places.dataDir}`, "FOVEA_DATA_DIR"))
    .addOption(
      configFlag("-l, --listen <host:port>", "where the API listens; 127.0.0.1:10093", "FOVEA_LISTEN"),
    )
    .addOption(flag("--replay <file>", "play this recording instead of observing", "FOVEA_REPLAY"))
    .addOption(flag("--replay-loop", "begin the recording again at its end", "FOVEA_REPLAY_LOOP"));

export function addRun(program: Command, world: World): void {
  const verb = program
    .command("run")
    .description("observe this machine and serve what is seen, until stopped");
  addRunFlags(verb)
    .addOption(flag("--record <file>", "write down all that is seen, to be played elsewhere", "FOVEA_RECORD"))
    .action((options: RunOptions) => runInConsole(world, options));
}
