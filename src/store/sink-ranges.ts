// Ranges of ordinals that are pending: taken away, cut, and added to, without losing or doubling one.

import type { Ordinals } from "./sink-batch.ts";
import type { PendingRange } from "./sink-states.ts";
import { wantedBytesMax } from "./sink-wanted.ts";

export type Ranges = readonly PendingRange[];

/** With more, a split does nothing, and what is handed over finds no place. */
export const rangesMax = 64;

/** Which of the ranges are meant. */
type Test = (range: PendingRange) => boolean;
const any: Test = () => true;

const sizeOf = ({ first, last }: Ordinals): number => Math.max(0, last - first + 1);

export const pendingIn = (ranges: Ranges): number =>
  ranges.reduce((sum, range) => sum + sizeOf(range) - range.done, 0);

const isOpen = (range: PendingRange | undefined): range is PendingRange => range?.open === true;

type Unit = { readonly unitLast: number; readonly done: number };

type Kind = Pick<PendingRange, "open" | "wanted">;

const kindOf = ({ wanted }: PendingRange, open: boolean): Kind =>
  wanted === undefined ? { open } : { open, wanted };

/** A unit that is done leaves, one of which nothing is done is none. */
function rangeOf({ first, last }: Ordinals, kind: Kind, { unitLast, done }: Unit): PendingRange {
  if (unitLast < first || done <= 0) return { first, last, ...kind, done: 0 };
  if (done >= unitLast - first + 1) return { first: unitLast + 1, last, ...kind, done: 0 };
  return { first, last, ...kind, unitLast, done };
}

const unitOf = ({ first, unitLast, done }: PendingRange): Unit => ({ unitLast: unitLast ?? first - 1, done });

export const openRange = (first: number, head: number): PendingRange => ({
  ...{ first, last: head, open: true, done: 0 },
});

/**
 * Sorted, without empty ones, and those that touch made one, of each filter by itself. The open one stays apart from
 * what is before it, and so does a unit that was begun, with which a range must begin.
 */
function tidy(ranges: Ranges): Ranges {
  const sorted = ranges
    .filter((range) => range.open || sizeOf(range) > 0)
    .sort((a, b) => Number(a.open) - Number(b.open) || a.first - b.first);
  const joined: PendingRange[] = [];
  for (const range of sorted) {
    const at = joined.findLastIndex(({ wanted }) => wanted === range.wanted);
    const before = joined[at];
    const joins = before !== undefined && before.last + 1 >= range.first && !range.open && range.done === 0;
    if (joins) joined[at] = { ...before, last: range.last };
    else joined.push(range);
  }
  return joined;
}

/** The open range ends with the store. */
export function grown(ranges: Ranges, head: number): Ranges {
  const open = ranges.at(-1);
  return isOpen(open) && open.last !== head ? [...ranges.slice(0, -1), { ...open, last: head }] : ranges;
}

export type Taken = {
  readonly ranges: Ranges;
  /** How many records that were pending are not any more. */
  readonly taken: number;
  readonly pieces: Ranges;
};

/** Takes away what is pending of these ordinals, of the ranges that `isMeant` says. */
export function without(ranges: Ranges, ordinals: Ordinals, isMeant: Test = any): Taken {
  const left: PendingRange[] = [];
  const pieces: PendingRange[] = [];
  for (const range of ranges) {
    const first = Math.max(range.first, ordinals.first);
    const last = Math.min(range.last, ordinals.last);
    if (first > last || !isMeant(range)) left.push(range);
    else {
      const cut = cutOut(range, { first, last });
      left.push(...cut.left);
      pieces.push(cut.piece);
    }
  }
  if (pieces.length === 0) return { ranges, taken: 0, pieces };
  return { ranges: tidy(left), taken: pendingIn(pieces), pieces };
}

/** What is done of a unit is taken to be its first ordinals, as far as they are part of it. */
function cutOut(
  range: PendingRange,
  { first, last }: Ordinals,
): { readonly left: Ranges; readonly piece: PendingRange } {
  const { unitLast, done } = unitOf(range);
  const doneBefore = Math.min(done, Math.max(0, Math.min(first - 1, unitLast) - range.first + 1));
  const doneWithin = Math.min(done - doneBefore, Math.max(0, Math.min(last, unitLast) - first + 1));
  const part = (ordinals: Ordinals, open: boolean, doneOf: number): PendingRange =>
    rangeOf(ordinals, kindOf(range, open), { unitLast: Math.min(unitLast, ordinals.last), done: doneOf });
  return {
    left: [
      part({ first: range.first, last: first - 1 }, false, doneBefore),
      part({ first: last + 1, last: range.last }, range.open, done - doneBefore - doneWithin),
    ],
    piece: part({ first, last }, false, doneWithin),
  };
}

/** Some records of a unit are done; it stays whole until all are. */
export function begun(
  ranges: Ranges,
  { first, last }: Ordinals,
  records: number,
  isMeant: Test = any,
): Taken {
  const none = { ranges, taken: 0, pieces: [] };
  const index = ranges.findIndex((range) => range.first <= last && range.last >= first && isMeant(range));
  const range = ranges[index];
  if (range === undefined || range.first < first) return none;
  if (range.unitLast !== undefined && range.unitLast !== last) return none; // Of another unit.
  const unitLast = Math.min(last, range.last);
  const taken = Math.min(records, unitLast - range.first + 1 - range.done);
  const next = rangeOf(range, kindOf(range, range.open), { unitLast, done: range.done + taken });
  return { ranges: tidy(ranges.with(index, next)), taken, pieces: [] };
}

/** Ends the open range before `at` and goes on with an open one from there. A unit that was begun stays whole. */
export function splitAt(ranges: Ranges, at: number): Ranges {
  const open = ranges.at(-1);
  if (!isOpen(open)) return ranges;
  const from = Math.min(Math.max(at, (open.unitLast ?? 0) + 1), open.last + 1);
  if (from <= open.first) return ranges;
  const closed = rangeOf({ first: open.first, last: from - 1 }, { open: false }, unitOf(open));
  const next = tidy([...ranges.slice(0, -1), closed, openRange(from, open.last)]);
  return next.length > rangesMax ? ranges : next;
}

/** Takes away all before `before`, but a unit that was begun and reaches beyond it. */
export function discarded(ranges: Ranges, before: number): Taken {
  let all: Taken = { ranges, taken: 0, pieces: [] };
  for (const wanted of new Set(ranges.map((range) => range.wanted))) {
    const isMeant: Test = (range) => range.wanted === wanted;
    const reaches = ({ first, unitLast = 0 }: PendingRange) => first < before && unitLast >= before;
    const unit = ranges.find((range) => isMeant(range) && reaches(range));
    const cut = without(all.ranges, { first: 0, last: (unit?.first ?? before) - 1 }, isMeant);
    all = { ranges: cut.ranges, taken: all.taken + cut.taken, pieces: [...all.pieces, ...cut.pieces] };
  }
  return all;
}

/** Of the filters that go with these ranges, as text. */
export const wantedIn = (ranges: Ranges): readonly string[] => [
  ...new Set(ranges.flatMap(({ wanted }) => wanted ?? [])),
];

const fitsWanted = (ranges: Ranges): boolean =>
  wantedIn(ranges).reduce((sum, text) => sum + Buffer.byteLength(text), 0) <= wantedBytesMax;

/** Adds what is not pending there already. `left`: how many records found no place. */
export function added(
  ranges: Ranges,
  pieces: Ranges,
): { readonly ranges: Ranges; readonly placed: number; readonly left: number } {
  let all = ranges;
  let left = 0;
  for (const piece of pieces) {
    const free = freeOf(all, piece);
    const next = tidy([...all, ...free]);
    const isTooMany = next.length > rangesMax && next.length > all.length;
    if (isTooMany || (free.length > 0 && !fitsWanted(next))) left += pendingIn(free);
    else all = next;
  }
  return { ranges: all, placed: pendingIn(all) - pendingIn(ranges), left };
}

/** What waits without a filter, or with the same, is there; under another one it may be left out. */
function freeOf(ranges: Ranges, piece: PendingRange): Ranges {
  let free: Ranges = [piece];
  for (const range of ranges)
    if (range.wanted === undefined || range.wanted === piece.wanted) free = without(free, range).ranges;
  return free;
}

/** It gets nothing new any more. */
export const closed = (ranges: Ranges): Ranges => tidy(ranges.map((range) => ({ ...range, open: false })));

/** How many of these ordinals are pending in none. */
export function freeIn(ordinals: Ordinals, all: readonly Ranges[]): number {
  let free: Ranges = [{ ...ordinals, open: false, done: 0 }];
  for (const ranges of all) for (const range of ranges) free = without(free, range).ranges;
  return pendingIn(free);
}
