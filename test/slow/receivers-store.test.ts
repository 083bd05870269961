// A history goes through the forwarder to real receivers, which then have what the store has: no sample more or less.

import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { configSchema } from "../../src/config-schema.ts";
import type { ForwardFacts } from "../../src/forward/facts.ts";
import type { Forwarder } from "../../src/forward/forwarder.ts";
import { openForwarding } from "../../src/forwarding.ts";
import { type History, openHistory } from "../../src/history.ts";
import { createLog } from "../../src/log.ts";
import { sinkLaw } from "../../src/store/ledger.ts";
import { openDatabase } from "../../src/store/sqlite.ts";
import { foundBy, type Receiver, startReceiver } from "../receiver.rig.ts";
import type { Sample } from "../remote-write.rig.ts";
import { roundedByVictoria, seriesCount, stepOf } from "./receivers-load.ts";
import {
  type Contents,
  countOf,
  differences,
  external,
  mapped,
  readPrometheus,
  readStore,
  readVictoria,
} from "./receivers-read.ts";

setDefaultTimeout(120_000);

const dir = mkdtempSync(join(tmpdir(), "fovea-receivers-store-"));
afterAll(() => rmSync(dir, { recursive: true }));

const stepMs = 15_000;
const liveStepMs = 250;
const minute = 60_000;
const hour = 60 * minute;
const steps = (3 * hour) / stepMs;
const to = Math.floor(Date.now() / stepMs) * stepMs;
const from = to - steps * stepMs;

type Name = "window" | "victoria" | "plain";
type Receivers = Readonly<Record<Name, Receiver>>;

function configOf(receivers?: Receivers) {
  const sink = (name: Name, more: object) => ({
    ...{ name, type: "remote-write", url: `${receivers?.[name].url}/api/v1/write`, proxy: "none" },
    // So slow that much can happen until the backlog is sent.
    ...{
      externalLabels: { job: external.job },
      pace: { bytesPerSecond: "48KiB" },
      schedule: { every: "250ms" },
    },
    ...more,
  });
  return configSchema.parse({
    ...{ dataDir: dir, node: external.instance, cluster: external.cluster },
    sinks:
      receivers === undefined
        ? []
        : [
            sink("window", { limits: { outOfOrder: "24h", ageMax: "24h" } }),
            sink("victoria", { receiver: "victoriametrics" }),
            sink("plain", { receiver: "prometheus" }),
          ],
  });
}

let clock = Date.now;
const now = (): number => clock();
const logged: string[] = [];
const log = createLog({ level: "error", format: "text", now, write: (line) => logged.push(line) });

const open = (): Promise<History> =>
  openHistory({
    ...{ config: configOf(), log, now, runtimeDir: undefined },
    loadAddonLibraries: () => Promise.resolve(),
  });

function append({ samples, store }: History, step: number, at: number): void {
  samples.add(stepOf(step, at));
  store.append({ rows: [], at });
}

/** What a node was doing while it had no sink. */
async function fill(): Promise<void> {
  await using history = await open();
  for (let step = 0; step < steps; step += 1) {
    const at = from + step * stepMs;
    clock = () => at;
    append(history, step, at);
  }
  clock = Date.now;
}

/** Blocks, and steps that no block has yet. */
function stored(): readonly number[] {
  const database = openDatabase({ path: join(dir, "fovea.db"), readonly: true });
  try {
    return ["sample_blocks", "sample_steps"].map(
      (table) => database.prepare<unknown[], number>(`SELECT count(*) FROM ${table}`).pluck().get() ?? 0,
    );
  } finally {
    database.close();
  }
}

type Life = AsyncDisposable & {
  readonly history: History;
  /** Takes live steps until something is so. */
  live(what: string, isSo: () => boolean | Promise<boolean>): Promise<void>;
  /** Takes no more of them, until something is so. */
  quiet(what: string, isSo: () => boolean): Promise<void>;
  facts(name: Name): ForwardFacts;
};

let step = steps;
let newestAt = to;

/** One life of the process. */
async function start(receivers: Receivers): Promise<Life> {
  await using undo = new AsyncDisposableStack();
  const history = undo.use(await open());
  const config = configOf(receivers);
  const forwarder: Forwarder = undo.use(
    openForwarding({ history, config: () => config, version: "1.2.3", log, now }),
  );
  await forwarder.apply(config.sinks);
  const until = async (what: string, isSo: () => boolean | Promise<boolean>, turn: () => void) => {
    const giveUpAt = performance.now() + 60_000;
    for (turn(); !(await isSo()); turn()) {
      if (performance.now() > giveUpAt)
        throw new Error(`${what}: not so after 60 s: ${JSON.stringify(forwarder.facts())}`);
      await Bun.sleep(liveStepMs);
    }
  };
  const parts = undo.move();
  return {
    history,
    live: (what, isSo) =>
      until(what, isSo, () => {
        newestAt = Math.max(newestAt + 1, now());
        append(history, step++, newestAt);
        forwarder.ticked();
      }),
    quiet: (what, isSo) => until(what, isSo, () => history.store.append({ rows: [], at: now() })),
    facts: (name) => {
      const found = forwarder.facts().find(({ sink }) => sink === name);
      if (found === undefined) throw new Error(`no facts of ${name}`);
      return found;
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

const names: readonly Name[] = ["window", "victoria", "plain"];
const sentOf = ({ counts: { sent = 0 } }: ForwardFacts): number => sent;

/** Live samples are there while what is older waits. */
async function liveFirst(life: Life, receivers: Receivers): Promise<void> {
  const liveFrom = newestAt;
  for (const name of ["window", "victoria"] as const) {
    await life.live("a live sample", async () => {
      const [found] = await receivers[name].query('fovea_bytes_total{interface="eth0"}[1h]', now());
      return found?.points.some(([at]) => at > liveFrom) === true;
    });
    expect(life.facts(name).lanes.backlog).toBeGreaterThan(0);
  }
}

/** One receiver is away, and misses nothing; the others do not notice. */
async function outage(life: Life, { window }: Receivers): Promise<void> {
  const before = sentOf(life.facts("victoria"));
  await window.kill();
  await life.live("the outage", () => {
    const { phase, lastError } = life.facts("window");
    return phase === "retrying" && (lastError?.times ?? 0) >= 2 && sentOf(life.facts("victoria")) > before;
  });
  expect(life.facts("window")).toMatchObject({ connected: false, lastError: { code: "network" } });
  for (const name of ["victoria", "plain"] as const) expect(life.facts(name)).toMatchObject({ retries: {} });
  await window.restart();
}

const backlogBelow = (life: Life, share: number): boolean => {
  const { lanes, offered } = life.facts("victoria");
  return lanes.backlog < offered * share;
};

async function endings(receivers: Receivers, store: Contents): Promise<void> {
  const ended = [...store].flatMap(([key, samples]) =>
    samples.flatMap(([at, value]) => (value === null ? [{ name: key.split("{")[0] ?? "", at }] : [])),
  );
  expect(new Set(ended.map(({ name }) => name))).toEqual(
    new Set(["fovea_ended", "fovea_back", "fovea_flaps", "fovea_once", "fovea_gone_for_a_block"]),
  );
  for (const receiver of [receivers.window, receivers.victoria])
    for (const { name, at } of ended) {
      const [before, after] = [await receiver.query(name, at - 1), await receiver.query(name, at)];
      expect([name, at, before.length, after.length]).toEqual([name, at, 1, 0]);
    }
}

type Span = { readonly appliedAt: number; readonly doneAt: number };

/** What a receiver without a window has: the last fifty minutes and more, and nothing from before its reach. */
async function lastHour(
  life: Life,
  { plain }: Receivers,
  store: Contents,
  { appliedAt, doneAt }: Span,
): Promise<void> {
  const found = await readPrometheus(plain.url, from, doneAt);
  // The hour goes on while a unit is sent, series by series: each begins where it was when its turn came.
  const firstOf = (key: string): number => found.get(key)?.[0]?.[0] ?? doneAt;
  expect(Math.min(...[...found.keys()].map(firstOf))).toBeGreaterThanOrEqual(appliedAt - hour);
  const later = mapped(store, (key, samples) =>
    samples.filter(([at]) => at >= Math.min(firstOf(key), doneAt - 50 * minute)),
  );
  expect(differences(later, found)).toEqual([]);
  const { counts } = life.facts("plain");
  expect(counts).toEqual({ "expired.age": countOf(store) - countOf(later), sent: countOf(later) });
}

/** VictoriaMetrics keeps no NaN, and of doubles that are far apart the times alone. */
const knownToVictoria = (contents: Contents): Contents =>
  mapped(contents, (key, samples) =>
    key.startsWith(roundedByVictoria)
      ? samples.map(([at]) => [at, 0] as const)
      : samples.filter(([, value]) => !Number.isNaN(value)),
  );

async function wholeHistory({ window, victoria }: Receivers, store: Contents, doneAt: number): Promise<void> {
  await foundBy(victoria, "fovea_load", newestAt); // What it took would be found some seconds later.
  expect(differences(store, await readPrometheus(window.url, from, doneAt))).toEqual([]);
  const found = await readVictoria(victoria.url, from, doneAt);
  expect(differences(knownToVictoria(store), knownToVictoria(found))).toEqual([]);
  const [doubles] = await window.query(`${roundedByVictoria}[4h]`, doneAt);
  expect<readonly Sample[]>(doubles?.points ?? []).toEqual(store.get(`${roundedByVictoria}{}`) ?? []);
  expect(doubles?.points.filter(([, value]) => Object.is(value, -0)).length).toBeGreaterThan(0);
}

/** Ends in the midst of a unit: the next life goes on with the series that follow. */
async function cutShort(receivers: Receivers): Promise<void> {
  await using life = await start(receivers);
  await liveFirst(life, receivers);
  const { sinkStates } = life.history;
  const begun = () =>
    sinkStates.state({ sink: "victoria", signal: "metrics" })?.ranges.some(({ done }) => done > 0) === true;
  await life.live("a part of the backlog", () => backlogBelow(life, 0.7) && begun());
}

test("receivers have what the store has, through a backlog, a restart and an outage", async () => {
  await fill();
  const [blocks = 0, logSteps = 0] = stored();
  expect(blocks).toBeGreaterThan(3);
  expect(logSteps).toBeGreaterThan(0);
  await using stack = new AsyncDisposableStack();
  const receivers = {
    window: stack.use(await startReceiver("prometheus", { outOfOrder: "1d" })),
    victoria: stack.use(await startReceiver("victoria-metrics")),
    plain: stack.use(await startReceiver("prometheus")),
  };
  const appliedAt = now();
  await cutShort(receivers);
  await using life = await start(receivers);
  await life.live("more of the backlog", () => backlogBelow(life, 0.5));
  await outage(life, receivers);
  await life.live("most of the backlog", () => backlogBelow(life, 0.1));
  await life.quiet("the rest", () => names.every((name) => life.facts(name).pending === 0));
  const doneAt = now() + 1;
  const store = await readStore(life.history.queries, from, doneAt);
  expect(store.size).toBe(seriesCount);
  await wholeHistory(receivers, store, doneAt);
  await lastHour(life, receivers, store, { appliedAt, doneAt });
  await endings(receivers, store);
  for (const name of names) expect(sinkLaw(life.facts(name))).toMatchObject({ holds: true });
  for (const name of ["window", "victoria"] as const)
    expect(life.facts(name).counts).toEqual({ sent: countOf(store) });
  expect(logged).toEqual([]);
});
