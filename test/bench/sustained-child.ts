// The appliance under a load of records alone, for as long as asked.
// Arguments: data directory, records a second, seconds, address to listen on. Prints one line.

import { readFileSync } from "node:fs";
import { assembleLoad, createFlowLoad } from "./assembled.ts";

const [dataDir = "", rateText = "", secondsText = "", listen = "127.0.0.1:0"] = process.argv.slice(2);
const seconds = Number(secondsText);

type Use = { readonly cpuSeconds: number; readonly residentBytes: number; readonly writtenBytes: number };

function use(): Use {
  const { user, system } = process.cpuUsage();
  const written = /^write_bytes: (\d+)/m.exec(readFileSync("/proc/self/io", "utf8"))?.[1];
  return {
    cpuSeconds: (user + system) / 1e6,
    residentBytes: process.memoryUsage.rss(),
    writtenBytes: Number(written ?? Number.NaN),
  };
}

const load = createFlowLoad(Number(rateText));
const assembly = await assembleLoad({ dataDir, listen }, () => ({ flows: load() }));

const stop = new AbortController();
const uses: Use[] = [];
let ticks = 0;
await assembly.run(stop.signal, () => {
  ticks += 1;
  if (ticks % 10 === 0) uses.push(use());
  if (ticks >= seconds) stop.abort(new Error("measured"));
});
console.log(JSON.stringify(uses));
await assembly[Symbol.asyncDispose]();
process.exit(0);
