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
    if (!(await open.file.append(parcel.body, () => !abort.aborted))) return late;
    lanes.appended(lane, parcel);
    return { kind: "stored", code: "ok" };
  } catch (error) {
    await lanes.failed(lane, noRoom.test(errorCode(error)));
    return failure(error, lanes.directory);
  }
}

/** What `work` came to, or that it takes too long: then nothing of it is kept. */
async function unlessAborted(work: Promise<Outcome>, abort: AbortSignal, late: Outcome): Promise<Outcome> {
  const { promise, resolve } = Promise.withResolvers<Outcome>();
  const onAbort = (): void => resolve(late);
  abort.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    abort.removeEventListener("abort", onAbort);
  }
}

/** One thing after the other. */
function createTurns(): <T>(work: () => Promise<T>) => Promise<T> {
  let turn: Promise<unknown> = Promise.resolve();
  return (work) => {
    const done = turn.then(work);
    turn = Promise.allSettled([done]);
    return done;
  };
}

export function createFileSink({
  config,
  identity,
  now,
}: {
  readonly config: FileSinkConfig;
  readonly identity: Pick<EncoderSpec, "node" | "cluster" | "version">;
  readonly now: () => number;
}): Sink {
  const { compress, externalLabels, signals, totalMax } = config;
  const capability = capabilityOf(config);
  const exclusive = createTurns();
  const names = createFileNames({ directory: config.directory, node: identity.node, compress });
  const isOfDisk = (error: unknown): boolean => errorCode(error) in diskErrors;
  const directory = createFileDirectory({
    ...{ directory: config.directory, names, packed: compress, totalMax, isOfDisk },
  });
  const lanes = createFileLanes({ config, directory, now, exclusive });
  const late = again(`${config.directory} did not take the data in time`);
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
      const work = exclusive(() => store(parcel, abort, lanes, late));
      return await unlessAborted(work, abort, late);
    },
    facts: () => ({ target: config.directory, tokenErrors: 0, files: { ...directory.counts } }),
    async [Symbol.asyncDispose]() {
      closed = true;
      await exclusive(lanes.completeAll);
    },
  };
}
