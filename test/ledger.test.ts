// The ledger's arithmetic: pending and settled counts, bounded names, the laws.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { checkLaws, createLedger, type LedgerDeltas, reasonsMax, totalOf } from "../src/store/ledger.ts";

describe("a ledger", () => {
  test("starts from what is stored and writes totals, not differences", () => {
    const ledger = createLedger({ "rows.kept": 100, "rows.offered": 110 });
    ledger.add({ "rows.offered": 5 });
    expect(ledger.entriesWith({ "rows.kept": 4 }, 60_500)).toEqual({
      totals: [
        ["rows.offered", 115],
        ["rows.kept", 104],
      ],
      minutes: [{ at: 60_000, name: "rows.kept", value: 4 }],
    });
    ledger.settle({ "rows.kept": 4 });
    expect(ledger.totals()).toEqual({ "rows.kept": 104, "rows.offered": 115 });
    expect(ledger.entriesWith({}, 0)).toEqual({ totals: [], minutes: [] });
  });

  test("keeps what was counted while writing fails, and forgets what a failed write would have added", () => {
    const ledger = createLedger({});
    ledger.add({ "rows.offered": 3 });
    ledger.entriesWith({ "rows.kept": 3 }, 0); // This write fails.
    ledger.add({ "rows.lost.disk_full": 3 });
    expect(ledger.pending).toBe(true);
    expect(ledger.totals()).toEqual({ "rows.lost.disk_full": 3, "rows.offered": 3 });
    ledger.settle({});
    expect(ledger.pending).toBe(false);
    expect(ledger.totals()).toEqual({ "rows.lost.disk_full": 3, "rows.offered": 3 });
  });

  test("counts reasons past the bound, and reasons that are no names, as other", () => {
    const ledger = createLedger({});
    for (let number = 0; number < reasonsMax * 2; number++) ledger.add({ [`rows.filtered.r${number}`]: 1 });
    ledger.add({ [`rows.filtered.${"x".repeat(65)}`]: 1, "rows.filtered.": 1, "rows.filtered.r0": 1 });
    const totals = ledger.totals();
    expect(Object.keys(totals)).toHaveLength(reasonsMax);
    expect(totals["rows.filtered.r0"]).toBe(2);
    expect(totals["rows.filtered.other"]).toBe(reasonsMax + 3);
    expect(totalOf(totals, "rows.filtered")).toBe(reasonsMax * 2 + 3);
  });

  test("refuses what is no count and names that it does not know", () => {
    const ledger = createLedger({});
    ledger.add({ "rows.kept": -1, "rows.offered": 0.5, "packets.seen": Number.POSITIVE_INFINITY });
    ledger.add({ "rows.stolen": 1, "rows.lostish.x": 1 } as LedgerDeltas);
    expect(ledger.totals()).toEqual({});
    expect(ledger.refused).toBe(5);
  });

  test("hands everything over when it goes on in another file", () => {
    const ledger = createLedger({ "rows.kept": 7 });
    ledger.add({ "rows.kept": 1, "rows.offered": 2 });
    expect(ledger.moveTo({ "rows.kept": 50 })).toEqual({ "rows.kept": 8, "rows.offered": 2 });
    expect(ledger.totals()).toEqual({ "rows.kept": 50 });
    expect(ledger.pending).toBe(false);
  });

  test("totals are the sums of what was added, in whatever order writes succeed and fail", () => {
    const names = ["rows.offered", "rows.kept", "rows.lost.error", "packets.seen"] as const;
    const step = fc.record({ name: fc.constantFrom(...names), count: fc.nat(1000), succeeds: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        const ledger = createLedger({});
        const file = new Map<string, number>();
        const sums: Record<string, number> = {};
        for (const { name, count, succeeds } of steps) {
          ledger.add({ [name]: count });
          if (count > 0) sums[name] = (sums[name] ?? 0) + count;
          const entries = ledger.entriesWith({}, 0).totals;
          if (!succeeds) continue;
          for (const [key, value] of entries) file.set(key, value);
          ledger.settle({});
          expect(ledger.totals()).toEqual(Object.fromEntries(file));
        }
        expect(ledger.totals()).toEqual(sums);
      }),
    );
  });
});

describe("the laws", () => {
  const totals = {
    "packets.seen": 10,
    "packets.aggregated": 7,
    "packets.duplicate": 2,
    "packets.untracked.table_full": 2,
    "packets.untracked.parse": 1,
    "rows.offered": 21,
    "rows.kept": 10,
    "rows.filtered.interface": 5,
    "rows.throttled.window": 3,
    "rows.invalid.address": 2,
    "rows.lost.disk_full": 1,
    "rows.evicted.size": 4,
  };

  test("hold when both sides agree", () => {
    expect(checkLaws(totals, 6).map(({ left, right, holds }) => [left, right, holds])).toEqual([
      [10, 10, true],
      [21, 21, true],
      [10, 10, true],
    ]);
  });

  test("break when any count of theirs is one off", () => {
    for (const name of Object.keys(totals).filter((name) => name !== "packets.duplicate")) {
      const wrong = { ...totals, [name]: totals[name as keyof typeof totals] + 1 };
      expect(checkLaws(wrong, 6).some(({ holds }) => !holds)).toBe(true);
    }
    expect(checkLaws(totals, 5).map(({ holds }) => holds)).toEqual([true, true, false]);
  });
});
