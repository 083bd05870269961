// The newest steps of samples in the file, each in a row of its own until its block is compacted.

import { MalformedBytesError } from "./bits.ts";
import type { PendingStep, PendingSteps, SampleLoss } from "./sample-pending.ts";
import type { Series } from "./sample-series.ts";
import type { SeriesTable } from "./sample-series-table.ts";
import { blockStepsMax, createStepCoder, type StepCoder, type StepRow, splitSteps } from "./sample-steps.ts";
import { pagesOf, type Work } from "./sample-work.ts";
import { pageBytes } from "./schema.ts";
import type { Database } from "./sqlite.ts";

/** Steps in the file that belong together. */
export type LoggedBlock = {
  readonly firstId: number;
  readonly firstAt: number;
  readonly lastId: number;
  readonly lastAt: number;
  readonly samples: number;
  readonly bytes: number;
  /** Some of its bytes cannot be read. */
  readonly damaged: boolean;
  readonly coder: StepCoder;
};

export type StepLog = {
  /** Steps that wait, as many as fit into so many pages. */
  stage(pagesMax: number): readonly Work[];
  /** The oldest block, if no step is added to it any more. */
  closed(): LoggedBlock | undefined;
  /** Removes the oldest block. */
  removal(): Work;
  /** Whether that is the id that a block of these steps will have. */
  unfinished(id: number): boolean;
  /** Whether a step in the file has the series. */
  holds(series: Series): boolean;
  readonly firstAt: number | undefined;
  readonly samples: number;
  readonly bytes: number;
};

/** Steps wait while more blocks than these are not compacted yet. */
const blocksMax = 4;

/** A row with its share of the page; what is too large for one has pages of its own. */
const rowBytes = (data: Uint8Array): number =>
  data.length < pageBytes ? data.length + 24 : Math.ceil(data.length / (pageBytes - 4)) * pageBytes;

export function openStepLog({
  database,
  bytesMax,
  series,
  pending,
  lose,
}: {
  readonly database: Database;
  /** A block of more bytes takes no more steps. */
  readonly bytesMax: number;
  readonly series: SeriesTable;
  readonly pending: PendingSteps;
  readonly lose: (reason: SampleLoss, samples: number) => void;
}): StepLog {
  const insert = database.prepare("INSERT INTO sample_steps (id, at, data) VALUES (?, ?, ?)");
  const remove = database.prepare("DELETE FROM sample_steps WHERE id BETWEEN ? AND ?");
  const blocks = loadBlocks(database);
  const blockMax = database
    .prepare<unknown[], number | null>("SELECT max(id) FROM sample_blocks")
    .pluck()
    .get();
  let lastId = Math.max(blockMax ?? 0, blocks.at(-1)?.lastId ?? 0);

  const blockFor = (at: number): LoggedBlock => {
    const block = blocks.at(-1);
    if (block !== undefined && block.lastId === lastId && block.bytes < bytesMax && takes(block, at))
      return block;
    const next = emptyBlock({ firstId: lastId + 1, at });
    blocks.push(next);
    return next;
  };

  const stageStep = (step: PendingStep): Work => {
    const block = blockFor(step.at);
    const entered = enteredOf(step);
    const { data, samples } = block.coder.encode(entered);
    blocks[blocks.length - 1] = grownBy(block, { id: ++lastId, at: step.at, samples, data });
    const id = lastId;
    pending.stage();
    return {
      pages: pagesOf(rowBytes(data)),
      write: () => void insert.run(id, step.at, data),
      settle: () => {
        pending.settle();
        lose("series_limit", step.series.length - entered.ids.length);
      },
    };
  };

  return {
    stage(pagesMax) {
      const works: Work[] = [];
      for (let left = pagesMax; left > 0 && blocks.length <= blocksMax; ) {
        const step = pending.next();
        if (step === undefined) break;
        const entered = series.stage(step, left);
        if (entered.work !== undefined) works.push(entered.work);
        if (!entered.complete) break;
        const work = stageStep(step);
        works.push(work);
        left -= work.pages + (entered.work?.pages ?? 0);
      }
      return works;
    },
    closed: () => (blocks.length > 1 ? blocks[0] : undefined),
    removal() {
      const { firstId = 0, lastId: last = 0, bytes = 0 } = blocks[0] ?? {};
      return {
        pages: pagesOf(bytes),
        write: () => void remove.run(firstId, last),
        settle: () => void blocks.shift(),
      };
    },
    unfinished: (id) => blocks.some(({ lastId: last }) => last === id),
    holds: ({ id }) => blocks.some(({ coder }) => coder.holds(id)),
    get firstAt() {
      return blocks[0]?.firstAt;
    },
    get samples() {
      return blocks.reduce((sum, { samples }) => sum + samples, 0);
    },
    get bytes() {
      return blocks.reduce((sum, { bytes }) => sum + bytes, 0);
    },
  };
}

/** The values of the series that have a number; there is no room for the others. */
function enteredOf({ series, values }: PendingStep): { readonly ids: number[]; readonly values: number[] } {
  const places = [...series.keys()].filter((place) => series[place]?.id !== 0);
  return {
    ids: places.map((place) => series[place]?.id ?? 0),
    values: places.map((place) => values[place] ?? 0),
  };
}

const takes = ({ damaged, firstId, lastId, lastAt }: LoggedBlock, at: number): boolean =>
  !damaged && lastAt < at && lastId - firstId + 1 < blockStepsMax;

const emptyBlock = ({ firstId, at }: { readonly firstId: number; readonly at: number }): LoggedBlock => ({
  firstId,
  firstAt: at,
  lastId: firstId - 1,
  lastAt: at,
  samples: 0,
  bytes: 0,
  damaged: false,
  coder: createStepCoder(),
});

const grownBy = (
  block: LoggedBlock,
  step: { readonly id: number; readonly at: number; readonly samples: number; readonly data: Uint8Array },
): LoggedBlock => ({
  ...block,
  lastId: step.id,
  lastAt: step.at,
  samples: block.samples + step.samples,
  bytes: block.bytes + rowBytes(step.data),
});

function loadBlocks(database: Database): LoggedBlock[] {
  const rows = database.prepare("SELECT id, at, data FROM sample_steps ORDER BY id").raw().all() as StepRow[];
  return splitSteps(rows).map(loadBlock);
}

/** The coder then stands where it stood when the last of these steps was written. */
function loadBlock(rows: readonly StepRow[]): LoggedBlock {
  let block = emptyBlock({ firstId: rows[0]?.[0] ?? 0, at: rows[0]?.[1] ?? 0 });
  for (const [id, at, data] of rows) {
    const read = block.damaged ? undefined : samplesIn(block.coder, data);
    // What cannot be read had about as many samples as there are series.
    const samples = read ?? block.coder.ids.length;
    block = { ...grownBy(block, { id, at, samples, data }), damaged: read === undefined };
  }
  return block;
}

/** Undefined where they cannot be read. */
function samplesIn(coder: StepCoder, data: Uint8Array): number | undefined {
  try {
    return coder.decode(data).filter((value) => value !== undefined).length;
  } catch (error) {
    if (error instanceof MalformedBytesError) return undefined;
    throw error;
  }
}
