// fovea run: observes this machine until it is told to stop, and takes over a changed configuration meanwhile.

import { existsSync } from "node:fs";
import type { Command } from "commander";
import { createRequestCounts } from "../api/requests.ts";
import { type Assembly, assemble, type Surroundings } from "../assembly.ts";
import type { Config, ConfigInput } from "../config-schema.ts";
import { createLog, errorText, type Log, writeStderr } from "../log.ts";
import { places } from "../places.ts";
import { openReplay } from "../replay.ts";
import {
  type LoadTime,
  loadSettings,
  type Settings,
  type SettingsChange,
  watchSettings,
} from "../settings.ts";
import { createThrottle } from "../throttle.ts";
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

function openLog({ err }: World, { log: { level, format } }: Config, { write }: RunHost): Log {
  const shown = format === "auto" ? (err.columns === undefined ? "json" : "text") : format;
  return createLog({ level, format: shown, now: Date.now, write });
}

type Run = {
  readonly world: World;
  readonly log: Log;
  readonly surroundings: Surroundings;
  readonly poll: () => SettingsChange | undefined;
  readonly status: StatusKeeper;
};

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
  const { world, log, poll, status } = run;
  const changed = new AbortController();
  let inForce = start;
  let next: Settings | undefined;
  let ready = false;
  const ticked = () => {
    world.notifier.watchdog();
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
    status.applied(inForce);
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
  const { log, surroundings, status } = run;
  try {
    const assembly = await assemble(next, surroundings);
    log.setLevel(next.config.log.level);
    status.applied(next);
    log.info("the changed configuration is in force; its parts were opened anew", { url: assembly.url });
    return { assembly, settings: next };
  } catch (error) {
    refuse(run, error); // What keeps the old one from opening again as well ends the run.
    return { assembly: await assemble(before, surroundings), settings: before };
  }
}

async function runAll(run: Run, first: Settings): Promise<void> {
  const { world, log, surroundings } = run;
  let settings = first;
  let assembly = await assemble(settings, surroundings);
  const { node } = settings.config;
  log.info("started", { version: world.build.version, node, url: assembly.url });
  for (;;) {
    let next: Settings | undefined;
    {
      await using open = assembly;
      ({ inForce: settings, next } = await runUntilChange(run, open, settings));
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
  const { first, poll } = watchSettings({ files: [file], load });
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
    openBackend,
    loadAddonLibraries: world.loadAddonLibraries,
    configStatus: status.status,
    runtimeDir: world.env["RUNTIME_DIRECTORY"]?.split(":")[0],
  };
  await runAll({ world, log, surroundings, poll, status }, first);
  log.info("stopped");
  log.flush();
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
  addRunFlags(verb).action((options: RunOptions) => runAppliance(world, options, terminal));
}
