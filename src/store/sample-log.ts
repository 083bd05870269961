// The newest steps of samples in the file, each in a row of its own until its block is compacted.

import { readable } from "./bits.ts";
import type { PendingStep, PendingSteps, SampleLoss } from "./sample-pending.ts";
import type { Series } from "./sample-series.ts";
import type { SeriesTable } from "./sample-series-table.ts";
import { blockStepsMax, createStepCoder, type StepCoder, type StepRow, splitSteps } from "./sample-steps.ts";
import { fillTotals, type SampleTotals, type StepTotal } from "./sample-totals.ts";
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
  /** Samples that were stored in the file up to its last step. */
  readonly total: number;
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
  totals,
  lose,
}: {
  readonly database: Database;
  /** A block of more bytes takes no more steps. */
  readonly bytesMax: number;
  readonly series: SeriesTable;
  readonly pending: PendingSteps;
  readonly totals: SampleTotals;
  readonly lose: (reason: SampleLoss, samples: number) => void;
}): StepLog {
  const insert = database.prepare("INSERT INTO sample_steps (id, at, data, total) VALUES (?, ?, ?, ?)");
  const remove = database.prepare("DELETE FROM sample_steps WHERE id BETWEEN ? AND ?");
  const blocks = loadBlocks({ database, totals, bytesOnce: bytesMax });
  let lastId = Math.max(lastBlock(database), blocks.at(-1)?.lastId ?? 0);
  let total = Math.max(totals.stored, blocks.at(-1)?.total ?? 0);

  const blockFor = (at: number): LoggedBlock => {
    const block = blocks.at(-1);
    if (block !== undefined && block.lastId === lastId && block.bytes < bytesMax && takes(block, at))
      return block;
    const next = emptyBlock({ firstId: lastId + 1, at, total });
    blocks.push(next);
    return next;
  };

  const stageStep = (step: PendingStep): Work => {
    const block = blockFor(step.at);
    const entered = enteredOf(step);
    const { data, samples } = block.coder.encode(entered);
    total += samples;
    blocks[blocks.length - 1] = grownBy(block, { id: ++lastId, at: step.at, total, data });
    const [id, totalThen] = [lastId, total];
    pending.stage();
    return {
      pages: pagesOf(rowBytes(data)),
      write: () => {
        insert.run(id, step.at, data, totalThen);
        totals.store(totalThen);
      },
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

const lastBlock = (database: Database): number =>
  database.prepare<unknown[], number | null>("SELECT max(id) FROM sample_blocks").pluck().get() ?? 0;

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

const emptyBlock = ({
  firstId,
  at,
  total,
}: {
  readonly firstId: number;
  readonly at: number;
  readonly total: number;
}): LoggedBlock => ({
  firstId,
  firstAt: at,
  lastId: firstId - 1,
  lastAt: at,
  samples: 0,
  total,
  bytes: 0,
  damaged: false,
  coder: createStepCoder(),
});

const grownBy = (
  block: LoggedBlock,
  step: { readonly id: number; readonly at: number; readonly total: number; readonly data: Uint8Array },
): LoggedBlock => ({
  ...block,
  lastId: step.id,
  lastAt: step.at,
  samples: block.samples + step.total - block.total,
  total: step.total,
  bytes: block.bytes + rowBytes(step.data),
});

/** A step that an older version wrote has no total. */
type LoggedRow = readonly [...step: StepRow, total: number | null];

function loadBlocks({
  database,
  totals,
  bytesOnce,
}: {
  readonly database: Database;
  readonly totals: SampleTotals;
  readonly bytesOnce: number;
}): LoggedBlock[] {
  const rows = database
    .prepare<unknown[], LoggedRow>("SELECT id, at, data, total FROM sample_steps ORDER BY id")
    .raw()
    .all();
  let before = totals.blocks;
  const blocks = splitSteps(rows).map((steps) => {
    const loaded = loadBlock(steps, before);
    before = loaded.block.total;
    return loaded;
  });
  fillTotals({ database, steps: blocks.flatMap(({ unfilled }) => unfilled), bytesOnce });
  return blocks.map(({ block }) => block);
}

type LoadedBlock = { readonly block: LoggedBlock; readonly unfilled: readonly StepTotal[] };

/** The coder then stands where it stood when the last of these steps was written. */
function loadBlock(rows: readonly LoggedRow[], before: number): LoadedBlock {
  const [firstId, at] = rows[0] ?? [0, 0];
  let block = emptyBlock({ firstId, at, total: before });
  const unfilled: StepTotal[] = [];
  for (const [id, stepAt, data, known] of rows) {
    const read = block.damaged ? undefined : samplesIn(block.coder, data);
    // What cannot be read had about as many samples as there are series, where nothing says how many.
    const total = known ?? block.total + (read ?? block.coder.ids.length);
    // What was stored between an older block and this one is gone.
    if (id === firstId && read !== undefined) block = { ...block, total: total - read };
    if (known === null) unfilled.push({ id, total, bytes: rowBytes(data) });
    block = { ...grownBy(block, { id, at: stepAt, total, data }), damaged: read === undefined };
  }
  return { block, unfilled };
}

/** Undefined where they cannot be read. */
const samplesIn = (coder: StepCoder, data: Uint8Array): number | undefined =>
  readable(() => coder.decode(data).filter((value) => value !== undefined).length);
