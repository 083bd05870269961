// The appliance at its ease, with sinks or without: some interfaces, some records a second. Prints one line of JSON.
// Arguments: data directory, options as JSON.

import { createRequestCounts } from "../../src/api/requests.ts";
import { assemble } from "../../src/assembly.ts";
import type { ConfigInput } from "../../src/config-schema.ts";
import type { FlowRecord } from "../../src/flow.ts";
import { createLog, writeStderr } from "../../src/log.ts";
import { loadSettings } from "../../src/settings.ts";
import type { Snapshot } from "../../src/snapshot.ts";
import { createThrottle } from "../../src/throttle.ts";
import { flow } from "../store.flows.ts";

type Options = {
  readonly sinks: NonNullable<ConfigInput["sinks"]>;
  readonly interfaces: number;
  /** Records a second. */
  readonly rate: number;
  readonly warmSeconds: number;
  readonly seconds: number;
};

const [dataDir = "", given = "{}"] = process.argv.slice(2);
const { sinks, interfaces, rate, warmSeconds, seconds } = JSON.parse(given) as Options;

const settings = loadSettings({
  env: {},
  overrides: { dataDir, listen: "127.0.0.1:0", node: "bench", cluster: "bench", sinks },
  starting: true,
});

const pool = Array.from({ length: 50_000 }, (_, index) => flow(index));
const statistics = ["packets", "bytes", "errors", "dropped"].flatMap((name) => [`rx_${name}`, `tx_${name}`]);
let next = 0;
let turn = 0;

function collect(): Snapshot & { readonly flows: readonly FlowRecord[] } {
  const endAt = Date.now();
  turn += 1;
  const flows = Array.from({ length: rate }, (): FlowRecord => {
    next = (next + 1) % pool.length;
    return { ...(pool[next] ?? flow(0)), startAt: endAt - 900, endAt };
  });
  const links = Array.from({ length: interfaces }, (_, index) => ({
    interface: `veth${index}`,
    statistics: Object.fromEntries(statistics.map((name, place) => [name, turn * (index + place * place)])),
  }));
  return { flows, interfaces: links };
}

const assembly = await assemble(settings, {
  build: { version: "bench", commit: "", bun: Bun.version, os: process.platform, arch: process.arch },
  log: createLog({ level: "warn", format: "text", now: Date.now, write: writeStderr }),
  now: Date.now,
  startedAt: Date.now(),
  counts: createRequestCounts(),
  throttle: createThrottle({
    settings: settings.throttle,
    elapsedMs: () => performance.now(),
    now: Date.now,
  }),
  openBackend: () =>
    Promise.resolve({
      collectors: [{ name: "load", collect }],
      [Symbol.asyncDispose]: () => Promise.resolve(),
    }),
  loadAddonLibraries: () => Promise.resolve(),
  configStatus: () => ({
    ...{ reloaded: 0, refused: 0, problems: [], warnings: [], rejected: [], rejectedTotal: {} },
    agentConfig: settings.agentConfig,
  }),
  runtimeDir: undefined,
});

const cpuSeconds = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

const stop = new AbortController();
const ran = assembly.run(stop.signal, () => {});
await Bun.sleep(warmSeconds * 1000);
const [cpuBefore, beforeMs] = [cpuSeconds(), performance.now()];
const resident: number[] = [];
for (let second = 0; second < seconds; second += 1) {
  await Bun.sleep(beforeMs + (second + 1) * 1000 - performance.now());
  resident.push(process.memoryUsage.rss());
}
const cpu = cpuSeconds() - cpuBefore;
const passed = (performance.now() - beforeMs) / 1000;
// Only now, as to tell of itself takes work too.
const scrape = await (await fetch(`${assembly.url}/metrics`)).text();
const series = scrape.split("\n").filter((line) => line !== "" && !line.startsWith("#")).length;
const sent = [...scrape.matchAll(/^fovea_upstream_sent_records_total\S* (\d+)/gm)].map(([, count]) =>
  Number(count),
);
stop.abort(new Error("measured"));
await ran;
console.log(JSON.stringify({ cpuShare: cpu / passed, resident, series, sent }));
await assembly[Symbol.asyncDispose]();
process.exit(0);
