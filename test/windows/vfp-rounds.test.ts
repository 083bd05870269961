// Rounds over the ports of the switch, with a program that is made up and a clock that stands: what is kept, and for how long.

import { expect, test } from "bun:test";
import type { PerformanceReply } from "../../windows/performance-thread.ts";
import { type SpawnAnswer, SpawnError, type Spawner } from "../../windows/spawn.ts";
import { createVfp, type VfpEndpoint } from "../../windows/vfp.ts";
import { until } from "./stub-files.ts";

const guid = (id: number): string => `00000000-0000-0000-0000-${String(id).padStart(12, "0")}`;

const endpoint = (id: number, port = id): VfpEndpoint => ({
  id: guid(1000 + id),
  name: "",
  address: "",
  network: "",
  port: guid(port),
});

const range = (from: number, to: number): readonly VfpEndpoint[] =>
  Array.from({ length: to - from }, (_, at) => endpoint(from + at));

const printed = (count: number): SpawnAnswer => ({
  exitCode: 0,
  output: Buffer.from(`{"InformationArray":{"PortCounters":{"Direction":0,"DroppedAcl":${count}}}}`),
  errors: new Uint8Array(0),
});

type Answer = SpawnAnswer | Error | Promise<SpawnAnswer>;

function open(answer: (port: string) => Answer) {
  let atMs = 0;
  let asked: string[] = [];
  let atWork = 0;
  let atWorkMax = 0;
  const spawner: Spawner = {
    async run({ arguments: [, port = ""], signal }) {
      if (signal?.aborted === true) throw new SpawnError("aborted", "not started");
      asked.push(port);
      atWork += 1;
      atWorkMax = Math.max(atWorkMax, atWork);
      const aborted = Promise.withResolvers<never>();
      aborted.promise.catch(() => {});
      const abort = (): void => aborted.reject(new SpawnError("aborted", "not needed"));
      signal?.addEventListener("abort", abort);
      try {
        const given = answer(port);
        if (given instanceof Error) throw given;
        return await Promise.race<SpawnAnswer>([given, aborted.promise]);
      } finally {
        signal?.removeEventListener("abort", abort);
        atWork -= 1;
      }
    },
  };
  const absent: PerformanceReply = { absent: "none here" };
  const performance = { read: () => Promise.resolve(absent), [Symbol.dispose]: () => {} };
  const elapsedMs = (): number => atMs;
  const vfp = createVfp({ everyMs: 1000, timeoutMs: 100, pauseMs: 10_000, elapsedMs, spawner, performance });
  return {
    vfp,
    atWorkMax: () => atWorkMax,
    move: (byMs: number): void => {
      atMs += byMs;
    },
    hasAsked: (): boolean => asked.length > 0,
    takeAsked: (): readonly string[] => {
      const ports = asked;
      asked = [];
      return ports;
    },
    async round(endpoints: readonly VfpEndpoint[]): Promise<void> {
      atMs += 1000;
      vfp.poll(endpoints);
      await until(() => vfp.facts().ageMs === 0);
    },
    [Symbol.asyncDispose]: () => vfp[Symbol.asyncDispose](),
  };
}

const idsOf = (endpoints: readonly VfpEndpoint[]): string[] => endpoints.map(({ id }) => id);

test("counters of endpoints that are gone, or have another port now, are forgotten at once", async () => {
  await using opened = open(() => printed(5));
  const { vfp } = opened;
  await opened.round(range(0, 3));
  expect([...vfp.counters().keys()]).toEqual(idsOf(range(0, 3)));
  vfp.poll([endpoint(0), endpoint(1, 77)]);
  expect([...vfp.counters().keys()]).toEqual([endpoint(0).id]);
});

test("what a round reads of an endpoint that went meanwhile is not kept", async () => {
  const held = Promise.withResolvers<SpawnAnswer>();
  let calls = 0;
  await using opened = open(() => (++calls === 2 ? held.promise : printed(5)));
  opened.vfp.poll(range(0, 1)); // The first call finds the source, the second one reads.
  await until(() => calls === 2);
  opened.vfp.poll([]);
  held.resolve(printed(5));
  await until(() => opened.vfp.facts().ageMs !== undefined);
  expect(opened.vfp.counters().size).toBe(0);
});

test("values that are older than three rounds are not given", async () => {
  let answer: Answer = printed(5);
  await using opened = open(() => answer);
  await opened.round(range(0, 1));
  answer = new Error("no");
  opened.move(3000);
  expect(opened.vfp.counters().size).toBe(1);
  opened.move(1);
  expect(opened.vfp.counters().size).toBe(0);
});

test("a round that takes longer than the time between two keeps its values accordingly", async () => {
  let slowMs = 0;
  const opened = open(() => {
    opened.move(slowMs);
    return printed(5);
  });
  await using _ = opened;
  await opened.round(range(0, 1));
  slowMs = 2000;
  await opened.round(range(0, 10)); // 20 s.
  slowMs = 0;
  expect(opened.vfp.counters().size).toBe(10);
  opened.move(40_000);
  expect(opened.vfp.counters().size).toBe(10);
  opened.move(20_001);
  expect(opened.vfp.counters().size).toBe(0);
});

test("one round runs at a time, and none begins before it is due", async () => {
  const held = Promise.withResolvers<SpawnAnswer>();
  await using opened = open(() => held.promise);
  const { vfp } = opened;
  vfp.poll(range(0, 2));
  await until(opened.hasAsked);
  opened.move(5000);
  vfp.poll(range(0, 2));
  vfp.poll(range(0, 2));
  await Bun.sleep(20); // Time for what must not happen.
  expect(opened.takeAsked()).toHaveLength(1);
  held.resolve(printed(1));
  await until(() => vfp.facts().ageMs !== undefined);
  expect(opened.atWorkMax()).toBe(1);
  opened.takeAsked();
  await opened.round(range(0, 2));
  opened.takeAsked();
  opened.move(999);
  vfp.poll(range(0, 2));
  await Bun.sleep(20);
  expect(opened.takeAsked()).toEqual([]);
  opened.move(1);
  vfp.poll(range(0, 2));
  await until(opened.hasAsked);
});

test("processes that do not end stop the round, and the next one begins behind them", async () => {
  const stuck = new Set([1, 2, 3].map(guid));
  await using opened = open((port) => (stuck.has(port) ? new SpawnError("timeout", "late") : printed(5)));
  await opened.round(range(0, 8));
  expect(opened.takeAsked()).toEqual([0, 0, 1, 2, 3].map(guid)); // The first one is to find the source.
  expect([...opened.vfp.counters().keys()]).toEqual([endpoint(0).id]);
  await opened.round(range(0, 8));
  expect(opened.takeAsked()).toEqual([4, 5, 6, 7, 0, 1, 2, 3].map(guid));
  expect(opened.vfp.counters().size).toBe(5);
});

test("ports that fail at once stop nothing", async () => {
  await using opened = open((port) => (port === guid(9) ? printed(5) : new Error("no such port")));
  await opened.round([endpoint(9), ...range(0, 6)]);
  expect(opened.takeAsked()).toHaveLength(8);
  expect(opened.vfp.facts().source).toBe("vfpctrl");
  const failures = opened.vfp.facts().failures.find(({ source }) => source === "vfpctrl");
  expect(failures).toEqual({ source: "vfpctrl", failures: 6 });
});

test("a source that gives nothing for a whole round is looked for again in the next one", async () => {
  let answer: Answer = printed(5);
  await using opened = open(() => answer);
  await opened.round(range(0, 1));
  answer = new Error("broken");
  await opened.round(range(0, 1));
  expect(opened.vfp.facts().source).toBeUndefined();
  opened.takeAsked();
  await opened.round(range(0, 1));
  expect(opened.takeAsked()).toHaveLength(2); // Both forms of vfpctrl; after that they rest.
  await opened.round(range(0, 1));
  expect(opened.takeAsked()).toEqual([]);
  expect(opened.vfp.facts().limits).toEqual([expect.stringContaining("cannot be read, so ")]);
  answer = printed(5);
  opened.move(10_000);
  await opened.round(range(0, 1));
  expect(opened.vfp.facts()).toMatchObject({ source: "vfpctrl", limits: [] });
});

test("10,000 endpoints are read, and forgotten with the list", async () => {
  await using opened = open(() => printed(5));
  await opened.round(range(0, 10_000));
  expect(opened.vfp.counters().size).toBe(10_000);
  expect(opened.atWorkMax()).toBe(1);
  opened.vfp.poll([]);
  expect(opened.vfp.counters().size).toBe(0);
});

test("closing breaks off what runs, and is no failure", async () => {
  const never = new Promise<SpawnAnswer>(() => {});
  const opened = open(() => never);
  opened.vfp.poll(range(0, 3));
  await until(opened.hasAsked);
  await opened[Symbol.asyncDispose]();
  await opened[Symbol.asyncDispose]();
  expect(opened.takeAsked()).toHaveLength(1);
  expect(opened.vfp.facts().failures.map(({ failures }) => failures)).toEqual([0, 0, 0]);
});
