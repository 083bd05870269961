// Runs the Linux backend in the namespace that it is started in. Reads commands from stdin, one a line: `tick` collects
// everything, `quit` drains and disposes; each is answered by one line of JSON.

import { readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type LinuxOptions, openLinuxBackend } from "../../bpf/backend.ts";
import type { Backend, Snapshot } from "../../src/snapshot.ts";
import type { Answer, ObserverOptions } from "./observer.ts";

function linuxOptions({ interfaces, flows, ...rest }: ObserverOptions): LinuxOptions {
  return {
    interfaces: {
      include: ["*"],
      exclude: [],
      loopback: false,
      uplinks: "auto",
      attach: "auto",
      ...interfaces,
    },
    // Each tick reports what it counted, and nothing falls idle before a test wants it.
    flows: {
      ...{ idleMs: 600_000, activeMs: 0, flowsMax: 131_072, tableBytes: 32 << 20, spillBytes: 4 << 20 },
      ...flows,
    },
    owner: "service",
    dropsMax: 16_384,
    dnsEnabled: true,
    sockets: { remotesMax: 100, namespacesMax: 4, everyMs: 600_000 },
    libraryDirectory: join(tmpdir(), `fovea-test-${process.pid}`),
    now: Date.now,
    ...rest,
  };
}

async function collect(backend: Backend): Promise<Answer> {
  const snapshots: Record<string, Snapshot> = {};
  const errors: Record<string, string> = {};
  const signal = new AbortController().signal;
  const startMs = performance.now();
  for (const collector of backend.collectors)
    try {
      snapshots[collector.name] = await collector.collect(signal);
    } catch (error) {
      errors[collector.name] = error instanceof Error ? error.message : String(error);
    }
  const durationMs = performance.now() - startMs;
  const files = readdirSync("/proc/self/fd").length;
  return { snapshots, errors, residentBytes: process.memoryUsage().rss, files, durationMs };
}

async function main(): Promise<void> {
  const backend = openLinuxBackend(linuxOptions(JSON.parse(process.argv[2] ?? "{}") as ObserverOptions));
  const say = (answer: unknown): void => console.log(JSON.stringify(answer));
  say(await collect(backend));
  for await (const line of console) {
    if (line === "tick") say(await collect(backend));
    else if (line === "gc") Bun.gc(true);
    else break;
  }
  say({ snapshots: { drain: backend.drain?.() ?? {} }, errors: {} });
  await backend[Symbol.asyncDispose]();
}

await main();
