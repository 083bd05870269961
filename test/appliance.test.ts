// The appliance: a tick's rows and counts in the store, failing collectors and stores, the stop.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createAdmission } from "../src/admission.ts";
import { createAppliance } from "../src/appliance.ts";
import type { FlowRecord } from "../src/flow.ts";
import { createLog } from "../src/log.ts";
import { noStore } from "../src/no-store.ts";
import { createObserving } from "../src/observing.ts";
import type { Backend, Collector, Snapshot } from "../src/snapshot.ts";
import { StoreUnreadableError } from "../src/store/failure.ts";
import { checkLaws } from "../src/store/ledger.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { createThrottle, type ThrottleSettings } from "../src/throttle.ts";
import type { ThrottleSummary } from "../src/throttle-summary.ts";
import { flow, now } from "./api.parts.ts";

function temporaryStore(): Store {
  const dir = mkdtempSync(join(tmpdir(), "fovea-appliance-"));
  const store = openStore({ dir, bytesMax: 2 ** 20, ageMaxMs: 86_400_000, now: () => now });
  const close = () => {
    store.close();
    rmSync(dir, { recursive: true });
  };
  return { ...store, close, [Symbol.dispose]: close };
}

const unthrottled: ThrottleSettings = {
  ...{ enabled: true, mode: "window", rate: 1000, window: 1, intervalMs: 1000, reserve: 0, print: false },
};

function open(options: {
  store: Store;
  collectors: readonly Collector[];
  drain?: () => Snapshot;
  throttle?: Partial<ThrottleSettings>;
  stays?: () => boolean;
}) {
  const lines: string[] = [];
  const log = createLog({ level: "info", format: "json", now: () => now, write: (line) => lines.push(line) });
  const { store, collectors, drain } = options;
  const dispose = () => Promise.resolve();
  const backend: Backend = {
    collectors,
    [Symbol.asyncDispose]: dispose,
    ...(drain === undefined ? {} : { drain }),
  };
  const observing = createObserving({ backend, namesMax: 10, now: () => now });
  const throttle = createThrottle({
    settings: { ...unthrottled, ...options.throttle },
    elapsedMs: () => 0,
    now: () => now,
  });
  const admission = createAdmission({ throttle });
  const given: ThrottleSummary[] = [];
  const logged: FlowRecord[] = [];
  const outlets = {
    summaries: (summaries: readonly ThrottleSummary[]) => void given.push(...summaries),
    sample: () => undefined,
    log: (rows: readonly FlowRecord[]) => void logged.push(...rows),
  };
  const { stays = () => false } = options;
  const parts = { observing, stays, store, log, admission, throttle, outlets };
  return { appliance: createAppliance(parts), lines, given, logged };
}

const signal = new AbortController().signal;

/** Gives one snapshot a call; the last one again and again. */
function playing(snapshots: readonly (Snapshot | Error)[]): Collector {
  let calls = 0;
  return {
    name: "flows",
    collect: () => {
      const snapshot = snapshots[Math.min(calls++, snapshots.length - 1)] ?? {};
      if (snapshot instanceof Error) throw snapshot;
      return snapshot;
    },
  };
}

const packets = (seen: number) => ({ seen, aggregated: seen, duplicate: 0, untracked: [] });
const holds = (store: Store) => checkLaws(store.ledger(), store.stats().rows).every((law) => law.holds);

test("a tick keeps its rows with what was counted; the laws hold", async () => {
  using store = temporaryStore();
  const collector = playing([
    { flows: [flow, flow], packets: packets(10) },
    { flows: [flow], packets: packets(25) },
  ]);
  const { appliance } = open({ store, collectors: [collector] });
  expect(appliance.unready()).toEqual(["no tick is done yet"]);
  await appliance.tick(signal);
  await appliance.tick(signal);
  expect(appliance.unready()).toEqual([]);
  expect(store.ledger()).toMatchObject({ "packets.seen": 25, "rows.offered": 3, "rows.kept": 3 });
  expect(holds(store)).toBe(true);
  expect(appliance.storeFacts()).toMatchObject({ rows: 3, writeTimes: { count: 2 }, errors: [] });
});

test("a row that is none is counted and told; the others are kept", async () => {
  using store = temporaryStore();
  const wrong: FlowRecord = { ...flow, source: "nobody" };
  const { appliance, lines } = open({ store, collectors: [playing([{ flows: [wrong, flow] }])] });
  await appliance.tick(signal);
  expect(store.ledger()).toMatchObject({ "rows.offered": 2, "rows.kept": 1, "rows.invalid.address": 1 });
  expect(holds(store)).toBe(true);
  expect(lines.join("")).toContain("rows were invalid");
});

test("a failing collector is told when it fails and when it works again, not each tick", async () => {
  using store = temporaryStore();
  const collector = playing([new Error("no BTF"), new Error("no BTF"), {}, {}, new Error("no BTF")]);
  const { appliance, lines } = open({ store, collectors: [collector] });
  for (let tick = 0; tick < 5; tick++) await appliance.tick(signal);
  const told = lines.map((line) => JSON.parse(line)).map(({ level, message }) => `${level} ${message}`);
  expect(told).toEqual([
    "warn a collector fails; the others go on",
    "info a collector works again",
    "warn a collector fails; the others go on",
  ]);
});

test("the stop keeps what was still live, and its packets", async () => {
  using store = temporaryStore();
  const last = { ...flow, evictReason: "shutdown" } as const;
  const drain = () => ({ flows: [last], packets: packets(12) });
  const { appliance } = open({ store, collectors: [playing([{ packets: packets(10) }])], drain });
  await appliance.tick(signal);
  appliance.finish();
  expect(store.queryFlows({}).flows).toMatchObject([{ evictReason: "shutdown" }]);
  expect(store.ledger()).toMatchObject({ "packets.seen": 12, "rows.kept": 1 });
});

test("a drain that fails is told, and stops nothing", () => {
  using store = temporaryStore();
  const drain = () => {
    throw new Error("map is gone");
  };
  const { appliance, lines } = open({ store, collectors: [], drain });
  appliance.finish();
  expect(lines.join("")).toContain("map is gone");
});

test("without a store the appliance goes on, and every row is counted as lost", async () => {
  const store = noStore({ problem: "no directory takes the addon", bytesMax: 2 ** 20 });
  const collector = playing([{ flows: [flow, flow], packets: packets(10) }]);
  const { appliance, lines } = open({ store, collectors: [collector] });
  await appliance.tick(signal);
  expect(appliance.model().state.packets).toEqual(packets(10));
  expect(appliance.unready()).toEqual(["the store is not on disk: no directory takes the addon"]);
  expect(store.ledger()).toMatchObject({ "rows.offered": 2, "rows.lost.error": 2, "packets.seen": 10 });
  expect(holds(store)).toBe(true);
  expect(lines.join("")).toContain("rows were lost");
  expect(() => store.queryFlows({})).toThrow(StoreUnreadableError);
  expect(() => store.topDrops({ by: "reason" })).toThrow(StoreUnreadableError);
});

test("what is throttled is counted and summed up, and goes to no log; the last interval's sum comes with the stop", async () => {
  using store = temporaryStore();
  const { appliance, given, logged, lines } = open({
    store,
    collectors: [playing([{ flows: [flow, flow, flow], packets: packets(9) }])],
    throttle: { rate: 2, print: true },
  });
  await appliance.tick(signal);
  expect(given).toEqual([]);
  appliance.finish();
  expect(store.ledger()).toMatchObject({ "rows.offered": 3, "rows.kept": 2, "rows.throttled.window": 1 });
  expect(given).toMatchObject([{ rows: 1, packets: flow.packets, bytes: flow.bytes }]);
  expect(logged).toHaveLength(2);
  expect(holds(store)).toBe(true);
  expect(lines.filter((line) => line.includes("limit is 2.00 per 1s with window size of 1"))).toHaveLength(1);
});
