// The worker's entry point: reads performance counters, whose providers may block this thread for as long as they like.

import { parentPort } from "node:worker_threads";
import { openPerformanceCounters, type PerformanceCounters } from "./performance-counters.ts";
import type { PerformanceReply } from "./performance-thread.ts";
import { LibraryError } from "./system.ts";

/** Sets of counters come and go with the switch's extension; a query knows those of the time when it was opened. */
const openMsMax = 10 * 60_000;

let counters: PerformanceCounters | undefined;
let openedAtMs = 0;

function close(): void {
  counters?.[Symbol.dispose]();
  counters = undefined;
}

function reply(): PerformanceReply {
  try {
    if (performance.now() - openedAtMs > openMsMax) close();
    if (counters === undefined) {
      counters = openPerformanceCounters();
      openedAtMs = performance.now();
    }
    const ports = counters?.read();
    return ports === undefined ? { absent: "no set of performance counters is of the switch" } : { ports };
  } catch (error) {
    close();
    const message = error instanceof Error ? error.message : `${error}`;
    return error instanceof LibraryError ? { absent: message } : { failure: message };
  }
}

parentPort?.on("message", () => parentPort?.postMessage(reply()));
