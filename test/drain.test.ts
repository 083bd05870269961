// The drain: what is sent, when, and what becomes of it, on a clock that the test moves.

import { describe, expect, test } from "bun:test";
import type { Outcome } from "../src/sinks/sink.ts";
import { down, poison, startAt, stored } from "./drain.rig.ts";
import { createWorld } from "./drain.world.ts";

const range = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, index) => first + index);

describe("what is live", () => {
  test("goes at once, and then at most every so often", async () => {
    await using world = await createWorld({ config: { schedule: { every: "5s" } } });
    await world.ticks(20, { records: 10 });
    const times = world.upstream.requests.map(({ at }) => at - startAt);
    expect(times).toEqual([0, 5000, 10_000, 15_000, 20_000]);
    expect(world.sent()).toEqual([
      range(1, 10),
      range(11, 50),
      range(51, 100),
      range(101, 150),
      range(151, 200),
    ]);
    expect(world.facts()).toMatchObject({
      phase: "live",
      connected: true,
      offered: 200,
      counts: { sent: 200 },
    });
    expect(world.facts().requests).toEqual({ "200": 5 });
  });

  test("goes at once when it fills a body", async () => {
    await using world = await createWorld({ config: { schedule: { every: "1h" } } });
    await world.ticks(1);
    await world.ticks(4, { records: 30 });
    expect(world.sent().map(({ length }) => length)).toEqual([30]);
    await world.ticks(1, { records: 30 });
    expect(world.sent().map(({ length }) => length)).toEqual([30, 100]);
  });

  test("of one burst goes as a whole, with one request at a time", async () => {
    await using world = await createWorld({ config: { schedule: { every: "1m" } } });
    world.upstream.answer = async (_, abort) => {
      await world.clock.sleep(100, abort);
      return stored();
    };
    world.append(250);
    await world.clock.pass(1000);
    expect(world.sent().map(({ length }) => length)).toEqual([100, 100, 50]);
    expect(world.upstream.busyMax).toBe(1);
    expect(world.facts().requestSeconds.sum).toBeCloseTo(0.3);
  });

  test("costs no wake-up while nothing is due", async () => {
    await using world = await createWorld();
    await world.ticks(1, { records: 1 });
    const { wakes } = world.clock;
    const asked = world.store.queries.length;
    await world.clock.pass(3_500_000);
    expect(world.clock.wakes - wakes).toBeLessThanOrEqual(1);
    expect(world.store.queries.length).toBe(asked);
  });

  test("tells how late it was", async () => {
    await using world = await createWorld({ config: { schedule: { every: "100ms" } } });
    world.upstream.answer = async (_, abort) => {
      await world.clock.sleep(2000, abort);
      return stored();
    };
    await world.ticks(1, { records: 1, ms: 5000 });
    expect(world.facts().latencySeconds).toMatchObject({ count: 1, sum: 2 });
  });
});

describe("records that need no request", () => {
  test("are counted, with a dead letter for what cannot be encoded", async () => {
    await using world = await createWorld({ capability: { recordsMax: 3 } });
    world.append(0);
    for (const ordinal of [1, 2]) world.store.mark("flows", ordinal, "filtered");
    world.store.mark("flows", 3, "missing");
    world.store.mark("flows", 4, "unencodable");
    await world.ticks(1, { records: 4 });
    expect(world.sent()).toEqual([]);
    expect(world.facts().counts).toEqual({ filtered: 2, "evicted.damaged": 1, "rejected.encode": 1 });
    expect(world.store.letters).toMatchObject([
      { reason: "encode", records: 1, message: "it is no record", sink: "up" },
    ]);
    world.store.check();
  });

  test("expire at the age that the receiver takes", async () => {
    await using world = await createWorld({ capability: { ageMaxMs: 60_000 } });
    world.upstream.answer = () => down;
    await world.ticks(100, { records: 1 });
    world.upstream.answer = () => stored();
    await world.clock.pass(120_000);
    const { counts, pending } = world.facts();
    expect(pending).toBe(0);
    const { sent = 0, "expired.age": expired = 0, ...rest } = counts;
    expect({ rest, sum: sent + expired }).toEqual({ rest: {}, sum: 100 });
    expect(expired).toBeGreaterThan(40);
    world.store.check();
  });
});

describe("an upstream that is away", () => {
  test("is tried again with growing pauses, told of once, and gets everything", async () => {
    await using world = await createWorld({ random: () => 1 });
    world.upstream.answer = () => down;
    world.append(10);
    await world.clock.pass(200_000);
    const times = world.upstream.requests.map(({ at }) => (at - startAt) / 1000);
    expect(times).toEqual([0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 63.5, 123.5, 183.5]);
    expect(world.facts()).toMatchObject({
      ...{ phase: "retrying", connected: false, pending: 10, backoffSeconds: 43.5 },
      retries: { network: 10 },
      retriedRecords: { network: 100 },
      requests: { network: 10 },
      lastError: { code: "network", message: "connection refused", times: 10 },
    });
    world.upstream.answer = () => stored();
    await world.clock.pass(60_000);
    expect(world.facts()).toMatchObject({ phase: "live", connected: true, counts: { sent: 10 }, pending: 0 });
    expect(world.facts().lastError?.times).toBe(0);
    expect(world.told.map(({ level }) => level)).toEqual(["warn", "info"]);
  });

  test("says itself when it may be tried again, within an hour", async () => {
    await using world = await createWorld({ random: () => 0 });
    const throttled = { kind: "again", code: "429", reason: "throttled", message: "slow down" } as const;
    world.upstream.answer = () => ({ ...throttled, afterMs: 90_000 });
    world.append(1);
    await world.clock.pass(100_000);
    expect(world.upstream.requests.map(({ at }) => at - startAt)).toEqual([0, 90_000]);
    world.upstream.answer = () => ({ ...throttled, afterMs: 1e9 });
    await world.clock.pass(90_000);
    expect(world.facts().backoffSeconds).toBeCloseTo(3590);
    world.forwarder.resume("up");
    await world.clock.pass(0);
    expect(world.upstream.requests.length).toBe(4);
  });

  test("is left in peace where an operator must help", async () => {
    await using world = await createWorld({ random: () => 1 });
    world.upstream.answer = () => ({
      ...{ kind: "again", code: "403", reason: "forbidden", message: "no role", slow: true },
    });
    world.append(1);
    await world.clock.pass(1_000_000);
    const times = world.upstream.requests.map(({ at }) => (at - startAt) / 1000);
    expect(times).toEqual([0, 30, 90, 210, 450, 750]);
  });

  test("gets what is live first, and then the backlog, each record once", async () => {
    await using world = await createWorld({ capability: { recordsMax: 10 } });
    const answer = (outcome: Outcome) => {
      world.upstream.answer = async (_, abort) => {
        await world.clock.sleep(50, abort);
        return outcome;
      };
    };
    answer(down);
    await world.ticks(600, { records: 10 });
    answer(stored());
    const seen = world.upstream.requests.length;
    await world.ticks(120, { records: 10 });
    const [first] = world.upstream.requests.slice(seen).filter(({ outcome }) => outcome.kind === "stored");
    expect(first?.parcel.lane).toBe("live");
    expect(first!.ordinals[0]!).toBeGreaterThan(5900);
    await world.clock.pass(60_000);
    expect(world.upstream.taken().size).toBe(7200);
    expect(world.facts().counts).toEqual({ sent: 7200 });
    const took = world.upstream.requests.filter(({ outcome }) => outcome.kind === "stored");
    expect(took.flatMap(({ ordinals }) => ordinals).length).toBe(7200);
  });

  test("gets all of it in order where it takes nothing else", async () => {
    await using world = await createWorld({ capability: { recordsMax: 10, outOfOrderMs: 0 } });
    world.upstream.answer = () => down;
    await world.ticks(300, { records: 3 });
    world.upstream.answer = () => stored();
    await world.ticks(100, { records: 3 });
    await world.clock.pass(60_000);
    const took = world.upstream.requests.filter(({ outcome }) => outcome.kind === "stored");
    expect(took.flatMap(({ ordinals }) => ordinals)).toEqual(range(1, 1200));
  });

  test("of which the query worker fails is told of as such, and gets everything", async () => {
    await using world = await createWorld();
    world.store.failures = 3;
    world.append(5);
    await world.clock.pass(100);
    expect(world.facts().lastError).toMatchObject({ code: "store", reason: "store" });
    expect(world.facts().phase).toBe("retrying");
    await world.clock.pass(60_000);
    expect(world.facts()).toMatchObject({
      phase: "live",
      counts: { sent: 5 },
      retries: {},
      requests: { "200": 1 },
    });
  });
});

describe("answers", () => {
  test("that tell of rejected and of missing records are counted, with a dead letter each", async () => {
    await using world = await createWorld();
    const answers: Outcome[] = [
      stored({ rejected: { records: 3, reason: "too_old", message: "three are too old" } }),
      stored({ mismatch: 2 }),
    ];
    world.upstream.answer = () => answers.shift() ?? stored();
    world.append(200);
    await world.clock.pass(0);
    expect(world.facts()).toMatchObject({
      counts: { sent: 195, "rejected.too_old": 3, "rejected.partial": 2 },
      ...{ partialSuccesses: 1, writtenMismatches: 1 },
    });
    expect(world.store.letters.map(({ message, records }) => ({ message, records }))).toEqual([
      { message: "three are too old", records: 3 },
      { message: "the receiver says that it has 98 of 100 records", records: 2 },
    ]);
    world.store.check();
  });

  test("that ask for another encoding are followed at once, three times", async () => {
    await using world = await createWorld({ random: () => 1 });
    world.upstream.answer = () => ({ kind: "reencode", code: "415", message: "not this one" });
    world.append(5);
    await world.clock.pass(400);
    expect(world.upstream.requests.length).toBe(4);
    expect(world.facts()).toMatchObject({ phase: "retrying", retries: { other: 1 } });
  });
});

describe("poison", () => {
  const refuses = (bad: (ordinal: number) => boolean) => (world: Awaited<ReturnType<typeof createWorld>>) => {
    world.upstream.answer = ({ body }) =>
      new TextDecoder()
        .decode(body)
        .split("\n")
        .some((line) => bad(Number(line)))
        ? poison
        : stored();
  };

  test("is found by halving, and everything else arrives", async () => {
    await using world = await createWorld();
    refuses((ordinal) => ordinal === 37 || ordinal === 64)(world);
    world.append(100);
    await world.clock.pass(0);
    expect(world.facts().counts).toEqual({ sent: 98, "rejected.4xx": 2 });
    expect(world.store.letters.map(({ text, code }) => ({ text, code }))).toEqual([
      { text: "record 37", code: "400" },
      { text: "record 64", code: "400" },
    ]);
    expect(world.upstream.taken()).toEqual(new Set(range(1, 100).filter((at) => at !== 37 && at !== 64)));
    expect(world.upstream.requests.length).toBeLessThan(50);
    expect(world.told.map(({ level }) => level)).toEqual(["error", "error"]);
  });

  test("of a long row of records is given up by slices after 256 alone, with a dead letter each", async () => {
    await using world = await createWorld({ capability: { recordsMax: 1000 } });
    refuses((ordinal) => ordinal <= 1000)(world);
    world.append(1500);
    await world.clock.pass(0);
    // The last slice reaches beyond the poison.
    expect(world.facts().counts).toEqual({ sent: 475, "rejected.4xx": 1025 });
    expect(world.store.letters.map(({ records }) => records)).toEqual([...Array(256).fill(1), 256, 1, 512]);
    expect(world.store.letters.at(-1)).toMatchObject({
      ...{ code: "400", reason: "4xx", text: "" },
      message: "given up unsent, after many in a row were refused: bad record",
    });
    expect(world.upstream.requests.length).toBeLessThan(300);
  });

  test("is not what is wrong where everything is refused: the rest is kept", async () => {
    await using world = await createWorld({ capability: { recordsMax: 100 }, random: () => 1 });
    refuses(() => true)(world);
    world.append(3000);
    await world.clock.pass(3_600_000);
    expect(world.facts()).toMatchObject({
      ...{ phase: "retrying", pending: 3000 - 558, counts: { "rejected.4xx": 558 } },
      lastError: { code: "400", reason: "other" },
    });
    const asked = world.upstream.requests.length;
    expect(asked).toBeLessThan(300);
    refuses((ordinal) => ordinal === 1500)(world);
    await world.clock.pass(600_000);
    expect(world.facts()).toMatchObject({ phase: "live", counts: { sent: 3000 - 559, "rejected.4xx": 559 } });
    world.store.check();
  });

  test("that is too large alone is rejected as such", async () => {
    await using world = await createWorld({ capability: { recordsMax: 64 } });
    world.upstream.answer = ({ records, body }) =>
      records > 8 || new TextDecoder().decode(body).includes(" 100\n")
        ? { kind: "too_large", code: "413", message: "too large" }
        : stored();
    world.append(1000);
    await world.clock.pass(0);
    expect(world.facts().counts).toEqual({ sent: 1000 });
    const failed = world.upstream.requests.filter(({ outcome }) => outcome.kind !== "stored").length;
    expect(failed).toBeLessThan(10);
  });
});

describe("a store", () => {
  test("that is not on disk is waited for", async () => {
    await using world = await createWorld();
    world.store.setReady(false);
    await world.ticks(3, { records: 1 });
    expect(world.facts().phase).toBe("waiting");
    world.store.setReady(true);
    await world.ticks(1);
    expect(world.facts()).toMatchObject({ phase: "live", counts: { sent: 3 } });
  });

  test("that is another one while a batch is made is read anew", async () => {
    await using world = await createWorld();
    world.append(5);
    world.store.replace();
    await world.clock.pass(0);
    await world.ticks(5, { records: 2 });
    expect(world.facts()).toMatchObject({ counts: { "evicted.file": 5, sent: 10 }, pending: 0 });
  });
});

test("a fault of the store is no busy loop", async () => {
  await using world = await createWorld();
  const { bounds, storedAt } = world.store;
  let asked = 0;
  Object.assign(world.store, {
    storedAt: () => {
      asked += 1;
      throw new Error("the file cannot be read");
    },
  });
  world.append(5);
  await world.clock.pass(60_000);
  expect(asked).toBeGreaterThan(2);
  expect(asked).toBeLessThan(60);
  expect(bounds("flows").newest).toBe(5);
  Object.assign(world.store, { storedAt });
  await world.clock.pass(60_000);
  expect(world.facts()).toMatchObject({ phase: "live", counts: { sent: 5 } });
});

describe("an operator", () => {
  test("pauses and resumes", async () => {
    await using world = await createWorld();
    world.forwarder.pause("up");
    await world.ticks(10, { records: 1 });
    expect(world.facts()).toMatchObject({ phase: "paused", pending: 10 });
    expect(world.sent()).toEqual([]);
    world.forwarder.resume("up");
    await world.clock.pass(0);
    expect(world.sent()).toEqual([range(1, 10)]);
  });

  test("gives up what was stored before a time", async () => {
    await using world = await createWorld();
    world.forwarder.pause("up");
    await world.ticks(10, { records: 2 });
    expect(world.forwarder.discard("up", startAt + 4000)).toBe(8);
    world.forwarder.resume("up");
    await world.clock.pass(0);
    expect(world.facts().counts).toEqual({ discarded: 8, sent: 12 });
    world.store.check();
  });
});
