// What every store must do about its bounds, its ledger and its ranking of drops.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { FlowRecord } from "../src/flow.ts";
import { StoreQueryError } from "../src/store/failure.ts";
import { type LedgerDeltas, totalOf } from "../src/store/ledger.ts";
import { append, expectLaws, type OpenStore, plain, readAll, seqs } from "./store.contract.ts";
import { flow, flows, startAt } from "./store.flows.ts";

export function storeBoundsContract(name: string, open: OpenStore): void {
  describe(name, () => {
    retentionContract(open);
    ledgerContract(open);
    dropsContract(open);
  });
}

function retentionContract(open: OpenStore): void {
  const mib = 1024 * 1024;

  test("stays within its bytes, oldest rows first, seqs never reused", () => {
    using store = open({ bytesMax: mib });
    let largest = 0;
    let settled = 0;
    for (let batch = 0; batch < 60; batch++) {
      append(store, flows(2000, batch * 2000));
      const { bytes } = store.stats();
      largest = Math.max(largest, bytes.database + bytes.wal);
      if (batch === 20) settled = bytes.database;
    }
    const { rows, bytes, lastSeq } = store.stats();
    expect(largest).toBeLessThanOrEqual(mib);
    expect(bytes.database).toBeLessThanOrEqual(settled * 1.02);
    expect(lastSeq).toBe(120_000);
    expect(rows).toBeGreaterThan(5000);
    expect(store.ledger()["rows.evicted.size"]).toBe(120_000 - rows);
    const held = seqs(readAll(store, { order: "oldest", limit: 1000 }));
    expect(held).toEqual(Array.from({ length: rows }, (_, index) => 120_000 - rows + 1 + index));
    expectLaws(store);
  });

  test("takes one append that is larger than the whole store", () => {
    using store = open({ bytesMax: mib });
    const rows = flows(30_000);
    const result = append(store, rows);
    expect(result).toMatchObject({ kept: 30_000, lost: 0 });
    const held = plain(readAll(store, { order: "oldest", limit: 1000 }));
    expect(held).toEqual(rows.slice(30_000 - held.length));
    expectLaws(store);
  });

  test("evicts by age, without rows too, and never reuses a seq", () => {
    using store = open({ ageMaxMs: 60_000 });
    append(store, flows(10), startAt);
    append(store, flows(10, 10), startAt + 30_000);
    expect(store.append({ rows: [], at: startAt + 59_999 }).evicted).toBe(0);
    expect(store.append({ rows: [], at: startAt + 60_000 }).evicted).toBe(10);
    expect(seqs(readAll(store, { order: "oldest" }))[0]).toBe(11);
    store.append({ rows: [], at: startAt + 90_000 });
    expect(store.stats().rows).toBe(0);
    append(store, flows(1), startAt + 90_001);
    expect(seqs(readAll(store, {}))).toEqual([21]);
    expect(store.ledger()["rows.evicted.age"]).toBe(20);
    expectLaws(store);
  });

  test("tells a reader in oldest order once how many rows went before it came to them", () => {
    using store = open({ ageMaxMs: 60_000, scanMax: 4 });
    append(store, flows(10), startAt);
    append(store, flows(10, 10), startAt + 30_000);
    const { cursor } = store.queryFlows({ order: "oldest", limit: 3 });
    const atEnd = store.cursorAt({ seq: 20, order: "oldest" });
    const newest = store.queryFlows({ order: "newest", limit: 3 });
    expect(store.queryFlows({ order: "oldest", cursor }).lost).toBe(0);
    store.append({ rows: [], at: startAt + 60_000 }); // Rows 1 to 10 go.
    const next = store.queryFlows({ order: "oldest", limit: 3, cursor });
    expect([seqs(next.flows), next.lost]).toEqual([[11, 12, 13], 7]);
    expect(store.queryFlows({ order: "oldest", cursor: next.cursor }).lost).toBe(0);
    // Whether they would have matched is not known any more.
    const none = store.queryFlows({ order: "oldest", cursor, sourcePorts: [1] });
    expect(none).toMatchObject({ flows: [], lost: 7, more: true });
    expect(store.queryFlows({ order: "oldest", cursor: none.cursor, sourcePorts: [1] }).lost).toBe(0);
    expect(store.queryFlows({ order: "oldest" }).lost).toBe(0);
    expect(store.queryFlows({ order: "newest", cursor: newest.cursor }).lost).toBe(0);
    store.append({ rows: [], at: startAt + 90_000 }); // All go.
    const empty = store.queryFlows({ order: "oldest", cursor, dropReason: "NEVER_SEEN" });
    expect(empty).toMatchObject({ flows: [], lost: 17, more: false });
    expect(store.queryFlows({ order: "oldest", cursor: empty.cursor }).lost).toBe(0);
    expect(store.queryFlows({ order: "oldest", cursor: atEnd }).lost).toBe(0);
    append(store, flows(2), startAt + 90_001);
    expect(store.queryFlows({ order: "oldest", cursor: empty.cursor })).toMatchObject({ lost: 0 });
    expect(seqs(readAll(store, { order: "oldest", cursor: empty.cursor }))).toEqual([21, 22]);
  });

  test("a clock that was ahead does not keep its rows for ever, one that steps back evicts nothing", () => {
    const day = 86_400_000;
    using store = open({ ageMaxMs: 7 * day });
    append(store, flows(5), startAt + 365 * day); // A year ahead.
    append(store, flows(5, 5), startAt); // Set right.
    append(store, flows(5, 10), startAt - 365 * day); // A year back, for a moment.
    append(store, flows(5, 15), startAt + 1000);
    expect(store.stats().rows).toBe(20);
    store.append({ rows: [], at: startAt + 6 * day });
    expect(store.stats().rows).toBe(20);
    store.append({ rows: [], at: startAt + 8 * day });
    expect(store.stats().rows).toBe(0);
    expectLaws(store);
  });
}

const counts = fc.nat(1000);

function ledgerContract(open: OpenStore): void {
  test("the laws hold for whatever is appended", () => {
    const step = fc.record({
      rows: fc.integer({ min: 0, max: 400 }),
      broken: fc.integer({ min: 0, max: 5 }),
      filtered: counts,
      throttled: counts,
      aggregated: counts,
      untracked: counts,
      reason: fc.constantFrom("table_full", "parse", "x".repeat(100)),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        using store = open({ bytesMax: 1024 * 1024, ageMaxMs: 5000 });
        let offered = 0;
        for (const [
          index,
          { rows, broken, filtered, throttled, aggregated, untracked, reason },
        ] of steps.entries()) {
          const all = [...flows(rows), ...Array.from({ length: broken }, () => flow(1, { packets: -1 }))];
          offered += all.length + filtered + throttled;
          store.append({
            rows: all,
            at: startAt + index * 1000,
            ledger: {
              "rows.offered": all.length + filtered + throttled,
              "rows.filtered.interface": filtered,
              "rows.throttled.window": throttled,
              "packets.seen": aggregated + untracked,
              "packets.aggregated": aggregated,
              [`packets.untracked.${reason}`]: untracked,
            },
          });
          expectLaws(store);
        }
        expect(totalOf(store.ledger(), "rows.offered")).toBe(offered);
      }),
      { numRuns: 25 },
    );
  });

  test("counts ledger names and values that cannot be, and takes the rest", () => {
    using store = open();
    const wrong = {
      "packets.seen": Number.NaN,
      "rows.offered": -1,
      nonsense: 5,
      "rows.kept.": 2,
    } as LedgerDeltas;
    store.append({ rows: [], ledger: { ...wrong, "packets.aggregated": 3 } });
    expect(store.ledger()).toEqual({ "packets.aggregated": 3 });
    expect(store.stats().ledgerRefused).toBe(4);
  });
}

function dropsContract(open: OpenStore): void {
  const drop = (number: number, changes: Partial<FlowRecord>) =>
    flow(number, { verdict: "dropped", dropReason: "NO_SOCKET", packets: 1, bytes: 100, ...changes });

  test("ranks drops by reason, far address and destination port", () => {
    using store = open();
    append(store, [
      drop(1, {
        direction: "ingress",
        source: "203.0.113.9",
        destination: "10.0.0.1",
        destinationPort: 23,
        packets: 5,
      }),
      drop(2, {
        direction: "egress",
        source: "10.0.0.1",
        destination: "203.0.113.9",
        destinationPort: 25,
        packets: 4,
      }),
      drop(3, {
        direction: "ingress",
        source: "2001:db8::1",
        destinationPort: 23,
        packets: 2,
        dropReason: "NETFILTER_DROP",
      }),
      flow(4, { verdict: "forwarded", packets: 999 }),
    ]);
    const { drops } = store.topDrops({ by: "address" });
    expect(drops).toEqual([
      { key: "203.0.113.9", rows: 2, packets: 9, bytes: 200 },
      { key: "2001:db8::1", rows: 1, packets: 2, bytes: 100 },
    ]);
    expect(store.topDrops({ by: "reason" }).drops.map(({ key, packets }) => [key, packets])).toEqual([
      ["NO_SOCKET", 9],
      ["NETFILTER_DROP", 2],
    ]);
    expect(store.topDrops({ by: "port", limit: 1 })).toEqual({
      drops: [{ key: "23", rows: 2, packets: 7, bytes: 200 }],
      scanned: 4,
      complete: true,
    });
  });

  test("keeps to the time range and says when it did not see all of it", () => {
    using store = open({ scanMax: 50 });
    append(
      store,
      Array.from({ length: 80 }, (_, number) => drop(number, {})),
    );
    const all = store.topDrops({ by: "reason" });
    expect(all).toMatchObject({ scanned: 50, complete: false });
    const { endAt } = flow(40);
    const some = store.topDrops({ by: "reason", fromAt: endAt, toAt: flow(45).endAt });
    expect(some.drops[0]?.rows ?? 0).toBe(5);
    expect(() => store.topDrops({ by: "size" as "port" })).toThrow(StoreQueryError);
    expect(() => store.topDrops({ by: "port", limit: 0 })).toThrow(StoreQueryError);
  });
}
