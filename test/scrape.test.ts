// The whole scrape as one text under review: a recording goes through node, metrics and exposition.
// `FOVEA_UPDATE_GOLDEN=1 bun test test/scrape.test.ts` writes what it is now.

import { expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createExposition } from "../src/exposition.ts";
import { createDnsNames } from "../src/identity/dns.ts";
import type { MetricView } from "../src/metrics-view.ts";
import { createNode } from "../src/node.ts";
import { openReplay } from "../src/replay.ts";
import { scrapeBench } from "./bench/scrape.bench.ts";
import { endpointState } from "./endpoint.state.ts";
import { fileFacts, forwardFacts } from "./forward.facts.ts";

const golden = join(import.meta.dir, "scrape.golden");
const recording = join(import.meta.dir, "fixtures/replay/node.ndjson");
const at = Date.UTC(2026, 0, 2, 3, 4, 5);

/** Every part of the view is there, and nothing depends on this machine. */
async function recordedView(): Promise<MetricView> {
  const now = () => at;
  const names = createDnsNames({ namesMax: 16_384 });
  const node = createNode({ names, now, elapsedMs: () => 0 });
  await using replay = openReplay({ file: recording, loop: false, now });
  let rows = 0;
  const signal = new AbortController().signal;
  for (let tick = 0; tick < 12; tick += 1)
    rows += (await node.observe(replay.collectors, signal)).flows.length;
  return {
    nodeName: "node-1",
    cluster: "edge",
    node: { ...node.model(), state: { ...node.model().state, ...endpointState } },
    build: { version: "0.1.0", commit: "0123456", bun: "1.4.5", os: "linux", arch: "x64" },
    process: { startedAt: at - 12_000, residentBytes: 104_857_600, cpuSeconds: 1.25 },
    names: names.facts(),
    loop: { ticks: 12, skipped: 1, lastTickSeconds: 0.0125 },
    log: { suppressed: 3, lost: 0 },
    store: {
      rows,
      bytes: 4_194_304,
      bytesMax: 1_073_741_824,
      oldestAt: at - 12_000,
      newestAt: at,
      writeTimes: { bounds: [0.001, 0.1], counts: [3, 12], sum: 0.25, count: 12 },
      checkpoints: { count: 2, seconds: 0.125 },
      recovered: 1,
      errors: [{ code: "SQLITE_FULL", count: 1 }],
    },
    ledger: {
      "rows.offered": rows + 9,
      "rows.kept": rows,
      "rows.filtered.interface": 2,
      "rows.throttled.window": 3,
      "rows.invalid.time": 1,
      "rows.lost.disk_full": 3,
      "rows.evicted.size": 5,
    },
    throttle: {
      ...{
        enabled: true,
        mode: "window",
        rate: 5000,
        window: 300,
        intervalMs: 1000,
        reserve: 0.2,
        print: false,
      },
      ...{ limit: 1_500_000, rateNow: 12.5, windowUse: 0.0025, reserveUse: 0, active: true, interval: 77 },
    },
    rollups: {
      ...{
        offered: 900,
        written: 700,
        lost: 10,
        pending: 190,
        pendingKeys: 90,
        pendingMinutes: 2,
        folded: 4,
      },
      ...{ minuteRows: 5000, hourRows: 800, oldestMinuteAt: at - 3_600_000, oldestHourAt: at - 7_200_000 },
    },
    samples: {
      ...{
        series: 400,
        seriesMax: 20_000,
        pendingSteps: 0,
        samples: 48_000,
        bytes: 96_000,
        oldestAt: at - 1_800_000,
      },
      lost: [{ reason: "series_limit", samples: 3 }],
      evicted: [{ reason: "size", samples: 40 }],
    },
    queries: {
      ...{
        running: true,
        waiting: 0,
        answered: 30,
        failed: 1,
        refused: 2,
        seconds: 0.5,
        started: 2,
        crashed: 1,
      },
    },
    streams: { open: 2, max: 16, served: 5, refused: 1, cutOff: 1, rowsUnsent: 1234 },
    flowLog: {
      ...{ lines: 600, bytes: 400_000, failing: false, files: 2, rotations: 3, compressed: 3, failures: 0 },
      removed: { count: 1, age: 0 },
      lost: { disk_full: 2, read_only: 0, busy: 0, error: 0, invalid: 0 },
    },
    evictedSent: { size: 2 },
    upstream: {
      now: at,
      sinks: [...forwardFacts(at), fileFacts(at), { ...fileFacts(at), signal: "metrics" }],
      deadLettersEvicted: 3,
    },
    disk: { freeBytes: 5_368_709_120, bytes: 10_737_418_240 },
    http: {
      requests: [
        { route: "/metrics", method: "GET", code: "200", count: 7 },
        { route: "other", method: "GET", code: "404", count: 1 },
      ],
      connections: 1,
      refused: 0,
    },
    config: {
      reloaded: 1,
      refused: 1,
      lastRefused: true,
      rejected: { throttle_rate: 1, throttle_window: 0 },
    },
  };
}

async function scrape(accept?: string): Promise<string> {
  const exposition = createExposition({
    names: ["kappie", "networkobservability", "fluentbit"],
    seriesMax: 20_000,
  });
  const { body } = await exposition.render(await recordedView(), accept);
  expect([...exposition.failures()]).toEqual([]);
  return body;
}

test("the scrape of the recording is the one under review", async () => {
  const body = await scrape();
  if (process.env["FOVEA_UPDATE_GOLDEN"] === "1") writeFileSync(golden, body);
  expect(body).toBe(readFileSync(golden, "utf8"));
});

test("the review has every family", async () => {
  const { metricTable } = await import("../src/metrics.ts");
  const text = readFileSync(golden, "utf8");
  const missing = metricTable(["kappie", "networkobservability"]).filter(
    ({ name }) => !text.includes(`# TYPE ${name} `),
  );
  expect(missing.map(({ name }) => name)).toEqual([]);
});

test("OpenMetrics has the same series and ends as it must", async () => {
  const series = (body: string) => body.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  const open = await scrape("application/openmetrics-text");
  expect(series(open)).toEqual(series(await scrape()));
  expect(open.endsWith("\n# EOF\n")).toBe(true);
});

test("promtool has nothing to say of what is ours", async () => {
  const promtool = Bun.which("promtool");
  if (promtool === null)
    throw new Error("promtool is missing: install the package prometheus (Debian, Ubuntu); npm test does it");
  expect(existsSync(golden)).toBe(true);
  const child = Bun.spawn([promtool, "check", "metrics"], {
    stdin: Bun.file(golden),
    stdout: "pipe",
    stderr: "pipe",
  });
  const said = (await new Response(child.stdout).text()) + (await new Response(child.stderr).text());
  await child.exited;
  const lines = said.split("\n").filter((line) => line !== "");
  expect(lines.filter((line) => !/^(kappie|networkobservability)_/.test(line))).toEqual([]);
  // Names of others, kept to the letter, do not please it: that it says so shows that it has read all.
  expect(lines.some((line) => line.startsWith("kappie_forward_count "))).toBe(true);
});

test("10,000 series are printed, in both formats", async () => {
  for (const { unit, value, budget } of await scrapeBench({ rounds: 1 })) {
    expect([unit, budget?.max]).toEqual(["ms", 30]);
    expect(value).toBeGreaterThan(0);
  }
});
