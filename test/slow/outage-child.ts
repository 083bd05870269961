// A node of the outage: `fill` gives it a past without an upstream, `drain` lets it forward while live data comes.

import { writeSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { configSchema } from "../../src/config-schema.ts";
import { openForwarding } from "../../src/forwarding.ts";
import { type History, openHistory } from "../../src/history.ts";
import { createLog, writeStderr } from "../../src/log.ts";
import { liveStepMs, rowsOf, stepMs, stepOf } from "./outage-load.ts";

const [mode = "", dir = "", fromText = "", toText = "", seriesText = "", rateText = "", url = ""] =
  process.argv.slice(2);
const [from, to, series, rate] = [fromText, toText, seriesText, rateText].map(Number) as [
  number,
  number,
  number,
  number,
];

let clock = Date.now;
const now = () => clock();
const log = createLog({ level: "error", format: "text", now, write: writeStderr });
const every = "500ms";
const config = configSchema.parse({
  dataDir: dir,
  store: { bytesMax: "4GiB", ageMax: "30d" },
  rollups: { keysMax: 10 },
  sinks: [
    {
      ...{ name: "metrics", type: "remote-write", url: `${url}/write`, receiver: "victoriametrics" },
      ...{ externalLabels: { job: "outage" }, schedule: { every } },
    },
    { name: "flows", type: "loki", url: `${url}/push`, schedule: { every } },
  ],
});

const open = () =>
  openHistory({
    ...{ config, log, now, runtimeDir: undefined },
    loadAddonLibraries: () => Promise.resolve(),
  });

function append(history: History, first: number, count: number, at: number): void {
  const rows = rowsOf(first, count, at);
  const { lost, invalid } = history.store.append({ rows, at, ledger: { "rows.offered": rows.length } });
  if (lost + invalid > 0) throw new Error(`${lost} rows lost, ${invalid} invalid`);
}

async function fill(): Promise<void> {
  await using history = await open();
  let first = 1;
  for (let at = from; at < to; at += stepMs) {
    clock = () => at;
    history.samples.add(stepOf(at, series));
    const count = (rate * stepMs) / 1000;
    append(history, first, count, at);
    first += count;
  }
}

async function drain(): Promise<void> {
  await using history = await open();
  await using forwarder = openForwarding({ history, config: () => config, version: "1.2.3", log, now });
  await forwarder.apply(config.sinks);
  process.on("SIGTERM", () => process.exit(0));
  let number = 1e9;
  for (let at = Math.ceil(now() / liveStepMs) * liveStepMs; ; at += liveStepMs) {
    await wait(Math.max(0, at - now()));
    history.samples.add(stepOf(at, series));
    append(history, number, (rate * liveStepMs) / 1000, now());
    number += rate;
    forwarder.ticked();
    writeSync(1, `${JSON.stringify(forwarder.facts())}\n`);
  }
}

await (mode === "fill" ? fill() : drain());
