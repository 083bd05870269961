// All sinks together: what a changed configuration starts, ends and leaves alone, and how a stop goes.

import { describe, expect, test } from "bun:test";
import { UnknownSinkError } from "../src/forward/errors.ts";
import { down, sinkConfig, startAt, stored } from "./drain.rig.ts";
import { createWorld } from "./drain.world.ts";

describe("a changed configuration", () => {
  test("leaves sinks alone that did not change", async () => {
    await using world = await createWorld();
    const { upstream, forwarder } = world;
    await world.ticks(1, { records: 5 });
    await forwarder.apply([sinkConfig(), sinkConfig({ name: "other" })]);
    await world.clock.pass(0);
    expect([upstream.opened, upstream.closed]).toEqual([2, 0]);
    expect(world.facts("other")).toMatchObject({ counts: { sent: 5 }, target: "http://other.example" });
    await forwarder.apply([sinkConfig({ name: "other" })]);
    expect([upstream.opened, upstream.closed]).toEqual([2, 1]);
    expect(forwarder.facts().map(({ sink }) => sink)).toEqual(["other"]);
  });

  test("replaces a sink, which goes on where it was and keeps its counts", async () => {
    await using world = await createWorld();
    await world.ticks(1, { records: 5 });
    await world.forwarder.apply([sinkConfig({ schedule: { every: "1s" } })]);
    await world.ticks(1, { records: 5 });
    expect([world.upstream.opened, world.upstream.closed]).toEqual([2, 1]);
    expect(world.facts()).toMatchObject({ counts: { sent: 10 }, requests: { "200": 2 } });
    expect(world.sent()).toEqual([
      [1, 2, 3, 4, 5],
      [6, 7, 8, 9, 10],
    ]);
  });

  test("ends a sink that is not enabled", async () => {
    await using world = await createWorld();
    await world.forwarder.apply([sinkConfig({ enabled: false })]);
    await world.ticks(3, { records: 5 });
    expect(world.forwarder.facts()).toEqual([]);
    expect(world.sent()).toEqual([]);
  });

  test("has a drain for each signal", async () => {
    await using world = await createWorld({ config: { signals: ["flows", "metrics"] } });
    await world.ticks(1, { records: 3 });
    await world.ticks(1, { records: 2, signal: "metrics" });
    expect(world.forwarder.facts().map(({ signal, counts }) => [signal, counts])).toEqual([
      ["flows", { sent: 3 }],
      ["metrics", { sent: 2 }],
    ]);
  });

  test("waits for the one before it", async () => {
    await using world = await createWorld();
    const names = Array.from({ length: 5 }, (_, index) => `sink-${index}`);
    await Promise.all(names.map((name) => world.forwarder.apply([sinkConfig({ name })])));
    expect(world.forwarder.facts().map(({ sink }) => sink)).toEqual(["sink-4"]);
    expect([world.upstream.opened, world.upstream.closed]).toEqual([6, 5]);
  });
});

describe("a sink that others divert to", () => {
  const old = sinkConfig({ name: "old", signals: ["flows", "metrics"] });
  const live = (more: object = {}) =>
    sinkConfig({ name: "live", signals: ["metrics"], divertTo: "old", ...more });

  test("gets all of the signals that they do not have", async () => {
    await using world = await createWorld();
    await world.forwarder.apply([live(), old]);
    await world.ticks(2, { records: 3 });
    await world.ticks(2, { records: 4, signal: "metrics" });
    expect(world.forwarder.facts().map(({ sink, signal, offered }) => [sink, signal, offered])).toEqual([
      ["live", "metrics", 8],
      ["old", "flows", 6],
      ["old", "metrics", 0],
    ]);
  });

  test("gets nothing else while they are off", async () => {
    await using world = await createWorld();
    await world.forwarder.apply([live({ enabled: false }), old]);
    await world.ticks(2, { records: 4, signal: "metrics" });
    expect(world.forwarder.facts().map(({ sink, signal, offered }) => [sink, signal, offered])).toEqual([
      ["old", "flows", 0],
      ["old", "metrics", 0],
    ]);
  });
});

describe("a sink that does not end", () => {
  test("is left behind, and told of; the others change and stop", async () => {
    const world = await createWorld();
    const { upstream, forwarder, clock } = world;
    const { open } = upstream;
    upstream.open = (config) =>
      config.name === "stuck"
        ? { ...open(config), [Symbol.asyncDispose]: () => new Promise<void>(() => {}) }
        : open(config);
    await forwarder.apply([sinkConfig(), sinkConfig({ name: "stuck" })]);
    await world.ticks(1, { records: 5 });
    const changed = forwarder.apply([
      sinkConfig({ name: "next" }),
      sinkConfig({ name: "stuck", start: "newest" }),
    ]);
    await clock.pass(5000);
    await changed;
    await world.ticks(1, { records: 5 });
    await clock.pass(5000);
    expect(world.facts("next").counts).toEqual({ sent: 10 });
    expect(world.facts("stuck").counts).toEqual({ sent: 10 });
    await world[Symbol.asyncDispose]();
    const told = { level: "warn", message: "a sink does not end, and is left behind; check its disk" };
    expect(world.told).toEqual([1, 2].map(() => ({ ...told, fields: { sink: "stuck", afterMs: 5000 } })));
  });
});

describe("a sink that cannot be opened", () => {
  test("is told of and tried again each minute, and the others go on", async () => {
    await using world = await createWorld();
    const { upstream, forwarder } = world;
    const open = upstream.open;
    upstream.open = (config) => {
      if (config.name === "broken") throw new Error("cannot read /etc/fovea/ca.crt");
      return open(config);
    };
    await forwarder.apply([
      sinkConfig(),
      sinkConfig({ name: "broken", url: "https://up.example/x?region=1" }),
    ]);
    await world.ticks(3, { records: 5 });
    expect(world.facts("broken")).toMatchObject({
      ...{ phase: "retrying", pending: 15, target: "https://up.example/x", tokenErrors: 0 },
      lastError: { code: "open", message: "cannot read /etc/fovea/ca.crt", times: 1 },
    });
    expect(world.facts("broken").connected).toBeUndefined();
    expect(world.facts("up").counts).toEqual({ sent: 5 });
    await world.clock.pass(120_000);
    expect(world.facts("broken").lastError?.times).toBe(3);
    upstream.open = open;
    await world.clock.pass(60_000);
    expect(world.facts("broken")).toMatchObject({ phase: "live", counts: { sent: 15 } });
    expect(world.told.map(({ level, fields }) => [level, fields["sink"]])).toEqual([
      ["warn", "broken"],
      ["info", "broken"],
    ]);
  });
});

describe("a stop", () => {
  test("lets a request end that is under way", async () => {
    const world = await createWorld();
    world.upstream.answer = async () => {
      await world.clock.sleep(2000, new AbortController().signal);
      return stored();
    };
    await world.ticks(1, { records: 5 });
    await world[Symbol.asyncDispose]();
    expect(world.facts().counts).toEqual({ sent: 5 });
    expect(world.upstream.closed).toBe(1);
  });

  test("aborts one that takes longer, and nothing of it is lost", async () => {
    const world = await createWorld();
    let abortedAt = 0;
    world.upstream.answer = async (_, abort) => {
      await world.clock.sleep(60_000, abort);
      abortedAt = world.clock.now();
      return abort.aborted ? down : stored();
    };
    await world.ticks(1, { records: 5 });
    await world[Symbol.asyncDispose]();
    expect(abortedAt - startAt).toBe(4000);
    expect(world.facts()).toMatchObject({ pending: 5, counts: {}, retries: {}, requests: {} });
    expect(world.told).toEqual([]);
  });

  test("does not wait for one that heeds nothing, whose late end tells nothing", async () => {
    const world = await createWorld();
    world.upstream.answer = async () => {
      await world.clock.sleep(60_000, new AbortController().signal);
      return stored();
    };
    await world.ticks(1, { records: 5 });
    await world[Symbol.asyncDispose]();
    expect(world.upstream.closed).toBe(1);
    await world.clock.pass(60_000);
    expect(world.upstream.requests.length).toBe(1);
    expect(world.facts().counts).toEqual({});
  });

  test("is the end: later configurations start nothing", async () => {
    const world = await createWorld();
    await world[Symbol.asyncDispose]();
    await world.forwarder.apply([sinkConfig({ name: "late" })]);
    expect(world.upstream.opened).toBe(1);
  });
});

test("an operator is told of a name that is none", async () => {
  await using world = await createWorld();
  const { forwarder } = world;
  for (const act of [forwarder.pause, forwarder.resume, (name: string) => forwarder.discard(name, 0)])
    expect(() => act("nobody")).toThrow(UnknownSinkError);
  expect(() => forwarder.pause("nobody")).toThrow('there is no sink "nobody"; there are up');
});
