// kill -9 while a backlog goes to a Prometheus that takes nothing out of order: what is sent twice is refused, and is all.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { configSchema } from "../../src/config-schema.ts";
import { openHistory } from "../../src/history.ts";
import { createLog, writeStderr } from "../../src/log.ts";
import { sinkLaw } from "../../src/store/ledger.ts";
import { type Receiver, startReceiver } from "../receiver.rig.ts";
import type { Line } from "./receivers-kill-child.ts";
import { type Contents, countOf, differences, readPrometheus, readStore } from "./receivers-read.ts";

const dir = mkdtempSync(join(tmpdir(), "fovea-receivers-kill-"));
afterAll(() => rmSync(dir, { recursive: true }));

const [steps, series] = [160, 1000] as const;
const stepMs = 15_000;
const liveStepMs = 1000;
/** Samples of the backlog that were sent when each life but the last ends. */
const kills = [100, 30_000, 60_000, 90_000, 120_000] as const;
/** What one request holds: the one that was under way may be there without an acknowledgement. */
const bodyMax = 2000;
const to = Math.floor(Date.now() / stepMs) * stepMs;

const spawn = (mode: string, url: string) =>
  Bun.spawn(
    [
      ...[process.execPath, join(import.meta.dir, "receivers-kill-child.ts"), mode, dir],
      ...[to, steps, series, liveStepMs].map(String),
      url,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );

type End = "SIGKILL" | "SIGTERM" | undefined;

/** Ends with the first line that `end` gives a signal for; the last line. */
async function live(url: string, end: (line: Line) => End | Promise<End>): Promise<Line> {
  const child = spawn("drain", url);
  const giveUp = setTimeout(() => child.kill("SIGKILL"), 120_000);
  const decoder = new TextDecoder();
  let text = "";
  let last: Line | undefined;
  let ended = false;
  for await (const bytes of child.stdout) {
    const parts = (text + decoder.decode(bytes, { stream: true })).split("\n");
    text = parts.pop() ?? "";
    last = parts.length === 0 ? last : (JSON.parse(parts.at(-1) ?? "") as Line);
    const signal: End = ended || last === undefined ? undefined : await end(last);
    ended ||= signal !== undefined;
    if (signal !== undefined) child.kill(signal);
  }
  clearTimeout(giveUp);
  await child.exited;
  if (last === undefined || !ended) throw new Error(`it did not come so far: ${JSON.stringify(last)}`);
  return last;
}

const sentOf = ({
  facts: {
    counts: { sent = 0 },
  },
}: Line): number => sent;

const freshMin = 10;

/** Goes on until the receiver had all live steps but the newest two, that many times. */
async function caughtUp(receiver: Receiver): Promise<Line> {
  const steps: number[] = [];
  let fresh = 0;
  return live(receiver.url, async ({ newestAt, facts }) => {
    if (steps.at(-1) === newestAt || newestAt === 0) return undefined;
    steps.push(newestAt);
    const wantedAt = steps.at(-3);
    if (facts.phase !== "live" || wantedAt === undefined) return undefined;
    const [found] = await receiver.query('fovea_outage{series="999"}[10m]', Date.now());
    const arrivedAt = found?.points.at(-1)?.[0] ?? 0;
    fresh += arrivedAt >= wantedAt ? 1 : 0;
    return fresh < freshMin ? undefined : "SIGTERM";
  });
}

async function stored(): Promise<Contents> {
  const log = createLog({ level: "error", format: "text", now: Date.now, write: writeStderr });
  await using history = await openHistory({
    ...{ config: configSchema.parse({ dataDir: dir }), log, now: Date.now, runtimeDir: undefined },
    loadAddonLibraries: () => Promise.resolve(),
  });
  return await readStore(history.queries, to - steps * stepMs, Date.now() + 1);
}

test("a Prometheus in order alone has everything after five kills, and what is live at once", async () => {
  expect(await spawn("fill", "http://127.0.0.1:9").exited).toBe(0);
  await using receiver = await startReceiver("prometheus");
  for (const sent of kills)
    await live(receiver.url, (line) => (sentOf(line) >= sent ? "SIGKILL" : undefined));
  const line = await caughtUp(receiver);
  const store = await stored();
  const found = await readPrometheus(receiver.url, to - steps * stepMs, Date.now() + 1);
  const { pending, counts, retries } = line.facts;
  const { sent, "rejected.too_old": refused = 0, ...others } = counts;
  console.log(`${countOf(store)} samples, ${refused} of them refused as it had them`);
  expect(store.size).toBe(series);
  // Nothing is missing, so whatever was refused is what it had.
  expect(differences(store, found)).toEqual([]);
  expect({ sent, others }).toEqual({ sent: countOf(store) - refused, others: {} });
  expect(refused).toBeLessThanOrEqual(kills.length * bodyMax);
  expect({ pending, retries }).toEqual({ pending: 0, retries: {} });
  expect(sinkLaw(line.facts)).toMatchObject({ holds: true });
}, 300_000);
