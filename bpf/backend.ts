// The Linux Backend: opens what this kernel and these capabilities allow, one collector a subject.

import type { Backend, Collector, Snapshot } from "../src/snapshot.ts";
import { accountingCollector, type Counted } from "./accounting.ts";
import { type AttachMode, createAttachments } from "./attachments.ts";
import { type Capability, missingCapabilities } from "./capabilities.ts";
import { createKernelClock, type KernelClock, openClockObject } from "./clock.ts";
import type { Owner } from "./clsact.ts";
import { createDatapath, type Datapath, type OpenedTable } from "./datapath.ts";
import { createDns, type Dns } from "./dns.ts";
import { readDropReasons } from "./drop-reasons.ts";
import { createDrops, type Surroundings } from "./drops.ts";
import { createFlows } from "./flows.ts";
import type { Selection } from "./interfaces.ts";
import { bindLibbpf, type Libbpf } from "./libbpf.ts";
import { type Links, openLinks } from "./links.ts";
import { loadLibraries, objectBytes } from "./native.ts";
import { interfacesCollector } from "./proc/interfaces.ts";
import { openNamespaces } from "./proc/namespaces.ts";
import { protocolsCollector } from "./proc/protocols.ts";
import { socketsCollector } from "./proc/sockets.ts";
import { createWatcher } from "./watcher.ts";

export type LinuxOptions = {
  readonly interfaces: Selection & { readonly attach: AttachMode };
  /** A check leaves alone what a service that runs beside it has attached. */
  readonly owner: Owner;
  readonly flows: {
    readonly idleMs: number;
    readonly activeMs: number;
    readonly flowsMax: number;
    readonly tableBytes: number;
    readonly spillBytes: number;
  };
  readonly dropsMax: number;
  readonly dnsEnabled: boolean;
  readonly sockets: { readonly remotesMax: number; readonly namespacesMax: number; readonly everyMs: number };
  /** Where native libraries go when memory files are refused. */
  readonly libraryDirectory: string;
  readonly now: () => number;
};

/** Kernel memory of the smaller tables and their rings: what a busy tick of a node fills. All of it stays resident. */
const DROP_TABLE = { tableBytes: 2 << 20, spillBytes: 1 << 18 };
const RTT_TABLE = { tableBytes: 1 << 20, spillBytes: 1 << 12 }; // Measurements give way without a spill.
const RETRANSMIT_TABLE = { tableBytes: 1 << 19, spillBytes: 1 << 16 };
const DNS_RING_BYTES = 1 << 20;

const DROP = "fovea_drop";
const DROP_WITHOUT_REASON = "fovea_drop_old";
const RETRANSMITS = ["fovea_retransmit", "fovea_retransmit_synack"];

type Result<T> = { readonly value: T } | { readonly error: unknown };

/** Opening a subject may fail for this kernel or these capabilities: its collector then says why, each tick. */
function attempt<T>(open: () => T): Result<T> {
  try {
    return { value: open() };
  } catch (error) {
    return { error };
  }
}

/** What a subject needs, and what its absence costs. */
type Need = { readonly cost: string; readonly capabilities: readonly Capability[] };

const needs = {
  flows: { cost: "flows, totals and TCP flags are not seen", capabilities: ["BPF", "PERFMON", "NET_ADMIN"] },
  drops: { cost: "drops are not seen", capabilities: ["BPF", "PERFMON"] },
  rtt: { cost: "flows have no round trip time", capabilities: ["BPF", "PERFMON"] },
  retransmits: { cost: "flows have no retransmits", capabilities: ["BPF", "PERFMON"] },
  dns: { cost: "DNS is not seen", capabilities: ["BPF", "PERFMON", "NET_ADMIN"] },
  accounting: { cost: "nothing is counted by eBPF", capabilities: ["BPF", "PERFMON"] },
} as const satisfies Readonly<Record<string, Need>>;

function take<T>(result: Result<T>, need: Need): T {
  if ("value" in result) return result.value;
  const missing = missingCapabilities(need.capabilities);
  const reason = result.error instanceof Error ? result.error.message : String(result.error);
  const why = missing.length === 0 ? reason : `${missing.join(" and ")} missing (${reason})`;
  throw new Error(`${need.cost}: ${why}`, { cause: result.error });
}

const value = <T>(result: Result<T>): T | undefined => ("value" in result ? result.value : undefined);

const failure = <T>(result: Result<T>): Result<never> =>
  "error" in result ? result : { error: "not opened" };

const collector = (name: string, collect: () => Snapshot): Collector => ({ name, collect });

type Kernel = {
  readonly libbpf: Libbpf;
  readonly datapath: Datapath;
  readonly clock: KernelClock;
  readonly undo: DisposableStack;
};

function openKernel(options: LinuxOptions, undo: DisposableStack): Kernel {
  const libbpf = bindLibbpf(loadLibraries({ fallbackDirectory: options.libraryDirectory }));
  const object = undo.use(openClockObject(libbpf, objectBytes("clock")));
  const clock = createKernelClock({ libbpf, object, now: options.now });
  return { libbpf, datapath: undo.use(createDatapath(libbpf)), clock, undo };
}

function openTracing(
  kernel: Kernel,
  name: string,
  size: typeof DROP_TABLE,
  programs: readonly string[],
): OpenedTable {
  const opened = kernel.datapath.open({ name, bytes: objectBytes(name), ...size });
  for (const program of programs) opened.object.attach(program);
  return opened;
}

function openDrops(
  kernel: Kernel,
  options: LinuxOptions,
  around: Surroundings & { interfaceName: (ifindex: number) => string },
) {
  const { libbpf, datapath, clock } = kernel;
  const reasons = readDropReasons(libbpf);
  // Kernels before 5.17 have no reasons, and their tracepoint no argument for one.
  const [used, skipped] = reasons.known > 0 ? [DROP, DROP_WITHOUT_REASON] : [DROP_WITHOUT_REASON, DROP];
  const cpus = datapath.cpus.possible;
  const opened = datapath.open({
    name: "drops",
    bytes: objectBytes("drops"),
    ...DROP_TABLE,
    mapEntries: { drop_totals: cpus },
    skip: [skipped],
  });
  opened.object.attach(used);
  const { idleMs, activeMs } = options.flows;
  const drops = createDrops({
    ...{ drops: opened, reasons, clock, cpus, idleMs, activeMs },
    interfaceName: around.interfaceName,
    surroundings: around,
    dropsMax: options.dropsMax,
  });
  const missed = (): number => libbpf.recursionMisses(opened.object.programFd(used));
  const limits =
    reasons.known > 0 ? [] : ["this kernel gives no drop reasons (before 5.17): all are UNKNOWN"];
  return { drops, opened, missed, limits };
}

function openFlows(kernel: Kernel, options: LinuxOptions, links: Links, sockets: SocketTables) {
  const { libbpf, datapath, clock, undo } = kernel;
  const cpus = datapath.cpus.possible;
  const opened = datapath.open({
    name: "flows",
    bytes: objectBytes("flows"),
    tableBytes: options.flows.tableBytes,
    spillBytes: options.flows.spillBytes,
    dnsEnabled: options.dnsEnabled,
    mapEntries: { uplink_totals: cpus, dns_events: DNS_RING_BYTES },
  });
  const attachments = undo.use(
    createAttachments({
      ...{ libbpf, object: opened.object, owner: options.owner },
      mode: options.interfaces.attach,
    }),
  );
  const watcher = createWatcher({ links, attachments, selection: options.interfaces });
  watcher.update();
  const { idleMs, activeMs, flowsMax } = options.flows;
  const flows = createFlows({
    ...{ flows: opened, watcher, clock, cpus, isLocal: links.isLocal, idleMs, activeMs, flowsMax },
    rtt: value(sockets.rtt),
    retransmits: value(sockets.retransmits),
  });
  return { flows, watcher, opened };
}

type SocketTables = { readonly rtt: Result<OpenedTable>; readonly retransmits: Result<OpenedTable> };

function openDns(kernel: Kernel, flows: ReturnType<typeof openFlows>): Dns {
  const ringFd = flows.opened.object.mapFd("dns_events");
  return kernel.undo.use(
    createDns({
      ringFd,
      ringBytes: DNS_RING_BYTES,
      clock: kernel.clock,
      lost: () => flows.flows.ledger.dnsLost,
    }),
  );
}

/** All that needs eBPF. Each subject opens, or its collector throws the reason each tick. */
function openKernelCollectors(kernel: Kernel, options: LinuxOptions, links: Links) {
  const sockets: SocketTables = {
    rtt: attempt(() => openTracing(kernel, "rtt", RTT_TABLE, ["fovea_rtt"])),
    retransmits: attempt(() => openTracing(kernel, "retransmits", RETRANSMIT_TABLE, RETRANSMITS)),
  };
  const flows = attempt(() => openFlows(kernel, options, links, sockets));
  const flowParts = value(flows);
  const drops = attempt(() =>
    openDrops(kernel, options, {
      interfaceName: (ifindex) => flowParts?.watcher.name(ifindex) ?? linkName(links, ifindex),
      place: (ifindex) => flowParts?.watcher.place(ifindex),
      isLocal: links.isLocal,
    }),
  );
  const dropParts = value(drops);
  const dns = flowParts === undefined ? failure(flows) : attempt(() => openDns(kernel, flowParts));
  const counted: Counted[] = [];
  if (flowParts !== undefined)
    counted.push({ subject: "flow", ledger: flowParts.flows.ledger, missed: () => 0 });
  if (dropParts !== undefined)
    counted.push({ subject: "drop", ledger: dropParts.drops.ledger, missed: dropParts.missed });
  const tables = [flowParts?.opened, dropParts?.opened, value(sockets.rtt), value(sockets.retransmits)];
  const accounting = accountingCollector({
    counted,
    tables: tables.filter((table) => table !== undefined),
    duplicates: () => flowParts?.flows.duplicates() ?? 0,
  });
  const collectors: Collector[] = [
    collector("flows", () => take(flows, needs.flows).flows.collect()),
    collector("drops", () => {
      const { drops: collecting, limits } = take(drops, needs.drops);
      return { ...collecting.collect(), limits };
    }),
    collector("rtt", () => seen(sockets.rtt, needs.rtt)),
    collector("retransmits", () => seen(sockets.retransmits, needs.retransmits)),
    ...(options.dnsEnabled ? [collector("dns", () => take(dns, needs.dns).collect())] : []),
    accounting,
  ];
  const drain = (): Snapshot => {
    const last = [flowParts?.flows.drain(), dropParts?.drops.drain()];
    const dnsErrors = value(dns)?.collect().dnsErrors;
    return {
      flows: last.flatMap((snapshot) => snapshot?.flows ?? []),
      packets: accounting.packets(),
      ...(dnsErrors === undefined ? {} : { dnsErrors }),
    };
  };
  return { collectors, drain };
}

/** Not even libbpf or the clock could be opened: each subject says so, the /proc families go on. */
const withoutKernel = (kernel: Result<Kernel>) => ({
  collectors: Object.entries(needs).map(([name, need]) =>
    collector(name, () => take<never>(failure(kernel), need)),
  ),
  drain: (): Snapshot => ({}),
});

const linkName = (links: Links, ifindex: number): string =>
  links.all().find(({ index }) => index === ifindex)?.name ?? "";

const seen = (result: Result<OpenedTable>, need: Need): Snapshot => {
  take(result, need);
  return {};
};

/** Opens everything that can be opened. Throws only when not even /proc can be read. */
export function openLinuxBackend(options: LinuxOptions): Backend {
  using undo = new DisposableStack();
  const links = undo.use(openLinks({}));
  const kernel = attempt(() => openKernel(options, undo));
  const parts = value(kernel);
  const ebpf = parts === undefined ? withoutKernel(kernel) : openKernelCollectors(parts, options, links);
  const namespaces = openNamespaces({
    namespacesMax: options.sockets.namespacesMax,
    everyMs: options.sockets.everyMs,
  });
  const owned = undo.move();
  return {
    collectors: [
      ...ebpf.collectors,
      protocolsCollector({ namespaces }),
      socketsCollector({ namespaces, remotesMax: options.sockets.remotesMax }),
      interfacesCollector({}),
    ],
    drain: ebpf.drain,
    async [Symbol.asyncDispose]() {
      owned.dispose();
    },
  };
}
