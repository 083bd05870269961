// Samples in one open file: what each transaction does for them, in steps that are small enough for the file.

import type { OpenPart } from "./part.ts";
import { openBlocks } from "./sample-blocks.ts";
import { openCompaction } from "./sample-compaction.ts";
import { openStepLog, type StepLog } from "./sample-log.ts";
import type { PendingSteps, SampleLoss } from "./sample-pending.ts";
import type { Series, SeriesRegistry } from "./sample-series.ts";
import { openSeriesTable } from "./sample-series-table.ts";
import { openSampleTotals } from "./sample-totals.ts";
import type { Work } from "./sample-work.ts";
import { pageBytes } from "./schema.ts";
import type { Database } from "./sqlite.ts";

export type SampleFile = OpenPart & {
  facts(): { readonly samples: number; readonly bytes: number; readonly oldestAt?: number };
};

/** Pages of one transaction: of the write-ahead log, which is a third of a small file, others need some too. */
const pagesOnce = (pagesMax: number): number => Math.max(8, Math.min(600, Math.floor(pagesMax / 24)));
/** With fewer pages left, a kind of work is put off to the next transaction. */
const pagesMin = 6;

/** Series that are looked at whenever a step was written: all of 20,000 in less than an hour of steps of 15 s. */
const sweepOnce = 100;
/** Lookups in the file for them, of 2 us each: only those that were there before a start need any. */
const lookupsOnce = 4000;

/** Of the file, for samples. */
export const samplesShare = 1 / 8;

export function openSampleFile(options: {
  readonly database: Database;
  readonly pagesMax: number;
  readonly ageMaxMs: number;
  readonly registry: SeriesRegistry;
  readonly pending: PendingSteps;
  readonly lose: (reason: SampleLoss, samples: number) => void;
  readonly evict: (reason: "age" | "size", samples: number) => void;
}): SampleFile {
  const { database, pagesMax, ageMaxMs, registry, pending, lose, evict } = options;
  const bytesMax = Math.floor(pagesMax * pageBytes * samplesShare);
  const series = openSeriesTable({ database, registry, bytesMax: bytesMax / 4 });
  const totals = openSampleTotals(database);
  const log = openStepLog({ database, series, pending, totals, lose, bytesMax: bytesMax / 4 });
  const blocks = openBlocks({ database, bytesMax, ageMaxMs, totals, unfinished: log.unfinished, evict });
  const compaction = openCompaction({ database, log, blocks, registry, totals, lose });
  const others = (): number => series.bytes + log.bytes;
  let plan: readonly Work[] = [];
  let planned = false;

  const isGone = (one: Series): boolean =>
    one.id !== 0 && !pending.holds(one) && !log.holds(one) && !blocks.holds(one);

  const sweep = (left: number): readonly Work[] => {
    let lookups = 0;
    const gone: Series[] = [];
    for (const one of registry.some(sweepOnce)) {
      if (lookups > lookupsOnce || 2 * gone.length + 4 > left) break;
      if (one.lastBlock === undefined) lookups += blocks.all.length;
      if (isGone(one)) gone.push(one);
    }
    return gone.length === 0 ? [] : [series.remove(gone)];
  };

  const make = (at: number): readonly Work[] => {
    const works: Work[] = [];
    let left = pagesOnce(pagesMax);
    const add = (stage: (left: number) => readonly Work[]): void => {
      if (works.length > 0 && left < pagesMin) return;
      const more = stage(left);
      works.push(...more);
      left -= more.reduce((sum, { pages }) => sum + pages, 0);
    };
    // New steps come last: what reads the file may fail, and steps that are staged must not be left out then. And the
    // steps of a block that is compacted are in the file by now, before new ones close another.
    add((pages) => compaction.stage(pages));
    add((pages) => blocks.stage({ at, bytesOther: others(), pagesMax: pages }));
    if (pending.next() !== undefined) add(sweep);
    add((pages) => log.stage(pages));
    return works;
  };

  return {
    due: (at) =>
      plan.length > 0 ||
      pending.next() !== undefined ||
      log.closed() !== undefined ||
      blocks.due(at, others()),
    pages(at) {
      if (!planned) plan = make(at);
      planned = true;
      return plan.reduce((sum, { pages }) => sum + pages, 0);
    },
    write() {
      for (const work of plan) work.write();
    },
    settle() {
      for (const work of plan) work.settle();
      plan = [];
      planned = false;
    },
    facts: () => factsOf(log, blocks, others()),
  };
}

function factsOf(
  log: StepLog,
  blocks: ReturnType<typeof openBlocks>,
  others: number,
): ReturnType<SampleFile["facts"]> {
  const oldestAt = blocks.all[0]?.startAt ?? log.firstAt;
  return {
    samples: blocks.samples + log.samples,
    bytes: blocks.bytes + others,
    ...(oldestAt === undefined ? {} : { oldestAt }),
  };
}
