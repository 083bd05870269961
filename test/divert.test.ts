// Records that are too old for one sink go to another, through the real store: each to one of the two, none to both.

import { afterAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { configSchema } from "../src/config-schema.ts";
import { openForwarding } from "../src/forwarding.ts";
import { openHistory } from "../src/history.ts";
import { createLog } from "../src/log.ts";
import { sinkLaw } from "../src/store/ledger.ts";
import { readSamples } from "./slow/outage-upstream.ts";
import { flows } from "./store.flows.ts";

const root = mkdtempSync(join(tmpdir(), "fovea-divert-"));
afterAll(() => rmSync(root, { recursive: true }));

const stepMs = 15_000;
const steps = 240;
const series = 20;

function startReceiver() {
  const seen: string[] = [];
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      readSamples(new Uint8Array(await request.arrayBuffer()), ({ series: number, at }) => {
        seen.push(`${number} ${at}`);
      });
      return new Response(null, { status: 204 });
    },
  });
  return { url: `http://127.0.0.1:${server.port}/write`, seen, [Symbol.dispose]: () => server.stop(true) };
}

/** Series and times of all samples in the files. */
const filed = (directory: string): string[] =>
  readdirSync(directory)
    .filter((name) => name.startsWith("metrics-") && !name.endsWith(".sha256"))
    .flatMap((name) => readFileSync(join(directory, name), "utf8").split("\n"))
    .flatMap((line) => {
      const [, number, at] = /series="(\d+)"\} \S+ ([\d.]+)$/.exec(line) ?? [];
      return at === undefined ? [] : [`${number} ${Math.round(Number(at) * 1000)}`];
    });

test("what is older than 20 minutes goes to the files, the rest to the receiver that takes no older", async () => {
  using receiver = startReceiver();
  const directory = join(root, "disk");
  mkdirSync(directory);
  const last = Math.floor(Date.now() / stepMs) * stepMs;
  let at = 0;
  const now = () => at;
  const config = configSchema.parse({
    dataDir: join(root, "data"),
    sinks: [
      {
        ...{ name: "live", type: "remote-write", receiver: "azure", url: receiver.url, divertTo: "old" },
        schedule: { every: "100ms" },
      },
      { name: "old", type: "file", directory, signals: ["metrics", "flows"], compress: false },
    ],
  });
  const log = createLog({ level: "error", format: "text", now, write: (line) => expect(line).toBe("") });
  await using history = await openHistory({
    ...{ config, log, now, runtimeDir: undefined },
    loadAddonLibraries: () => Promise.resolve(),
  });
  for (let step = steps - 1; step >= 0; step -= 1) {
    at = last - step * stepMs;
    const all = Array.from({ length: series }, (_, number) => ({
      ...{ name: "load", labels: { series: String(number) }, value: number + step },
    }));
    history.samples.add({ at, series: all });
    history.store.append({ rows: flows(1, step), at, ledger: { "rows.offered": 1 } });
  }
  const open = openForwarding({ history, config: () => config, version: "1", log, now });
  {
    await using forwarder = open;
    await forwarder.apply(config.sinks);
    const pending = () => forwarder.facts().filter(({ offered, pending: left }) => left > 0 || offered === 0);
    while (pending().length > 0) {
      history.store.append({ rows: [], at });
      forwarder.ticked();
      await Bun.sleep(20);
    }
    const facts = forwarder.facts();
    expect(facts.map(sinkLaw).filter(({ holds }) => !holds)).toEqual([]);
    const [live, oldMetrics, oldFlows] = facts;
    const kept = 81 * series; // Steps of the last 20 minutes, the one that is just as old among them.
    expect(live).toMatchObject({
      offered: steps * series,
      counts: { sent: kept, diverted: (steps - 81) * series },
    });
    expect(oldMetrics).toMatchObject({
      offered: (steps - 81) * series,
      counts: { sent: (steps - 81) * series },
    });
    // Nobody diverts flows to it: of those it gets all.
    expect(oldFlows).toMatchObject({ signal: "flows", offered: steps, counts: { sent: steps } });
  }
  const sorted = (texts: readonly string[]) => texts.toSorted((a, b) => (a < b ? -1 : 1));
  const wanted = (from: number, to: number) =>
    sorted(
      Array.from({ length: steps }, (_, step) => last - step * stepMs)
        .filter((time) => time >= from && time < to)
        .flatMap((time) => Array.from({ length: series }, (_, number) => `${number} ${time}`)),
    );
  expect(sorted(receiver.seen)).toEqual(wanted(last - 20 * 60_000, last + 1));
  expect(sorted(filed(directory))).toEqual(wanted(0, last - 20 * 60_000));
});
