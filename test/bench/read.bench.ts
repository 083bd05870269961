// How long a tick takes to read 100,000 flows out of the kernel's table, merge them into the live ones and sweep those.

import { createKernelClock, type KernelClock, openClockObject } from "../../bpf/clock.ts";
import type { OpenedTable } from "../../bpf/datapath.ts";
import { createFlows, type Flows } from "../../bpf/flows.ts";
import { objectBytes } from "../../bpf/native.ts";
import { waitForPrograms } from "../../bpf/table.ts";
import type { Place, Watcher } from "../../bpf/watcher.ts";
import { tcpV4 } from "./frames.ts";
import { type BenchKernel, openBenchKernel, stayOnCpu } from "./kernel.ts";
import { type Driver, openDatapath, openDriver, openFlows } from "./programs.ts";
import { createRecord, type Measurements, ROUNDS } from "./rounds.ts";
import type { BenchRow } from "./row.ts";

const FLOWS = 100_000;
const FLOWS_MAX = 131_072;
const WARM_UP_ROUNDS = 5;
const FOREVER_MS = 1e9;

/** One interface that everything is met on. */
function oneInterface(): Watcher {
  const place: Place = { name: "bench0", role: "uplink", rank: 3 };
  return {
    update() {},
    place: () => place,
    name: () => place.name,
    attached: () => [place.name],
    uplinks: () => [place.name],
    failures: () => [],
  };
}

type Bench = {
  readonly kernel: BenchKernel;
  readonly driver: Driver;
  readonly table: OpenedTable;
  readonly clock: KernelClock;
};

/** Two packets of each flow, half of the flows on each of two CPUs: as many records as flows. */
function fill({ driver, table }: Bench): void {
  const fd = table.object.programFd("fovea_in_up");
  for (let cpu = 0; cpu < 2; cpu++) {
    using _stay = stayOnCpu(cpu);
    for (let packet = 0; packet < 2; packet++) {
      driver.newFlows((cpu * FLOWS) / 2);
      driver.run(fd, tcpV4(), FLOWS / 2);
    }
  }
}

function collector({ table, clock }: Bench, activeMs: number, cpus: number): Flows {
  return createFlows({
    flows: table,
    watcher: oneInterface(),
    clock,
    cpus,
    isLocal: () => false,
    idleMs: FOREVER_MS,
    activeMs,
    flowsMax: FLOWS_MAX,
  });
}

function measure(bench: Bench, name: string, flows: Flows, found: Measurements): number {
  fill(bench);
  const startMs = performance.now();
  bench.table.table.swap();
  waitForPrograms(bench.kernel.libbpf, bench.table.object);
  const waitedMs = performance.now();
  const snapshot = flows.collect();
  const endMs = performance.now();
  if (snapshot.flowTable?.live !== FLOWS) throw new Error(`${snapshot.flowTable?.live} flows are live`);
  found.add("barrier", waitedMs - startMs);
  found.add(name, endMs - waitedMs);
  return snapshot.flows?.length ?? 0;
}

export async function readBench(): Promise<BenchRow[]> {
  using owner = new DisposableStack();
  const kernel = openBenchKernel();
  const datapath = openDatapath(kernel, owner);
  const clockObject = owner.use(openClockObject(kernel.libbpf, objectBytes("clock")));
  const bench: Bench = {
    kernel,
    driver: openDriver(kernel, owner),
    table: openFlows(datapath),
    clock: createKernelClock({ libbpf: kernel.libbpf, object: clockObject, now: Date.now }),
  };
  const quiet = collector(bench, FOREVER_MS, datapath.cpus.possible);
  const telling = collector(bench, 0, datapath.cpus.possible);
  const cold = createRecord();
  const found = createRecord();
  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
    const into = round < 0 ? cold : found;
    measure(bench, "merge", quiet, into);
    const rows = measure(bench, "with rows", telling, into);
    into.add("rows", rows);
    await Bun.sleep(0);
  }
  const first = cold.of("merge")[0] ?? Number.NaN;
  const median = (name: string): string => `median ${found.median(name).toFixed(1)}`;
  return [
    {
      name: "read, merge and sweep of 100,000 flows",
      value: found.least("merge"),
      unit: "ms",
      budget: { max: 40 },
      note: `${median("merge")}; all of them new in code that has not run yet: ${first.toFixed(1)}; besides, waiting out running programs ${found.least("barrier").toFixed(1)} (${median("barrier")})`,
    },
    {
      name: "a row made of a flow that is reported",
      value: ((found.median("with rows") - found.median("merge")) * 1000) / found.median("rows"),
      unit: "us",
      note: `medians of ticks that report ${found.median("rows").toLocaleString("en")} flows and none`,
    },
  ];
}
