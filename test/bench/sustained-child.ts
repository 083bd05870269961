// The appliance without a kernel: its parts as the binary puts them together, under records that a collector makes up.
// Arguments: data directory, records a second, seconds, address to listen on. Prints one line.

import { readFileSync } from "node:fs";
import { createRequestCounts } from "../../src/api/requests.ts";
import { assemble } from "../../src/assembly.ts";
import type { FlowRecord } from "../../src/flow.ts";
import { createLog, writeStderr } from "../../src/log.ts";
import { loadSettings } from "../../src/settings.ts";
import { createThrottle } from "../../src/throttle.ts";
import { flow } from "../store.flows.ts";

const [dataDir = "", rateText = "", secondsText = "", listen = "127.0.0.1:0"] = process.argv.slice(2);
const rate = Number(rateText);
const seconds = Number(secondsText);

const settings = loadSettings({
  env: {},
  overrides: { dataDir, listen, node: "bench", cluster: "bench" },
  starting: true,
});

// A pool of flows that come again and again, as flows do; times are those of the tick.
const pool = Array.from({ length: 50_000 }, (_, index) => flow(index));
let next = 0;

function collect(): { readonly flows: readonly FlowRecord[] } {
  const endAt = Date.now();
  const flows = Array.from({ length: rate }, (): FlowRecord => {
    next = (next + 1) % pool.length;
    return { ...(pool[next] ?? flow(0)), startAt: endAt - 900, endAt };
  });
  return { flows };
}

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

const assembly = await assemble(settings, {
  build: { version: "bench", commit: "", bun: Bun.version, os: process.platform, arch: process.arch },
  log: createLog({ level: "error", format: "text", now: Date.now, write: writeStderr }),
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
