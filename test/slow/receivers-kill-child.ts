// A node with a backlog for a receiver in order alone: `fill` makes the backlog, `drain` sends it while live steps come.
// SIGTERM ends it once all is sent. Prints a line of JSON each 10 ms.

import { writeSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { configSchema } from "../../src/config-schema.ts";
import type { ForwardFacts } from "../../src/forward/facts.ts";
import { openForwarding } from "../../src/forwarding.ts";
import { openHistory } from "../../src/history.ts";
import { createLog } from "../../src/log.ts";
import { stepOf } from "./outage-load.ts";
import { external } from "./receivers-read.ts";

export type Line = { readonly newestAt: number; readonly facts: ForwardFacts };

const [mode = "", dir = "", toText = "0", stepsText = "0", seriesText = "0", liveText = "0", url = ""] =
  process.argv.slice(2);
const [to, steps, series, liveStepMs] = [toText, stepsText, seriesText, liveText].map(Number) as [
  number,
  number,
  number,
  number,
];
const stepMs = 15_000;

let clock = Date.now;
const now = () => clock();
// What is refused is counted; a line for each would be many.
const log = createLog({ level: "error", format: "text", now, write: () => undefined });
const { job, instance: node, cluster } = external;
const config = configSchema.parse({
  ...{ dataDir: dir, node, cluster },
  sinks: [
    {
      ...{ name: "plain", type: "remote-write", url: `${url}/api/v1/write`, proxy: "none" },
      ...{ externalLabels: { job }, schedule: { every: `${liveStepMs}ms` } },
    },
  ],
});

const open = () =>
  openHistory({
    ...{ config, log, now, runtimeDir: undefined },
    loadAddonLibraries: () => Promise.resolve(),
  });

async function fill(): Promise<void> {
  await using history = await open();
  for (let step = 0; step < steps; step += 1) {
    const at = to - (steps - step) * stepMs;
    clock = () => at;
    history.samples.add(stepOf(at, series));
    history.store.append({ rows: [], at });
  }
}

async function drain(): Promise<void> {
  await using history = await open();
  await using forwarder = openForwarding({ history, config: () => config, version: "1.2.3", log, now });
  await forwarder.apply(config.sinks);
  let ends = false;
  process.on("SIGTERM", () => {
    ends = true;
  });
  for (let newestAt = 0, dueAt = now(); ; await wait(10)) {
    if (now() >= dueAt) {
      dueAt += liveStepMs;
      if (!ends) {
        newestAt = now();
        history.samples.add(stepOf(newestAt, series));
      }
      history.store.append({ rows: [], at: now() });
      forwarder.ticked();
    }
    const facts = forwarder.facts()[0];
    if (facts === undefined) throw new Error("there is no sink");
    writeSync(1, `${JSON.stringify({ newestAt, facts } satisfies Line)}\n`);
    if (ends && facts.pending === 0) return;
  }
}

await (mode === "fill" ? fill() : drain());
