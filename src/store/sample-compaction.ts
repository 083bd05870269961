// Compaction of samples: the steps of a block become one chunk a series, a bounded number at a time.

import { MalformedBytesError } from "./bits.ts";
import { type Blocks, blockRowBytes, chunkRowBytes } from "./sample-blocks.ts";
import { type Column, encodeColumn, encodeTimes } from "./sample-codec.ts";
import type { LoggedBlock, StepLog } from "./sample-log.ts";
import type { SampleLoss } from "./sample-pending.ts";
import type { SeriesRegistry } from "./sample-series.ts";
import { createStepReader, type StepReader, type StepRow } from "./sample-steps.ts";
import type { SampleTotals } from "./sample-totals.ts";
import { pagesOf, type Work } from "./sample-work.ts";
import type { Database, Statement } from "./sqlite.ts";

export type Compaction = {
  /** What brings the oldest closed block on, within so many pages. Nothing is staged when it was only read. */
  stage(pagesMax: number): readonly Work[];
};

/** Series that are encoded for one transaction: some 10 ms, three times that when the code has not run for long. */
const chunksOnce = 300;
/** Values of steps that are read at once: as long. */
const valuesOnce = 100_000;

type Columns = readonly (readonly [series: number, column: Column])[];

/** A block whose steps are read and whose chunks are written, both some at a time. */
type Current = {
  readonly block: LoggedBlock;
  readonly steps: StepReader;
  readonly times: number[];
  /** By series, in the order in which they lie in the file; once all steps are read. */
  columns: Columns | undefined;
  /** Chunks that are in the file. */
  done: number;
  samples: number;
  bytes: number;
};

/** Chunks stand in the file before their block does; a crash between leaves the steps, of which the same are made. */
export function openCompaction({
  database,
  log,
  blocks,
  registry,
  totals,
  lose,
}: {
  readonly database: Database;
  readonly log: StepLog;
  readonly blocks: Blocks;
  readonly registry: SeriesRegistry;
  readonly totals: SampleTotals;
  readonly lose: (reason: SampleLoss, samples: number) => void;
}): Compaction {
  const { rows, putChunk, putBlock } = openStatements(database);
  let current: Current | undefined;

  const discard = (block: LoggedBlock): Work => {
    const removal = log.removal();
    return {
      ...removal,
      write: () => {
        removal.write();
        totals.give("damaged", block.samples);
      },
      settle: () => {
        removal.settle();
        lose("damaged", block.samples);
      },
    };
  };

  const chunks = (now: Current, columns: Columns, pagesMax: number): Work => {
    const {
      rows: encoded,
      samples,
      bytes,
    } = encodeSome(columns.slice(now.done, now.done + chunksOnce), pagesMax);
    return {
      pages: pagesOf(bytes),
      write: () => {
        for (const [series, data] of encoded) putChunk.run(now.block.lastId, series, data);
      },
      settle: () => {
        now.done += encoded.length;
        now.samples += samples;
        now.bytes += bytes;
      },
    };
  };

  const finish = ({ block, times, samples, bytes: chunkBytes }: Current, columns: Columns): Work => {
    const removal = log.removal();
    const bytes = chunkBytes + blockRowBytes;
    const [id, startAt, endAt] = [block.lastId, block.firstAt, block.lastAt];
    return {
      pages: removal.pages + pagesOf(blockRowBytes),
      write: () => {
        putBlock.run(id, startAt, endAt, samples, bytes, encodeTimes(times), block.total);
        removal.write();
      },
      settle: () => {
        removal.settle();
        blocks.add({ id, startAt, endAt, samples, bytes });
        registry.inBlock(
          id,
          columns.map(([series]) => series),
        );
        current = undefined;
      },
    };
  };

  return {
    stage(pagesMax) {
      const block = log.closed();
      if (block === undefined) return [];
      if (block.damaged) return [discard(block)];
      current ??= begin(block);
      const { columns } = current;
      if (columns !== undefined)
        return [
          current.done < columns.length ? chunks(current, columns, pagesMax) : finish(current, columns),
        ];
      if (readOn(current, rows)) return [];
      current = undefined;
      return [discard(block)];
    },
  };
}

const openStatements = (database: Database) => ({
  rows: database
    .prepare<unknown[], StepRow>("SELECT id, at, data FROM sample_steps WHERE id BETWEEN ? AND ? ORDER BY id")
    .raw(),
  putChunk: database.prepare("INSERT OR REPLACE INTO sample_chunks (block, series, data) VALUES (?, ?, ?)"),
  putBlock: database.prepare(
    "INSERT INTO sample_blocks (id, start_at, end_at, samples, bytes, times, total) VALUES (?, ?, ?, ?, ?, ?, ?)",
  ),
});

const begin = (block: LoggedBlock): Current => ({
  block,
  steps: createStepReader(stepsOf(block)),
  times: [],
  columns: undefined,
  done: 0,
  samples: 0,
  bytes: 0,
});

const stepsOf = ({ firstId, lastId }: LoggedBlock): number => lastId - firstId + 1;

/** Reads some of the steps; false where one is not there, or cannot be read: nothing would ever get past it. */
function readOn(now: Current, rows: Statement<StepRow>): boolean {
  const { block, steps, times } = now;
  const some = Math.max(1, Math.floor(valuesOnce / (1 + block.coder.ids.length)));
  const firstId = block.firstId + times.length;
  const lastId = Math.min(block.lastId, firstId + some - 1);
  const found = rows.all(firstId, lastId);
  if (found.length !== lastId - firstId + 1) return false;
  try {
    for (const row of found) {
      steps.add(row);
      times.push(row[1]);
    }
  } catch (error) {
    if (error instanceof MalformedBytesError) return false;
    throw error;
  }
  if (lastId === block.lastId) now.columns = [...steps.columns].sort(([a], [b]) => a - b);
  return true;
}

type Chunks = {
  readonly rows: readonly (readonly [series: number, data: Uint8Array])[];
  readonly samples: number;
  readonly bytes: number;
};

/** At least one of the columns, and more as far as they fit into the pages. */
function encodeSome(columns: Columns, pagesMax: number): Chunks {
  const rows: (readonly [series: number, data: Uint8Array])[] = [];
  let samples = 0;
  let bytes = 0;
  for (const [series, column] of columns) {
    const data = encodeColumn(column);
    if (rows.length > 0 && pagesOf(bytes + chunkRowBytes(data.length)) > pagesMax) break;
    rows.push([series, data]);
    bytes += chunkRowBytes(data.length);
    samples += column.filter((value) => value !== undefined).length;
  }
  return { rows, samples, bytes };
}
