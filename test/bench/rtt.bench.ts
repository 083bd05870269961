// What the round trip time program costs a received segment, above a program that does nothing at the same tracepoint.

import { TRACE_RAW_TP } from "./drops.bench.ts";
import { type BenchKernel, openBenchKernel } from "./kernel.ts";
import { openDatapath, openRtt } from "./programs.ts";
import { createRecord, ROUNDS, rotated } from "./rounds.ts";
import type { BenchRow } from "./row.ts";
import { openPair, startTraffic } from "./traffic.ts";

const WINDOW_MS = 150;

/** Nanoseconds a run while segments of real TCP pass, with what the kernel's meter itself takes. */
async function runNs(kernel: BenchKernel, fd: number): Promise<number> {
  using link = new DisposableStack();
  link.adopt(kernel.libbpf.createLink(fd, 0, TRACE_RAW_TP), kernel.closeLink);
  const before = kernel.runTime(fd);
  await Bun.sleep(WINDOW_MS);
  const after = kernel.runTime(fd);
  if (after.runs - before.runs < 1000) throw new Error(`${after.runs - before.runs} segments are too few`);
  return (after.ns - before.ns) / (after.runs - before.runs);
}

export async function rttBench(): Promise<BenchRow[]> {
  using owner = new DisposableStack();
  const kernel = openBenchKernel();
  const own = owner.use(kernel.open("tracing"));
  const rtt = openRtt(openDatapath(kernel, owner));
  const pair = openPair(owner);
  await using traffic = new AsyncDisposableStack();
  await startTraffic(pair, "tcp", traffic);
  owner.use(kernel.timePrograms());
  const subjects = [
    { name: "empty", fd: own.programFd("bench_empty_rtt") },
    { name: "rtt", fd: rtt.object.programFd("fovea_rtt") },
  ];
  const found = createRecord();
  for (let round = 0; round < 2 * ROUNDS; round++)
    for (const { name, fd } of rotated(subjects, round)) found.add(name, await runNs(kernel, fd));
  const { records } = rtt.read(() => {});
  if (records === 0) throw new Error("no socket told its round trip time");
  return [
    {
      name: "round trip time, by segment, above an empty program",
      value: found.least("rtt") - found.least("empty"),
      unit: "ns",
      budget: { max: 40 },
      note: `the kernel's own run time of programs, on TCP between namespaces; an empty one reads ${found.least("empty").toFixed(0)}; medians differ by ${(found.median("rtt") - found.median("empty")).toFixed(0)}`,
    },
  ];
}
