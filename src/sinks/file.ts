// Writes flows and metrics to files in a directory, for sites where a disk is carried to whoever reads them.

// NDJSON of flows, OpenMetrics text of metrics; a file has the end .part while it grows. Each parcel is on the disk
// before it counts as stored. What is half written after a crash is cut off, and the file completed. One program alone
// writes to a directory. A directory below the mount point of a disk tells whether the disk is there.

import { errorCode } from "../store/failure.ts";
import type { EncoderSpec } from "./encoder.ts";
import { createFileDirectory } from "./file-directory.ts";
import { createFileLanes, type FileLanes, fileBytesMaxOf, laneOf } from "./file-lanes.ts";
import { createFileNames } from "./file-names.ts";
import { AbandonedError } from "./file-part.ts";
import { turnsIn } from "./file-turns.ts";
import type { FileSinkConfig } from "./schema.ts";
import type { Capability, Outcome, Parcel, Sink } from "./sink.ts";

const formats = { flows: "ndjson", metrics: "prometheus-text" } as const;

const capabilityOf = (config: FileSinkConfig): Capability => ({
  ageMaxMs: config.limits.ageMax ?? Number.POSITIVE_INFINITY,
  outOfOrderMs: config.limits.outOfOrder ?? Number.POSITIVE_INFINITY,
  spanMaxMs: config.limits.spanMax ?? Number.POSITIVE_INFINITY,
  recordsMax: config.limits.recordsMax || 10_000,
  bytesMax: config.limits.bytesMax || Math.min(4 * 2 ** 20, fileBytesMaxOf(config)),
});

/** What is wrong with the disk as a whole, by the code of the error, and what helps. */
const diskErrors: Readonly<Record<string, (directory: string) => string>> = {
  ENOENT: (directory) => `${directory} is not there: plug in its disk, or make it; it is never made here`,
  ENOTDIR: (directory) => `${directory} is no directory: name another one`,
  ENOSPC: (directory) => `the disk of ${directory} is full: take complete files away, or lower totalMax`,
  EDQUOT: (directory) => `the quota of ${directory} is used up: take complete files away, or lower totalMax`,
  EROFS: (directory) => `${directory} is read-only: mount its disk for writing`,
  EBUSY: (directory) => `another program has a file in ${directory} open: close it`,
  EACCES: (directory) => `may not write in ${directory}: give it to the user that Fovea runs as`,
  EPERM: (directory) => `may not write in ${directory}: give it to the user that Fovea runs as`,
};

/** After these the file is as it was before the parcel, and may grow once there is room again. */
const noRoom = /^(ENOSPC|EDQUOT)$/;

const again = (message: string): Outcome => ({ kind: "again", code: "disk", reason: "disk", message });

function failure(error: unknown, directory: string): Outcome {
  const cause = error instanceof AbandonedError ? error.cause : error;
  const code = errorCode(cause);
  const said = code === "unknown" && cause instanceof Error ? cause.message.split("\n")[0] : code;
  return again(diskErrors[code]?.(directory) ?? `could not write in ${directory}: ${said}; check its disk`);
}

/** Appends a parcel to the file of its lane. Never throws. */
async function store(parcel: Parcel, abort: AbortSignal, lanes: FileLanes, late: Outcome): Promise<Outcome> {
  const lane = laneOf(parcel);
  if (abort.aborted) return late;
  try {
    const open = await lanes.fileFor(parcel);
    if (await open.file.append(parcel.body, () => !abort.aborted)) {
      lanes.appended(lane, parcel);
      return { kind: "stored", code: "ok" };
    }
    // A file that was begun for it alone is none.
    await lanes.failed(lane, true);
    return late;
  } catch (error) {
    await lanes.failed(lane, noRoom.test(errorCode(error)));
    return failure(error, lanes.directory);
  }
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });

/** What `work` came to, or that it takes too long, which it is told by the signal: then nothing of it is kept. */
async function within(
  ms: number,
  abort: AbortSignal,
  { work, late, silent }: { work: (abort: AbortSignal) => Promise<Outcome>; late: Outcome; silent: Outcome },
): Promise<Outcome> {
  const { promise, resolve } = Promise.withResolvers<Outcome>();
  const giveUp = new AbortController();
  const end = (outcome: Outcome): void => {
    giveUp.abort();
    resolve(outcome);
  };
  const onAbort = (): void => end(late);
  const timer = setTimeout(() => end(silent), ms);
  abort.addEventListener("abort", onAbort, { once: true });
  if (abort.aborted) onAbort();
  try {
    return await Promise.race([work(giveUp.signal), promise]);
  } finally {
    clearTimeout(timer);
    abort.removeEventListener("abort", onAbort);
  }
}

export type FileSinkOptions = {
  readonly config: FileSinkConfig;
  readonly identity: Pick<EncoderSpec, "node" | "cluster" | "version">;
  readonly now: () => number;
  /** The oldest complete files begin to give way. */
  readonly onRemoval?: () => void;
  /** Of one parcel, milliseconds. */
  readonly timeoutMs?: number;
  readonly openLanes?: typeof createFileLanes;
};

/** A disk that spins up takes some seconds. */
const answerMs = 30_000;

export function createFileSink({
  config,
  identity,
  now,
  onRemoval = () => {},
  timeoutMs = answerMs,
  openLanes = createFileLanes,
}: FileSinkOptions): Sink {
  const { compress, externalLabels, signals, totalMax } = config;
  const capability = capabilityOf(config);
  const { exclusive, idle } = turnsIn(config.directory);
  const names = createFileNames({ directory: config.directory, node: identity.node, compress });
  const isOfDisk = (error: unknown): boolean => errorCode(error) in diskErrors;
  const directory = createFileDirectory({
    ...{ directory: config.directory, names, packed: compress, totalMax, isOfDisk, onRemoval },
  });
  const lanes = openLanes({ config, directory, now, exclusive });
  const late = again(`${config.directory} did not take the data in time`);
  const silent = again(`${config.directory} did not answer within ${timeoutMs / 1000} s; check its disk`);
  let closed = false;
  const tidyFirst = async (): Promise<void> => {
    try {
      await lanes.tidy();
    } catch {
      // The disk may not be there yet. The first parcel tries again, and tells.
    }
  };
  void exclusive(tidyFirst);
  return {
    signals,
    capability: () => capability,
    encoder: (signal) => ({ format: formats[signal], ...identity, externalLabels, options: { compress } }),
    async send(parcel, abort) {
      if (closed) return again(`${config.directory} is closed: Fovea stops`);
      // Nothing but ends of series, which the text has no line for.
      if (parcel.body.length === 0) return { kind: "stored", code: "ok" };
      const work = async (giveUp: AbortSignal): Promise<Outcome> => {
        // Behind a disk that hangs no parcels pile up, nor does what waits for it to come back.
        await Promise.race([idle(), aborted(giveUp)]);
        return giveUp.aborted || closed ? late : await exclusive(() => store(parcel, giveUp, lanes, late));
      };
      return await within(timeoutMs, abort, { work, late, silent });
    },
    facts: () => ({ target: config.directory, tokenErrors: 0, files: { ...directory.counts } }),
    async [Symbol.asyncDispose]() {
      closed = true;
      await exclusive(lanes.completeAll);
    },
  };
}
