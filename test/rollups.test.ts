// Rollups: minutes, hours and their retention, whatever the clock does.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { FlowRecord } from "../src/flow.ts";
import {
  at,
  type Changes,
  crashed,
  day,
  expectCounts,
  hour,
  minute,
  openRollups,
  rankedBy,
  removeDirs,
  second,
  sumsOf,
  totalOf,
} from "./rollups.parts.ts";
import { flow, flows, startAt } from "./store.flows.ts";

setDefaultTimeout(60_000);
afterAll(removeDirs);

describe("a minute", () => {
  test("is written once it is over by 15 seconds, with kept and unkept records, and counts once", () => {
    const world = openRollups();
    using _ = world.store;
    const [kept, unkept] = [flows(40), flows(25, 100)].map((some) => at(startAt + 1000, some));
    world.append(kept!, unkept!);
    world.clock.at = startAt + minute + 14 * second;
    world.append([]);
    expect(world.sql("SELECT * FROM rollup_minutes")).toEqual([]);
    expect(totalOf(world)).toEqual(sumsOf([...kept!, ...unkept!]));
    world.clock.at += second;
    world.append([]);
    const [row] = world.sql("SELECT count(*), min(at), max(at), sum(records) FROM rollup_minutes");
    expect(row).toEqual([65, startAt, startAt, 65]);
    expect(totalOf(world)).toEqual(sumsOf([...kept!, ...unkept!]));
    expect(world.rollups.facts()).toMatchObject({
      offered: 65,
      written: 65,
      pending: 0,
      pendingKeys: 0,
      oldestMinuteAt: startAt,
    });
    world.pass(5 * minute);
    expectCounts(world);
    expect(world.rollups.facts().minuteRows).toBe(65); // A minute with nothing writes nothing.
  });

  test("takes late records too, in rows of their own", () => {
    const world = openRollups();
    using _ = world.store;
    const records = at(startAt + 1000, flows(10));
    world.append(records);
    world.pass(2 * minute);
    world.append(records);
    world.pass(2 * minute);
    expect(world.sql("SELECT DISTINCT at FROM rollup_minutes")).toEqual([[startAt]]);
    expect(totalOf(world)).toEqual(sumsOf([...records, ...records]));
    expectCounts(world);
  });

  test("keeps the greatest keys, drops beside elephants, and the rest without ends", () => {
    const world = openRollups({}, { keysMax: 20 });
    using _ = world.store;
    const some = (count: number, changes: (index: number) => Partial<FlowRecord>) =>
      Array.from({ length: count }, (_row, index) => flow(8, { ...changes(index), protocol: 6 }));
    const elephants = some(100, (index) => ({ source: `10.0.0.${index}`, bytes: 1e9 + index, packets: 1e6 }));
    const drops = some(50, (index) => ({
      source: `10.1.0.${index}`,
      bytes: 60 * index,
      packets: 1 + index,
      verdict: "dropped",
      dropReason: index % 2 === 0 ? "NO_SOCKET" : "NETFILTER_DROP",
    }));
    const all = at(startAt, [...elephants, ...drops]);
    world.append(all);
    world.pass(2 * minute);
    const sources = world.ask({ by: "source", limit: 1000 });
    expect(sources.ranks.map(({ key }) => key)).toEqual([
      ...Array.from({ length: 20 }, (_row, index) => `10.0.0.${99 - index}`),
      ...Array.from({ length: 5 }, (_row, index) => `10.1.0.${49 - index}`),
    ]);
    expect(sources.total).toEqual(sumsOf(all));
    expect(sources.unnamed.records).toBe(80 + 45);
    const reasons = world.ask({ by: "reason", verdict: "dropped", order: "packets" });
    expect(reasons.ranks).toEqual(rankedBy(drops, ({ dropReason }) => [dropReason!]));
    expect(world.rollups.facts().folded).toBe(125);
  });

  test("counts what goes to a client's port as one", () => {
    const world = openRollups();
    using _ = world.store;
    const record = (sourcePort: number, destinationPort: number) =>
      flow(8, { sourcePort, destinationPort, endAt: startAt, startAt, packets: 1, bytes: 1 });
    world.append([
      ...Array.from({ length: 500 }, (_row, index) => record(443, 40_000 + index)),
      record(50_000, 60_000),
      record(50_000, 443),
      record(53, 32_768),
      record(53, 32_767),
    ]);
    world.pass(2 * minute);
    const { ranks } = world.ask({ by: "port" });
    expect(Object.fromEntries(ranks.map(({ key, records }) => [key, records]))).toEqual({
      0: 501,
      60000: 1,
      443: 1,
      32767: 1,
    });
  });

  test("has nothing of imported records", () => {
    const world = openRollups();
    using _ = world.store;
    const rows = flows(30).map((record) => ({ ...record, node: "other" }));
    world.store.append({ rows, imported: true, ledger: { "rows.offered": 30 } });
    world.append(rows);
    expect(world.rollups.facts().offered).toBe(0);
    const again = openRollups({ dir: crashed(world.dir), clock: world.clock });
    using _again = again.store;
    expect(again.rollups.facts()).toMatchObject({ offered: 0, pending: 0, lost: 0 });
  });
});

describe("hours", () => {
  const filled = (changes: Changes = {}) => {
    const world = openRollups({}, changes);
    const records: FlowRecord[] = [];
    for (let step = 0; step < 6 * 60; step++) {
      const next = at(world.clock.at, flows(7, step * 3));
      records.push(...next);
      world.append(next);
      world.pass(minute / 2, 10 * second);
    }
    return { world, records };
  };

  test("are folded of minutes, each row once", () => {
    const { world, records } = filled();
    using _ = world.store;
    expect(world.sql("SELECT DISTINCT at FROM rollup_hours ORDER BY at")).toEqual([
      [startAt],
      [startAt + hour],
    ]);
    world.pass(3 * minute);
    const sums = "sum(records), sum(packets), sum(bytes)";
    const { records: count, packets, bytes } = sumsOf(records);
    expect(world.sql(`SELECT ${sums} FROM rollup_hours`)).toEqual([[count, packets, bytes]]);
    expect(world.sql(`SELECT ${sums} FROM rollup_minutes`)).toEqual([[count, packets, bytes]]);
    expect(totalOf(world)).toEqual(sumsOf(records));
    const byPort = rankedBy(records, ({ destinationPort }) => [String(destinationPort)]);
    expect(world.ask({ by: "port" }).ranks).toEqual(byPort);
    world.pass(2 * hour, minute);
    expect(world.sql(`SELECT ${sums} FROM rollup_hours`)).toEqual([[count, packets, bytes]]);
    expectCounts(world);
  });

  test("stay when their minutes are too old, and go when they are too old themselves", () => {
    const { world, records } = filled({ minuteAgeMaxMs: 5 * hour, hourAgeMaxMs: 24 * hour });
    using _ = world.store;
    world.pass(3 * hour, minute);
    const left = world.sql("SELECT min(at), count(*) FROM rollup_minutes") as number[][];
    expect(left[0]![0]).toBe(world.clock.at - 5 * hour);
    expectCounts(world);
    expect(totalOf(world)).toEqual(sumsOf(records));
    world.pass(18 * hour, 5 * minute);
    expect(world.rollups.facts()).toMatchObject({ minuteRows: 0 });
    expect(totalOf(world)).toEqual(sumsOf(records));
    world.pass(12 * hour, 5 * minute);
    expect(world.rollups.facts()).toMatchObject({ minuteRows: 0, hourRows: 0 });
    expect(totalOf(world).records).toBe(0);
    expectCounts(world);
  });

  test("that were half written when the process was killed are written anew", () => {
    const world = openRollups({}, { bytesMax: 1024 * 1024 });
    using _ = world.store;
    const records = Array.from({ length: 20 }, (_hour, index) =>
      at(startAt - index * hour, flows(12, index)),
    ).flat();
    world.append(records);
    const seen = new Set<number>();
    for (let step = 0; step < 40; step++) {
      world.clock.at += 10 * second;
      world.append([]);
      expect(totalOf(world)).toEqual(sumsOf(records));
      const again = openRollups({ dir: crashed(world.dir), clock: { at: world.clock.at } });
      using _again = again.store;
      const [[count] = []] = again.sql("SELECT count(*) FROM rollup_hours") as number[][];
      seen.add(count!);
      expect(totalOf(again)).toEqual(sumsOf(records));
      again.pass(5 * minute);
      expect(totalOf(again)).toEqual(sumsOf(records));
      expectCounts(again);
    }
    expect(seen.size).toBeGreaterThan(2); // None, some, all.
  });
});

describe("retention", () => {
  test("leaves minutes that are part of no hour yet", () => {
    const world = openRollups({}, { minuteAgeMaxMs: 5 * minute });
    using _ = world.store;
    const records: FlowRecord[] = [];
    for (let step = 0; step < 200; step++) {
      const next = at(world.clock.at, flows(4, step));
      records.push(...next);
      world.append(next);
      world.clock.at += minute;
      expect(totalOf(world)).toEqual(sumsOf(records));
    }
    expect(world.rollups.facts().oldestMinuteAt).toBe(startAt + 3 * hour);
    expectCounts(world);
  });

  test("keeps both tables to their share of the file, the oldest go first", () => {
    const world = openRollups({}, { bytesMax: 1024 * 1024, keysMax: 1000 });
    using _ = world.store;
    let most = { minuteRows: 0, hourRows: 0 };
    let records = 0;
    for (let step = 0; step < 60 * 40; step++) {
      world.append(at(world.clock.at, flows(20, step * 20)));
      records += 20;
      world.clock.at += minute;
      const { minuteRows, hourRows } = world.rollups.facts();
      most = {
        minuteRows: Math.max(most.minuteRows, minuteRows),
        hourRows: Math.max(most.hourRows, hourRows),
      };
    }
    const share = (0.75 * 1024 * 1024) / 8 / 80;
    expect(most.minuteRows).toBeLessThan(share * 1.5);
    expect(most.hourRows).toBeLessThan(share * 1.5);
    const [range] = world.sql("SELECT min(at), max(at) FROM rollup_hours") as number[][];
    expect(range![1]).toBeGreaterThan(world.clock.at - 2 * hour);
    expect(range![0]).toBeGreaterThan(startAt + hour);
    expect(world.rollups.facts()).toMatchObject({ offered: records, lost: 0 });
    expectCounts(world);
  });
});

describe("the clock", () => {
  const run = (steps: readonly number[]) => {
    const world = openRollups({}, { minuteAgeMaxMs: 10 * day });
    const records: FlowRecord[] = [];
    const work = () => {
      for (let step = 0; step < 150; step++) {
        const next = at(world.clock.at, flows(3, step));
        records.push(...next);
        world.append(next);
        world.pass(minute / 2, 10 * second);
      }
    };
    work();
    for (const ms of steps) {
      world.clock.at += ms;
      work();
    }
    return { world, records };
  };

  test.each([
    ["an hour back", [-hour]],
    ["a day forward and back", [day, -day]],
    ["to and fro", [-hour, 2 * hour, -day, day, 20 * second, -20 * second]],
  ])("set %s loses nothing and counts nothing twice", (_name, steps) => {
    const { world, records } = run(steps);
    using _ = world.store;
    expect(totalOf(world)).toEqual(sumsOf(records));
    expectCounts(world);
    const again = openRollups({ dir: crashed(world.dir), clock: { at: world.clock.at } });
    using _again = again.store;
    expect(totalOf(again)).toEqual(sumsOf(records));
    expect(again.rollups.facts().lost).toBe(0);
    world.pass(5 * hour, minute);
    expect(totalOf(world)).toEqual(sumsOf(records));
    expect(world.rollups.facts().pending).toBe(0);
    expectCounts(world);
  });

  test("that is wrong in the records themselves holds nothing up", () => {
    const world = openRollups({}, { minuteAgeMaxMs: 1e15, hourAgeMaxMs: 1e15 });
    using _ = world.store;
    const records: FlowRecord[] = [];
    for (let step = 0; step < 600; step++) {
      const next = [
        ...at(world.clock.at, flows(2)),
        ...at(1e9 + ((step * 7_919_317_111) % 1e14), flows(1, 5)),
        ...at(world.clock.at + 40 * day, flows(1)),
      ];
      records.push(...next);
      world.append(next);
      world.pass(minute / 5, 4 * second);
    }
    expect(world.rollups.facts().pendingMinutes).toBeLessThanOrEqual(120);
    expect(totalOf(world)).toEqual(sumsOf(records));
    expectCounts(world);
    const dir = crashed(world.dir);
    const again = openRollups({ dir, clock: world.clock }, { minuteAgeMaxMs: 1e15, hourAgeMaxMs: 1e15 });
    using _again = again.store;
    expect(totalOf(again)).toEqual(sumsOf(records));
  });
});
