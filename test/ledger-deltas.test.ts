// Cumulative packet counts to deltas of the ledger.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { createPacketDeltas } from "../src/ledger-deltas.ts";
import type { PacketLedger } from "../src/snapshot.ts";
import { createLedger, totalOf } from "../src/store/ledger.ts";

const counted = (seen: number, aggregated: number, full = 0): PacketLedger => ({
  seen,
  aggregated,
  duplicate: Math.floor(aggregated / 2),
  untracked: full === 0 ? [] : [{ reason: "full", packets: full }],
});

test("each call gives what was counted since the last", () => {
  const deltas = createPacketDeltas();
  expect(deltas(counted(10, 8, 2))).toEqual({
    "packets.seen": 10,
    "packets.aggregated": 8,
    "packets.duplicate": 4,
    "packets.untracked.full": 2,
  });
  expect(deltas(counted(15, 12, 3))).toMatchObject({ "packets.seen": 5, "packets.untracked.full": 1 });
  expect(deltas(counted(15, 12, 3))).toMatchObject({ "packets.seen": 0, "packets.untracked.full": 0 });
});

test("a tick without the section loses nothing", () => {
  const deltas = createPacketDeltas();
  deltas(counted(10, 10));
  expect(deltas(undefined)).toEqual({});
  expect(deltas(counted(25, 25))).toMatchObject({ "packets.seen": 15 });
});

test("a backend that counts from zero again is added whole", () => {
  const deltas = createPacketDeltas();
  deltas(counted(100, 90, 10));
  expect(deltas(counted(7, 6, 1))).toMatchObject({ "packets.seen": 7, "packets.untracked.full": 1 });
});

test("the deltas add up to the last count, and all of them are counts that the ledger takes", () => {
  const grows = fc.array(fc.record({ tracked: fc.nat(1e6), untracked: fc.nat(1e6) }), { minLength: 1 });
  fc.assert(
    fc.property(grows, (steps) => {
      const deltas = createPacketDeltas();
      const ledger = createLedger({});
      let [aggregated, full] = [0, 0];
      for (const step of steps) {
        aggregated += step.tracked;
        full += step.untracked;
        ledger.add(deltas(counted(aggregated + full, aggregated, full)));
      }
      const totals = ledger.totals();
      expect(ledger.refused).toBe(0);
      expect(totalOf(totals, "packets.seen")).toBe(aggregated + full);
      expect(totalOf(totals, "packets.aggregated") + totalOf(totals, "packets.untracked")).toBe(
        aggregated + full,
      );
    }),
  );
});
