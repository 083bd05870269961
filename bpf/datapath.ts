// The eBPF objects of this node, opened one by one so that what one kernel lacks takes nothing else down.

import { randomBytes } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { tableSet } from "./contract.gen.ts";
import type { Libbpf } from "./libbpf.ts";
import { pageSize } from "./libc.ts";
import { type KernelObject, openKernelObject } from "./object.ts";
import { openTable, type Table, type TallyDelta, type Visit, waitForPrograms } from "./table.ts";

/** CPUs in a list such as 0-3,8: the highest number plus one. */
export function cpuCount(list: string): number {
  const numbers = list.trim().split(/[-,]/).map(Number);
  const highest = Math.max(...numbers);
  if (!Number.isInteger(highest)) throw new Error(`"${list.trim()}" is not a list of CPUs`);
  return highest + 1;
}

export type Cpus = { readonly possible: number; readonly online: number };

const readCpus = (directory = "/sys/devices/system/cpu"): Cpus => ({
  possible: cpuCount(readFileSync(`${directory}/possible`, "utf8")),
  online: cpuCount(readFileSync(`${directory}/online`, "utf8")),
});

/** Sets of a shard, as a power of two, so that both halves of all shards stay within `bytes`. */
export function setsLog2(bytes: number, shards: number): number {
  return Math.max(0, Math.floor(Math.log2(bytes / (2 * shards * tableSet.size))));
}

/** A ring buffer's size must be a power of two of pages. */
export function ringBytes(bytes: number): number {
  return Math.max(pageSize(), 2 ** Math.floor(Math.log2(bytes)));
}

export type OpenedTable = {
  readonly object: KernelObject;
  readonly table: Table;
  /** Reads the half that a swap retired; swaps first when no other table of this tick has done so. */
  read(visit: Visit): TallyDelta & { records: number; packets: number };
};

export type Datapath = Disposable & {
  readonly cpus: Cpus;
  open(options: {
    name: string;
    bytes: Uint8Array;
    tableBytes: number;
    spillBytes: number;
    dnsEnabled?: boolean;
    mapEntries?: Readonly<Record<string, number>>;
    skip?: readonly string[];
  }): OpenedTable;
};

/** One barrier serves every table: all are swapped before it, each is read after it. */
export function createDatapath(libbpf: Libbpf, cpus: Cpus = readCpus()): Datapath {
  const undo = new DisposableStack();
  const opened: { object: KernelObject; table: Table }[] = [];
  const networkNamespace = statSync("/proc/thread-self/ns/net").ino;
  const hashKeys = Array.from({ length: 5 }, () => randomBytes(8).readBigUInt64LE() | 1n);

  function swapAll(object: KernelObject): void {
    // A table that was not read since its last swap keeps its halves: swapping again would mix them up.
    for (const { table } of opened) if (!table.swapped) table.swap();
    waitForPrograms(libbpf, object);
  }

  return {
    cpus,
    open(options) {
      const sets = setsLog2(options.tableBytes, cpus.online);
      const spillBytes = ringBytes(options.spillBytes);
      const object = undo.use(
        openKernelObject({
          libbpf,
          name: options.name,
          bytes: options.bytes,
          settings: {
            hashKeys,
            shards: cpus.online,
            setsLog2: sets,
            cpus: cpus.possible,
            dnsEnabled: options.dnsEnabled ?? false,
            networkNamespace,
          },
          mapEntries: {
            table: 2 * (cpus.online << sets),
            tallies: 2 * cpus.possible,
            spills: spillBytes,
            ...options.mapEntries,
          },
          ...(options.skip === undefined ? {} : { skip: options.skip }),
        }),
      );
      const table = undo.use(
        openTable({ object, shards: cpus.online, cpus: cpus.possible, setsLog2: sets, spillBytes }),
      );
      opened.push({ object, table });
      return {
        object,
        table,
        read(visit) {
          if (!table.swapped) swapAll(object);
          return table.read(visit);
        },
      };
    },
    [Symbol.dispose]: () => undo.dispose(),
  };
}
