// The benchmark: one table, each figure beside its budget. `npm run bench -- [section ...]` runs some of it.
// It ends with 0 when everything could be measured: figures depend on the machine, and the table says on which.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { cpus, loadavg, release, tmpdir } from "node:os";
import { join } from "node:path";
import { sectionText, summary } from "./report.ts";
import type { BenchRow } from "./row.ts";

type Section = { readonly name: string; readonly run: () => Promise<readonly BenchRow[]> };

/** What a section measures is loaded when it runs: one that is broken takes no other down. */
const sections: readonly Section[] = [
  { name: "datapath", run: async () => (await import("./datapath.bench.ts")).datapathBench() },
  { name: "drops", run: async () => (await import("./drops.bench.ts")).dropsBench() },
  { name: "rtt", run: async () => (await import("./rtt.bench.ts")).rttBench() },
  { name: "live", run: async () => (await import("./live.bench.ts")).liveBench() },
  { name: "read", run: async () => (await import("./read.bench.ts")).readBench() },
  { name: "totals", run: async () => (await import("./totals.bench.ts")).totalsBench() },
  { name: "throttle", run: async () => (await import("./throttle.bench.ts")).throttleBench() },
  { name: "store", run: async () => (await import("./store.bench.ts")).storeBench() },
  { name: "queries", run: async () => (await import("./queries.bench.ts")).queriesBench() },
  { name: "rollups", run: async () => (await import("./rollups.bench.ts")).rollupsBench() },
  { name: "samples", run: async () => (await import("./samples.bench.ts")).samplesBench() },
  { name: "scrape", run: async () => (await import("./scrape.bench.ts")).scrapeBench() },
  { name: "forward", run: async () => (await import("./forward.bench.ts")).forwardBench() },
  { name: "sustained", run: async () => (await import("./sustained.bench.ts")).sustainedBench() },
  { name: "appliance", run: async () => (await import("./appliance.bench.ts")).applianceBench() },
  { name: "windows", run: async () => (await import("./windows.bench.ts")).windowsBench() },
];

function chosen(names: readonly string[]): readonly Section[] {
  for (const name of names)
    if (!sections.some((section) => section.name === name))
      throw new Error(`no section ${name}; there are: ${sections.map((section) => section.name).join(" ")}`);
  return sections.filter(({ name }) => names.length === 0 || names.includes(name));
}

function machine(): string {
  const [first] = cpus();
  const kib = Number(/MemTotal:\s+(\d+)/.exec(readFileSync("/proc/meminfo", "utf8"))?.[1] ?? 0);
  const cores = `${cpus().length} x ${first?.model ?? "unknown CPU"}`;
  return `${cores}, ${Math.round(kib / 2 ** 20)} GiB, Linux ${release()}, Bun ${Bun.version}`;
}

const load = (): string => `load ${loadavg()[0]?.toFixed(2) ?? "unknown"}`;

async function measure(some: readonly Section[]): Promise<number> {
  console.log(`${machine()}, ${load()}`);
  const all: BenchRow[] = [];
  let failed = 0;
  for (const { name, run } of some) {
    const startMs = performance.now();
    try {
      const rows = await run();
      const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
      console.log(sectionText(name, `${seconds} s, ${load()}`, rows));
      all.push(...rows);
    } catch (error) {
      failed++;
      console.log(sectionText(name, `not measured: ${error instanceof Error ? error.message : error}`, []));
    }
  }
  console.log(summary(all));
  return failed === 0 ? 0 : 1;
}

const ip = (...words: string[]): string => Bun.spawnSync(["ip", ...words]).stdout.toString();

/** Ends what runs in the namespaces that a process has made, which bear its number, and removes them. */
function removeNamespacesOf(pid: number): void {
  const names = ip("netns", "list")
    .split("\n")
    .map((line) => line.split(" ")[0] ?? "");
  for (const name of names.filter((name) => name.startsWith("fovea-") && name.includes(`-${pid}-`))) {
    for (const inside of ip("netns", "pids", name).split("\n")) {
      if (inside === "") continue;
      try {
        process.kill(Number(inside), "SIGKILL");
      } catch {
        // It has ended meanwhile.
      }
    }
    ip("netns", "delete", name);
  }
}

const MEASURE = "--measure";

/** Measures in a process of its own, so that however that ends, nothing of it stays behind. */
async function supervise(names: readonly string[]): Promise<number> {
  const scratch = mkdtempSync(join(tmpdir(), "fovea-bench-"));
  const child = Bun.spawn([process.execPath, import.meta.path, MEASURE, ...names], {
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, TMPDIR: scratch },
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.on(signal, () => void child.kill("SIGTERM"));
  const code = await child.exited;
  removeNamespacesOf(child.pid);
  rmSync(scratch, { recursive: true, force: true });
  return code;
}

async function main(words: readonly string[]): Promise<number> {
  const names = words.filter((word) => word !== MEASURE);
  const some = chosen(names);
  if (process.getuid?.() !== 0) throw new Error("the benchmark loads eBPF: run it as root");
  return words.includes(MEASURE) ? await measure(some) : await supervise(names);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
