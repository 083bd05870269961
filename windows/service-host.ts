// The process of a service under the service manager: what it reports when, and how a stop reaches what it does.

import { setTimeout as wait } from "node:timers/promises";
import { type Report, statusWords } from "./service-status.ts";
import { addressOf, loadThunk, systemAddresses, type Thunk } from "./service-thunk.ts";
import { type Address, messageOf, openLibrary } from "./system.ts";

export type Hosted = {
  /** Aborts when the service is asked to stop. */
  readonly stop: AbortSignal;
  /** To be called as soon as it is sure that the service can run; before, it is still starting. */
  running(): void;
};

/** This process was started by somebody else. */
export class NotHostedError extends Error {}

export type HostOptions = {
  readonly name: string;
  /** What the service does; resolves with its exit code. */
  readonly work: (hosted: Hosted) => Promise<number>;
  /** So long may a stop take; then what is left of the work is given up. */
  readonly stopMs: number;
  readonly overdue: () => void;
};

// The service manager gives up on a service that has not called it within 30 s.
const enterMs = 30_000;
const enterPollMs = 5;
const controlPollMs = 100;
const checkpointMs = 1000;
/** What JavaScript has for the end of the work, and a bit more: then native code ends the process. */
const graceMs = 5000;

const openCalls = () => ({
  ...openLibrary("kernel32.dll", {
    CreateThread: { args: ["ptr", "usize", "ptr", "ptr", "u32", "ptr"], returns: "ptr" },
    WaitForSingleObject: { args: ["ptr", "u32"], returns: "u32" },
  }).symbols,
  ...openLibrary("advapi32.dll", { SetServiceStatus: { args: ["ptr", "ptr"], returns: "i32" } }).symbols,
});
type Calls = ReturnType<typeof openCalls>;

/** StartServiceCtrlDispatcherW has the shape of a thread's routine, and blocks until the service has stopped. */
function startDispatcher(calls: Calls, { table }: Thunk): Address {
  const dispatcher = addressOf("advapi32.dll", "StartServiceCtrlDispatcherW");
  const thread = calls.CreateThread(null, 0, dispatcher, table, 0, null);
  if (thread === null) throw new Error("CreateThread has no thread for the service manager");
  return thread;
}

const hasEnded = (calls: Calls, thread: Address, withinMs = 0): boolean =>
  calls.WaitForSingleObject(thread, withinMs) === 0;

/** Resolves with the handle that statuses are reported with. */
async function enter(calls: Calls, thunk: Thunk, thread: Address): Promise<Address> {
  const startMs = performance.now();
  while (!thunk.entered()) {
    if (hasEnded(calls, thread))
      throw new NotHostedError(
        "service run is for the service manager alone: use fovea service start, or fovea run in a console",
      );
    if (performance.now() - startMs > enterMs)
      throw new Error(`the service manager has not called within ${enterMs / 1000} s`);
    await wait(enterPollMs);
  }
  const handle = thunk.handle();
  if (handle === undefined)
    throw new Error(`the service manager takes no handler: ${messageOf(thunk.failure())}`);
  return handle;
}

/** Aborts `stopping` on the control, and reports meanwhile that the stop goes on. Resolves when `stopMs` are over. */
async function watch(options: {
  readonly thunk: Thunk;
  readonly report: (report: Report) => void;
  readonly stopping: AbortController;
  readonly done: AbortSignal;
  readonly stopMs: number;
}): Promise<"overdue" | "done"> {
  const { thunk, report, stopping, done, stopMs } = options;
  try {
    while (thunk.control() === 0) await wait(controlPollMs, undefined, { signal: done });
    const startMs = performance.now();
    stopping.abort(new Error("stopped by the service manager"));
    const leftMs = () => stopMs - (performance.now() - startMs);
    // The first was reported by the handler.
    for (let checkpoint = 2; leftMs() > 0; checkpoint++) {
      await wait(Math.min(checkpointMs, leftMs()), undefined, { signal: done });
      report({ state: "stop-pending", checkpoint, waitHintMs: stopMs + graceMs });
    }
    return "overdue";
  } catch (error) {
    if (done.aborted) return "done";
    throw error;
  }
}

/**
 * Resolves with the exit code after STOPPED was reported. A stop that was asked for ends with 0 whatever it came to: the
 * service manager would take any other code for a failure, and start the service again.
 */
export async function hostService({ name, work, stopMs, overdue }: HostOptions): Promise<number> {
  const calls = openCalls();
  const waitHintMs = stopMs + graceMs;
  const thunk = loadThunk({ name, called: systemAddresses(), endMs: waitHintMs, waitHintMs });
  const thread = startDispatcher(calls, thunk);
  const handle = await enter(calls, thunk, thread);
  const report = (status: Report) => {
    calls.SetServiceStatus(handle, statusWords(status));
  };
  const stopping = new AbortController();
  const done = new AbortController();
  const watched = watch({ thunk, report, stopping, done: done.signal, stopMs });
  const running = () => report({ state: "running" });
  const first = await Promise.race([work({ stop: stopping.signal, running }), watched]);
  if (typeof first !== "number") overdue();
  done.abort();
  const exitCode = stopping.signal.aborted || typeof first !== "number" ? 0 : first;
  report({ state: "stopped", exitCode });
  hasEnded(calls, thread, 1000); // It returns as soon as it has seen the report.
  return exitCode;
}
