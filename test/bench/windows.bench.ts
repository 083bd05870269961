// The Windows binary in wine: a tick over 250 endpoints, start and memory, beside the Linux binary doing the same.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bunExe, openWine, type Wine, windowsPath, wineLacks } from "../wine.rig.ts";
import { median } from "./rounds.ts";
import type { BenchRow } from "./row.ts";

const root = join(import.meta.dir, "../..");
const replay = join(root, "test/fixtures/replay/node.ndjson");
const MIB = 2 ** 20;
const STARTS = 3;
const START_MS_MAX = 60_000;
const SETTLE_MS = 5000;
const ports = { linux: 10_194, windows: 10_195 } as const;

async function tickRows(wine: Wine): Promise<readonly BenchRow[]> {
  const script = windowsPath(join(root, "test/bench/windows-child.ts"));
  const done = await wine.run([bunExe, script, "30"], { cwd: root, timeoutMs: 120_000 });
  if (done.exitCode !== 0) throw new Error(`the ticks ended with ${done.exitCode}: ${done.errors}`);
  const { endpoints, ours, calls } = JSON.parse(done.out) as {
    readonly endpoints: number;
    readonly ours: readonly number[];
    readonly calls: readonly number[];
  };
  return [
    {
      name: `a reading of ${endpoints} endpoints, outside the DLL`,
      value: median(ours),
      unit: "ms",
      budget: { max: 50 },
      note: `the first ${ours[0]?.toFixed(1)} ms; in the calls ${median(calls).toFixed(1)} ms with a stand-in of HNS`,
    },
  ];
}

type Started = { readonly startMs: number; readonly residentBytes: number };

/** Of a process of this machine; a program in wine is one. */
function residentBytes(pid: number): number {
  const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kib ?? Number.NaN) * 1024;
}

async function firstScrape(port: number, startMs: number): Promise<number> {
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${port}/metrics`).catch(() => undefined);
    if (answer?.ok === true && (await answer.text()).includes("kappie_")) return performance.now() - startMs;
    if (performance.now() - startMs > START_MS_MAX) throw new Error(`no scrape of port ${port}`);
    await Bun.sleep(2);
  }
}

type Program = { readonly pid: number; readonly exited: Promise<number>; stop(): void };

async function start(port: number, run: (args: readonly string[]) => Program, dataDir: string) {
  const startMs = performance.now();
  const listen = `127.0.0.1:${port}`;
  const flags = ["--data-dir", dataDir, "--listen", listen, "--replay-loop"];
  const program = run(["run", ...flags]);
  try {
    const tookMs = await firstScrape(port, startMs);
    await Bun.sleep(SETTLE_MS);
    return { startMs: tookMs, residentBytes: residentBytes(program.pid) };
  } finally {
    program.stop();
    await program.exited;
  }
}

function runLinux(args: readonly string[]): Program {
  const command = [join(root, "dist/fovea"), ...args, "--replay", replay];
  const child = Bun.spawn(command, { stdio: ["ignore", "ignore", "ignore"] });
  return { pid: child.pid, exited: child.exited, stop: () => child.kill("SIGTERM") };
}

const runWindows =
  (wine: Wine) =>
  (args: readonly string[]): Program => {
    const running = wine.start([join(root, "dist/fovea.exe"), ...args, "--replay", windowsPath(replay)]);
    return { pid: running.pid, exited: running.exited, stop: () => running.signal("SIGINT") };
  };

async function starts(wine: Wine): Promise<readonly BenchRow[]> {
  const scratch = mkdtempSync(join(tmpdir(), "fovea-bench-"));
  const measured: Record<keyof typeof ports, Started[]> = { linux: [], windows: [] };
  try {
    for (let round = 0; round < STARTS; round += 1) {
      const dir = join(scratch, `${round}`);
      measured.linux.push(await start(ports.linux, runLinux, `${dir}-linux`));
      measured.windows.push(await start(ports.windows, runWindows(wine), windowsPath(`${dir}-windows`)));
    }
  } finally {
    rmSync(scratch, { recursive: true });
  }
  const of = (name: keyof typeof ports, key: keyof Started): number =>
    median(measured[name].map((started) => started[key]));
  return [
    {
      name: "start to the first scrape, in wine",
      value: of("windows", "startMs"),
      unit: "ms",
      note: `${of("linux", "startMs").toFixed(0)} ms on Linux; both play the same recording`,
    },
    {
      name: "resident memory, in wine",
      value: of("windows", "residentBytes") / MIB,
      unit: "MiB",
      note: `${(of("linux", "residentBytes") / MIB).toFixed(0)} MiB on Linux; wine copies the program into memory`,
    },
  ];
}

export async function windowsBench(): Promise<BenchRow[]> {
  if (wineLacks.length > 0) throw new Error(`wine cannot run here: ${wineLacks.join(", ")} missing`);
  using wine = openWine();
  return [...(await tickRows(wine)), ...(await starts(wine))];
}

if (import.meta.main) console.table(await windowsBench());
