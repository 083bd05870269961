// The write-ahead log beside the file: how much of it is in use, and writing it back before it grows too large.

import type { Budget } from "./retention.ts";
import { pageBytes } from "./schema.ts";
import { busyMs, type Database } from "./sqlite.ts";

export type LogFile = {
  /** Makes sure that a transaction of so many bytes fits. Throws when an outside reader keeps the log from shrinking. */
  fit(bytes: number): void;
  /** A transaction was committed that added at most so many bytes. */
  grew(bytes: number): void;
  /** Writes the log back into the file when it is due, or at once. Throws when it cannot. */
  checkpoint(options?: { readonly now: boolean }): void;
  readonly lastCheckpointMs: number;
  /** Since the file was opened. */
  readonly checkpoints: Checkpoints;
};

export type Checkpoints = { readonly count: number; readonly seconds: number };

/** The log is full and a reader outside keeps it from being written back. */
class LogFullError extends Error {
  readonly code = "SQLITE_BUSY_LOG";
}

/** The log is synced when it is written back: what a power cut may take is no older than this. */
const syncMs = 60_000;

/** Longer than our own queries read at once, and those of most people with a SQLite shell. */
const readerMs = 1000;
/** Who reads for longer than that may read for hours: until the log could be written back, the next wait is so far off. */
const waitAgainMs = 60_000;

/** A frame of the log: a page and its header. */
export const frameBytes = pageBytes + 24;

// The size of the log file says nothing: it is overwritten from its beginning, and kept at its largest so that it has
// its place on a disk that fills up. Reading the shared index beside it would drop SQLite's own locks (POSIX: closing
// any descriptor of a file gives up all locks that the process has on it). So the use is an upper estimate.
export function openLogFile({
  database,
  budget,
  nowMs = () => performance.now(),
}: {
  readonly database: Pick<Database, "memory" | "pragma">;
  readonly budget: Budget;
  /** Monotonic. */
  readonly nowMs?: () => number;
}): LogFile {
  let usedBytes = 0;
  let lastCheckpointMs = 0;
  let writtenBackMs = nowMs();
  let vainMs = Number.NEGATIVE_INFINITY; // When readers were waited for in vain.
  let checkpoints: Checkpoints = { count: 0, seconds: 0 };

  /** `waitMs`: how long readers of what is in the log are waited for, with the thread. */
  const writeBack = (waitMs: number): void => {
    const started = nowMs();
    database.pragma(`busy_timeout = ${waitMs}`);
    try {
      const [result] = database.pragma("wal_checkpoint(RESTART)") as [{ busy: number; log: number }];
      // Unless a reader is in it, the next write starts the log from its beginning.
      usedBytes = result.busy === 0 ? 0 : result.log * frameBytes;
      if (result.busy === 0) vainMs = Number.NEGATIVE_INFINITY;
    } finally {
      database.pragma(`busy_timeout = ${busyMs}`);
    }
    writtenBackMs = nowMs();
    lastCheckpointMs = writtenBackMs - started;
    const { count, seconds } = checkpoints;
    checkpoints = { count: count + 1, seconds: seconds + lastCheckpointMs / 1000 };
  };

  return {
    checkpoint({ now } = { now: false }) {
      const old = usedBytes > 0 && nowMs() - writtenBackMs >= syncMs;
      if (!database.memory && (now || old || usedBytes >= budget.checkpointAt)) writeBack(0);
    },
    fit(bytes) {
      if (database.memory || usedBytes + bytes <= budget.walMax) return;
      const waits = nowMs() - vainMs >= waitAgainMs;
      writeBack(waits ? readerMs : 0); // Better late than without the rows.
      if (usedBytes + bytes <= budget.walMax) return;
      if (waits) vainMs = nowMs();
      throw new LogFullError(
        "The write-ahead log is full: another program reads the store in one long transaction.",
      );
    },
    grew(bytes) {
      usedBytes += bytes;
    },
    get lastCheckpointMs() {
      return lastCheckpointMs;
    },
    get checkpoints() {
      return checkpoints;
    },
  };
}
