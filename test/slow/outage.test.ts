// A day without an upstream, then one: all that was kept arrives, in order, beside live data, whatever is killed.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ForwardFacts } from "../../src/forward/facts.ts";
import { sinkLaw } from "../../src/store/ledger.ts";
import { stepMs } from "./outage-load.ts";
import { startUpstream } from "./outage-upstream.ts";

const dir = mkdtempSync(join(tmpdir(), "fovea-outage-"));
afterAll(() => rmSync(dir, { recursive: true }));

const hours = 24;
const series = 1000;
/** All of the rows take five minutes to send: the usual run has a tenth of them. */
const rate = process.env["FOVEA_OUTAGE"] === "full" ? 100 : 10;
const kills = 10;
const steps = (hours * 3_600_000) / stepMs;
const rows = (steps * rate * stepMs) / 1000;

const script = join(import.meta.dir, "outage-child.ts");
const to = Math.floor(Date.now() / stepMs) * stepMs;
const from = to - steps * stepMs;

async function fill(): Promise<void> {
  const words = ["fill", dir, from, to, series, rate].map(String);
  const child = Bun.spawn([process.execPath, script, ...words, "http://127.0.0.1:9"], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  expect(await child.exited).toBe(0);
}

type Upstream = ReturnType<typeof startUpstream>;
type Life = { readonly facts: readonly ForwardFacts[]; readonly lagMaxMs: number };

/** Forwards until `done` says so; then it is killed, or told to stop. */
async function live(
  upstream: Upstream,
  end: "SIGKILL" | "SIGTERM",
  done: (facts: readonly ForwardFacts[]) => boolean,
): Promise<Life> {
  const words = ["drain", dir, from, to, series, rate].map(String);
  const child = Bun.spawn([process.execPath, script, ...words, upstream.url], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const decoder = new TextDecoder();
  let text = "";
  let facts: readonly ForwardFacts[] = [];
  let lagMaxMs = 0;
  let lines = 0;
  for await (const bytes of child.stdout) {
    const parts = (text + decoder.decode(bytes, { stream: true })).split("\n");
    text = parts.pop() ?? "";
    for (const line of parts) facts = JSON.parse(line);
    lines += parts.length;
    // The first steps after a start wait for the first answer.
    if (lines > 3) lagMaxMs = Math.max(lagMaxMs, Date.now() - upstream.live.newestAt);
    if (!child.killed && done(facts)) child.kill(end);
  }
  await child.exited;
  return { facts, lagMaxMs };
}

const arrived = ({ samples, flows }: Upstream): number => samples.distinct + flows.distinct;

test("a day of history arrives whole and in order while live data stays fresh, through ten kills", async () => {
  await fill();
  const upstream = startUpstream({ from, steps, stepMs, series, rows });
  const all = steps * series + rows;
  const lags: number[] = [];
  const startedAt = performance.now();
  for (let kill = 1; kill <= kills; kill += 1) {
    const { lagMaxMs } = await live(
      upstream,
      "SIGKILL",
      () => arrived(upstream) >= (all * kill) / (kills + 2),
    );
    lags.push(lagMaxMs);
  }
  const { facts, lagMaxMs } = await live(
    upstream,
    "SIGTERM",
    (now) => arrived(upstream) === all && now.every(({ lanes }) => lanes.backlog === 0),
  );
  lags.push(lagMaxMs);
  const seconds = (performance.now() - startedAt) / 1000;
  await upstream.stop();
  console.log(
    `${all} records in ${seconds.toFixed(1)} s with ${kills} kills, ${upstream.samples.again + upstream.flows.again} of them twice; ` +
      `live lag at most ${Math.max(...lags)} ms`,
  );
  expect(upstream.faults).toEqual([]);
  expect(upstream.samples.distinct).toBe(steps * series);
  expect(upstream.flows.distinct).toBe(rows);
  expect(Math.max(...lags)).toBeLessThan(2 * stepMs);
  expect(upstream.live.samples).toBeGreaterThan(0);
  expect(upstream.live.rows).toBeGreaterThan(0);
  expect(facts.map(sinkLaw).filter(({ holds }) => !holds)).toEqual([]);
  for (const { counts } of facts) expect(Object.keys(counts).filter((name) => name !== "sent")).toEqual([]);
}, 900_000);
