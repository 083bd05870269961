// The laws of the flow log under any configuration, load, reload, restart and step of the wall clock.

import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { ConfigError } from "../src/config.ts";
import type { FlowRecord } from "../src/flow.ts";
import { loadSettings, type Settings } from "../src/settings.ts";
import { checkLaws, totalOf } from "../src/store/ledger.ts";
import { checkRow } from "../src/store/rows.ts";
import { createThrottle, type Throttle } from "../src/throttle.ts";
import { type Clocks, type NodeRig, openNode } from "./node.rig.ts";
import { sumsOf } from "./rollups.parts.ts";
import { flow, startAt } from "./store.flows.ts";

setDefaultTimeout(120_000);

const root = mkdtempSync(join(tmpdir(), "fovea-law-"));
afterAll(() => rmSync(root, { recursive: true }));
const file = join(root, "fovea.yaml");

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;

// Small rates, so that a few records are too many; values that are no rate, window or interval, or out of range.
const odd = [0, -1, 1, 25_001, 10_000_000, 1.5, "many", true, null];
const mostly = (...values: readonly (string | number)[]) =>
  fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...values) },
    { weight: 1, arbitrary: fc.constantFrom(...odd) },
  );
const flag = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(true, "TRUE") },
  { weight: 1, arbitrary: fc.constantFrom(false, "yes", 1, null) },
);

type ValueOf<Made> = Made extends fc.Arbitrary<infer Value> ? Value : never;

const anyThrottle = fc.record(
  {
    throttle_enabled: flag,
    throttle_rate: mostly(1, 2, 5, "3", "+07"),
    throttle_window: mostly(2, 3, 8, "4"),
    throttle_interval: mostly("1s", "3s", "0.5s", "1.5m", "0s", "soon"),
    throttle_print: flag,
    mode: fc.constantFrom("window", "smooth"),
    reserve: fc.constantFrom("0%", "10%", "20%", "100%"),
  },
  { requiredKeys: ["throttle_rate", "throttle_window"] },
);

const rule = fc.constantFrom(
  { verdict: "dropped" },
  { protocol: ["udp", "icmp"] },
  { direction: "ingress", port: 443 },
  { from: { ip: ["10.0.0.0/9", "2001:db8::/32"] } },
  { reason: "NETFILTER_*" },
);
const anyFilters = fc.record({
  include: fc.array(rule, { maxLength: 2 }),
  exclude: fc.array(rule, { maxLength: 2 }),
});

/** A file as somebody may write it; in one of eight a key is wrong in a way that refuses the whole. */
const anyYaml = fc
  .record({ throttle: anyThrottle, filters: anyFilters, broken: fc.nat(7).map((number) => number === 0) })
  .map(({ throttle, filters, broken }) =>
    JSON.stringify({
      throttle: { ...throttle, agentConfig: join(root, "agent") },
      filters,
      rollups: { keysMax: 10 },
      store: { bytesMax: "2MiB", ageMax: "1h" },
      ...(broken ? { tick: "never" } : {}),
    }),
  );

/** What a platform may hand over that is no row, or only just one. */
const wrongs: readonly Readonly<Record<string, unknown>>[] = [
  { source: "10.0.0.256" },
  { packets: -1 },
  { packets: Number.NaN },
  { bytes: 1.5 },
  { bytes: Number.POSITIVE_INFINITY },
  { sourcePort: 65_536 },
  { protocol: 256 },
  { endAt: -1 },
  { evictReason: "bored" },
  { direction: "sideways" },
];

const anyLoad = fc.record({
  count: fc.oneof(fc.nat(5), fc.nat(60)),
  first: fc.nat(100_000),
  agesMs: fc.array(fc.nat(2 * minute), { minLength: 1, maxLength: 3 }),
  wrong: fc.array(fc.constantFrom(...wrongs), { maxLength: 3 }),
});

const anyStep = fc.record({
  passedMs: fc.oneof(fc.nat(3 * second), fc.constantFrom(minute, 2 * minute, hour)),
  jumpMs: fc.oneof(
    { weight: 3, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.constantFrom(-day, -hour, -20 * second, hour, day) },
  ),
  load: anyLoad,
  reload: fc.option(anyYaml, { freq: 3 }),
  restart: fc.constantFrom("none", "none", "none", "none", "parts", "process"),
});

type Load = ValueOf<typeof anyLoad>;

function recordsOf({ count, first, agesMs, wrong }: Load, at: number): FlowRecord[] {
  const right = Array.from({ length: count }, (_row, index) => {
    const endAt = at - (agesMs[index % agesMs.length] ?? 0);
    return flow(first + index, { startAt: endAt - 100, endAt, packets: 1 + index, bytes: 100 * index });
  });
  // Spread over the others: some of them are kept, and some are thrown away first.
  for (const [index, change] of wrong.entries())
    right.splice((index * 17) % (right.length + 1), 0, { ...flow(index), ...change } as FlowRecord);
  return right;
}

const isValid = (record: FlowRecord): boolean => typeof checkRow(record) !== "string";

/** All that came, and all that was thrown away before the store. */
type Model = { offered: FlowRecord[]; rows: FlowRecord[]; unkept: FlowRecord[] };

function load(text: string, starting: boolean): Settings | undefined {
  writeFileSync(file, text);
  try {
    return loadSettings({ file, env: {}, starting });
  } catch (error) {
    if (error instanceof ConfigError) return undefined;
    throw error;
  }
}

function expectLaws(node: NodeRig, { offered, rows, unkept }: Model): void {
  const { store, rollups } = node.history;
  const totals = store.ledger();
  // The rows themselves: what `stats` says of them is computed from the ledger.
  const [held] = node.sql<{ rows: number; first: number; last: number }>(
    "SELECT count(*) AS rows, min(seq) AS first, max(seq) AS last FROM flows",
  );
  expect(checkLaws(totals, held?.rows).filter(({ holds }) => !holds)).toEqual([]);
  if (held !== undefined && held.rows > 0) expect(held.last - held.first + 1).toBe(held.rows);
  expect(store.stats()).toMatchObject({ mode: "disk", errors: {}, recoveries: [], ledgerRefused: 0 });

  expect(totalOf(totals, "rows.offered")).toBe(offered.length);
  expect(totalOf(totals, "rows.filtered") + totalOf(totals, "rows.throttled")).toBe(unkept.length);
  expect(totalOf(totals, "rows.kept")).toBe(rows.filter(isValid).length);
  expect(totalOf(totals, "rows.invalid")).toBe(rows.filter((row) => !isValid(row)).length);

  const minutes = node.sql<{ name: string; value: number }>(
    "SELECT name, sum(value) AS value FROM ledger_minutes GROUP BY name ORDER BY name",
  );
  expect(Object.fromEntries(minutes.map(({ name, value }) => [name, value]))).toEqual(totals);

  // What is thrown away is not checked, so `rows.invalid` has only what was invalid of the rest.
  const facts = rollups.facts();
  const unkeptInvalid = unkept.filter((record) => !isValid(record)).length;
  expect(facts.offered).toBe(offered.length - totalOf(totals, "rows.invalid") - unkeptInvalid);
  expect(facts).toMatchObject({ lost: 0, offered: facts.written + facts.pending });
  const { total } = store.ask("top", { by: "verdict", pending: rollups.pending({ by: "verdict" }) });
  expect(total).toEqual(sumsOf(offered.filter(isValid)));
}

/** Once no interval is open, each throttled record is in one summary. */
function expectSummaries(node: NodeRig, throttled: readonly FlowRecord[]): void {
  const [found] = node.sql<{ rows: number | null; packets: number | null; bytes: number | null }>(
    "SELECT sum(rows) AS rows, sum(packets) AS packets, sum(bytes) AS bytes FROM summaries",
  );
  const { records, packets, bytes } = sumsOf(throttled.filter(isValid));
  expect(found?.rows ?? 0).toBe(throttled.length);
  expect(found?.rows ?? 0).toBe(totalOf(node.history.store.ledger(), "rows.throttled"));
  if (records !== throttled.length) return;
  expect([found?.packets ?? 0, found?.bytes ?? 0]).toEqual([packets, bytes]);
}

let dirs = 0;

async function runSteps(firstYaml: string, steps: readonly ValueOf<typeof anyStep>[]) {
  const first = load(firstYaml, true);
  if (first === undefined) return;
  let settings = first;
  const dir = join(root, `${++dirs}`);
  const clocks: Clocks = { at: startAt, ms: 0 };
  const model: Model = { offered: [], rows: [], unkept: [] };
  const throttled: FlowRecord[] = [];
  const makeThrottle = (now: () => number): Throttle =>
    createThrottle({ settings: settings.throttle, elapsedMs: () => clocks.ms, now });
  let throttle = makeThrottle(() => clocks.at);
  let steady = makeThrottle(() => 0);
  let node = await openNode({ dir, clocks, settings, throttle });
  for (const step of steps) {
    clocks.ms += step.passedMs;
    clocks.at += step.passedMs + step.jumpMs;
    const changed = step.reload === null ? undefined : load(step.reload, false);
    if (changed !== undefined) {
      settings = changed;
      node.apply(settings);
      steady.apply(settings.throttle);
    }
    const records = recordsOf(step.load, clocks.at);
    const { rows, unkept, filtered } = await node.tick(records);
    model.offered.push(...records);
    model.rows.push(...rows);
    model.unkept.push(...unkept);
    throttled.push(...unkept.filter((record) => !filtered.has(record)));
    // The wall clock decides nothing: a throttle that sees none throws the same away.
    const past = records.filter((record) => !filtered.has(record));
    expect(unkept.filter((record) => !filtered.has(record))).toEqual(
      past.filter((record) => steady.admit(record) !== undefined),
    );
    expectLaws(node, model);
    if (step.restart === "none") continue;
    await node[Symbol.asyncDispose]();
    if (step.restart === "process") {
      throttle = makeThrottle(() => clocks.at);
      steady = makeThrottle(() => 0);
    }
    node = await openNode({ dir, clocks, settings, throttle });
    expectLaws(node, model);
    expectSummaries(node, throttled);
  }
  await node[Symbol.asyncDispose]();
  await using last = await openNode({ dir, clocks, settings, throttle });
  expectLaws(last, model);
  expectSummaries(last, throttled);
  expect(last.history.rollups.facts().pending).toBe(0);
}

test("hold after each step, and all counts of the history agree with what was offered", async () => {
  await fc.assert(fc.asyncProperty(anyYaml, fc.array(anyStep, { minLength: 1, maxLength: 14 }), runSteps), {
    numRuns: 60,
  });
});
