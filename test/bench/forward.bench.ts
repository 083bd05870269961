// Forwarding: how fast a backlog is sent, what that costs those beside it, and what it costs when all is well.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { median } from "./rounds.ts";
import type { BenchRow } from "./row.ts";

const MIB = 2 ** 20;
const script = (name: string): string => join(import.meta.dir, `${name}.ts`);

/** `--smol` as in the binary. */
async function child<T>(name: string, args: readonly string[]): Promise<T> {
  const command = [process.execPath, "--smol", script(name), ...args];
  const running = Bun.spawn(command, { stdio: ["ignore", "pipe", "inherit"] });
  const [output, code] = await Promise.all([running.stdout.text(), running.exited]);
  if (code !== 0) throw new Error(`${name} ${args[0]} ended with ${code}`);
  return JSON.parse(output) as T;
}

type Upstream = AsyncDisposable & { readonly url: string };

async function startUpstream(): Promise<Upstream> {
  const running = Bun.spawn([process.execPath, script("forward-upstream")], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const reader = running.stdout.getReader();
  const { value } = await reader.read();
  return {
    url: new TextDecoder().decode(value).trim(),
    [Symbol.asyncDispose]: async () => {
      await running.stdin.end();
      await running.exited;
    },
  };
}

/** Each of its own name begins with the oldest record. */
const sinksOf = (url: string) => ({
  metrics: { type: "remote-write", url: `${url}/write`, receiver: "victoriametrics", proxy: "none" },
  loki: { type: "loki", url: `${url}/push`, limits: { ageMax: "30d" }, proxy: "none" },
  otlp: { type: "otlp", url, signals: ["flows"], proxy: "none" },
});

const rounds = 3;

type Drained = {
  readonly restingBytes: number;
  readonly peakBytes: number;
  readonly rounds: readonly {
    readonly records: number;
    readonly seconds: number;
    readonly cpu: number;
    readonly bytes: number;
  }[];
};

type Kind = { readonly name: string; readonly unit: string; readonly sink: object; readonly least: number };

async function drainRows(dir: string, { name, unit, sink, least }: Kind): Promise<readonly BenchRow[]> {
  const sinks = Array.from({ length: rounds }, (_, round) => ({ ...sink, name: `${name}-${round}` }));
  const drained = await child<Drained>("forward-child", [
    ...["drain", dir],
    JSON.stringify({ sinks, secondsMax: 120 }),
  ]);
  const each = (what: (round: Drained["rounds"][0]) => number): number => median(drained.rounds.map(what));
  const bytes = each((round) => round.bytes / round.records).toFixed(1);
  const cpu = each((round) => (round.cpu / round.records) * 1e6).toFixed(1);
  return [
    {
      name: `drain by ${name}`,
      value: each(({ records, seconds }) => records / seconds),
      unit: `${unit}/s`,
      budget: { min: least },
      note: `${each(({ records }) => records)} of them; ${bytes} bytes and ${cpu} us of CPU each`,
    },
    {
      name: `drain by ${name}, memory at most`,
      value: drained.peakBytes / MIB,
      unit: "MiB",
      note: `${(drained.restingBytes / MIB).toFixed(0)} MiB before`,
    },
  ];
}

type Beside = Record<"alone" | "busy", Record<"took" | "late" | "appends", readonly number[]>> & {
  readonly records: number;
  readonly seconds: number;
};

const quantile = (values: readonly number[], part: number): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length * part)] ?? Number.NaN;

async function besideRows(dir: string, url: string): Promise<readonly BenchRow[]> {
  const { metrics, loki } = sinksOf(url);
  const { alone, busy, records, seconds } = await child<Beside>("forward-child", [
    ...["beside", dir],
    JSON.stringify({ metrics, flows: loki, rounds: 200 }),
  ]);
  const row = (name: string, key: keyof Beside["busy"], budget?: BenchRow["budget"]): BenchRow => ({
    name: `${name} while two sinks drain, p99`,
    value: quantile(busy[key], 0.99),
    unit: "ms",
    ...(budget === undefined ? {} : { budget }),
    note: `${quantile(alone[key], 0.99).toFixed(1)} ms without; median ${median(busy[key]).toFixed(1)} ms`,
  });
  return [
    { ...row("scrape of 10,000 series", "took", { max: 50 }) },
    row("a tick's delay", "late"),
    {
      ...row("append", "appends"),
      name: `append while two sinks drain ${Math.round(records / seconds / 1000)} k/s, p99`,
    },
  ];
}

type Encoded = {
  readonly series: number;
  readonly bytes: number;
  readonly first: number;
  readonly warm: readonly number[];
  readonly unknown: readonly number[];
};

async function encodeRow(): Promise<BenchRow> {
  const { series, bytes, first, warm, unknown } = await child<Encoded>("forward-child", [
    ...["encode", ""],
    JSON.stringify({ series: 2000, rounds: 200 }),
  ]);
  return {
    name: `encode ${series} series for remote write`,
    value: median(warm),
    unit: "ms",
    budget: { max: 5 },
    note: `series not seen before ${median(unknown).toFixed(1)} ms, the first body ${first.toFixed(1)} ms; ${bytes} bytes`,
  };
}

type Steady = {
  readonly cpuShare: number;
  readonly resident: readonly number[];
  readonly series: number;
  readonly sent: readonly number[];
};

async function steady(sinks: readonly object[]): Promise<Steady> {
  const dir = mkdtempSync(join(tmpdir(), "fovea-bench-"));
  try {
    const options = { sinks, interfaces: 120, rate: 100, warmSeconds: 30, seconds: 90 };
    const measured = await child<Steady>("forward-steady-child", [dir, JSON.stringify(options)]);
    if (measured.sent.length < sinks.length || measured.sent.includes(0))
      throw new Error(`not every sink has sent: ${measured.sent.join(" ")}`);
    return measured;
  } finally {
    rmSync(dir, { recursive: true });
  }
}

async function steadyRows(url: string): Promise<readonly BenchRow[]> {
  const { metrics, loki } = sinksOf(url);
  const without = await steady([]);
  const both = await steady([
    { ...metrics, name: "metrics" },
    { ...loki, name: "flows" },
  ]);
  const percent = ({ cpuShare }: Steady): number => cpuShare * 100;
  const memory = ({ resident }: Steady): string => (median(resident) / MIB).toFixed(0);
  return [
    {
      name: "steady state with two sinks, CPU",
      value: percent(both),
      unit: "% of a core",
      budget: { max: 2 },
      note: `${both.series} series, 100 records/s; ${percent(without).toFixed(2)} % without sinks; ${memory(both)} MiB, without ${memory(without)}`,
    },
  ];
}

export async function forwardBench(): Promise<BenchRow[]> {
  const dir = mkdtempSync(join(tmpdir(), "fovea-bench-"));
  try {
    await using upstream = await startUpstream();
    const { metrics, loki, otlp } = sinksOf(upstream.url);
    const fill = { interfaces: 125, steps: 2400, rows: 600_000, ticks: 2 };
    await child<object>("forward-child", ["fill", dir, JSON.stringify(fill)]);
    const kinds: readonly Kind[] = [
      { name: "remote-write", unit: "samples", sink: metrics, least: 100_000 },
      { name: "loki", unit: "records", sink: loki, least: 30_000 },
      { name: "otlp", unit: "records", sink: otlp, least: 30_000 },
    ];
    const rows: BenchRow[] = [await encodeRow()];
    for (const kind of kinds) rows.push(...(await drainRows(dir, kind)));
    rows.push(...(await besideRows(dir, upstream.url)), ...(await steadyRows(upstream.url)));
    return rows;
  } finally {
    rmSync(dir, { recursive: true });
  }
}

if (import.meta.main) console.table(await forwardBench());
