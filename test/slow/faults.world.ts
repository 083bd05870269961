// A node under load for the tests of faults: what it was offered, and what must hold of it whatever fails.

import { expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { configSchema } from "../../src/config-schema.ts";
import type { FlowRecord } from "../../src/flow.ts";
import { checkLaws, totalOf } from "../../src/store/ledger.ts";
import { minuteOf } from "../../src/store/minutes.ts";
import type { FlowQuery } from "../../src/store/query.ts";
import { createThrottle, type ThrottleSettings } from "../../src/throttle.ts";
import { type Clocks, type NodeOptions, type NodeRig, openNode, readSql } from "../node.rig.ts";
import { day, second, sumsOf } from "../rollups.parts.ts";
import { flow, startAt } from "../store.flows.ts";

const made: string[] = [];
const mounts: string[] = [];

/** To be called when all tests of a file are done. */
export function removeWorlds(): void {
  for (const path of mounts.splice(0).toReversed()) run("umount", path);
  for (const path of made.splice(0)) rmSync(path, { recursive: true });
}

export function run(...command: string[]): void {
  const { stderr, exitCode } = Bun.spawnSync(command);
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
}

export function freshDir(): string {
  const dir = mkdtempSync(join(tmpdir(), "fovea-faults-"));
  made.push(dir);
  return dir;
}

/** Mounts on a directory; the last one that is given, or a fresh one. */
export function mount(options: readonly string[], dir = freshDir()): string {
  run("mount", ...options, dir);
  mounts.push(dir);
  return dir;
}

const throttle: ThrottleSettings = {
  ...{ enabled: true, mode: "window", rate: 20, window: 5, intervalMs: 1000, reserve: 0.2, print: false },
};

export const settingsOf = (store: { bytesMax?: string; ageMax?: string } = {}): NodeOptions["settings"] => ({
  config: configSchema.parse({ store: { bytesMax: "16MiB", ageMax: "7d", ...store } }),
  throttle,
  filters: { include: [], exclude: [{ protocol: ["udp"], verdict: ["dropped"] }] },
});

/** What a node was offered and told since its directory was made, in one run or several. */
export type Model = {
  readonly offered: FlowRecord[];
  /** Neither filtered nor throttled. */
  readonly kept: FlowRecord[];
  /** Steps of samples: the time of each, and the value of the first series. */
  readonly steps: (readonly [at: number, value: number])[];
  /** Rows that were lost, by minute and name. */
  readonly lostAt: Map<string, number>;
};

/** A node under load. */
export type World = AsyncDisposable &
  Model & {
    readonly node: NodeRig;
    readonly dir: string;
    readonly clocks: Clocks;
    /** Ticks of so many records each; five seconds apart by default. */
    pass(ticks: number, options?: { readonly records?: number; readonly stepMs?: number }): Promise<void>;
  };

export const newModel = (): Model => ({ offered: [], kept: [], steps: [], lostAt: new Map() });
export const newClocks = (): Clocks => ({ at: startAt, ms: 0 });
export const samplesPerStep = 20;

export const recordAt = (number: number, at: number): FlowRecord => {
  const endAt = at - (number % 10) * second;
  return flow(number, { startAt: endAt - 100, endAt, packets: number % 7, bytes: 60 * (number % 7) });
};

const sampleAt = (at: number, value: number) => ({
  at,
  series: Array.from({ length: samplesPerStep }, (_, index) => ({
    ...{ name: "load", labels: { series: String(index) }, value: value + index },
  })),
});

export async function openWorld(
  changes: Partial<Pick<NodeOptions, "dir" | "settings" | "flowLogFile">> = {},
  { model = newModel(), clocks = newClocks() } = {},
): Promise<World> {
  const { dir = freshDir(), settings = settingsOf() } = changes;
  const throttleBy = (now: () => number) =>
    createThrottle({ settings: settings.throttle, elapsedMs: () => clocks.ms, now });
  const node = await openNode({
    ...{ ...changes, dir, clocks, settings, throttle: throttleBy(() => clocks.at) },
  });
  const steady = throttleBy(() => 0);
  const { store } = node.history;
  const tick = async (count: number): Promise<void> => {
    const { offered, kept, steps, lostAt } = model;
    const first = offered.length;
    const records = Array.from({ length: count }, (_, index) => recordAt(first + index, clocks.at));
    offered.push(...records);
    const sample = sampleAt(clocks.at, steps.length);
    steps.push([clocks.at, steps.length]);
    const before = store.ledger();
    const { rows, filtered } = await node.tick(records, sample);
    // What the wall clock does decides about no record.
    const past = records.filter((record) => !filtered.has(record));
    expect(rows).toEqual(past.filter((record) => steady.admit(record) === undefined));
    kept.push(...rows);
    for (const [name, sum] of Object.entries(store.ledger())) {
      const more = sum - (before[name] ?? 0);
      const key = `${minuteOf(clocks.at)} ${name}`;
      if (name.startsWith("rows.lost") && more > 0) lostAt.set(key, (lostAt.get(key) ?? 0) + more);
    }
  };
  return {
    ...{ ...model, node, dir, clocks },
    async pass(ticks, { records = 150, stepMs = 5 * second } = {}) {
      for (let left = ticks; left > 0; left--) {
        clocks.at += stepMs;
        clocks.ms += stepMs;
        await tick(records);
        expectLaws(node);
      }
    },
    [Symbol.asyncDispose]: () => node[Symbol.asyncDispose](),
  };
}

function expectLaws({ history }: NodeRig): void {
  const { store, rollups } = history;
  expect(checkLaws(store.ledger(), store.stats().rows).filter(({ holds }) => !holds)).toEqual([]);
  const { offered, written, lost, pending } = rollups.facts();
  expect(written + lost + pending).toBe(offered);
}

export const countOf = ({ node }: World, name: Parameters<typeof totalOf>[1]): number =>
  totalOf(node.history.store.ledger(), name);

export const topOf = ({ node }: World, range: { readonly fromAt?: number; readonly toAt?: number } = {}) => {
  const query = { by: "verdict", ...range } as const;
  const { store, rollups } = node.history;
  return store.ask("top", { ...query, pending: rollups.pending(query) });
};

/** Counts and totals of all that was offered, whatever became of the rows. */
export function expectExact(world: World): void {
  const { node, offered, kept } = world;
  expect(countOf(world, "rows.offered")).toBe(offered.length);
  expect(countOf(world, "rows.kept") + countOf(world, "rows.lost")).toBe(kept.length);
  expect(node.history.rollups.facts()).toMatchObject({ offered: offered.length, lost: 0 });
  expect(topOf(world).total).toEqual(sumsOf(offered));
}

type Named = { readonly name: string; readonly value: number };
const byName = (rows: readonly Named[]) => Object.fromEntries(rows.map(({ name, value }) => [name, value]));

/** What a store that was closed has left: all that was counted, and nothing half. */
export function expectWhole(dir: string, { offered, lostAt }: Model): void {
  expect(readSql<object>(dir, "PRAGMA integrity_check")).toEqual([{ integrity_check: "ok" }]);
  const totals = byName(readSql<Named>(dir, "SELECT name, value FROM ledger ORDER BY name"));
  const minutes = readSql<Named & { readonly at: number }>(dir, "SELECT * FROM ledger_minutes ORDER BY at");
  expect(byName(readSql(dir, "SELECT name, sum(value) AS value FROM ledger_minutes GROUP BY name"))).toEqual(
    totals,
  );
  expect(totals["rows.offered"]).toBe(offered.length);
  const [held] = readSql<{ rows: number; first: number; last: number }>(
    dir,
    "SELECT count(*) AS rows, min(seq) AS first, max(seq) AS last FROM flows",
  );
  expect(checkLaws(totals, held?.rows).filter(({ holds }) => !holds)).toEqual([]);
  expect((held?.last ?? 0) - (held?.first ?? 0) + 1).toBe(held?.rows ?? 0);
  const lost = minutes.filter(({ name }) => name.startsWith("rows.lost."));
  expect(new Map(lost.map(({ at, name, value }) => [`${at} ${name}`, value]))).toEqual(lostAt);
  const [summed] = readSql<Named>(dir, "SELECT sum(rows) AS value FROM summaries");
  expect(summed?.value ?? 0).toBe(totalOf(totals, "rows.throttled"));
}

/** The first series, in the order in which its steps were taken. */
export function samplesOf({ node }: World, fromAt = 0, toAt = startAt + 1000 * day) {
  const query = { name: "load", labels: { series: "0" }, fromAt, toAt };
  const { series, complete } = node.history.store.ask("samples", query);
  expect(complete).toBe(true);
  return [...(series[0]?.points ?? [])];
}

/** Without the places where a series ended. */
export const valuesOf = (points: ReturnType<typeof samplesOf>) =>
  points.filter(([, value]) => value !== null);

export async function rowsOf({ node }: World, query: FlowQuery = {}): Promise<FlowRecord[]> {
  const found: FlowRecord[] = [];
  for (let cursor: string | undefined; ; ) {
    const from = cursor === undefined ? {} : { cursor };
    const page = await node.history.queries.flows({ order: "oldest", limit: 5000, ...query, ...from });
    for (const { seq: _seq, ...record } of page.flows) found.push(record);
    if (!page.more) return found;
    cursor = page.cursor;
  }
}
