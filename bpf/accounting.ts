// The accounting collector: the ledger of packets, the fill of every kernel table, and what the kernel did not run.

import type { Collector, MapUse, PacketLedger } from "../src/snapshot.ts";
import { untracked as reasons } from "./contract.gen.ts";
import type { OpenedTable } from "./datapath.ts";
import type { TableLedger } from "./flows.ts";

const untrackedNames: readonly (readonly [number, string])[] = [
  [reasons.NOT_IP, "not_ip"],
  [reasons.TRUNCATED, "truncated"],
  [reasons.EXTENSIONS, "extensions"],
  [reasons.SPILL_FULL, "table_full"],
];

/** Programs of an object whose skipped runs lose a packet. */
export type Counted = {
  /** `flow` or `drop`: prefix of the reasons. */
  readonly subject: string;
  readonly ledger: TableLedger;
  readonly missed: () => number;
};

function ledgerOf(counted: readonly Counted[], duplicate: number): PacketLedger {
  // Asked once: the count goes on meanwhile, and both sides of the law have it.
  const missedRuns = counted.map(({ missed }) => missed());
  const untracked = counted.flatMap(({ subject, ledger }, i) => [
    ...untrackedNames.map(([index, name]) => ({
      reason: `${subject}_${name}`,
      packets: ledger.untracked[index] ?? 0,
    })),
    { reason: `${subject}_recursion`, packets: missedRuns[i] ?? 0 },
  ]);
  const sum = (value: (one: Counted) => number): number => counted.reduce((all, one) => all + value(one), 0);
  return {
    // A run that the kernel skipped saw its packet without telling.
    seen: sum(({ ledger }) => ledger.seen) + missedRuns.reduce((all, runs) => all + runs, 0),
    aggregated: sum(({ ledger }) => ledger.aggregated),
    duplicate,
    untracked,
  };
}

const mapUse = ({ table }: OpenedTable): MapUse => ({
  map: table.name,
  entries: table.records,
  capacity: table.capacity,
  bytes: table.bytes,
});

export function accountingCollector(options: {
  counted: readonly Counted[];
  tables: readonly OpenedTable[];
  duplicates: () => number;
}): Collector & { packets(): PacketLedger } {
  const packets = (): PacketLedger => ledgerOf(options.counted, options.duplicates());
  return {
    name: "accounting",
    packets,
    collect: () => ({
      packets: packets(),
      maps: options.tables.map(mapUse),
    }),
  };
}
