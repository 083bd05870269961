// Fovea as a service of Windows: what it is called, how it is installed, and what its process does around the appliance.

import { existsSync, lstatSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import type { InstallOptions, ServiceFacts, ServiceProcess, Services } from "../src/cli/world.ts";
import { ConfigError } from "../src/config.ts";
import { createLog, errorText, type Log } from "../src/log.ts";
import { places } from "../src/places.ts";
import { type EventName, registerEventSource, removeEventSource, writeEvent } from "./event-log.ts";
import { pathProblem } from "./file-access.ts";
import { administrator, takeOver } from "./file-owner.ts";
import { checkDirectory, checkTree, closeDataDir, isWithin, makePrivate } from "./private-directory.ts";
import { hostService, NotHostedError } from "./service-host.ts";
import { openServiceLog } from "./service-log.ts";
import {
  commandLine,
  createServiceWithin,
  deleteService,
  ERROR_ACCESS_DENIED,
  ERROR_DOES_NOT_EXIST,
  failure,
  ServiceError,
  serviceStatus,
  startService,
  stopService,
  waitForExit,
} from "./service-manager.ts";

const name = "Fovea";
const home = dirname(places.configFile);
const logFile = join(home, "logs", "fovea.log");
const logBytesMax = 10 * 2 ** 20;
const logFilesMax = 5;

/** What is on its way to an upstream may end by itself for some seconds. */
const stopMs = 20_000;
/** Longer than a stop, which ends the process in the end. */
const waitMs = 40_000;

const exitCodes = { failed: 1, configuration: 2 } as const;

/** The built program alone: from source, a service would need the checkout and Bun. */
function ownProgram(): string {
  const program = process.execPath;
  if (/^bun(-\w+)?(\.exe)?$/i.test(basename(program)))
    throw new Error("a service is made of the built program: run fovea.exe service install");
  return program;
}

/** Throws a ConfigError where a user could have written what the service would do, or could put it elsewhere. */
function checkConfigFile(file: string): void {
  if (lstatSync(file, { throwIfNoEntry: false }) === undefined) return;
  const found = pathProblem(file, { self: administrator() });
  if (found === undefined) return;
  const where = found.path === file ? "" : `${found.path} `;
  throw new ConfigError([{ file, key: "", message: `${where}${found.problem}` }]);
}

/** Throws where a user could put a program of his own in the place of ours, or a library beside it. */
function checkProgram(program: string): void {
  const found = pathProblem(program, { self: administrator(), beside: true });
  if (found === undefined) return;
  throw new Error(
    `the service would run ${program} as SYSTEM, but ${found.path} ${found.problem}: ` +
      "copy it to a directory Fovea in %ProgramFiles% first, and install it from there",
  );
}

function checkInstall(configFile: string): void {
  // To others everything of an administrator is somebody else's.
  if (administrator() === undefined) throw failure("installed", name, ERROR_ACCESS_DENIED);
  checkProgram(ownProgram());
  checkTree(home);
  checkConfigFile(configFile);
}

function closeDirectories(configFile: string, dataDir: string): void {
  makePrivate(home);
  const data = resolve(home, dataDir); // The service's working directory.
  if (!isWithin(home, data)) closeDataDir(data);
  takeOver(configFile, administrator());
}

/** So long a service that was deleted is waited for: whoever has it open may let go. */
const goneMs = 10_000;

async function install(options: InstallOptions): Promise<readonly string[]> {
  const { args, configFile, dataDir, takeOver: taken } = options;
  const definition = {
    name,
    displayName: "Fovea network observability",
    description:
      "Counts the packets of this node's containers and interfaces, keeps them, and serves them as metrics.",
    commandLine: commandLine(ownProgram(), args),
    preshutdownMs: waitMs,
  };
  const { isNew, unset } = await createServiceWithin(definition, { takeOver: taken, withinMs: goneMs });
  try {
    registerEventSource(name);
    closeDirectories(configFile, dataDir);
  } catch (error) {
    if (isNew) deleteService(name); // Half a service is none.
    throw error;
  }
  return unset;
}

const isAbsent = (error: unknown): boolean =>
  error instanceof ServiceError && error.code === ERROR_DOES_NOT_EXIST;

/** False when there was none. */
async function remove(): Promise<boolean> {
  try {
    const { pid } = serviceStatus(name);
    const { state } = await stopService(name, waitMs);
    if (state !== "stopped")
      throw new Error(`the service is ${state} and does not stop; end process ${pid} and try again`);
    deleteService(name);
    if (pid !== undefined) await waitForExit(pid, waitMs);
    return true;
  } catch (error) {
    if (!isAbsent(error)) throw error;
    return false;
  }
}

/** Its program can be replaced when it resolves. */
async function stop(): Promise<ServiceFacts> {
  const { pid } = serviceStatus(name);
  const facts = await stopService(name, waitMs);
  if (facts.state === "stopped" && pid !== undefined) await waitForExit(pid, waitMs);
  return facts;
}

async function uninstall(): Promise<boolean> {
  const was = await remove();
  removeEventSource(name);
  return was;
}

/** An event that cannot be written stands in the log at least. */
const createTeller =
  (log: Log) =>
  (event: EventName, text: string): void => {
    try {
      writeEvent(name, event, text);
    } catch (error) {
      log.warn("the event log cannot be written", { event, error: errorText(error) });
    }
  };

type Teller = ReturnType<typeof createTeller>;

/** Before the process ends by a mistake of ours. The service manager then finds it gone, and starts it again. */
function tellCrashes(tell: Teller, log: Log): void {
  const crashed = (error: unknown) => {
    log.error("internal error", { error: error instanceof Error ? (error.stack ?? error.message) : error });
    tell("crashed", `Fovea ends because of a mistake of its own: ${errorText(error)}`);
  };
  process.prependListener("uncaughtException", crashed);
  process.prependListener("unhandledRejection", crashed);
}

type Work = (service: ServiceProcess) => Promise<void>;

/** Runs the work; what it throws is told. Resolves with the exit code. */
async function attempt(work: () => Promise<void>, tell: Teller, log: Log): Promise<number> {
  try {
    await work();
    tell("stopped", "Fovea has stopped, and kept its last rows.");
    return 0;
  } catch (error) {
    const event = error instanceof ConfigError ? "configuration" : "failed";
    const why = errorText(error);
    log.error("the service ends", { error: why });
    tell(event, `Fovea ends: ${why}`);
    return exitCodes[event];
  }
}

function createNotifier(tell: Teller, version: string): ServiceProcess["notifier"] {
  const none = () => undefined;
  let told = false; // It is ready again after each change of the configuration.
  const ready = (status = "") => {
    if (!told) tell("started", `Fovea ${version} runs: ${status}`);
    told = true;
  };
  return { ready, reloading: none, stopping: none, status: none, watchdog: none };
}

/** A directory that is there is as the administrator wants it, unless a user has made it since. */
function enterHome(): void {
  if (existsSync(home)) checkDirectory(home);
  else makePrivate(home);
  process.chdir(home); // Relative paths must not lead into System32.
}

async function serve(work: Work, version: string): Promise<number> {
  using file = openServiceLog({ file: logFile, bytesMax: logBytesMax, filesMax: logFilesMax, now: Date.now });
  let entered = false;
  // What is told before goes to the event log alone: the directory may be somebody else's.
  const write = (line: string) => {
    if (entered) file.write(line);
  };
  const log = createLog({ level: "info", format: "json", now: Date.now, write });
  const tell = createTeller(log);
  const hosted = (stop: AbortSignal, running: () => void) => async () => {
    tellCrashes(tell, log);
    enterHome();
    entered = true;
    await work({ stop, notifier: createNotifier(tell, version), write, running });
  };
  try {
    return await hostService({
      name,
      stopMs,
      work: ({ stop, running }) => attempt(hosted(stop, running), tell, log),
      overdue: () => {
        log.error("the stop took too long; what was not yet kept is lost", { afterMs: stopMs });
        tell(
          "overdue",
          `Fovea did not stop within ${stopMs / 1000} s and was ended: its last rows are lost.`,
        );
      },
    });
  } catch (error) {
    if (!(error instanceof NotHostedError)) tell("failed", `Fovea cannot serve: ${errorText(error)}`);
    throw error;
  }
}

export const openFoveaService = ({ version }: { readonly version: string }): Services => ({
  checkInstall,
  checkConfigFile,
  install,
  uninstall,
  start: () => startService(name, waitMs),
  stop,
  status: () => serviceStatus(name),
  serve: (work) => serve(work, version),
  logFile,
});
