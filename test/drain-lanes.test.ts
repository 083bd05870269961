// Live data and backlog of one sink: shares, rates, windows, and what is too old.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createShares } from "../src/forward/lanes.ts";
import { createPace, requestOverheadBytes } from "../src/forward/pace.ts";
import { down, type Request, sinkConfig, startAt, stored } from "./drain.rig.ts";
import { createWorld, type World } from "./drain.world.ts";

const hourMs = 3_600_000;
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
const bytesOf = ({ parcel }: Request): number => parcel.body.length + requestOverheadBytes;
const acknowledged = ({ upstream }: World): readonly Request[] =>
  upstream.requests.filter(({ outcome }) => outcome.kind === "stored");

/** The upstream takes `ms` for each request. */
function answersIn(world: World, ms: number): void {
  world.upstream.answer = async (_, abort) => {
    await world.clock.sleep(ms, abort);
    return stored();
  };
}

/** The longest time that a live record waited from its append to the end of its request. */
const lagMs = (requests: readonly Request[], requestMs = 0): number =>
  Math.max(
    ...requests.filter(({ parcel }) => parcel.lane === "live").map(({ at, parcel }) => at - parcel.firstAt),
  ) + requestMs;

describe("shares", () => {
  test("divide bytes between two that always have some, within one body of each", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.05, max: 0.95, noNaN: true }),
        fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 50, maxLength: 200 }),
        (liveShare, bodies) => {
          const shares = createShares(liveShare);
          const sent = { live: 0, backlog: 0 };
          for (const bytes of bodies) {
            const lane = shares.pick({ live: true, backlog: true })!;
            shares.charge(lane, bytes);
            sent[lane] += bytes;
          }
          const skew = Math.abs(sent.live / liveShare - sent.backlog / (1 - liveShare));
          expect(skew).toBeLessThanOrEqual(1000 / liveShare + 1000 / (1 - liveShare));
        },
      ),
    );
  });

  test("give all to one that is alone, which owes nothing for it later", () => {
    const shares = createShares(0.7);
    for (let body = 0; body < 100; body++) {
      expect(shares.pick({ live: false, backlog: true })).toBe("backlog");
      shares.charge("backlog", 1000);
    }
    const lanes = Array.from({ length: 100 }, () => {
      const lane = shares.pick({ live: true, backlog: true })!;
      shares.charge(lane, 1000);
      return lane;
    });
    expect(lanes.filter((lane) => lane === "live").length).toBe(70);
    expect(shares.pick({ live: false, backlog: false })).toBeUndefined();
  });
});

describe("what is made ahead", () => {
  test("is used: a unit of many bodies takes one question for each", async () => {
    await using world = await createWorld({
      ...{ config: { signals: ["metrics"] }, capability: { recordsMax: 10 } },
    });
    answersIn(world, 100);
    world.append(95, "metrics");
    await world.clock.pass(50);
    expect([world.upstream.requests.length, world.store.queries.length]).toEqual([0, 2]);
    await world.clock.pass(10_000);
    expect(acknowledged(world).map(({ parcel }) => parcel.records)).toEqual([...Array(9).fill(10), 5]);
    expect(world.store.queries.length).toBe(10);
  });

  test("is made anew in the encoding that the sink came to", async () => {
    await using world = await createWorld();
    world.append(1000);
    const encodings = ["otlp-protobuf", "otlp-json"] as const;
    let refused = 0;
    const encoder = (): (typeof encodings)[number] => encodings[Math.min(1, refused)]!;
    const { open } = world.upstream;
    world.upstream.open = (config) => {
      const sink = open(config);
      return { ...sink, encoder: (signal) => ({ ...sink.encoder(signal), format: encoder() }) };
    };
    world.upstream.answer = ({ format }) => {
      if (format === "otlp-json") return stored();
      refused += 1;
      return { kind: "reencode", code: "415", message: "JSON alone" };
    };
    await world.forwarder.apply([sinkConfig({ schedule: { every: "1s" } })]);
    await world.ticks(2);
    expect(refused).toBe(1);
    expect(world.facts().counts).toEqual({ sent: 1000 });
    const asked = world.store.queries.filter(({ encoder: { format } }) => format === "otlp-json");
    expect(asked.length).toBe(10);
  });
});

describe("a rate", () => {
  test("is kept to over any time, whatever the bodies are", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 100, max: 100_000 }),
        fc.array(
          fc.record({ bytes: fc.integer({ min: 1, max: 50_000 }), idleMs: fc.constantFrom(0, 0, 0, 5000) }),
        ),
        (bytesPerSecond, bodies) => {
          let nowMs = 0;
          const pace = createPace(bytesPerSecond, () => nowMs);
          const went: { readonly atMs: number; readonly bytes: number }[] = [];
          for (const { bytes, idleMs } of bodies) {
            nowMs += idleMs;
            nowMs += pace.waitMs();
            pace.take(bytes);
            went.push({ atMs: nowMs, bytes });
          }
          for (const [index, { atMs: fromMs }] of went.entries()) {
            const later = went.slice(index);
            const spanMs = later.at(-1)!.atMs - fromMs;
            const before = sum(later.slice(0, -1).map(({ bytes }) => bytes));
            expect(before).toBeLessThanOrEqual((bytesPerSecond * (spanMs + 1000)) / 1000 + 2);
          }
        },
      ),
    );
  });

  test("is used up to the last byte over an hour of backlog", async () => {
    await using world = await createWorld({ before: 200_000, config: { pace: { bytesPerSecond: 1000 } } });
    await world.clock.pass(hourMs);
    const bytes = sum(world.upstream.requests.map(bytesOf));
    const most = Math.max(...world.upstream.requests.map(bytesOf));
    expect(bytes).toBeGreaterThanOrEqual(1000 * 3600);
    expect(bytes).toBeLessThanOrEqual(1000 * 3600 + most);
  });

  test("goes to live data first, and the rest of it to the backlog", async () => {
    await using world = await createWorld({
      ...{ before: 50_000, capability: { recordsMax: 200 } },
      config: { pace: { bytesPerSecond: 2000, liveShare: "60%" } },
    });
    await world.clock.pass(60_000);
    const seen = world.upstream.requests.length;
    await world.ticks(600, { records: 25 });
    const requests = world.upstream.requests.slice(seen);
    const live = requests.filter(({ parcel }) => parcel.lane === "live");
    // All that came went: less than its share; what was left of the rate was not left unused.
    expect(sum(live.map(({ parcel }) => parcel.records))).toBeGreaterThan(14_700);
    expect(sum(requests.map(bytesOf))).toBeGreaterThan(2000 * 598);
    expect(lagMs(live)).toBeLessThan(10_000);
  });

  test("is shared as it is written when there is more live data than that", async () => {
    await using world = await createWorld({
      ...{ before: 80_000, capability: { recordsMax: 50 } },
      config: { pace: { bytesPerSecond: 3000, liveShare: "60%" } },
    });
    await world.clock.pass(30_000);
    const seen = world.upstream.requests.length;
    await world.ticks(300, { records: 200 });
    const requests = world.upstream.requests.slice(seen);
    const of = (lane: string) => sum(requests.filter(({ parcel }) => parcel.lane === lane).map(bytesOf));
    expect(of("live") / (of("live") + of("backlog"))).toBeCloseTo(0.6, 1);
  });
});

describe("a backlog of any size", () => {
  test.each([
    { records: 20_000, requestMs: 20 },
    { records: 400_000, requestMs: 200 },
  ])("of $records records leaves live data less than two turns behind", async ({ records, requestMs }) => {
    await using world = await createWorld({
      ...{ before: records, capability: { recordsMax: 2000 } },
      config: { schedule: { every: "5s" } },
    });
    await world.clock.pass(30_000);
    answersIn(world, requestMs);
    await world.ticks(200, { records: 100 });
    expect(lagMs(acknowledged(world), requestMs)).toBeLessThan(10_000);
    await world.clock.pass(60_000);
    expect(world.upstream.taken().size).toBe(records + 20_000);
    expect(sum(acknowledged(world).map(({ parcel }) => parcel.records))).toBe(records + 20_000);
  });

  test("of metrics lets the newest step go first, and keeps the order of the rest", async () => {
    await using world = await createWorld({
      ...{ config: { signals: ["metrics"] }, capability: { recordsMax: 7 } },
    });
    world.upstream.answer = () => down;
    await world.ticks(20, { records: 10, signal: "metrics", ms: 15_000 });
    world.upstream.answer = () => stored();
    world.forwarder.resume("up");
    await world.clock.pass(1000);
    const took = acknowledged(world);
    expect(took[0]?.parcel.lane).toBe("live");
    const live = took.filter(({ parcel }) => parcel.lane === "live").flatMap(({ ordinals }) => ordinals);
    expect(live).toEqual([191, 192, 193, 194, 195, 196, 197, 198, 199, 200]);
    expect(new Set(took.flatMap(({ ordinals }) => ordinals)).size).toBe(200);
    expect(sum(took.map(({ parcel }) => parcel.records))).toBe(200);
    const backlog = took
      .filter(({ parcel }) => parcel.lane === "backlog")
      .flatMap(({ ordinals }) => ordinals);
    for (let series = 1; series <= 10; series++) {
      const own = backlog.filter((ordinal) => ordinal % 10 === series % 10);
      expect(own).toEqual(own.toSorted((one, other) => one - other));
    }
  });
});

describe("an upstream that is away", () => {
  test("is asked with what is live, however rarely that goes otherwise", async () => {
    await using world = await createWorld({ config: { schedule: { every: "2m" } } });
    world.upstream.answer = () => down;
    await world.ticks(60, { records: 5, ms: 60_000 });
    const late = world.upstream.requests.filter(({ at }) => at - startAt > 300_000);
    expect(late.length).toBeGreaterThan(20);
    for (const { parcel } of late) expect(parcel.lane).toBe("live");
  });

  test("and takes nothing out of order any more gets what is left before what is live", async () => {
    await using world = await createWorld();
    world.upstream.answer = () => down;
    await world.ticks(120, { records: 5 });
    expect(world.facts().lanes.backlog).toBeGreaterThan(0);
    world.upstream.capability = { outOfOrderMs: 0 };
    world.upstream.answer = () => stored();
    await world.ticks(120, { records: 5 });
    await world.clock.pass(10_000);
    const ordinals = acknowledged(world).flatMap(({ ordinals: some }) => some);
    expect(ordinals).toEqual(Array.from({ length: 1200 }, (_, index) => index + 1));
  });
});

describe("age", () => {
  test("of a backlog is bound by how far behind the newest the receiver takes records", async () => {
    await using world = await createWorld({ capability: { outOfOrderMs: hourMs } });
    world.upstream.answer = () => down;
    await world.ticks(120, { records: 1, ms: 60_000 });
    world.upstream.answer = () => stored();
    world.forwarder.resume("up");
    await world.clock.pass(1000);
    expect(world.facts().counts).toEqual({ "expired.age": 60, sent: 60 });
  });

  test("hands records over to another sink, where one is named and takes them", async () => {
    await using world = await createWorld();
    world.upstream.capabilities = { up: { ageMaxMs: 600_000 } };
    world.upstream.answer = () => down;
    await world.forwarder.apply([sinkConfig({ divertTo: "old" }), sinkConfig({ name: "old" })]);
    await world.ticks(5, { records: 2, ms: 60_000 });
    expect(world.facts("old")).toMatchObject({ offered: 0, phase: "live" });
    await world.ticks(25, { records: 2, ms: 60_000 });
    world.upstream.answer = () => stored();
    await world.clock.pass(60_000);
    const { diverted = 0, sent = 0, ...rest } = world.facts().counts;
    expect({ sum: diverted + sent, rest }).toEqual({ sum: 60, rest: {} });
    expect(diverted).toBeGreaterThanOrEqual(38);
    expect(world.facts("old")).toMatchObject({ offered: diverted, counts: { sent: diverted }, pending: 0 });
    expect(world.upstream.taken().size).toBe(60);
    world.store.check();
  });
});

describe("windows", () => {
  test("are when a sink sends, minute by minute", async () => {
    // The tests begin at noon.
    await using world = await createWorld({
      config: { schedule: { windows: ["12:00-12:05", "13:00-13:05"] } },
    });
    await world.ticks(90, { records: 1, ms: 60_000 });
    const minutes = world.upstream.requests.map(({ at }) => Math.floor((at - startAt) / 60_000));
    expect(new Set(minutes)).toEqual(new Set([0, 1, 2, 3, 4, 60, 61, 62, 63, 64]));
    expect(world.facts()).toMatchObject({ phase: "scheduled", pending: 25 });
  });

  test("of a backlog leave live data alone", async () => {
    await using world = await createWorld({
      ...{ before: 1000, config: { schedule: { backlogWindows: ["13:00-14:00"] } } },
    });
    world.forwarder.pause("up");
    await world.ticks(30, { records: 1 });
    world.forwarder.resume("up");
    await world.ticks(59, { records: 1, ms: 60_000 });
    expect(world.facts().phase).toBe("catching_up");
    expect(world.facts().lanes.backlog).toBeGreaterThan(0);
    expect(
      acknowledged(world).some(({ parcel, at }) => parcel.lane === "backlog" && at < startAt + hourMs),
    ).toBe(false);
    await world.ticks(3, { records: 1, ms: 60_000 });
    expect(world.facts()).toMatchObject({ phase: "live", pending: 0 });
  });
});
