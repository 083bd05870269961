// Live flows: one interface a flow, nothing unreported lost at eviction, reasons right.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { KEY_WORDS } from "../bpf/flow-columns.ts";
import { createFlowTable, type Rank, type Sighting } from "../bpf/flow-table.ts";

const SECOND = 1e9;

const keyOf = (id: number): Uint32Array => {
  const key = new Uint32Array(KEY_WORDS);
  key[0] = id;
  return key;
};

const sighting = (part: Partial<Sighting>): Sighting => ({
  ifindex: 2,
  rank: 3,
  packets: 1,
  bytes: 100,
  tcpFlags: 0,
  firstNs: 0,
  lastNs: 0,
  ...part,
});

type Row = { id: number; packets: number; bytes: number; reason: string; ifindex: number };

function openTable(options: { max?: number; drops?: boolean } = {}) {
  const rows: Row[] = [];
  const table = createFlowTable({
    max: options.max ?? 64,
    idleNs: 3 * SECOND,
    activeNs: 10 * SECOND,
    drops: options.drops ?? false,
    report: (slot, reason) =>
      void rows.push({
        id: table.flows.keyOf(slot)[0] ?? -1,
        packets: table.flows.packets[slot] ?? 0,
        bytes: table.flows.bytes[slot] ?? 0,
        ifindex: table.flows.ifindex[slot] ?? 0,
        reason,
      }),
  });
  return { table, rows };
}

describe("one interface a flow", () => {
  test("veth, bridge and uplink in any order count once, on the best", () => {
    const seen: [number, Rank][] = [
      [2, 3],
      [3, 0],
      [4, 2],
      [2, 3],
      [4, 2],
      [3, 0],
    ];
    fc.assert(
      fc.property(fc.shuffledSubarray(seen, { minLength: seen.length }), (order) => {
        const { table, rows } = openTable();
        for (const [ifindex, rank] of order) table.add(keyOf(1), sighting({ ifindex, rank }));
        table.sweep(0);
        table.drain();
        expect(rows).toEqual([{ id: 1, packets: 2, bytes: 200, ifindex: 2, reason: "shutdown" }]);
        expect(table.duplicates()).toBe(4);
      }),
    );
  });

  test("the choice holds when a packet's sights fall on both sides of a swap", () => {
    const { table, rows } = openTable();
    table.add(keyOf(1), sighting({ ifindex: 4, rank: 2 }));
    table.sweep(0);
    table.add(keyOf(1), sighting({ ifindex: 2, rank: 3 }));
    table.sweep(1 * SECOND);
    table.sweep(1.1 * SECOND);
    table.drain();
    expect(rows).toMatchObject([{ packets: 1, ifindex: 4 }]);
  });

  test("after two silent ticks another interface takes over", () => {
    const { table, rows } = openTable();
    table.add(keyOf(1), sighting({ ifindex: 4, packets: 5, bytes: 500 }));
    table.sweep(0);
    for (let tick = 1; tick <= 3; tick++) {
      table.add(keyOf(1), sighting({ ifindex: 5, packets: 7, bytes: 700, lastNs: tick * SECOND }));
      table.sweep(tick * SECOND);
    }
    table.drain();
    expect(rows).toMatchObject([{ packets: 19, bytes: 1900, ifindex: 5 }]);
    expect(table.duplicates()).toBe(7);
  });

  test("drops are all counted, on the last interface", () => {
    const { table, rows } = openTable({ drops: true });
    table.add(keyOf(1), sighting({ ifindex: 4 }));
    table.add(keyOf(1), sighting({ ifindex: 5 }));
    table.sweep(0);
    expect(rows).toMatchObject([{ packets: 2, ifindex: 5, reason: "first" }]);
  });
});

describe("eviction", () => {
  test("fin and rst leave a tick after they were seen", () => {
    const { table, rows } = openTable();
    table.add(keyOf(1), sighting({ tcpFlags: 0x11 }));
    table.add(keyOf(2), sighting({ tcpFlags: 0x04 }));
    table.sweep(0);
    expect(rows).toEqual([]);
    table.add(keyOf(1), sighting({ tcpFlags: 0x10 }));
    table.sweep(SECOND);
    expect(rows).toMatchObject([
      { id: 1, packets: 2, reason: "fin" },
      { id: 2, packets: 1, reason: "rst" },
    ]);
    expect(table.flows.live()).toBe(0);
  });

  test("idle leaves, active is reported and stays, an idle flow with nothing new makes no row", () => {
    const { table, rows } = openTable();
    for (let second = 0; second <= 10; second++) {
      table.add(keyOf(1), sighting({ firstNs: second * SECOND, lastNs: second * SECOND }));
      table.sweep(second * SECOND);
    }
    expect(rows).toMatchObject([{ packets: 11, reason: "active" }]);
    table.sweep(14 * SECOND);
    expect(rows).toHaveLength(1);
    expect(table.flows.live()).toBe(0);
  });

  test("a full table reports the one that gives way", () => {
    const { table, rows } = openTable({ max: 2 });
    for (const id of [1, 2, 3]) table.add(keyOf(id), sighting({}));
    expect(rows).toMatchObject([{ id: 1, packets: 1, reason: "full" }]);
    expect(table.flows.live()).toBe(2);
    expect(table.evicted()).toEqual([{ reason: "full", flows: 1 }]);
  });

  test("a crowd that falls idle at once leaves over several ticks, each once", () => {
    const { table, rows } = openTable({ max: 20_000 });
    for (let id = 1; id <= 20_000; id++) table.add(keyOf(id), sighting({}));
    const left: number[] = [];
    for (let second = 4; table.flows.live() > 0; second++) {
      table.sweep(second * SECOND);
      left.push(table.flows.live());
    }
    expect(left.length).toBeGreaterThan(1);
    expect(left.length).toBeLessThan(5);
    expect(new Set(rows.map(({ id }) => id)).size).toBe(20_000);
    expect(rows).toHaveLength(20_000);
  });

  test("rows of a flow add up to what was added, whatever happens", () => {
    const step = fc.record({
      id: fc.integer({ min: 1, max: 12 }),
      packets: fc.integer({ min: 1, max: 1000 }),
      tcpFlags: fc.constantFrom(0, 0x10, 0x11, 0x14),
      sweep: fc.boolean(),
      later: fc.integer({ min: 0, max: 5 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const { table, rows } = openTable({ max: 8 });
        const added = new Map<number, number>();
        let now = 0;
        for (const { id, packets, tcpFlags, sweep, later } of steps) {
          now += later * SECOND;
          table.add(keyOf(id), sighting({ packets, tcpFlags, firstNs: now, lastNs: now }));
          added.set(id, (added.get(id) ?? 0) + packets);
          if (sweep) table.sweep(now);
        }
        table.drain();
        const reported = new Map<number, number>();
        for (const { id, packets } of rows) reported.set(id, (reported.get(id) ?? 0) + packets);
        const byId = ([a]: [number, number], [b]: [number, number]): number => a - b;
        expect([...reported].sort(byId)).toEqual([...added].sort(byId));
        expect(table.flows.live()).toBe(0);
      }),
    );
  });
});
