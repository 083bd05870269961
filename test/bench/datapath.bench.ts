// What the tc programs cost a packet, above a program that does nothing.

import { tcpV4, tcpV6 } from "./frames.ts";
import { openBenchKernel, stayOnCpu } from "./kernel.ts";
import { type Driver, empty, openDatapath, openDriver, openFlows } from "./programs.ts";
import { createRecord, type Measurements, ROUNDS, rotated } from "./rounds.ts";
import type { BenchRow } from "./row.ts";

const KNOWN_FLOWS = 1000;
const MANY_FLOWS = 100_000;
const NEW_FLOWS = 90_000;
const KNOWN_PACKETS = 100_000;
const MANY_PACKETS = 250_000;
const REPEATS = 5; // short runs: some of them meet no neighbour

type Subject = { readonly name: string; readonly fd: number };

type Bench = {
  readonly driver: Driver;
  readonly subjects: readonly Subject[];
  readonly clear: () => void;
  readonly found: Measurements;
};

function measureKnown(bench: Bench, round: number, family: string, frame: Uint8Array): void {
  const { driver, found } = bench;
  bench.clear();
  driver.randomFlows(KNOWN_FLOWS);
  for (const { name, fd } of rotated(bench.subjects, round)) {
    driver.run(fd, frame, KNOWN_PACKETS);
    for (let i = 0; i < REPEATS; i++) found.add(`${family} ${name}`, driver.run(fd, frame, KNOWN_PACKETS));
  }
}

function measureMany(bench: Bench, round: number): void {
  const { driver, found } = bench;
  bench.clear();
  driver.randomFlows(MANY_FLOWS);
  const frame = tcpV4();
  for (const { name, fd } of rotated(bench.subjects, round)) {
    driver.run(fd, frame, 5 * MANY_FLOWS); // All but one in 150 of the flows are known after it.
    for (let i = 0; i < REPEATS; i++) found.add(`many ${name}`, driver.run(fd, frame, MANY_PACKETS));
    bench.clear();
  }
}

function measureNew(bench: Bench, round: number): void {
  const { driver, found } = bench;
  driver.newFlows();
  const frame = tcpV4();
  // The hash of the floor has no room for so many flows a round.
  for (const { name, fd } of rotated(bench.subjects, round).filter((one) => one.name !== "floor")) {
    bench.clear();
    found.add(`new ${name}`, driver.run(fd, frame, NEW_FLOWS));
  }
}

const hooks = [
  ["any interface", "in"],
  ["uplink", "up"],
] as const;

function rowsOf(found: Measurements): BenchRow[] {
  const net = (situation: string, program: string): number =>
    found.least(`${situation} ${program}`) - found.least(`${situation} empty`);
  const known = hooks.map(([place, program]) => ({
    name: `packet of a known flow among 1,000, IPv4, ${place}`,
    value: net("v4", program),
    unit: "ns",
    budget: { max: 25 },
    note: `floor ${net("v4", "floor").toFixed(1)}, empty program ${found.least("v4 empty").toFixed(1)}`,
  }));
  const ratio = hooks.map(([place, program]) => ({
    name: `the same, IPv6 by IPv4, ${place}`,
    value: net("v6", program) / net("v4", program),
    unit: "times",
    budget: { max: 1.15 },
    note: `IPv6 ${net("v6", program).toFixed(1)} ns`,
  }));
  const fresh = hooks.map(([place, program]) => ({
    name: `packet of a new flow, ${place}`,
    value: net("new", program),
    unit: "ns",
    budget: { max: 170 },
    note: `${NEW_FLOWS.toLocaleString("en")} into an empty table`,
  }));
  const floor = net("many", "floor");
  const many = hooks.map(([place, program]) => ({
    name: `packet among 100,000 random flows, ${place}`,
    value: net("many", program),
    unit: "ns",
    budget: { max: floor },
    note: `floor ${floor.toFixed(1)} in this run; medians ${found.median(`many ${program}`).toFixed(0)}, ${found.median("many floor").toFixed(0)}`,
  }));
  return [...known, ...ratio, ...fresh, ...many];
}

export async function datapathBench(): Promise<BenchRow[]> {
  using owner = new DisposableStack();
  owner.use(stayOnCpu(0));
  const kernel = openBenchKernel();
  const driver = openDriver(kernel, owner);
  const flows = openFlows(openDatapath(kernel, owner));
  const bench: Bench = {
    driver,
    subjects: [
      { name: "empty", fd: driver.empty },
      { name: "floor", fd: driver.floor },
      { name: "in", fd: flows.object.programFd("fovea_in") },
      { name: "up", fd: flows.object.programFd("fovea_in_up") },
    ],
    clear: () => empty(flows),
    found: createRecord(),
  };
  for (let round = 0; round < ROUNDS; round++) {
    measureKnown(bench, round, "v4", tcpV4());
    measureKnown(bench, round, "v6", tcpV6());
    measureNew(bench, round);
    measureMany(bench, round);
    await Bun.sleep(0); // Signals are heard between rounds.
  }
  return rowsOf(bench.found);
}
