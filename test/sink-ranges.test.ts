// Ranges of pending ordinals against a model that knows each ordinal.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  added,
  begun,
  closed,
  discarded,
  freeIn,
  grown,
  openRange,
  pendingIn,
  type Ranges,
  rangesMax,
  splitAt,
  without,
} from "../src/store/sink-ranges.ts";

const ordinals = (ranges: Ranges): number[] =>
  ranges.flatMap(({ first, last }) =>
    Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index),
  );

/** As `first-last`, with what is done of a unit, and a plus where it is open. */
const text = (ranges: Ranges): string =>
  ranges
    .map(({ first, last, open, unitLast, done }) => {
      const unit = unitLast === undefined ? "" : `(${done} to ${unitLast})`;
      return `${first}-${last}${open ? "+" : ""}${unit}`;
    })
    .join(" ");

function expectSound(ranges: Ranges): void {
  for (const [index, range] of ranges.entries()) {
    const { first, last, open, unitLast, done } = range;
    const next = ranges[index + 1];
    expect(first).toBeLessThanOrEqual(open ? last + 1 : last);
    expect(open && next !== undefined).toBe(false);
    if (next !== undefined) {
      expect(next.first).toBeGreaterThan(last);
      if (next.first === last + 1) expect(next.open || next.done > 0).toBe(true);
    }
    expect(unitLast === undefined).toBe(done === 0);
    if (unitLast !== undefined) {
      expect(unitLast).toBeLessThanOrEqual(last);
      expect(done).toBeLessThan(unitLast - first + 1);
    }
  }
}

const place = fc.integer({ min: 1, max: 60 });
const span = fc.tuple(place, fc.nat(20)).map(([first, length]) => ({ first, last: first + length }));
const closedRange = (first: number, last: number): Ranges => [{ first, last, open: false, done: 0 }];

describe("ranges", () => {
  test("hold each ordinal that was not taken away, once, whatever is done to them", () => {
    const step = fc.oneof(
      fc.record({ grow: fc.nat(20) }),
      fc.record({ take: span }),
      fc.record({ split: place }),
      fc.record({ discard: place }),
      fc.record({ add: span }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        let head = 30;
        let ranges: Ranges = [openRange(1, head)];
        let model = new Set(ordinals(ranges));
        for (const done of steps) {
          const before = model.size;
          let taken = 0;
          if ("grow" in done) {
            for (let count = 0; count < done.grow; count++) model.add(++head);
            ranges = grown(ranges, head);
          } else if ("split" in done) ranges = splitAt(ranges, done.split);
          else if ("add" in done) {
            const { first, last } = done.add;
            const piece = closedRange(first, Math.min(last, head));
            // Into an open range nothing is added beyond what there is.
            const open = ranges.at(-1)?.first ?? 0;
            const old = piece.filter((range) => range.last < open);
            const { ranges: next, placed, left } = added(ranges, old);
            for (const ordinal of ordinals(old)) model.add(ordinal);
            expect([placed, left]).toEqual([model.size - before, 0]);
            ranges = next;
          } else {
            const cut = "take" in done ? without(ranges, done.take) : discarded(ranges, done.discard);
            const { first, last } = "take" in done ? done.take : { first: 0, last: done.discard - 1 };
            model = new Set([...model].filter((ordinal) => ordinal < first || ordinal > last));
            ({ ranges, taken } = cut);
            expect(taken).toBe(before - model.size);
            expect(pendingIn(cut.pieces)).toBe(taken);
          }
          expectSound(ranges);
          expect(ordinals(ranges)).toEqual([...model].sort((a, b) => a - b));
          expect(freeIn({ first: 1, last: head }, [ranges])).toBe(head - model.size);
        }
      }),
      { numRuns: 500 },
    );
  });

  test("count what is pending, with units too", () => {
    const step = fc.oneof(
      fc.record({ begin: fc.tuple(fc.nat(20), fc.nat(25)) }),
      fc.record({ take: span }),
      fc.record({ split: place }),
      fc.record({ discard: place }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        let ranges: Ranges = [openRange(1, 80)];
        for (const done of steps) {
          const before = pendingIn(ranges);
          let taken = 0;
          if ("split" in done) ranges = splitAt(ranges, done.split);
          else {
            const first = ranges[0]?.first ?? 1;
            const cut =
              "begin" in done
                ? begun(ranges, { first, last: first + done.begin[0] }, done.begin[1])
                : "take" in done
                  ? without(ranges, done.take)
                  : discarded(ranges, done.discard);
            ({ ranges, taken } = cut);
          }
          expectSound(ranges);
          expect(pendingIn(ranges)).toBe(before - taken);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("a split", () => {
  test("keeps what is live apart from the backlog until that is done", () => {
    let ranges = splitAt([openRange(1, 20)], 11);
    expect(text(ranges)).toBe("1-10 11-20+");
    ranges = splitAt(grown(ranges, 30), 25);
    expect(text(ranges)).toBe("1-24 25-30+");
    ranges = without(ranges, { first: 1, last: 24 }).ranges;
    expect(text(ranges)).toBe("25-30+");
    expect(text(without(ranges, { first: 25, last: 30 }).ranges)).toBe("31-30+");
  });

  test("does nothing before the open range, and ends with the store", () => {
    const ranges = splitAt([openRange(5, 20)], 11);
    expect(splitAt(ranges, 11)).toBe(ranges);
    expect(splitAt(ranges, 3)).toBe(ranges);
    expect(text(splitAt(ranges, 1000))).toBe("5-20 21-20+");
  });

  test("never cuts a unit that was begun, and keeps it at the beginning of its range", () => {
    const { ranges } = begun([openRange(5, 40)], { first: 5, last: 20 }, 3);
    expect(text(ranges)).toBe("5-40+(3 to 20)");
    const cut = splitAt(ranges, 10);
    expect(text(cut)).toBe("5-20(3 to 20) 21-40+");
    const live = begun(cut, { first: 21, last: 25 }, 2);
    expect([live.taken, text(live.ranges)]).toEqual([2, "5-20(3 to 20) 21-40+(2 to 25)"]);
    expect(text(splitAt(live.ranges, 31))).toBe("5-20(3 to 20) 21-30(2 to 25) 31-40+");
  });

  test("does nothing when there are too many", () => {
    let ranges: Ranges = [openRange(1, 1000)];
    for (let at = 2; ranges.length < rangesMax; at += 2)
      ranges = without(splitAt(ranges, at + 1), { first: at, last: at }).ranges;
    expect(splitAt(ranges, 900)).toBe(ranges);
    const fed = added(closed(ranges), closedRange(2000, 2004));
    expect([fed.placed, fed.left]).toEqual([0, 5]);
  });
});

describe("a unit", () => {
  test("is done when all its records are, and not more than once", () => {
    let ranges: Ranges = [openRange(1, 40)];
    for (const records of [4, 5]) {
      const more = begun(ranges, { first: 1, last: 10 }, records);
      expect(more.taken).toBe(records);
      ranges = more.ranges;
    }
    expect(pendingIn(ranges)).toBe(31);
    expect(begun(ranges, { first: 1, last: 15 }, 3).taken).toBe(0); // Another one.
    const last = begun(ranges, { first: 1, last: 10 }, 7);
    expect([last.taken, text(last.ranges)]).toEqual([1, "11-40+"]);
  });

  test("that is evicted takes what is left of it", () => {
    const { ranges } = begun([openRange(1, 40)], { first: 1, last: 10 }, 4);
    const all = without(ranges, { first: 1, last: 10 });
    expect([all.taken, text(all.ranges)]).toEqual([6, "11-40+"]);
    const part = without(ranges, { first: 1, last: 6 });
    expect([part.taken, text(part.ranges)]).toEqual([2, "7-40+"]);
  });

  test("is not discarded in part", () => {
    const { ranges } = begun([openRange(1, 40)], { first: 1, last: 10 }, 4);
    expect(discarded(ranges, 8).taken).toBe(0);
    expect(discarded(ranges, 11).taken).toBe(6);
  });

  test("is handed over with what is done of it", () => {
    const { ranges } = begun([openRange(1, 40)], { first: 1, last: 10 }, 4);
    const { pieces, taken } = without(ranges, { first: 1, last: 10 });
    const target = added(closedRange(11, 20), pieces);
    expect([taken, target.placed, text(target.ranges)]).toEqual([6, 6, "1-20(4 to 10)"]);
  });
});
