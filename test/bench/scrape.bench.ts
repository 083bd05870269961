// How long a scrape of 10,000 series takes: reading the rows, printing both formats.

import { createExposition } from "../../src/exposition.ts";
import type { MetricView } from "../../src/metrics-view.ts";
import type { BenchRow } from "./row.ts";

const seriesWanted = 10_000;

/** A node with as many remotes and interfaces as make 10,000 series. */
export function bigView(): MetricView {
  const remotes = Array.from({ length: 2000 }, (_, index) => ({
    address: `2001:db8::${index.toString(16)}`,
    port: 1024 + index,
    connections: index,
  }));
  const statistics = Object.fromEntries(
    Array.from({ length: 16 }, (_, index) => [`rx_queue_${index}_packets`, index]),
  );
  const interfaces = Array.from({ length: 500 }, (_, index) => ({ interface: `veth${index}`, statistics }));
  return {
    nodeName: "node-1.example.org",
    cluster: "edge",
    node: {
      at: 1,
      state: { tcpSockets: { states: {}, remotes, remotesOther: 7 }, interfaces },
      sections: {},
      health: [],
    },
    build: { version: "0.1.0", commit: "abc", bun: Bun.version, os: "linux", arch: "x64" },
    process: { startedAt: 0, residentBytes: 1, cpuSeconds: 1 },
  };
}

const quantile = (sorted: readonly number[], part: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;

type Options = { readonly accept: string; readonly rounds: number; readonly fresh: boolean };

/** `fresh`: each scrape is the first, so that no series was printed before. */
async function times({
  accept,
  rounds,
  fresh,
}: Options): Promise<{ readonly sorted: number[]; readonly bytes: number }> {
  const view = bigView();
  const open = () => createExposition({ names: ["kappie"], seriesMax: 20_000 });
  const known = open();
  // The compiler of the engine has seen the code by then, as in a process that has been scraped for a while.
  const warmUp = Math.floor(rounds / 3);
  const took: number[] = [];
  let bytes = 0;
  for (let round = 0; round < warmUp + rounds; round += 1) {
    const exposition = fresh ? open() : known;
    const startMs = performance.now();
    const { body } = await exposition.render(view, accept);
    if (round >= warmUp) took.push(performance.now() - startMs);
    bytes = body.length;
    const series = body.split("\n").filter((line) => line !== "" && !line.startsWith("#")).length;
    if (series < seriesWanted) throw new Error(`the scrape has ${series} series, not ${seriesWanted}`);
  }
  return { sorted: took.sort((a, b) => a - b), bytes };
}

async function row(name: string, options: Options): Promise<BenchRow> {
  const { sorted, bytes } = await times(options);
  const note = `${(bytes / 1e6).toFixed(2)} MB; 95 of 100 within ${quantile(sorted, 0.95).toFixed(1)} ms`;
  return { name, value: quantile(sorted, 0.5), unit: "ms", budget: { max: 30 }, note };
}

export async function scrapeBench({ rounds = 60 } = {}): Promise<BenchRow[]> {
  const text = "text/plain";
  const open = "application/openmetrics-text";
  return [
    await row("scrape of 10,000 series, text", { accept: text, rounds, fresh: false }),
    await row("scrape of 10,000 series, OpenMetrics", { accept: open, rounds, fresh: false }),
    await row("scrape of 10,000 series, all of them new", { accept: text, rounds, fresh: true }),
  ];
}
