// What forwards in the benchmark, in a process of its own: `fill` makes a past, `drain` sends it as fast as it goes,
// `beside` scrapes and ticks meanwhile, `encode` makes bodies. Arguments: what to do, data directory, options as JSON.
// Prints one line of JSON.

import { readFileSync } from "node:fs";
import { configSchema } from "../../src/config-schema.ts";
import { createExposition } from "../../src/exposition.ts";
import type { Forwarder } from "../../src/forward/forwarder.ts";
import { openForwarding } from "../../src/forwarding.ts";
import { type History, openHistory } from "../../src/history.ts";
import { createLog, writeStderr } from "../../src/log.ts";
import type { EncodedSeries, EncoderSpec } from "../../src/sinks/encoder.ts";
import { encoders } from "../../src/sinks/encoders.ts";
import { createRecording } from "../samples.recording.ts";
import { rowsOf } from "../slow/outage-load.ts";
import { median } from "./rounds.ts";
import { bigView } from "./scrape.bench.ts";

const [mode = "", dir = "", given = "{}"] = process.argv.slice(2);

const stepMs = 15_000;
let clock = Date.now;
const now = (): number => clock();
const log = createLog({ level: "warn", format: "text", now, write: writeStderr });

const configOf = (sinks: readonly object[]) =>
  configSchema.parse({
    ...{ dataDir: dir, node: "bench", cluster: "bench", sinks },
    store: { bytesMax: "8GiB", ageMax: "30d" },
    rollups: { keysMax: 10 },
  });

const open = (): Promise<History> =>
  openHistory({
    ...{ config: configOf([]), log, now, runtimeDir: undefined },
    loadAddonLibraries: () => Promise.resolve(),
  });

/** Throws where a row or a sample is lost: then less would be sent than is reckoned with. */
function check({ store, samples }: History, lost: number): void {
  const facts = [lost, store.stats().errors, samples.facts().lost] as const;
  if (lost > 0 || Object.keys(facts[1]).length > 0 || facts[2].length > 0)
    throw new Error(`the past is not whole: ${JSON.stringify(facts)}`);
}

type Fill = {
  readonly interfaces: number;
  readonly steps: number;
  readonly rows: number;
  /** Appends a step: blocks are made some series at a time. */
  readonly ticks: number;
};

/** Up to now, a step each 15 s. */
async function fill({ interfaces, steps, rows, ticks }: Fill): Promise<object> {
  const startAt = Math.floor(Date.now() / stepMs) * stepMs - steps * stepMs;
  const recording = createRecording({ interfaces, startAt, stepMs });
  clock = () => startAt;
  await using history = await open();
  let lost = 0;
  for (let number = 0; number < steps; number += 1) {
    const step = recording.step();
    clock = () => step.at;
    history.samples.add(step);
    const some = Math.ceil(rows / steps);
    for (let tick = 0; tick < ticks; tick += 1) {
      const part = tick === 0 ? rowsOf(1 + number * some, some, step.at) : [];
      lost += history.store.append({ rows: part, at: step.at + tick * 1000 }).lost;
    }
  }
  check(history, lost);
  const { series, samples } = history.samples.facts();
  return { series, samples, rows: history.store.stats().rows };
}

type Node = AsyncDisposable & {
  readonly history: History;
  readonly forwarder: Forwarder;
  /** From then on these sinks alone, which begin with the oldest record. */
  start(sinks: readonly object[]): Promise<void>;
  /** Records that the sink of this name has not sent. */
  pending(name: string): number;
};

async function openNode(): Promise<Node> {
  await using undo = new AsyncDisposableStack();
  let config = configOf([]);
  const history = undo.use(await open());
  const forwarder = undo.use(openForwarding({ history, config: () => config, version: "1.2.3", log, now }));
  const sum = (name: string): number =>
    history.sinkStates.all().reduce((total, { sink, pending }) => total + (sink === name ? pending : 0), 0);
  const held = undo.move();
  return {
    ...{ history, forwarder, pending: sum },
    start: async (sinks) => {
      config = configOf(sinks);
      await forwarder.apply(config.sinks);
      history.store.append({ rows: [], at: now() }); // From then on the store knows what they have not sent.
      forwarder.ticked();
    },
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

const cpuSeconds = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

/** Of this process since its start. */
const peakBytes = (): number =>
  1024 * Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? Number.NaN);

type Drain = {
  /** Each with a name of its own, so that it begins with the oldest record. */
  readonly sinks: readonly (object & { readonly name: string })[];
  readonly secondsMax: number;
};

async function drainOne(
  { history, forwarder, pending, start }: Node,
  sink: Drain["sinks"][0],
  secondsMax: number,
) {
  const resident: number[] = [];
  const before = { ms: performance.now(), cpu: cpuSeconds() };
  const passedMs = (): number => performance.now() - before.ms;
  await start([sink]);
  const all = pending(sink.name);
  for (let tickMs = 1000; pending(sink.name) > 0 && passedMs() < secondsMax * 1000; ) {
    await Bun.sleep(20);
    if (passedMs() < tickMs) continue;
    tickMs += 1000;
    history.store.append({ rows: [], at: now() });
    forwarder.ticked();
    resident.push(process.memoryUsage.rss());
  }
  const records = all - pending(sink.name);
  const seconds = passedMs() / 1000;
  const cpu = cpuSeconds() - before.cpu;
  const bytes = forwarder.facts().reduce((sum, { sentBytes }) => sum + sentBytes, 0);
  const errors = forwarder.facts().flatMap(({ lastError, counts }) => {
    const lost = Object.keys(counts).filter((name) => name !== "sent");
    return lastError === undefined && lost.length === 0 ? [] : [JSON.stringify([lastError, counts])];
  });
  await start([]);
  if (errors.length > 0) throw new Error(`not all was sent: ${errors[0]}`);
  return { all, records, seconds, cpu, bytes, resident: median(resident) };
}

async function drain({ sinks, secondsMax }: Drain): Promise<object> {
  await using node = await openNode();
  const restingBytes = process.memoryUsage.rss();
  const rounds: Awaited<ReturnType<typeof drainOne>>[] = [];
  for (const sink of sinks) rounds.push(await drainOne(node, sink, secondsMax));
  return { restingBytes, peakBytes: peakBytes(), rounds };
}

const tickMs = 100;

/** Ticks ten times a second, as far as the thread is free: how late each was, and how long its append took. */
function startTicks({ history, forwarder }: Node) {
  const recording = createRecording({
    interfaces: 100,
    startAt: Math.ceil(Date.now() / 1000) * 1000,
    stepMs: 1000,
  });
  const late: number[] = [];
  const appends: number[] = [];
  let over = false;
  const run = async (): Promise<void> => {
    for (let number = 1; !over; number += 1) {
      const dueMs = performance.now() + tickMs;
      await Bun.sleep(tickMs);
      const startMs = performance.now();
      late.push(startMs - dueMs);
      if (number % 10 === 0) history.samples.add(recording.step());
      const beganMs = performance.now();
      history.store.append({ rows: rowsOf(number * 10, 10, now()), at: now() });
      appends.push(performance.now() - beganMs);
      forwarder.ticked();
    }
  };
  const ran = run();
  return {
    stop: async () => {
      over = true;
      await ran;
      return { late, appends };
    },
  };
}

/** A scrape of 10,000 series after each pause, with what the sinks have to tell. */
async function scrapes(
  { forwarder, history }: Node,
  rounds: number,
  each: () => Promise<void>,
): Promise<number[]> {
  const exposition = createExposition({ names: ["kappie"], seriesMax: 20_000 });
  const took: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const dueMs = performance.now() + 20;
    await Bun.sleep(20);
    const upstream = {
      ...{ now: now(), sinks: forwarder.facts() },
      deadLettersEvicted: history.sinkStates.deadLettersEvicted,
    };
    await exposition.render({ ...bigView(), upstream }, "text/plain");
    took.push(performance.now() - dueMs); // What delayed the start counts.
    await each();
  }
  return took.slice(Math.floor(rounds / 10));
}

type Beside = {
  readonly metrics: object;
  readonly flows: object;
  readonly rounds: number;
};

/** First without a sink, then while a backlog is drained by one of each signal; one that is done gives way to a new one. */
async function beside({ metrics, flows, rounds }: Beside): Promise<object> {
  await using node = await openNode();
  const alone = { ticks: startTicks(node), took: await scrapes(node, rounds, () => Promise.resolve()) };
  const aloneTicks = await alone.ticks.stop();
  const names = { metrics: "metrics-1", flows: "flows-1" };
  const apply = (): Promise<void> =>
    node.start([
      { ...metrics, name: names.metrics },
      { ...flows, name: names.flows },
    ]);
  let begun = 1;
  let sent = 0;
  const all = (): number =>
    node.history.sinkStates.all().reduce((sum, { counts }) => sum + (counts["sent"] ?? 0), 0);
  const goOn = async (): Promise<void> => {
    const done = (["metrics", "flows"] as const).filter((signal) => node.pending(names[signal]) < 20_000);
    if (done.length === 0) return;
    sent += node.history.sinkStates
      .all()
      .reduce((sum, { signal, counts }) => sum + (done.includes(signal) ? (counts["sent"] ?? 0) : 0), 0);
    begun += 1;
    for (const signal of done) names[signal] = `${signal}-${begun}`;
    await apply();
  };
  await apply();
  const pending = node.pending(names.metrics) + node.pending(names.flows);
  const startMs = performance.now();
  const busyTicks = startTicks(node);
  const took = await scrapes(node, rounds, goOn);
  const seconds = (performance.now() - startMs) / 1000;
  const ticks = await busyTicks.stop();
  return {
    ...{ pending, records: sent + all(), seconds },
    alone: { took: alone.took, ...aloneTicks },
    busy: { took, ...ticks },
  };
}

type Encode = { readonly series: number; readonly rounds: number };

/** One sample of each series in a body of Remote-Write 1.0, as the worker makes it. */
function encode({ series: count, rounds }: Encode): object {
  const spec: EncoderSpec = {
    format: "remote-write-1",
    ...{ node: "bench", cluster: "bench", version: "1.2.3" },
    externalLabels: { instance: "bench", cluster: "bench" },
    options: { azure: false },
  };
  const make = encoders["remote-write-1"]?.metrics;
  if (make === undefined) throw new Error("there is no encoder of Remote-Write 1.0");
  const recorded = createRecording({ interfaces: Math.ceil(count / 8) })
    .step()
    .series.slice(0, count);
  const fresh = (): readonly EncodedSeries[] => recorded.map(({ name, labels }) => ({ name, labels }));
  const body = (series: readonly EncodedSeries[], at: number) => {
    const startMs = performance.now();
    const encoder = make(spec, { bytesMax: 4 * 2 ** 20, now: at });
    for (const [index, one] of series.entries())
      if (!encoder.add(one, at, (recorded[index]?.value ?? 0) + at)) throw new Error("it is no one body");
    const { length } = encoder.finish().body;
    return { ms: performance.now() - startMs, length };
  };
  const first = body(fresh(), 1);
  const known = fresh();
  const warm = Array.from(
    { length: rounds },
    (_, round) => body(known, Date.UTC(2026, 0, 1) + round * 15_000).ms,
  );
  const unknown = Array.from({ length: rounds }, () => body(fresh(), Date.UTC(2026, 0, 1)).ms);
  const half = Math.floor(rounds / 2);
  return {
    ...{ series: recorded.length, bytes: first.length, first: first.ms },
    ...{ warm: warm.slice(half), unknown: unknown.slice(half) },
  };
}

const options = JSON.parse(given);
const work = { fill, drain, beside, encode }[mode];
if (work === undefined) throw new Error(`there is no ${mode}`);
console.log(JSON.stringify(await work(options)));
process.exit(0);
