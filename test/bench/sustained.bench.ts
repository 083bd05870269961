// The appliance under a steady load of records: CPU, resident memory, bytes written to the disk.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { median } from "./rounds.ts";
import type { BenchRow } from "./row.ts";

const MIB = 2 ** 20;
const script = join(import.meta.dir, "sustained-child.ts");

/** Every ten seconds, cumulative. */
type Use = { readonly cpuSeconds: number; readonly residentBytes: number; readonly writtenBytes: number };

function run(recordsSecond: number, seconds: number): readonly Use[] {
  const dir = mkdtempSync(join(tmpdir(), "fovea-bench-"));
  try {
    const command = [process.execPath, "--smol", script, dir, String(recordsSecond), String(seconds)];
    const done = Bun.spawnSync(command, { stderr: "inherit" });
    if (done.exitCode !== 0) throw new Error(`the appliance under load ended with ${done.exitCode}`);
    return JSON.parse(done.stdout.toString()) as Use[];
  } finally {
    rmSync(dir, { recursive: true });
  }
}

const used = (uses: readonly Use[], key: "cpuSeconds" | "writtenBytes"): number =>
  (uses.at(-1)?.[key] ?? Number.NaN) - (uses[0]?.[key] ?? Number.NaN);

export async function sustainedBench(): Promise<BenchRow[]> {
  const heavy = run(25_000, 300);
  const heavySeconds = (heavy.length - 1) * 10;
  const resident = heavy.map(({ residentBytes }) => residentBytes / MIB);
  const third = Math.floor(resident.length / 3);
  const edge = run(500, 180);
  const edgeSeconds = (edge.length - 1) * 10;
  return [
    {
      name: "25,000 records/s for 5 minutes, CPU",
      value: (used(heavy, "cpuSeconds") / heavySeconds) * 100,
      unit: "% of a core",
      budget: { max: 25 },
      note: "making up the records included",
    },
    {
      name: "resident memory, last third by middle third",
      value: median(resident.slice(-third)) / median(resident.slice(third, 2 * third)),
      unit: "ratio",
      budget: { max: 1.1 },
      note: `${resident.map((mib) => mib.toFixed(0)).join(" ")} MiB`,
    },
    {
      name: "500 records/s, CPU",
      value: (used(edge, "cpuSeconds") / edgeSeconds) * 100,
      unit: "% of a core",
    },
    {
      name: "500 records/s, written to disk an hour",
      value: (used(edge, "writtenBytes") / edgeSeconds / MIB) * 3600,
      unit: "MiB",
      note: `${((used(edge, "writtenBytes") / edgeSeconds / 500) | 0).toString()} bytes a record, samples included`,
    },
  ];
}

if (import.meta.main) console.table(await sustainedBench());
