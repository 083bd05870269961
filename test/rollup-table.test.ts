// Rollups in memory: bounded, with exact totals.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { FlowRecord } from "../src/flow.ts";
import { createRollupTable } from "../src/store/rollup-table.ts";
import { checkRow } from "../src/store/rows.ts";
import { day, minute, sumsOf } from "./rollups.parts.ts";
import { flow, startAt } from "./store.flows.ts";

setDefaultTimeout(60_000);

describe("keys in memory", () => {
  const encoded = (record: FlowRecord) => {
    const row = checkRow(record);
    if (typeof row === "string") throw new Error(row);
    return row;
  };

  test("are bounded; heavy hitters and all totals stay exact", () => {
    const table = createRollupTable({ keysMax: 512, periodsMax: 10 });
    const heavy = (number: number) =>
      flow(8, { source: "10.9.9.9", endAt: startAt, bytes: 1e7 + number, packets: 10, dropReason: "x" });
    const drop = flow(9, {
      source: "10.9.9.8",
      endAt: startAt,
      bytes: 60,
      packets: 50,
      verdict: "dropped",
      dropReason: "NO_SOCKET",
    });
    const all = Array.from({ length: 20_000 }, (_, number) =>
      number % 10 === 0
        ? heavy(number)
        : number % 1000 === 1
          ? drop
          : flow(8, {
              source: `10.${number >> 8}.${number & 255}.1`,
              endAt: startAt + (number % 3) * minute,
              bytes: 100,
              packets: 2,
            }),
    );
    for (const record of all) {
      table.count(encoded(record), 0);
      expect(table.keys).toBeLessThanOrEqual(512);
    }
    const rows = [...table.rows()];
    const sum = (of: typeof rows, key: "records" | "packets" | "bytes") =>
      of.reduce((total, row) => total + row[key], 0);
    expect({
      records: sum(rows, "records"),
      packets: sum(rows, "packets"),
      bytes: sum(rows, "bytes"),
    }).toEqual(sumsOf(all));
    const of = (address: number) => rows.filter(({ source }) => source === address);
    expect(of(0x0a090909)).toMatchObject([{ records: 2000, at: startAt }]);
    expect(of(0x0a090908)).toMatchObject([{ records: 20, packets: 1000 }]);
    expect(table.folded).toBe(sum(of(null as never), "records"));
  });

  test("drop reasons that never end lose their names, not their counts", () => {
    const table = createRollupTable({ keysMax: 16, periodsMax: 10 });
    for (let number = 0; number < 5000; number++)
      table.count(encoded(flow(9, { endAt: startAt, dropReason: `reason ${number}`, packets: 1 })), 0);
    const rows = [...table.rows()];
    expect(rows.length).toBeLessThanOrEqual(16 + 256 + 1);
    expect(rows.reduce((sum, { packets }) => sum + packets, 0)).toBe(5000);
    expect(rows.filter(({ dropReason }) => dropReason === "(other)")).toHaveLength(1);
  });

  test("minutes are bounded: the oldest becomes part of the next", () => {
    const table = createRollupTable({ keysMax: 512, periodsMax: 10 });
    for (let number = 0; number < 40; number++)
      table.count(encoded(flow(8, { endAt: startAt + ((number * 7) % 40) * minute, packets: 1 })), 0);
    expect(table.periods.size).toBe(10);
    expect(table.keys).toBe(10);
    const places = { forwarded: 5, dropped: 5 };
    const rows = table.take({ lastAt: startAt + day, places });
    expect(rows.reduce((sum, { packets }) => sum + packets, 0)).toBe(40);
    expect([table.keys, table.records, table.periods.size]).toEqual([0, 0, 0]);
  });
});
