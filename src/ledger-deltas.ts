// Cumulative packet counts of the platform to what the ledger of the store must add.

import type { PacketLedger } from "./snapshot.ts";
import type { LedgerDeltas } from "./store/ledger.ts";

type Counts = ReadonlyMap<keyof LedgerDeltas, number>;

const countsOf = ({ seen, aggregated, duplicate, untracked }: PacketLedger): Counts =>
  new Map<keyof LedgerDeltas, number>([
    ["packets.seen", seen],
    ["packets.aggregated", aggregated],
    ["packets.duplicate", duplicate],
    ...untracked.map(({ reason, packets }) => [`packets.untracked.${reason}`, packets] as const),
  ]);

export type PacketDeltas = (packets: PacketLedger | undefined) => LedgerDeltas;

/**
 * Each call gives what was counted since the last one. Without a section nothing was counted, and the next one
 * catches up. One whose counts have gone back begins anew: a backend that was opened again counts from zero.
 */
export function createPacketDeltas(): PacketDeltas {
  let before: Counts = new Map();
  return (packets) => {
    if (packets === undefined) return {};
    const now = countsOf(packets);
    const restarted = [...before].some(([name, count]) => (now.get(name) ?? 0) < count);
    const base: Counts = restarted ? new Map() : before;
    before = now;
    return Object.fromEntries([...now].map(([name, count]) => [name, count - (base.get(name) ?? 0)]));
  };
}
