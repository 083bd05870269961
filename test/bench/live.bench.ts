// What is left of the throughput between two namespaces with programs in the way.

import { TRACE_RAW_TP } from "./drops.bench.ts";
import { type BenchKernel, openBenchKernel } from "./kernel.ts";
import { openDatapath, openDrops, openFlows, openRetransmits, openRtt } from "./programs.ts";
import { createRecord, type Measurements, rotated } from "./rounds.ts";
import type { BenchRow } from "./row.ts";
import { openPair, type Pair, received, startTraffic } from "./traffic.ts";

const ROUNDS = 40;
const WINDOW_MS = 80;
/** Attaching patches kernel code on all CPUs; this long after it the traffic has its pace again. */
const SETTLE_MS = 25;

const TCX_INGRESS = 46; // enum bpf_attach_type
const TCX_EGRESS = 47;

type Attachment = { readonly fd: number; readonly type: number };
type Subject = { readonly name: string; readonly attachments: readonly Attachment[] };

const atHooks = (ingress: number, egress: number): Attachment[] => [
  { fd: ingress, type: TCX_INGRESS },
  { fd: egress, type: TCX_EGRESS },
];

/** What is compared with bare traffic; programs that do nothing stand at the same places. */
function openSubjects(kernel: BenchKernel, owner: DisposableStack): Subject[] {
  const tc = owner.use(kernel.open("tc"));
  const tracing = owner.use(kernel.open("tracing"));
  const datapath = openDatapath(kernel, owner);
  const flows = openFlows(datapath).object;
  const retransmits = openRetransmits(datapath).object;
  const nothing = tc.programFd("bench_empty");
  const emptyHooks = atHooks(nothing, nothing);
  const hooks = atHooks(flows.programFd("fovea_in"), flows.programFd("fovea_out"));
  const traced = (...fds: number[]): Attachment[] => fds.map((fd) => ({ fd, type: TRACE_RAW_TP }));
  const emptyTraced = traced(tracing.programFd("bench_empty_drop"), tracing.programFd("bench_empty_rtt"));
  const allTraced = traced(
    openDrops(datapath).object.programFd("fovea_drop"),
    openRtt(datapath).object.programFd("fovea_rtt"),
    retransmits.programFd("fovea_retransmit"),
    retransmits.programFd("fovea_retransmit_synack"),
  );
  return [
    { name: "empty tc", attachments: emptyHooks },
    { name: "tc", attachments: hooks },
    { name: "empty all", attachments: [...emptyHooks, ...emptyTraced] },
    { name: "all", attachments: [...hooks, ...allTraced] },
  ];
}

/** Packets a second that arrive with these programs at the receiver's end. */
async function pace(kernel: BenchKernel, pair: Pair, attachments: readonly Attachment[]): Promise<number> {
  using links = new DisposableStack();
  for (const { fd, type } of attachments) {
    const ifindex = type === TRACE_RAW_TP ? 0 : pair.ifindex;
    const link = pair.server.inside(() => kernel.libbpf.createLink(fd, ifindex, type));
    links.adopt(link, kernel.closeLink);
  }
  await Bun.sleep(SETTLE_MS);
  const before = received(pair);
  await Bun.sleep(WINDOW_MS);
  const after = received(pair);
  return ((after.packets - before.packets) * 1000) / (after.ms - before.ms);
}

/** Each subject by the mean of the bare traffic right before and after it; `bare` are the paces of that. */
async function measure(
  kernel: BenchKernel,
  subjects: readonly Subject[],
  kind: "tcp" | "udp",
): Promise<Measurements> {
  using owner = new DisposableStack();
  const pair = openPair(owner);
  await using traffic = new AsyncDisposableStack();
  await startTraffic(pair, kind, traffic);
  const found = createRecord();
  const paceWith = (attachments: readonly Attachment[]): Promise<number> => pace(kernel, pair, attachments);
  let before = await paceWith([]);
  for (let round = 0; round < ROUNDS; round++)
    for (const { name, attachments } of rotated(subjects, round)) {
      const with_ = await paceWith(attachments);
      const after = await paceWith([]);
      found.add("bare", after);
      found.add("bare by bare", after / before);
      found.add(name, (2 * with_) / (before + after));
      before = after;
    }
  return found;
}

function rowsOf(traffic: string, min: number, found: Measurements): BenchRow[] {
  const row = (what: string, subject: string, note: string, budgeted: boolean): BenchRow => ({
    name: `${traffic}, ${what}, by bare`,
    value: found.median(subject),
    unit: "times",
    ...(budgeted ? { budget: { min } } : {}),
    note: `give or take ${found.doubt(subject).toFixed(3)}; ${note}`,
  });
  const bare = `bare ${(found.median("bare") / 1000).toFixed(0)},000 packets/s, by itself ${found.median("bare by bare").toFixed(3)}, give or take ${found.doubt("bare by bare").toFixed(3)}`;
  const beside = (empty: string): string =>
    `empty programs at the same places ${found.median(empty).toFixed(3)}`;
  return [
    row("tc programs", "tc", `${beside("empty tc")}; ${bare}`, true),
    row("all programs", "all", beside("empty all"), false),
  ];
}

export async function liveBench(): Promise<BenchRow[]> {
  using owner = new DisposableStack();
  const kernel = openBenchKernel();
  const subjects = openSubjects(kernel, owner);
  const tcp = await measure(kernel, subjects, "tcp");
  const udp = await measure(kernel, subjects, "udp");
  return [
    ...rowsOf("TCP over veth, 1500-byte packets", 0.96, tcp),
    ...rowsOf("UDP over veth, 64-byte packets", 0.97, udp),
  ];
}
