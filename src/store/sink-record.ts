// The account of one sink and signal: what is pending of it, what became of the rest, and how it is written down.

import { z } from "zod";
import type { Ordinals } from "./sink-batch.ts";
import {
  closed,
  grown,
  openRange,
  pendingIn,
  type Ranges,
  rangesMax,
  wantedIn,
  without,
} from "./sink-ranges.ts";
import type { PendingRange, SinkCounts, SinkDeclaration, SinkKey } from "./sink-states.ts";
import { readWanted } from "./sink-wanted.ts";

/** What a file holds of a signal, and what retention took from it so far. */
export type SignalView = {
  readonly generation: number;
  /** The oldest ordinal in the file, and the newest that ever was; there is none while `head < oldest`. */
  readonly oldest: number;
  readonly head: number;
  readonly age: number;
  readonly size: number;
};

/** Where the account stood when it saw the file last. */
export type Marks = Pick<SignalView, "oldest" | "age" | "size">;

export type SinkRecord = SinkKey & {
  readonly generation: number;
  readonly paused: boolean;
  readonly ranges: Ranges;
  readonly counts: SinkCounts;
  readonly offered: number;
  /** Up to here records were offered. */
  readonly head: number;
  readonly marks: Marks;
};

/** Names of sinks have no blanks. */
export const keyText = ({ sink, signal }: Pick<SinkKey, "sink"> & { readonly signal: string }): string =>
  `${sink} ${signal}`;

export const marksOf = ({ oldest, age, size }: Marks): Marks => ({ oldest, age, size });

export type GoneReason = "age" | "size" | "damaged";
export type Gone = Ordinals & { readonly reason: GoneReason };

/**
 * What left the file since, oldest first. Retention takes what is too old before it makes room; samples that no
 * retention took could not be read.
 */
export function goneSince(marks: Marks, view: SignalView): readonly Gone[] {
  const gone: Gone[] = [];
  let first = marks.oldest;
  const take = (reason: GoneReason, count: number): void => {
    const last = Math.min(first + count, view.oldest) - 1;
    if (last < first) return;
    gone.push({ first, last, reason });
    first = last + 1;
  };
  take("age", view.age - marks.age);
  take("size", view.size - marks.size);
  take("damaged", Number.POSITIVE_INFINITY);
  return gone;
}

/** Reasons come from outside; what finds no name here is counted together. */
const namesMax = 48;
const nameLengthMax = 64;

export function plus(counts: SinkCounts, more: SinkCounts): SinkCounts {
  const sums: Record<string, number> = { ...counts };
  for (const [name, count] of Object.entries(more)) {
    if (count <= 0) continue;
    const known = Object.hasOwn(sums, name);
    const fits = name.length <= nameLengthMax && Object.keys(sums).length < namesMax;
    const own = known || fits ? name : "rejected.other";
    sums[own] = (sums[own] ?? 0) + count;
  }
  return sums;
}

/** Of counts that tell of more records than were pending, the rest goes, of those that were sent first. */
export function fitted(counts: SinkCounts, taken: number): SinkCounts {
  const whole = Object.entries(counts).filter(([, count]) => Number.isSafeInteger(count) && count > 0);
  let excess = whole.reduce((sum, [, count]) => sum + count, 0) - taken;
  const entries = whole.sort(([a], [b]) => Number(b === "sent") - Number(a === "sent"));
  const fit = entries.map(([name, count]) => {
    const off = Math.min(count, Math.max(0, excess));
    excess -= off;
    return [name, count - off] as const;
  });
  // Ordinals that nobody tells of were there and are not.
  return plus(Object.fromEntries(fit), { "evicted.damaged": Math.max(0, -excess) });
}

export function newRecord({ sink, signal, start, fed }: SinkDeclaration, view: SignalView): SinkRecord {
  const { generation, head } = view;
  const ranges = fed ? [] : [openRange(start === "oldest" ? view.oldest : head + 1, head)];
  const base = { sink, signal, generation, paused: false, counts: {}, head, marks: marksOf(view) };
  return { ...base, ranges, offered: pendingIn(ranges) };
}

/** As the file now stands: with what was added to it, and without what left it. */
export function advanced(record: SinkRecord, view: SignalView): SinkRecord {
  const { head, marks } = record;
  let ranges = grown(record.ranges, view.head);
  const offered = record.offered + (ranges.at(-1)?.open === true ? view.head - head : 0);
  const evicted: Record<string, number> = {};
  for (const { reason, ...ordinals } of goneSince(marks, view)) {
    const cut = without(ranges, ordinals);
    ranges = cut.ranges;
    if (cut.taken > 0) evicted[`evicted.${reason}`] = cut.taken;
  }
  const any = Object.keys(evicted).length > 0;
  const counts = any ? plus(record.counts, evicted) : record.counts;
  return { ...record, ranges, offered, counts, head: view.head, marks: marksOf(view) };
}

/** To another file: what was pending in the old one is gone with it. */
export function moved(record: SinkRecord, view: SignalView): SinkRecord {
  const counts = plus(record.counts, { "evicted.corrupt": pendingIn(record.ranges) });
  const { generation, oldest, head } = view;
  const ranges = record.ranges.at(-1)?.open === true ? [openRange(oldest, head)] : [];
  const offered = record.offered + pendingIn(ranges);
  return { ...record, generation, counts, ranges, offered, head, marks: marksOf(view) };
}

/** A sink that was fed begins with what comes; one that is fed now keeps what it has. */
export function declaredAs(record: SinkRecord, { fed }: SinkDeclaration): SinkRecord {
  const open = record.ranges.at(-1)?.open === true;
  if (open === !fed) return record;
  const { ranges, head } = record;
  return { ...record, ranges: fed ? closed(ranges) : [...ranges, openRange(head + 1, head)] };
}

const count = z.int().min(0);
const written = z.object({
  generation: count,
  paused: z.boolean(),
  /** Where the open range begins, and what is done of the unit there. */
  open: z.union([z.tuple([count]), z.tuple([count, count, count])]).optional(),
  /** Filters that go with ranges. */
  wanted: z.array(z.string()).max(rangesMax).default([]),
  /** First and last; where a unit was begun its end and what is done of it; and the place of a filter. */
  ranges: z.array(z.array(count).min(2).max(5)).max(rangesMax),
  counts: z.record(z.string().max(nameLengthMax), count),
  offered: count,
  head: count,
  marks: z.tuple([count, count, count]),
  used: count,
});

export function recordText(record: SinkRecord, at: number): string {
  const { generation, paused, ranges, counts, offered, head, marks } = record;
  const unit = ({ unitLast, done }: PendingRange) => (unitLast === undefined ? [] : [unitLast, done]);
  const open = ranges.at(-1);
  const all = wantedIn(ranges);
  const place = ({ wanted }: PendingRange) => (wanted === undefined ? [] : [all.indexOf(wanted)]);
  const ended = ranges
    .filter((range) => !range.open)
    .map((range) => [range.first, range.last, ...unit(range), ...place(range)]);
  return JSON.stringify({
    ...{ generation, paused },
    ...(open?.open === true ? { open: [open.first, ...unit(open)] } : {}),
    ...(all.length === 0 ? {} : { wanted: all }),
    ...{ ranges: ended, counts, offered, head },
    marks: [marks.oldest, marks.age, marks.size],
    used: Math.max(0, at),
  });
}

/** Undefined where it cannot be read, or does not add up. `used` is when it was written, epoch milliseconds. */
export function readRecord(
  { sink, signal }: SinkKey,
  text: string,
): { readonly record: SinkRecord; readonly used: number } | undefined {
  const parsed = written.safeParse(jsonOf(text));
  if (!parsed.success) return undefined;
  const { open, ranges: ended, wanted, marks, used, ...plain } = parsed.data;
  if (wanted.some((filter) => readWanted(filter) === undefined)) return undefined;
  const [oldest, age, size] = marks;
  const ranges: PendingRange[] = [];
  for (const one of ended) {
    const range = readEnded(one, wanted);
    if (range === undefined) return undefined;
    ranges.push(range);
  }
  if (open !== undefined) {
    const [first, ...unit] = open;
    ranges.push(readRange(first, plain.head, true, unit));
  }
  const record = { sink, signal, ...plain, ranges, marks: { oldest, age, size } };
  return addsUp(record) ? { record, used } : undefined;
}

function readRange(
  first: number,
  last: number,
  open: boolean,
  [unitLast, done = 0]: readonly number[],
): PendingRange {
  return { first, last, open, done, ...(unitLast === undefined ? {} : { unitLast }) };
}

/** Undefined where it names no filter that is there. An odd number of them has one. */
function readEnded(numbers: readonly number[], filters: readonly string[]): PendingRange | undefined {
  const [first = 0, last = 0, ...unit] = numbers;
  if (numbers.length % 2 === 0) return readRange(first, last, false, unit);
  const wanted = filters[unit.pop() ?? 0];
  return wanted === undefined ? undefined : { ...readRange(first, last, false, unit), wanted };
}

function addsUp({ ranges, counts, offered, head }: SinkRecord): boolean {
  const rises = ranges.every(({ first, last, open, wanted }, index) => {
    const next = ranges.slice(index + 1).find((range) => range.wanted === wanted);
    return first <= last + (open ? 1 : 0) && last <= head && (next === undefined || last < next.first);
  });
  const whole = ranges.every(
    ({ first, last, unitLast, done }) =>
      unitLast === undefined || (unitLast <= last && done > 0 && done < unitLast - first + 1),
  );
  const counted = Object.values(counts).reduce((sum, one) => sum + one, 0);
  return rises && whole && offered === counted + pendingIn(ranges);
}

/** Undefined where it is none. */
export function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // The caller tells of it: nothing is written so that it cannot be read.
  }
}
