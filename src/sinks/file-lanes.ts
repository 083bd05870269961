// The files of a file sink that grow: one a signal and lane, each ended by its size, its age, or a step back in time.

import type { FileDirectory } from "./file-directory.ts";
import type { GrowingFile } from "./file-part.ts";
import type { FileSinkConfig } from "./schema.ts";
import type { Parcel } from "./sink.ts";

/** What is complete, and may be carried away, is to be most of what may be there. */
const filesOfTotal = 4;

const timerMaxMs = 2 ** 31 - 1;

export const fileBytesMaxOf = ({ fileBytesMax, totalMax }: FileSinkConfig): number =>
  Math.min(fileBytesMax, Math.floor(totalMax / filesOfTotal));

/** Live data and a backlog that are sent by turns have a file each: samples must rise in time within a file. */
export const laneOf = ({ signal, lane }: Parcel): string => `${signal} ${lane}`;

type Open = {
  readonly name: string;
  readonly file: GrowingFile;
  readonly begunAt: number;
  readonly timer: NodeJS.Timeout;
  /** First time of the parcel before. */
  firstAt: number;
};

export type FileLanes = {
  readonly directory: string;
  /** Where a parcel is to be appended to. Throws what the disk says. */
  fileFor(parcel: Parcel): Promise<{ readonly file: GrowingFile }>;
  /** The parcel is on the disk. */
  appended(lane: string, parcel: Parcel): void;
  /** It is not. `whole`: the file of the lane is as it was before. */
  failed(lane: string, whole: boolean): Promise<void>;
  /** Completes what a crash left, and removes what is too much. Throws what the disk says. */
  tidy(): Promise<void>;
  completeAll(): Promise<void>;
};

/** `exclusive` lets nothing else happen in the directory: all that is asynchronous here is called from within it. */
export function createFileLanes({
  config,
  directory,
  now,
  exclusive,
}: {
  readonly config: FileSinkConfig;
  readonly directory: FileDirectory;
  readonly now: () => number;
  readonly exclusive: (work: () => Promise<void>) => Promise<void>;
}): FileLanes {
  const fileBytesMax = fileBytesMaxOf(config);
  const lanes = createOpenFiles();
  let tidied = false;

  const tidy = async (): Promise<void> => {
    if (tidied) return;
    await directory.finishLeftovers(lanes.names());
    await directory.prune();
    tidied = true;
  };

  const end = async (lane: string, open: Open): Promise<void> => {
    if (lanes.get(lane) !== open) return;
    tidied = false;
    try {
      await open.file.complete();
      directory.counts.completed++;
      await lanes.leave(lane);
      await tidy();
    } catch {
      // All that it lacks is its name. The next parcel meets the same error, and tells it; or the next start does it.
      await lanes.leave(lane);
    }
  };

  const begin = async (lane: string, parcel: Parcel): Promise<Open> => {
    const { name, file } = await directory.begin(parcel);
    const endLater = () => void exclusive(() => end(lane, open));
    const timer = setTimeout(endLater, Math.min(config.fileAgeMax, timerMaxMs)).unref();
    const open: Open = { name, file, begunAt: now(), timer, firstAt: parcel.firstAt };
    lanes.set(lane, open);
    return open;
  };

  const fits = (open: Open, { body, lastAt }: Parcel): boolean =>
    open.file.bytes + body.length <= fileBytesMax &&
    now() - open.begunAt < config.fileAgeMax &&
    lastAt >= open.firstAt;

  return {
    directory: config.directory,
    tidy,
    async fileFor(parcel) {
      const lane = laneOf(parcel);
      const open = lanes.get(lane);
      if (open !== undefined && !(await open.file.isThere())) {
        tidied = false;
        await lanes.leave(lane);
      } else if (open !== undefined && !fits(open, parcel)) await end(lane, open);
      await tidy();
      return lanes.get(lane) ?? (await begin(lane, parcel));
    },
    appended(lane, { firstAt }) {
      const open = lanes.get(lane);
      if (open === undefined) return;
      open.firstAt = firstAt;
      // After the answer: what is stored does not wait for it.
      if (open.file.bytes >= fileBytesMax) void exclusive(() => end(lane, open));
    },
    async failed(lane, whole) {
      tidied = false;
      if (!whole || lanes.get(lane)?.file.bytes === 0) await lanes.leave(lane);
    },
    async completeAll() {
      for (const [lane, open] of lanes.all()) await end(lane, open);
    },
  };
}

function createOpenFiles() {
  const lanes = new Map<string, Open>();
  return {
    get: (lane: string) => lanes.get(lane),
    set: (lane: string, open: Open) => lanes.set(lane, open),
    all: () => [...lanes],
    names: (): ReadonlySet<string> => new Set(lanes.values().map(({ name }) => name)),
    /** It is a leftover from now on, unless it is complete. */
    async leave(lane: string): Promise<void> {
      const open = lanes.get(lane);
      if (open === undefined) return;
      lanes.delete(lane);
      clearTimeout(open.timer);
      try {
        await open.file.abandon();
      } catch {
        // The disk is gone; what it had is on it.
      }
    },
  };
}
