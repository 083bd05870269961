// The appliance at its ease, with sinks or without: some interfaces, some records a second. Prints one line of JSON.
// Arguments: data directory, options as JSON.

import type { ConfigInput } from "../../src/config-schema.ts";
import type { Snapshot } from "../../src/snapshot.ts";
import { assembleLoad, createFlowLoad } from "./assembled.ts";

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

const statistics = ["packets", "bytes", "errors", "dropped"].flatMap((name) => [`rx_${name}`, `tx_${name}`]);
const load = createFlowLoad(rate);
let turn = 0;

function collect(): Snapshot {
  turn += 1;
  const links = Array.from({ length: interfaces }, (_, index) => ({
    interface: `veth${index}`,
    statistics: Object.fromEntries(statistics.map((name, place) => [name, turn * (index + place * place)])),
  }));
  return { flows: load(), interfaces: links };
}

const assembly = await assembleLoad({ dataDir, listen: "127.0.0.1:0", sinks }, collect);

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
