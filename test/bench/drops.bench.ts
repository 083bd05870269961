// What the drop program costs a dropped packet, above a program that does nothing at the same tracepoint.

import { makeNamespace } from "../kernel/proc-namespace.ts";
import { udpV4 } from "./frames.ts";
import { type BenchKernel, openBenchKernel, stayOnCpu } from "./kernel.ts";
import { openDatapath, openDrops } from "./programs.ts";
import { createRecord, ROUNDS, rotated } from "./rounds.ts";
import type { BenchRow } from "./row.ts";

const FLOWS = 1000;
const FRAMES = 20_000;
const REPEATS = 25; // short runs: some of them meet no neighbour

/** enum bpf_attach_type of tp_btf programs. */
export const TRACE_RAW_TP = 23;

type Subject = { readonly name: string; readonly fd?: number };

/** Attaches, calls, detaches. Nothing is attached where there is no program. */
function attached<Result>(kernel: BenchKernel, { fd }: Subject, action: () => Result): Result {
  if (fd === undefined) return action();
  using link = new DisposableStack();
  link.adopt(kernel.libbpf.createLink(fd, 0, TRACE_RAW_TP), (link) => kernel.closeLink(link));
  return action();
}

/** An interface of a namespace that takes live frames: veth has the receive queue for them while GRO is on. */
function openReceiver(owner: DisposableStack) {
  const namespace = owner.use(makeNamespace());
  namespace.batch(["link add left type veth peer name right", "link set left up", "link set right up"]);
  namespace.run("ethtool", "-K", "left", "gro", "on");
  const ifindex: number = JSON.parse(namespace.ip("-j", "link", "show", "left"))[0].ifindex;
  return { namespace, ifindex };
}

export async function dropsBench(): Promise<BenchRow[]> {
  using owner = new DisposableStack();
  owner.use(stayOnCpu(0));
  const kernel = openBenchKernel();
  const { namespace, ifindex } = openReceiver(owner);
  const own = owner.use(kernel.open("tracing"));
  const drops = openDrops(openDatapath(kernel, owner));
  new Uint32Array(own.mapArray(".data.frames", 1, 8, true).buffer)[0] = FLOWS;
  const programFd = own.programFd("bench_frames");
  const frame = udpV4(); // For another station's address: the stack drops it as OTHERHOST.
  const subjects: readonly Subject[] = [
    { name: "none" },
    { name: "empty", fd: own.programFd("bench_empty_drop") },
    { name: "drops", fd: drops.object.programFd("fovea_drop") },
  ];
  const found = createRecord();
  const send = (count: number): number =>
    namespace.inside(() => kernel.sendFrames({ programFd, frame, ifindex, count }));
  for (let round = 0; round < ROUNDS; round++) {
    for (const subject of rotated(subjects, round))
      attached(kernel, subject, () => {
        send(FRAMES);
        for (let i = 0; i < REPEATS; i++) found.add(subject.name, send(FRAMES));
      });
    await Bun.sleep(0);
  }
  const counts = drops.read(() => {});
  const sent = ROUNDS * (REPEATS + 1) * FRAMES;
  return [
    {
      name: "drop with reason and 5-tuple, above an empty program",
      value: found.least("drops") - found.least("empty"),
      unit: "ns",
      budget: { max: 90 },
      note: `1,000 flows received in a namespace and dropped; ${found.least("none").toFixed(0)} with nothing attached, ${found.least("empty").toFixed(0)} with an empty tp_btf; ${counts.seen - sent} other drops met`,
    },
  ];
}
