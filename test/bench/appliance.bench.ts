// The built binary in a namespace of its own: how fast it starts, what it holds, what it takes while nothing happens.

import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeNamespace, type TestNamespace } from "../kernel/proc-namespace.ts";
import { compiledProgram } from "./kernel.ts";
import { median } from "./rounds.ts";
import type { BenchRow } from "./row.ts";

const binary = join(import.meta.dir, "../../dist/fovea");
const PORT = 10_193;
const STARTS = 5;
const START_MS_MAX = 20_000;
const FLOWS = 100_000;
const FLOW_SECONDS = 40; // longer than the appliance waits before it reports flows that go on, all of them at once
const IDLE_SECONDS = 20;
/** What is compiled and collected after a start is over by then. */
const SETTLE_MS = 5000;
const MIB = 1024 * 1024;

type Site = { readonly node: TestNamespace; readonly outside: TestNamespace; readonly mac: string };

/** A node with an uplink, which its default route makes one, and what lies beyond. */
function openSite(owner: DisposableStack): Site {
  const node = owner.use(makeNamespace());
  const outside = owner.use(makeNamespace());
  node.batch([
    `link add uplink type veth peer name outside netns ${outside.name}`,
    "address add 10.78.0.1/24 dev uplink",
    "link set uplink up",
    "route add default via 10.78.0.2",
  ]);
  outside.batch(["address add 10.78.0.2/24 dev outside", "link set outside up"]);
  const mac: string = JSON.parse(node.ip("-j", "link", "show", "uplink"))[0].address;
  return { node, outside, mac };
}

/** A request on a connection of this thread, which is in the namespace: fetch has threads of its own. */
function get(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const parts: Uint8Array[] = [];
    const done = (): void => resolve(Buffer.concat(parts).toString());
    const failed = (): void => resolve(undefined);
    Bun.connect({
      hostname: "127.0.0.1",
      port: PORT,
      socket: {
        open: (socket) =>
          void socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`),
        data: (_socket, bytes) => void parts.push(new Uint8Array(bytes)),
        close: done,
        error: failed,
        connectError: failed,
      },
    }).catch(failed); // Nobody listens yet; connectError has said so too.
  });
}

type Running = { readonly pid: number; readonly startMs: number };

/** Starts the binary and waits for a scrape that has the totals. */
async function start(site: Site, owner: AsyncDisposableStack): Promise<Running> {
  const dataDir = mkdtempSync(join(tmpdir(), "fovea-bench-"));
  owner.defer(() => rmSync(dataDir, { recursive: true, force: true }));
  const startedMs = performance.now();
  const child = Bun.spawn(
    [
      ...["ip", "netns", "exec", site.node.name, binary, "run"],
      ...["--listen", `127.0.0.1:${PORT}`, "--data-dir", dataDir],
    ],
    { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, FOVEA_LOG_LEVEL: "error" } },
  );
  owner.defer(async () => {
    child.kill("SIGTERM");
    await Promise.race([child.exited, Bun.sleep(5000)]);
    child.kill("SIGKILL");
  });
  while (performance.now() - startedMs < START_MS_MAX && child.exitCode === null) {
    const answer = await site.node.insideWhile(() => get("/metrics"));
    if (answer?.startsWith("HTTP/1.1 200") && answer.includes("kappie_forward_count{"))
      return { pid: child.pid, startMs: performance.now() - startedMs };
    await Bun.sleep(2);
  }
  child.kill("SIGKILL");
  throw new Error(`dist/fovea gave no good scrape: ${await new Response(child.stderr).text()}`);
}

async function measureStarts(site: Site): Promise<BenchRow> {
  const starts: number[] = [];
  for (let i = 0; i < STARTS; i++) {
    await using owner = new AsyncDisposableStack();
    starts.push((await start(site, owner)).startMs);
  }
  const all = starts.map((ms) => ms.toFixed(0)).join(" ");
  return {
    name: "start to first good scrape",
    value: median(starts),
    unit: "ms",
    budget: { max: 600 },
    note: `all: ${all}`,
  };
}

const CLOCK_TICKS_SECOND = 100; // USER_HZ, on every architecture that Bun runs on

function cpuSeconds(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_SECOND;
}

type Memory = {
  readonly resident: number;
  readonly own: number;
  readonly mapped: number;
  readonly tables: number;
};

const kibOf = (text: string, name: string): number =>
  Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? 0) * 1024;

/** What is mapped of kernel tables counts as resident, some of it twice; each table is counted once instead. */
function memory(pid: number): Memory {
  const resident = kibOf(readFileSync(`/proc/${pid}/status`, "utf8"), "VmRSS");
  let mapped = 0;
  for (const mapping of readFileSync(`/proc/${pid}/smaps`, "utf8").split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m))
    if (mapping.split("\n", 1)[0]?.includes("bpf-map")) mapped += kibOf(mapping, "Rss");
  const tables = new Map<string, number>();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    if (!readlinkSync(`/proc/${pid}/fd/${fd}`).includes("bpf-map")) continue;
    const info = readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8");
    const id = /^map_id:\s+(\d+)/m.exec(info)?.[1] ?? fd;
    tables.set(id, Number(/^memlock:\s+(\d+)/m.exec(info)?.[1] ?? 0));
  }
  const inKernel = [...tables.values()].reduce((sum, bytes) => sum + bytes, 0);
  return { resident: resident - mapped + inKernel, own: resident - mapped, mapped, tables: inKernel };
}

async function flood(site: Site, owner: AsyncDisposableStack): Promise<void> {
  const program = compiledProgram("flood");
  for (const [namespace, words] of [
    [site.node, ["receive"]],
    [site.outside, ["send", "outside", site.mac, `${FLOWS}`]],
  ] as const) {
    const child = Bun.spawn(["ip", "netns", "exec", namespace.name, program, ...words]);
    owner.defer(async () => {
      child.kill("SIGKILL");
      await child.exited;
    });
  }
}

const mib = (bytes: number): string => (bytes / MIB).toFixed(0);

const scrape = async (site: Site): Promise<string> =>
  (await site.node.insideWhile(() => get("/metrics"))) ?? "";

/** The sum over the series of a name. */
function sample(text: string, name: string): number {
  const found = [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)`, "gm"))];
  return found.length === 0 ? Number.NaN : found.reduce((sum, [, value]) => sum + Number(value), 0);
}

async function measureMemory(site: Site): Promise<BenchRow[]> {
  await using owner = new AsyncDisposableStack();
  const { pid } = await start(site, owner);
  await Bun.sleep(SETTLE_MS);
  const without = memory(pid);
  await flood(site, owner);
  const found: Memory[] = [];
  const before = cpuSeconds(pid);
  for (let second = 0; second < FLOW_SECONDS; second++) {
    await Bun.sleep(1000);
    found.push(memory(pid));
  }
  const cpu = ((cpuSeconds(pid) - before) * 100) / FLOW_SECONDS;
  const live = sample(await scrape(site), "fovea_flows_live");
  if (!(live >= FLOWS)) throw new Error(`${live} flows were live, not ${FLOWS}`);
  const sorted = found.toSorted((a, b) => a.resident - b.resident);
  const [middle = without, most = without] = [sorted[sorted.length >> 1], sorted.at(-1)];
  const parts = ({ own, tables }: Memory): string => `process ${mib(own)} and kernel tables ${mib(tables)}`;
  return [
    {
      name: "memory with 100,000 live flows, kernel tables included",
      value: middle.resident / MIB,
      unit: "MiB",
      budget: { max: 150 },
      note: `median of ${FLOW_SECONDS} s: ${parts(middle)}; without flows ${parts(without)}; ${cpu.toFixed(0)} % of a core at 100,000 packets/s`,
    },
    {
      name: "the most of it, while all of them are reported",
      value: most.resident / MIB,
      unit: "MiB",
      note: parts(most),
    },
  ];
}

async function measureIdle(site: Site): Promise<BenchRow> {
  await using owner = new AsyncDisposableStack();
  const { pid } = await start(site, owner);
  await Bun.sleep(SETTLE_MS);
  const packets = async (): Promise<number> => sample(await scrape(site), "fovea_packets_seen_total");
  const seen = await packets();
  const before = cpuSeconds(pid);
  await Bun.sleep(IDLE_SECONDS * 1000);
  const percent = ((cpuSeconds(pid) - before) * 100) / IDLE_SECONDS;
  return {
    name: "CPU of the appliance with nothing to do",
    value: percent,
    unit: "%",
    budget: { max: 2 },
    note: `of a core over ${IDLE_SECONDS} s, a tick a second; ${(await packets()) - seen} packets and drops of others met`,
  };
}

export async function applianceBench(): Promise<BenchRow[]> {
  if (!existsSync(binary)) throw new Error("dist/fovea is missing: npm run build");
  using owner = new DisposableStack();
  const site = openSite(owner);
  return [await measureStarts(site), ...(await measureMemory(site)), await measureIdle(site)];
}
