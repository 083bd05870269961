// The flows collector: totals of the uplinks, and live flows out of the kernel's table.

import type { EvictReason } from "../src/flow.ts";
import type { FlowTableUse, Snapshot } from "../src/snapshot.ts";
import type { KernelClock } from "./clock.ts";
import { flowRecord, hook as hooks, socketRecord, totals as totalsLayout } from "./contract.gen.ts";
import type { OpenedTable } from "./datapath.ts";
import { KEY_WORDS } from "./flow-columns.ts";
import { createFlowTable, type Sighting } from "./flow-table.ts";
import {
  bytesOf,
  createRowList,
  flowKey,
  hookOf,
  reverseKey,
  rowOf,
  scopeOf,
  tcpFlagsOf,
} from "./records.ts";
import type { TallyDelta } from "./table.ts";
import { readTotals } from "./uplink-totals.ts";
import { directionAt, type Watcher } from "./watcher.ts";

const FIRST_WORD = flowRecord.firstJiffies / 4;
const LAST_WORD = flowRecord.lastJiffies / 4;
const PACKETS_WORD = flowRecord.packets / 4;
const RTT_WORD = socketRecord.rttUs / 4;
const RETRANSMITS_WORD = socketRecord.retransmits / 4;

/** Cumulative counts of one table, for the ledger. */
export type TableLedger = {
  seen: number;
  aggregated: number;
  untracked: number[];
  dnsLost: number;
};

export const emptyLedger = (): TableLedger => ({
  seen: 0,
  aggregated: 0,
  untracked: [0, 0, 0, 0],
  dnsLost: 0,
});

export function addToLedger(
  ledger: TableLedger,
  read: TallyDelta & { records: number; packets: number },
): void {
  ledger.seen += read.seen;
  ledger.aggregated += read.packets + read.spilled;
  ledger.dnsLost += read.dnsLost;
  read.untracked.forEach((packets, reason) => {
    ledger.untracked[reason] = (ledger.untracked[reason] ?? 0) + packets;
  });
}

export type Flows = {
  readonly ledger: TableLedger;
  /** Packets that a bridge saw between ports that saw them too, or that another interface counted. */
  duplicates(): number;
  collect(): Snapshot;
  drain(): Snapshot;
};

export type FlowsOptions = {
  flows: OpenedTable;
  rtt?: OpenedTable | undefined;
  retransmits?: OpenedTable | undefined;
  watcher: Watcher;
  clock: KernelClock;
  cpus: number;
  isLocal: (address: Uint8Array) => boolean;
  idleMs: number;
  activeMs: number;
  flowsMax: number;
};

/** Is the end of the packet that a bridge's own stack would be (destination coming in, source going out) local? */
export function isLocalEnd(words: Uint32Array, at: number, isLocal: FlowsOptions["isLocal"]): boolean {
  const start = (at + (hookOf(words, at) === hooks.INGRESS ? 4 : 0)) * 4 + words.byteOffset;
  const address = new Uint8Array(words.buffer, start, 16);
  const multicast = address[0] === 0xff || (address[10] === 0xff && ((address[12] ?? 0) & 0xf0) === 0xe0);
  return multicast || (address[10] === 0xff && address[12] === 0xff) || isLocal(address);
}

/** Adds one kernel record to the flow table; false when it is a bridge's second sight. */
function createReader(options: FlowsOptions, add: (key: Uint32Array, sighting: Sighting) => void) {
  const { watcher, clock } = options;
  const key = new Uint32Array(KEY_WORDS);
  const sighting: Sighting = {
    ifindex: 0,
    rank: 0,
    packets: 0,
    bytes: 0,
    tcpFlags: 0,
    firstNs: 0,
    lastNs: 0,
  };
  return (words: Uint32Array, at: number): boolean => {
    const ifindex = scopeOf(words, at);
    const place = watcher.place(ifindex);
    const direction = directionAt(place?.role ?? "other", hookOf(words, at), () =>
      isLocalEnd(words, at, options.isLocal),
    );
    if (direction === undefined) return false;
    flowKey(key, words, at, direction, 0);
    sighting.ifindex = ifindex;
    sighting.rank = place?.rank ?? 0;
    sighting.packets = words[at + PACKETS_WORD] ?? 0;
    sighting.bytes = bytesOf(words, at);
    sighting.tcpFlags = tcpFlagsOf(words, at);
    sighting.firstNs = clock.jiffiesToNs(words[at + FIRST_WORD] ?? 0);
    sighting.lastNs = clock.jiffiesToNs(words[at + LAST_WORD] ?? 0);
    add(key, sighting);
    return true;
  };
}

/** What sockets told, put on the flows of both directions (round trip time) or on the outgoing one (sent again). */
function createSocketReader(table: ReturnType<typeof createFlowTable>) {
  const { flows } = table;
  const key = new Uint32Array(KEY_WORDS);
  const outgoing = (words: Uint32Array, at: number): number => {
    flowKey(key, words, at, "egress", 0);
    return flows.find(key);
  };
  return {
    rtt(words: Uint32Array, at: number): void {
      const rttUs = words[at + RTT_WORD] ?? 0;
      const out = outgoing(words, at);
      if (out >= 0) flows.rttUs[out] = rttUs;
      reverseKey(key, words, at);
      const back = flows.find(key);
      if (back >= 0) flows.rttUs[back] = rttUs;
    },
    retransmits(words: Uint32Array, at: number): void {
      const out = outgoing(words, at);
      if (out >= 0)
        flows.retransmits[out] = (flows.retransmits[out] ?? 0) + (words[at + RETRANSMITS_WORD] ?? 0);
    },
  };
}

export function createFlows(options: FlowsOptions): Flows {
  const { watcher, clock } = options;
  const totals = new BigUint64Array(
    options.flows.object.mapArray("uplink_totals", options.cpus, totalsLayout.size, false).buffer,
  );
  const ledger = emptyLedger();
  const rows = createRowList();
  let bridged = 0;
  const table = createFlowTable({
    max: options.flowsMax,
    idleNs: options.idleMs * 1e6,
    activeNs: options.activeMs * 1e6,
    drops: false,
    report: (slot: number, evictReason: EvictReason) =>
      rows.add(rowOf({ flows: table.flows, slot, clock, interfaceName: watcher.name, evictReason })),
  });
  const readRecord = createReader(options, table.add);
  const sockets = createSocketReader(table);
  const use = (): FlowTableUse => ({
    live: table.flows.live(),
    max: options.flowsMax,
    evicted: table.evicted(),
  });

  function read(): void {
    const counts = options.flows.read((words, at) => {
      if (!readRecord(words, at)) bridged += words[at + PACKETS_WORD] ?? 0;
    });
    addToLedger(ledger, counts);
    options.rtt?.read(sockets.rtt);
    options.retransmits?.read(sockets.retransmits);
  }

  return {
    ledger,
    duplicates: () => table.duplicates() + bridged,
    collect() {
      watcher.update();
      // The clock is read before the swap is waited out: records of the old half are not younger by more than that.
      clock.refresh();
      read();
      table.sweep(clock.nowNs());
      const uplinks = watcher.uplinks();
      return {
        ...(uplinks.length === 0 ? {} : { totals: readTotals(totals, options.cpus, uplinks) }),
        flows: rows.take(),
        flowTable: use(),
        attached: watcher.attached(),
        limits: watcher.failures(),
      };
    },
    drain() {
      clock.refresh();
      read();
      table.drain();
      return { flows: rows.take(), flowTable: use() };
    },
  };
}
