// The appliance's programs, opened as it opens them, and the ones that they are compared with.

import { createDatapath, type Datapath, type OpenedTable } from "../../bpf/datapath.ts";
import { objectBytes } from "../../bpf/native.ts";
import type { KernelObject } from "../../bpf/object.ts";
import type { BenchKernel } from "./kernel.ts";

/** The appliance's defaults. */
const TABLE_BYTES = 32 << 20;
const SPILL_BYTES = 4 << 20;
const DROP_TABLE_BYTES = 4 << 20;
const RTT_TABLE_BYTES = 4 << 20;
const RETRANSMIT_TABLE_BYTES = 1 << 20;
const SMALL_RING_BYTES = 1 << 19;
const DNS_RING_BYTES = 1 << 20;

export function openFlows(datapath: Datapath): OpenedTable {
  return datapath.open({
    name: "flows",
    bytes: objectBytes("flows"),
    tableBytes: TABLE_BYTES,
    spillBytes: SPILL_BYTES,
    dnsEnabled: true,
    mapEntries: { uplink_totals: datapath.cpus.possible, dns_events: DNS_RING_BYTES },
  });
}

export function openDrops(datapath: Datapath): OpenedTable {
  return datapath.open({
    name: "drops",
    bytes: objectBytes("drops"),
    tableBytes: DROP_TABLE_BYTES,
    spillBytes: SMALL_RING_BYTES,
    mapEntries: { drop_totals: datapath.cpus.possible },
    skip: ["fovea_drop_old"],
  });
}

export const openRtt = (datapath: Datapath): OpenedTable =>
  datapath.open({
    name: "rtt",
    bytes: objectBytes("rtt"),
    tableBytes: RTT_TABLE_BYTES,
    spillBytes: SMALL_RING_BYTES,
  });

export const openRetransmits = (datapath: Datapath): OpenedTable =>
  datapath.open({
    name: "retransmits",
    bytes: objectBytes("retransmits"),
    tableBytes: RETRANSMIT_TABLE_BYTES,
    spillBytes: SMALL_RING_BYTES,
  });

/** A datapath of its own, gone with `owner`. */
export const openDatapath = (kernel: BenchKernel, owner: DisposableStack): Datapath =>
  owner.use(createDatapath(kernel.libbpf));

/** Empties both halves of a table. */
export function empty(table: OpenedTable): void {
  for (let half = 0; half < 2; half++) table.read(() => {});
}

export type Driver = {
  /** Programs to compare with: nothing, and a lookup with two adds in a per-CPU hash. */
  readonly empty: number;
  readonly floor: number;
  /** Packets of random flows among so many. */
  randomFlows(flows: number): void;
  /** Every packet the flow after that of the last one, from the flow of this number on or from where it stopped. */
  newFlows(first?: number): void;
  /** Runs a program on `packets` packets; returns nanoseconds a packet. */
  run(programFd: number, frame: Uint8Array, packets: number): number;
};

const AIM_BYTES = 16; // flows, next, seed, padding: see tc.bpf.c
const FLOWS_WORD = 0;
const NEXT_WORD = 1;

export function openDriver(kernel: BenchKernel, owner: DisposableStack): Driver {
  const object: KernelObject = owner.use(kernel.open("tc"));
  const aim = new Uint32Array(object.mapArray(".data.aim", 1, AIM_BYTES, true).buffer, 0, AIM_BYTES / 4);
  const driver = object.programFd("bench_driver");
  const driven = object.mapFd("driven");
  const key = new Uint8Array(4);
  let target = -1;
  return {
    empty: object.programFd("bench_empty"),
    floor: object.programFd("bench_floor"),
    randomFlows(flows) {
      aim[FLOWS_WORD] = flows;
    },
    newFlows(first) {
      aim[FLOWS_WORD] = 0;
      if (first !== undefined) aim[NEXT_WORD] = first;
    },
    run(programFd, frame, packets) {
      if (target !== programFd)
        kernel.libbpf.updateElement(driven, key, new Uint8Array(new Int32Array([programFd]).buffer));
      target = programFd;
      const startNs = kernel.threadNs();
      kernel.libbpf.testRun(driver, frame, packets);
      return (kernel.threadNs() - startNs) / packets;
    },
  };
}
