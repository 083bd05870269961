// What samples cost: bytes in the file, time on the thread that takes and compacts them, time of a query.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createExposition } from "../../src/exposition.ts";
import type { MetricView } from "../../src/metrics-view.ts";
import { openReader } from "../../src/store/query.ts";
import { querySamples } from "../../src/store/sample-query.ts";
import { createSamples } from "../../src/store/samples.ts";
import { openDatabase } from "../../src/store/sqlite.ts";
import { openStore } from "../../src/store/store.ts";
import { openStrings } from "../../src/store/strings.ts";
import { createRecording, type Recording } from "../samples.recording.ts";
import type { BenchRow } from "./row.ts";

const mib = 2 ** 20;
/** Appends between two steps: a tick a second. */
const ticks = 15;

const quantile = (values: readonly number[], part: number): number =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))] ??
  Number.NaN;

type Recorded = {
  readonly dir: string;
  readonly endAt: number;
  readonly series: number;
  readonly samples: number;
  /** Milliseconds on the thread: a step taken; an append that wrote something of it. */
  readonly takes: readonly number[];
  readonly appends: readonly number[];
};

function record(dir: string, recording: Recording, steps: number): Recorded {
  const samples = createSamples({ ageMaxMs: 30 * 86_400_000, seriesMax: 50_000 });
  using store = openStore({ dir, bytesMax: 1024 * mib, ageMaxMs: 1e12, parts: [samples] });
  const takes: number[] = [];
  const appends: number[] = [];
  let endAt = 0;
  for (let number = 0; number < steps; number += 1) {
    const step = recording.step();
    endAt = step.at;
    takes.push(timed(() => samples.add(step)));
    for (let tick = 0; tick < ticks; tick += 1)
      appends.push(timed(() => store.append({ rows: [], at: step.at + tick * 1000 })));
  }
  const facts = samples.facts();
  if (facts.lost.length > 0 || Object.keys(store.stats().errors).length > 0)
    throw new Error(`samples are lost: ${JSON.stringify([facts, store.stats().errors])}`);
  return { dir, endAt, series: facts.series, samples: facts.samples, takes, appends };
}

function timed(work: () => void): number {
  const startMs = performance.now();
  work();
  return performance.now() - startMs;
}

function fileBytes(dir: string, names: string): number {
  const database = openDatabase({ path: join(dir, "fovea.db"), readonly: true });
  try {
    return Number(database.prepare(`SELECT sum(pgsize) FROM dbstat WHERE ${names}`).pluck().get());
  } finally {
    database.close();
  }
}

/** One series over a day, as a worker would ask. */
function queryTimes({ dir, endAt }: Recorded, rounds: number): number[] {
  const database = openDatabase({ path: join(dir, "fovea.db"), readonly: true });
  const strings = openStrings({ database, lastSeq: 0, oldestSeq: () => 0, stringsMax: 100 });
  const reader = openReader({ database, generation: 0, strings, lastSeq: () => 0, scanMax: 1000 });
  const labels = { InterfaceName: "eth0", Statistic: "rx_bytes" };
  const range = { fromAt: endAt - 86_400_000 + 1, toAt: endAt + 1 };
  try {
    return Array.from({ length: rounds }, () =>
      timed(() => {
        const { series } = querySamples(reader, { name: "kappie_interface_stats", labels, ...range });
        if (series[0]?.points.length !== 5760)
          throw new Error(`a day has ${series[0]?.points.length} points`);
      }),
    ).slice(Math.floor(rounds / 3));
  } finally {
    database.close();
  }
}

function inDirectory<Result>(run: (dir: string) => Result): Result {
  const dir = mkdtempSync(join(tmpdir(), "fovea-bench-"));
  try {
    return run(dir);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

function dayOfThree(): BenchRow[] {
  return inDirectory((dir) => {
    const day = record(dir, createRecording({ interfaces: 360 }), 5760 + 100);
    const chunks = fileBytes(dir, "name IN ('sample_chunks', 'sample_blocks')");
    const all = fileBytes(dir, "name GLOB 'sample_*' OR name GLOB '*series*'");
    const queries = queryTimes(day, 60);
    return [
      {
        name: "sample in the file, 3,000 series over a day",
        value: all / day.samples,
        unit: "bytes",
        budget: { max: 3 },
        note: `with series, indexes and the steps of the open block; chunks alone ${(chunks / day.samples).toFixed(2)}`,
      },
      {
        name: "step of 3,000 series taken",
        value: quantile(day.takes, 0.5),
        unit: "ms",
        budget: { max: 10 },
      },
      {
        name: "append with samples of 3,000 series, longest of 1,000",
        value: quantile(day.appends, 0.999),
        unit: "ms",
        budget: { max: 50 },
        note: `the longest of all ${Math.max(...day.appends).toFixed(1)} ms`,
      },
      {
        name: "query of one series over a day, among 3,000",
        value: quantile(queries, 0.5),
        unit: "ms",
        budget: { max: 20 },
        note: `95 of 100 within ${quantile(queries, 0.95).toFixed(1)} ms`,
      },
    ];
  });
}

function hourOfTwenty(): BenchRow[] {
  return inDirectory((dir) => {
    const hour = record(dir, createRecording({ interfaces: 2475 }), 260);
    return [
      {
        name: "append with samples of 20,000 series, longest of 1,000",
        value: quantile(hour.appends, 0.999),
        unit: "ms",
        budget: { max: 50 },
        note: `${hour.series} series; the longest of all ${Math.max(...hour.appends).toFixed(1)} ms`,
      },
    ];
  });
}

/** What the metric table of a node with 360 interfaces shows, read as a step. */
function seriesOfThree(): BenchRow {
  const names = [
    "rx_packets",
    "rx_bytes",
    "rx_errors",
    "rx_dropped",
    "tx_packets",
    "tx_bytes",
    "tx_errors",
    "tx_dropped",
  ];
  const interfaces = Array.from({ length: 375 }, (_, index) => ({
    interface: `veth${index}`,
    statistics: Object.fromEntries(names.map((name, place) => [name, index * place])),
  }));
  const view: MetricView = {
    nodeName: "node-1.example.org",
    cluster: "edge",
    node: { at: 1, state: { interfaces }, sections: {}, health: [] },
    build: { version: "0.1.0", commit: "abc", bun: Bun.version, os: "linux", arch: "x64" },
    process: { startedAt: 0, residentBytes: 1, cpuSeconds: 1 },
  };
  const exposition = createExposition({ names: ["kappie"], seriesMax: 20_000 });
  let series = 0;
  const times = Array.from({ length: 60 }, () =>
    timed(() => {
      series = exposition.series(view).length;
    }),
  );
  if (series < 3000) throw new Error(`the table shows ${series} series, not 3,000`);
  return {
    name: "series of a scrape of 3,000, read",
    value: quantile(times.slice(20), 0.5),
    unit: "ms",
    budget: { max: 5 },
  };
}

export async function samplesBench(): Promise<BenchRow[]> {
  return [seriesOfThree(), ...dayOfThree(), ...hourOfTwenty()];
}

if (import.meta.main) console.table(await samplesBench());
