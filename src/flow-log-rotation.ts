// The rotated files of the flow log: their names, how many are kept and for how long, and their compression.

import {
  constants,
  copyFileSync,
  createReadStream,
  createWriteStream,
  existsSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
} from "node:fs";
import { open, rename, rm } from "node:fs/promises";
import { basename, dirname, join, parse } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { errorCode } from "./store/failure.ts";

export type RotationOptions = {
  readonly file: string;
  /** Rotated files that are kept. */
  readonly filesMax: number;
  /** A rotated file is removed when it was rotated, or its last line written, so long ago. */
  readonly ageMaxMs: number;
  readonly compress: boolean;
  readonly now: () => number;
  /** Told of the first of a row of failures to remove or to compress; nothing is lost by them. */
  readonly failed: (error: unknown) => void;
};

export type RotationFacts = {
  /** Rotated files that are there. */
  readonly files: number;
  readonly rotations: number;
  /** Rotated files that were removed, by what they were too many or too old for. */
  readonly removed: Readonly<Record<"count" | "age", number>>;
  readonly compressed: number;
  /** Failures to remove or to compress. Each is tried again, at the next rotation or an hour later. */
  readonly failures: number;
};

export type Rotation = AsyncDisposable & {
  /** Gives the file, which must be closed, its rotated name. Throws when it cannot. */
  rotate(): void;
  /** To be called now and then: removes what is too old, clears up after a crash, compresses what is not. */
  tend(): void;
  facts(): RotationFacts;
};

const tendMs = 3_600_000;

/** One rotated file: the names below one stamp that are there. */
type Rotated = {
  /** The time of the stamp, which may be ahead of the clock. */
  readonly at: number;
  readonly stamp: string;
  readonly plain: boolean;
  readonly packed: boolean;
};

export function createRotation(options: RotationOptions): Rotation {
  const { file, compress, now } = options;
  const names = namesOf(file);
  const removal = createRemoval({ ...options, names });
  const stopping = new AbortController();
  let rotations = 0;
  let compressed = 0;
  let failures = 0;
  let failing = false;
  let tendedAt: number | undefined;
  let packing: Promise<void> | undefined;

  const complain = (error: unknown): void => {
    failures++;
    if (!failing) options.failed(error);
    failing = true;
  };

  const packAll = async (): Promise<void> => {
    try {
      for (;;) {
        const next = stopping.signal.aborted ? undefined : removal.prune().findLast(({ plain }) => plain);
        if (next === undefined) break;
        await pack({ from: names.plain(next.stamp), to: names.packed(next.stamp), signal: stopping.signal });
        compressed++;
      }
      failing = false;
    } catch (error) {
      if (!stopping.signal.aborted) complain(error);
    } finally {
      packing = undefined;
    }
  };

  const tidy = (): void => {
    tendedAt = now();
    try {
      if (packing === undefined) names.clear();
      const todo = removal.prune().some(({ plain }) => plain);
      if (packing !== undefined) return; // It takes what has come meanwhile too.
      if (compress && todo) packing = Promise.resolve().then(packAll);
      else failing = false;
    } catch (error) {
      complain(error);
    }
  };

  return {
    rotate() {
      // Never behind the newest, so that the names stay in order when the clock is set back.
      const at = Math.max(now(), (names.list()[0]?.at ?? 0) + 1);
      try {
        moveAway(file, names.plain(stampOf(at)));
        rotations++;
      } catch (error) {
        if (errorCode(error) !== "ENOENT") throw error; // Removed by another program: there is nothing to rotate.
      }
      tidy();
    },
    tend() {
      // A clock that was set back does not put it off for longer.
      if (tendedAt === undefined || Math.abs(now() - tendedAt) >= tendMs) tidy();
    },
    facts: () => ({ ...removal.facts(), rotations, compressed, failures }),
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await packing;
    },
  };
}

/**
 * A program on Windows that follows the file and forbids to rename it, as many do, must not cost lines: then the file is
 * copied, and emptied in its place.
 */
function moveAway(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if (process.platform !== "win32" || !/^(EPERM|EACCES|EBUSY)$/.test(errorCode(error))) throw error;
    copyFileSync(from, to, constants.COPYFILE_EXCL);
    truncateSync(from, 0);
  }
}

function createRemoval(options: {
  readonly names: Names;
  readonly filesMax: number;
  readonly ageMaxMs: number;
  readonly now: () => number;
}) {
  const { names, filesMax, ageMaxMs, now } = options;
  const removed = { count: 0, age: 0 };
  let files = 0;
  const remove = ({ stamp }: Rotated, why: "count" | "age"): void => {
    for (const path of [names.plain(stamp), names.packed(stamp)]) rmSync(path, { force: true });
    removed[why]++;
  };
  return {
    /** Removes what is too much and too old; returns what is left, newest first. */
    prune: (): readonly Rotated[] => {
      const found = names.list();
      const kept = found.slice(0, filesMax);
      for (const rotated of found.slice(filesMax)) remove(rotated, "count");
      const at = now();
      const times = timesOf(kept, names);
      const young = kept.filter((_, index) => Math.max(0, at - (times[index] ?? at)) < ageMaxMs);
      for (const rotated of kept.slice(young.length)) remove(rotated, "age");
      files = young.length;
      return young;
    },
    facts: (): Pick<RotationFacts, "files" | "removed"> => ({ files, removed: { ...removed } }),
  };
}

/**
 * When each was rotated, of files that come newest first. Once the clock was ahead, stamps stay ahead of it, so that
 * names stay in order; then the time of the last write tells. And no file is younger than one that came after it.
 */
function timesOf(rotated: readonly Rotated[], names: Names): readonly number[] {
  let time = Number.POSITIVE_INFINITY;
  return rotated.map(({ at, stamp, plain }) => {
    const path = plain ? names.plain(stamp) : names.packed(stamp);
    time = Math.min(time, at, statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? at);
    return time;
  });
}

const stampOf = (at: number): string => new Date(at).toISOString().replaceAll(/[-:.]/g, "");

const stampPattern = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{3})Z$/;

function timeOf(stamp: string): number | undefined {
  const match = stampPattern.exec(stamp);
  if (match === null) return undefined;
  const [year = 0, month = 0, ...rest] = match.slice(1).map(Number);
  return Date.UTC(year, month - 1, ...rest);
}

type Names = {
  plain(stamp: string): string;
  packed(stamp: string): string;
  /** Newest first. */
  list(): readonly Rotated[];
  /** Removes what a crash left: half a compressed file, or what a whole one was made from. */
  clear(): void;
};

const packedEnd = ".gz";
const partEnd = ".part";

/** `flows.log` is rotated to `flows-20260101T000000000Z.log`, and that compressed to the same with `.gz`. */
function namesOf(file: string): Names {
  const dir = dirname(file);
  const { name: stem, ext } = parse(basename(file));
  const plain = (stamp: string): string => join(dir, `${stem}-${stamp}${ext}`);
  const packed = (stamp: string): string => `${plain(stamp)}${packedEnd}`;

  /** The stamp in a name with that end, undefined when it is none of ours. */
  const stampIn = (name: string, end: string): string | undefined => {
    if (!name.startsWith(`${stem}-`) || !name.endsWith(end)) return undefined;
    const stamp = name.slice(stem.length + 1, name.length - end.length);
    return stampPattern.test(stamp) ? stamp : undefined;
  };

  const read = (end: string): readonly string[] =>
    readdirSync(dir)
      .map((name) => stampIn(name, end))
      .filter((stamp) => stamp !== undefined);

  return {
    plain,
    packed,
    list: (): readonly Rotated[] => {
      const plains = new Set(read(ext));
      const packs = new Set(read(`${ext}${packedEnd}`));
      return [...plains.union(packs)]
        .toSorted((a, b) => (a < b ? 1 : -1))
        .map((stamp) => ({
          stamp,
          at: timeOf(stamp) ?? 0,
          plain: plains.has(stamp),
          packed: packs.has(stamp),
        }));
    },
    clear: (): void => {
      for (const stamp of read(`${ext}${packedEnd}${partEnd}`))
        rmSync(`${packed(stamp)}${partEnd}`, { force: true });
      for (const stamp of read(`${ext}${packedEnd}`)) rmSync(plain(stamp), { force: true });
    },
  };
}

/**
 * Streams run beside the main thread. The name says that it is whole only once it is, and is on the disk. A file that
 * is removed meanwhile, being one too many, needs none.
 */
async function pack(options: {
  readonly from: string;
  readonly to: string;
  readonly signal: AbortSignal;
}): Promise<void> {
  const { from, to, signal } = options;
  const part = `${to}${partEnd}`;
  try {
    await pipeline(createReadStream(from), createGzip(), createWriteStream(part, { mode: 0o640 }), {
      signal,
    });
    const handle = await open(part, "r+");
    await handle.sync().finally(() => handle.close());
    if (existsSync(from)) await rename(part, to);
    await rm(from, { force: true });
  } catch (error) {
    if (existsSync(from))
      throw new Error(`Could not compress ${from}; it stays as it is until the next try`, { cause: error });
  } finally {
    await rm(part, { force: true });
  }
}
