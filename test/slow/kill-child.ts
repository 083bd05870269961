// A node under load that somebody kills: records of all fates, settings that change, readers that are told what is there.

import { writeSync } from "node:fs";
import { createAdmission } from "../../src/admission.ts";
import { createAppliance } from "../../src/appliance.ts";
import { configSchema } from "../../src/config-schema.ts";
import { createFilter } from "../../src/filter.ts";
import type { FlowRecord } from "../../src/flow.ts";
import { openHistory } from "../../src/history.ts";
import { createLog, writeStderr } from "../../src/log.ts";
import { createObserving } from "../../src/observing.ts";
import { createThrottle, type ThrottleSettings } from "../../src/throttle.ts";
import { flow } from "../store.flows.ts";

const [dir = "", seedText = "0", startText = "0"] = process.argv.slice(2);

// The same seed gives the same load (mulberry32).
let state = Number(seedText);
function random(below: number): number {
  state = (state + 0x6d2b79f5) | 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
}

// A tick is seconds of this clock, so that minutes end and are written while the process lives.
let at = Number(startText);
let elapsedMs = 0;
const now = () => at;

const settings = (): ThrottleSettings => ({
  enabled: random(4) > 0,
  mode: random(2) === 0 ? "window" : "smooth",
  rate: 1 + random(400),
  window: 1 + random(20),
  intervalMs: 1000,
  reserve: random(2) * 0.2,
  print: false,
});

const filters = [
  undefined,
  createFilter({ include: [], exclude: [{ verdict: ["dropped"] }] }),
  createFilter({ include: [{ protocol: ["udp"] }], exclude: [] }),
];

let number = 0;
let seen = 0;
let untracked = 0;

function collect() {
  const rows = Array.from({ length: random(400) }, (): FlowRecord => {
    number += 1;
    const made = flow(number, { startAt: at - random(30_000), endAt: at - random(12_000) });
    return random(200) === 0 ? { ...made, packets: -1 } : made;
  });
  seen += rows.length;
  untracked += random(3);
  const packets = {
    ...{ seen: seen + untracked, aggregated: seen, duplicate: 0 },
    untracked: [{ reason: "parse", packets: untracked }],
  };
  return { flows: rows, packets };
}

const log = createLog({ level: "error", format: "text", now, write: writeStderr });
const config = configSchema.parse({ dataDir: dir, store: { bytesMax: "4MiB" }, rollups: { keysMax: 50 } });
const history = await openHistory({
  ...{ config, log, now, runtimeDir: undefined },
  loadAddonLibraries: () => Promise.resolve(),
});
const throttle = createThrottle({ settings: settings(), elapsedMs: () => elapsedMs, now });
const admission = createAdmission({ throttle });
let samples = 0;
const appliance = createAppliance({
  observing: createObserving({
    backend: {
      collectors: [{ name: "load", collect }],
      [Symbol.asyncDispose]: () => Promise.resolve(),
    },
    namesMax: 10,
    now,
  }),
  stays: () => false,
  store: history.store,
  ...{ log: { ...log, error: () => undefined }, admission, throttle },
  outlets: {
    summaries: history.summaries.add,
    sample: () => {
      samples += 1;
      const series = Array.from({ length: 50 }, (_, index) => ({
        name: "load",
        labels: { series: String(index) },
        value: samples * index + random(10),
      }));
      history.samples.add({ at, series });
    },
    log: () => undefined,
  },
});

const { signal } = new AbortController();
for (;;) {
  const stepMs = 1000 * (1 + random(10));
  at += stepMs;
  elapsedMs += stepMs;
  if (random(5) === 0) throttle.apply(settings());
  if (random(5) === 0) admission.setFilter(filters[random(filters.length)]);
  await appliance.tick(signal);
  // What a reader was given, over the worker's own connection, must outlive the kill.
  const { flows } = await history.queries.flows({ order: "newest", limit: 1 });
  writeSync(1, `${flows[0]?.seq ?? 0} ${at}\n`);
}
