// Blocks of samples in the file, each with one chunk a series: which there are, and how the oldest make room.

import type { Series } from "./sample-series.ts";
import type { SampleTotals } from "./sample-totals.ts";
import { pagesOf, type Work } from "./sample-work.ts";
import type { Database } from "./sqlite.ts";

/** A block that is whole in the file. Its id is that of its last step; its steps are numbered without a gap. */
export type Block = {
  readonly id: number;
  readonly startAt: number;
  readonly endAt: number;
  readonly samples: number;
  /** With its share of the pages. */
  readonly bytes: number;
};

export type Blocks = {
  /** The transaction that made it was committed. */
  add(block: Block): void;
  /** Whether `stage` would remove anything. `bytesOther` is what samples take beside the blocks. */
  due(at: number, bytesOther: number): boolean;
  /** Removes what is too old or too much, in a bounded step. */
  stage(options: {
    readonly at: number;
    readonly bytesOther: number;
    readonly pagesMax: number;
  }): readonly Work[];
  /** Whether a block has the series; asks the file where that is not known, a lookup a block. */
  holds(series: Series): boolean;
  readonly all: readonly Block[];
  readonly bytes: number;
  readonly samples: number;
};

/** A chunk's row: lengths, block and series beside the data, and its part of what stays empty in the page. */
export const chunkRowBytes = (dataBytes: number): number => Math.ceil(1.12 * (dataBytes + 12));
/** However little is in a block. */
export const blockRowBytes = 128;

/** Blocks are in memory too; years of them, unless the clock is set back all the time. */
const blocksMax = 50_000;
/** Blocks, and chunks, that one transaction removes. */
const blocksOnce = 64;
const chunksOnce = 2000;

type Doomed = { readonly count: number; readonly reason: "age" | "size" };

export function openBlocks({
  database,
  bytesMax,
  ageMaxMs,
  totals,
  unfinished,
  evict,
}: {
  readonly database: Database;
  /** Of blocks and the rest together. */
  readonly bytesMax: number;
  readonly ageMaxMs: number;
  readonly totals: SampleTotals;
  /** Whether chunks of a block that is not whole belong to steps that are still there. */
  readonly unfinished: (id: number) => boolean;
  readonly evict: (reason: "age" | "size", samples: number) => void;
}): Blocks {
  const removeBlocks = database.prepare("DELETE FROM sample_blocks WHERE id <= ?");
  const hasChunk = database.prepare("SELECT 1 FROM sample_chunks WHERE block = ? AND series = ?").pluck();
  const blocks = database
    .prepare("SELECT id, start_at AS startAt, end_at AS endAt, samples, bytes FROM sample_blocks ORDER BY id")
    .all() as Block[];
  const whole = new Set(blocks.map(({ id }) => id));
  const chunks = openChunkRemoval(
    database,
    blocksWithChunks(database).filter((id) => !whole.has(id) && !unfinished(id)),
  );
  let bytes = blocks.reduce((sum, block) => sum + block.bytes, 0);

  const doomed = (at: number, bytesOther: number): Doomed => {
    const old = oldOnes(blocks, { at, cutoffAt: at - ageMaxMs });
    if (old > 0) return { count: Math.min(old, blocksOnce), reason: "age" };
    let count = Math.max(0, blocks.length - blocksMax);
    let left = blocks.slice(0, count).reduce((sum, block) => sum - block.bytes, bytes + bytesOther);
    while (left > bytesMax && count < Math.min(blocks.length, blocksOnce))
      left -= blocks[count++]?.bytes ?? 0;
    return { count, reason: "size" };
  };

  return {
    add(block) {
      blocks.push(block);
      bytes += block.bytes;
    },
    due: (at, bytesOther) => chunks.due() || doomed(at, bytesOther).count > 0,
    stage({ at, bytesOther, pagesMax }) {
      const { count, reason } = doomed(at, bytesOther);
      if (count === 0) return chunks.stage(pagesMax);
      const gone = blocks.slice(0, count);
      const last = gone.at(-1)?.id ?? 0;
      return [
        {
          pages: pagesOf(count * blockRowBytes),
          write: () => {
            removeBlocks.run(last); // From here on nobody looks for its chunks.
            totals.give(
              reason,
              gone.reduce((sum, block) => sum + block.samples, 0),
            );
          },
          settle: () => {
            blocks.splice(0, count);
            bytes -= gone.reduce((sum, block) => sum + block.bytes, 0);
            for (const block of gone) evict(reason, block.samples);
            chunks.add(gone.map(({ id }) => id));
          },
        },
      ];
    },
    holds(series) {
      const oldest = blocks[0];
      if (oldest === undefined) return false;
      series.lastBlock ??= blocks.findLast(({ id }) => hasChunk.get(id, series.id) !== undefined)?.id ?? 0;
      return series.lastBlock >= oldest.id;
    },
    all: blocks,
    get bytes() {
      return bytes;
    },
    get samples() {
      return blocks.reduce((sum, block) => sum + block.samples, 0);
    },
  };
}

/**
 * How many of the oldest are too old. Blocks that are newer than now were written by a clock that was ahead, or stand
 * now while it is behind: their age is not known, so they go with an older one after them, and never alone.
 */
function oldOnes(blocks: readonly Block[], ages: { readonly at: number; readonly cutoffAt: number }): number {
  let count = 0;
  for (const [index, { endAt }] of blocks.entries()) {
    if (endAt > ages.cutoffAt && endAt <= ages.at) break;
    if (endAt <= ages.cutoffAt) count = index + 1;
  }
  return count;
}

/** One lookup a block: the table is sorted by it. */
function blocksWithChunks(database: Database): number[] {
  const next = database
    .prepare<unknown[], number | null>("SELECT min(block) FROM sample_chunks WHERE block > ?")
    .pluck();
  const found: number[] = [];
  for (let id = next.get(-1); id != null; id = next.get(id)) found.push(id);
  return found;
}

/** Removes the chunks of blocks that are gone, some at once. */
function openChunkRemoval(database: Database, gone: readonly number[]) {
  const some = database
    .prepare<unknown[], [number, number]>(
      "SELECT series, length(data) FROM sample_chunks WHERE block = ? ORDER BY series LIMIT ?",
    )
    .raw();
  const remove = database.prepare("DELETE FROM sample_chunks WHERE block = ? AND series <= ?");
  const left = [...gone];
  return {
    add: (ids: readonly number[]): void => void left.push(...ids),
    due: (): boolean => left.length > 0,
    stage(pagesMax: number): readonly Work[] {
      const [block] = left;
      if (block === undefined) return [];
      let bytes = 0;
      let last = -1;
      const rows = some.all(block, chunksOnce);
      for (const [series, length] of rows) {
        bytes += chunkRowBytes(length);
        if (last >= 0 && pagesOf(bytes) > pagesMax) break;
        last = series;
      }
      const all = rows.length < chunksOnce && last === (rows.at(-1)?.[0] ?? -1);
      return [
        {
          pages: pagesOf(bytes),
          write: () => void remove.run(block, last),
          settle: () => {
            if (all) left.shift();
          },
        },
      ];
    },
  };
}
