// Top talkers, ports and reasons out of the rollups, beside a naive count of the records.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import fc from "fast-check";
import type { FlowRecord } from "../src/flow.ts";
import { StoreQueryError } from "../src/store/failure.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import { queryTop } from "../src/store/top.ts";
import { type TopKey, type TopQuery, topGroupsMax, topLimitMax } from "../src/store/top-groups.ts";
import {
  hour,
  minute,
  openRollups,
  rankedBy,
  removeDirs,
  second,
  sumsOf,
  withReader,
} from "./rollups.parts.ts";
import { anyFlow, flow, flows, startAt } from "./store.flows.ts";

setDefaultTimeout(60_000);
afterAll(removeDirs);

const naiveKeys: Readonly<Record<TopKey, (record: FlowRecord) => readonly string[]>> = {
  address: ({ source, destination }) => [source, destination],
  source: ({ source }) => [source],
  destination: ({ destination }) => [destination],
  pair: ({ source, destination }) => [`${source} -> ${destination}`],
  port: ({ sourcePort, destinationPort }) => [
    String(sourcePort < 32_768 && destinationPort >= 32_768 ? 0 : destinationPort),
  ],
  protocol: ({ protocol }) => [{ 1: "icmp", 6: "tcp", 17: "udp" }[protocol] ?? String(protocol)],
  reason: ({ verdict, dropReason }) => (verdict === "dropped" || dropReason ? [dropReason ?? ""] : []),
  verdict: ({ verdict }) => [verdict],
  direction: ({ direction }) => [direction],
};
const keys = Object.keys(naiveKeys) as TopKey[];

const plus = (a: ReturnType<typeof sumsOf>, b: ReturnType<typeof sumsOf>, times = 1) => ({
  records: a.records + times * b.records,
  packets: a.packets + times * b.packets,
  bytes: a.bytes + times * b.bytes,
});
const nothing = { records: 0, packets: 0, bytes: 0 };

describe("the ranking", () => {
  const record = fc.tuple(anyFlow, fc.nat(1e9), fc.nat(200)).map(([any, bytes, agoMinutes]) => ({
    ...any,
    startAt: startAt - agoMinutes * minute,
    endAt: startAt - agoMinutes * minute,
    packets: bytes % 1009,
    bytes,
  }));

  test("has exact sums, from minutes, hours and what is pending", () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(record, { maxLength: 60 }), { maxLength: 4 }),
        fc.constantFrom(...keys),
        fc.constantFrom("bytes" as const, "packets" as const, "records" as const),
        fc.integer({ min: 1, max: 8 }),
        fc.nat(90),
        (batches, by, order, limit, passMinutes) => {
          const world = openRollups();
          using _ = world.store;
          for (const batch of batches) {
            world.append(batch);
            world.pass(passMinutes * minute, 5 * minute);
          }
          const records = batches.flat();
          const answer = world.ask({ by, order, limit });
          const all = rankedBy(records, naiveKeys[by]).toSorted(
            (a, b) => b[order] - a[order] || b.bytes - a.bytes || (a.key < b.key ? -1 : 1),
          );
          expect(answer.ranks).toEqual(all.slice(0, limit));
          expect(answer.total).toEqual(sumsOf(records));
          const ranked = answer.ranks.reduce((sum, rank) => plus(sum, rank), nothing);
          expect(plus(ranked, answer.other)).toEqual(
            plus(nothing, sumsOf(records), by === "address" ? 2 : 1),
          );
          expect(answer.complete).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("takes the records that the filters let pass", () => {
    const filter = fc.record(
      {
        verdict: fc.constantFrom("forwarded" as const, "dropped" as const),
        direction: fc.constantFrom("ingress" as const, "egress" as const),
        protocol: fc.constantFrom(1, 6, 17, 200),
        port: fc.constantFrom(0, 53, 443),
        address: fc.constantFrom(
          ["10.0.0.0/8"],
          ["10.0.0.1"],
          ["2001:db8::/32", "200.0.0.0/6"],
          ["::/0"],
          ["fe80::1"],
        ),
      },
      { requiredKeys: [] },
    );
    const inNetwork = (address: string, network: string): boolean => {
      const v6 = address.includes(":");
      if (network === "::/0") return v6;
      if (network === "2001:db8::/32") return address.startsWith("2001:db8:");
      if (network === "10.0.0.0/8") return address.startsWith("10.");
      if (network === "200.0.0.0/6") return !v6 && Number(address.split(".")[0]) >> 2 === 50;
      return address === network;
    };
    fc.assert(
      fc.property(fc.array(record, { maxLength: 80 }), filter, fc.nat(5), (records, query, passed) => {
        const world = openRollups();
        using _ = world.store;
        world.append(records.slice(0, 40));
        world.pass(passed * minute, 30 * second);
        world.append(records.slice(40));
        const matching = records.filter((one) => {
          const port = Number(naiveKeys.port(one)[0]);
          const { verdict = one.verdict, direction = one.direction, protocol = one.protocol } = query;
          if (verdict !== one.verdict || direction !== one.direction || protocol !== one.protocol)
            return false;
          if (query.port !== undefined && query.port !== port) return false;
          const ends = [one.source, one.destination];
          return query.address?.some((net) => ends.some((end) => inNetwork(end, net))) ?? true;
        });
        const answer = world.ask({ by: "pair", limit: 1000, ...query });
        expect(answer.ranks).toEqual(rankedBy(matching, naiveKeys.pair));
        expect(answer).toMatchObject({ total: sumsOf(matching), unnamed: nothing, other: nothing });
      }),
      { numRuns: 60 },
    );
  });

  test("says what it cannot tell: records without ends, when the ends are asked for", () => {
    const world = openRollups({}, { keysMax: 10 });
    using _ = world.store;
    const records = Array.from({ length: 50 }, (_row, index) =>
      flow(8, { source: `10.0.0.${index}`, endAt: startAt, startAt, bytes: 1000 + index, packets: 1 }),
    );
    world.append(records);
    world.pass(2 * minute);
    const byEnd = world.ask({ by: "source", address: ["10.0.0.0/8"], protocol: records[0]!.protocol });
    expect(byEnd.total).toEqual(sumsOf(records.slice(40)));
    expect(byEnd.unnamed).toEqual(sumsOf(records.slice(0, 40)));
    expect(byEnd.other).toEqual(nothing);
    const all = world.ask({ by: "source", limit: 3 });
    expect(all.ranks.map(({ key }) => key)).toEqual(["10.0.0.49", "10.0.0.48", "10.0.0.47"]);
    expect(all.total).toEqual(sumsOf(records));
    expect(all.other).toEqual(sumsOf(records.slice(0, 47)));
    expect(all.unnamed).toEqual(byEnd.unnamed);
    expect(world.ask({ by: "source", protocol: 200 }).unnamed).toEqual(nothing);
  });

  test("tells a bounded number of keys apart, and says so", () => {
    const world = openRollups();
    world.append([flow(1)]);
    world.store.close();
    const database = openDatabase({ path: join(world.dir, "fovea.db") });
    const insert = database.prepare(
      "INSERT INTO rollup_hours VALUES (?, ?, ?, ?, 443, 6, 0, 0, NULL, 1, 1, 1)",
    );
    database.exec("BEGIN; DELETE FROM rollup_minutes");
    for (let id = 1; id <= topGroupsMax + 10; id++) insert.run(id, startAt, id, 1);
    database.exec(`UPDATE state SET value = ${topGroupsMax + 10} WHERE name = 'rollup_hour_id'; COMMIT`);
    database.close();
    const answer = withReader(world.dir, (reader) => queryTop(reader, { by: "source" }));
    expect(answer).toMatchObject({ complete: false, total: { records: topGroupsMax + 10 } });
    expect(answer.other.records).toBe(topGroupsMax);
    const ports = withReader(world.dir, (reader) => queryTop(reader, { by: "port" }));
    expect(ports).toMatchObject({ complete: true, ranks: [{ key: "443", records: topGroupsMax + 10 }] });
  });
});

describe("the range", () => {
  const filled = () => {
    const world = openRollups({}, { minuteAgeMaxMs: 3 * hour });
    const records: FlowRecord[] = [];
    for (let number = 0; number < 8 * 60; number++) {
      const one = flow(number, { endAt: world.clock.at, startAt: world.clock.at });
      records.push(one);
      world.append([one]);
      world.pass(minute, 20 * second);
    }
    world.pass(5 * minute);
    return { world, records };
  };

  test("is told by minutes while they are there, by hours after that", () => {
    const { world, records } = filled();
    using _ = world.store;
    expect(world.rollups.facts().oldestMinuteAt).toBeGreaterThan(startAt + 4 * hour);
    const cases = [
      { asked: [6.5 * hour, 7.25 * hour], told: [6.5 * hour, 7.25 * hour] },
      { asked: [7 * hour + 1, 7 * hour + 2], told: [7 * hour, 7 * hour + minute] },
      { asked: [1.5 * hour, 3.25 * hour], told: [hour, 4 * hour] },
      { asked: [2 * hour, 7.5 * hour], told: [2 * hour, 7.5 * hour] },
      { asked: [1.5 * hour, 1.75 * hour], told: [hour, 2 * hour] },
      { asked: [-5 * hour, 2 * hour], told: [0, 2 * hour] },
      { asked: [7.5 * hour, 30 * hour], told: [7.5 * hour, 30 * hour] },
    ];
    for (const { asked, told } of cases) {
      const answer = world.ask({ by: "verdict", fromAt: startAt + asked[0]!, toAt: startAt + asked[1]! });
      const range = { fromAt: startAt + told[0]!, toAt: startAt + told[1]! };
      expect(answer).toMatchObject(range);
      const inside = records.filter(({ endAt }) => endAt >= range.fromAt && endAt < range.toAt);
      expect(answer.total).toEqual(sumsOf(inside));
    }
    const all = world.ask({ by: "verdict" });
    expect(all).toMatchObject({ fromAt: startAt, toAt: startAt + 8 * hour, total: sumsOf(records) });
  });

  test("of nothing is empty", () => {
    const world = openRollups();
    using _ = world.store;
    expect(world.ask({ by: "pair" })).toEqual({
      ranks: [],
      total: nothing,
      other: nothing,
      unnamed: nothing,
      fromAt: 0,
      toAt: 0,
      complete: true,
    });
  });
});

describe("what is pending", () => {
  test("counts once, although a minute and its hour are written before the file is asked", () => {
    const world = openRollups();
    using _ = world.store;
    world.clock.at = startAt + 59 * minute + 30 * second;
    const records = flows(20).map((one) => ({ ...one, endAt: world.clock.at, startAt }));
    world.append(records);
    const query: TopQuery = { by: "destination" };
    const before = { ...query, pending: world.rollups.pending(query) };
    world.clock.at = startAt + hour + 3 * minute; // The minute is late, its hour is over.
    for (let passed = 0; passed < 55; passed++) {
      world.append([]);
      world.clock.at += second;
    }
    expect(world.sql("SELECT sum(records) FROM rollup_minutes")).toEqual([[20]]);
    expect(world.sql("SELECT sum(records) FROM rollup_hours")).toEqual([[null]]);
    const expected = rankedBy(records, naiveKeys.destination).slice(0, 10);
    const ask = (asked: TopQuery) => withReader(world.dir, (reader) => queryTop(reader, asked));
    expect(ask(before)).toMatchObject({ ranks: expected, total: sumsOf(records) });
    world.pass(minute);
    expect(world.sql("SELECT sum(records) FROM rollup_hours")).toEqual([[20]]);
    expect(world.ask(query)).toMatchObject({ ranks: expected, total: sumsOf(records) });
  });

  test("survives the way to another thread", () => {
    const world = openRollups();
    using _ = world.store;
    world.append(flows(100));
    const query: TopQuery = { by: "address", limit: 1000 };
    const pending = world.rollups.pending(query);
    const answer = withReader(world.dir, (reader) =>
      queryTop(reader, structuredClone({ ...query, pending })),
    );
    expect(answer.ranks).toEqual(rankedBy(flows(100), naiveKeys.address));
  });

  test("is all there is in a store that runs from memory", () => {
    const world = openRollups({ dir: "/dev/null/nothing" });
    using _ = world.store;
    world.append(flows(10));
    world.pass(5 * minute);
    expect(world.store.stats().mode).toBe("memory");
    expect(world.ask({ by: "verdict" }).total).toEqual(sumsOf(flows(10)));
  });
});

test("a wrong question is refused by the name of what is wrong", () => {
  const world = openRollups();
  using _ = world.store;
  const cases: readonly (readonly [string, object])[] = [
    ["by", { by: "colour" }],
    ["by", { by: "toString" }],
    ["order", { by: "port", order: "size" }],
    ["limit", { by: "port", limit: 0 }],
    ["limit", { by: "port", limit: topLimitMax + 1 }],
    ["fromAt", { by: "port", fromAt: Number.NaN }],
    ["address", { by: "port", address: ["10.0.0.300"] }],
    ["address", { by: "port", address: Array.from({ length: 65 }, () => "10.0.0.1") }],
    ["port", { by: "port", port: 70_000 }],
    ["protocol", { by: "port", protocol: 256 }],
    ["verdict", { by: "port", verdict: "lost" }],
    ["direction", { by: "port", direction: "up" }],
  ];
  for (const [parameter, query] of cases) {
    for (const ask of [
      () => world.rollups.pending(query as TopQuery),
      () => withReader(world.dir, (reader) => queryTop(reader, query as TopQuery)),
    ]) {
      let thrown: unknown;
      try {
        ask();
      } catch (error) {
        thrown = error;
      }
      expect(thrown).toBeInstanceOf(StoreQueryError);
      expect((thrown as StoreQueryError).parameter).toBe(parameter);
    }
  }
});

test("statements go by the index or by the ids, never through a whole table", () => {
  const world = openRollups();
  using _ = world.store;
  world.append(flows(100));
  world.pass(3 * hour, minute);
  const plans = new Set<string>();
  withReader(world.dir, (reader) => {
    const prepare: typeof reader.prepare = (sql) => {
      const plan = reader.prepare(`EXPLAIN QUERY PLAN ${sql}`);
      const marks = sql.split("?").length - 1;
      for (const row of plan.all(...Array.from({ length: marks }, () => 0)) as [
        number,
        number,
        number,
        string,
      ][])
        plans.add(row[3]);
      return reader.prepare(sql);
    };
    queryTop({ ...reader, prepare }, { by: "source", address: ["10.0.0.0/8"] });
  });
  expect([...plans].filter((plan) => plan.startsWith("SCAN"))).toEqual([]);
  expect(plans).toContain("SEARCH rollup_hours USING INDEX rollup_hours_at (at=? AND rowid<?)");
  expect(plans).toContain("SEARCH rollup_minutes USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)");
});
