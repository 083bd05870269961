// Reads the totals that the programs keep by CPU: uplink traffic, TCP flags, drops by reason.

import type { Direction } from "../src/flow.ts";
import type { DropTotal, PacketCount, TcpFlag, Totals } from "../src/snapshot.ts";
import { dropTotals, totals as layout, limits } from "./contract.gen.ts";
import { type DropReasons, reasonOfIndex } from "./drop-reasons.ts";

export const directions: readonly Direction[] = ["ingress", "egress"];

const FIN = 1;
const SYN = 2;
const RST = 4;
const PSH = 8;
const ACK = 16;
const URG = 32;
const ECE = 64;
const CWR = 128;
const SYN_ACK = SYN | ACK;

/**
 * Packets of each flag, from counts by flag byte. Offload cuts or joins a buffer so that only ACK and ECE stand in
 * each of its packets; the others stand in one.
 */
export function countFlags(
  buffers: (flags: number) => number,
  packets: (flags: number) => number,
): Readonly<Record<TcpFlag, number>> {
  const sum = (counts: (flags: number) => number, wanted: (flags: number) => boolean): number => {
    let all = 0;
    for (let flags = 0; flags < limits.TCP_FLAG_SETS; flags++) if (wanted(flags)) all += counts(flags);
    return all;
  };
  const has = (bit: number) => (flags: number) => (flags & bit) !== 0;
  return {
    FIN: sum(buffers, has(FIN)),
    SYN: sum(buffers, (flags) => (flags & SYN_ACK) === SYN),
    "SYN-ACK": sum(buffers, (flags) => (flags & SYN_ACK) === SYN_ACK),
    RST: sum(buffers, has(RST)),
    PSH: sum(buffers, has(PSH)),
    ACK: sum(packets, (flags) => (flags & SYN_ACK) === ACK),
    URG: sum(buffers, has(URG)),
    ECE: sum(packets, has(ECE)),
    CWR: sum(buffers, has(CWR)),
  };
}

/**
 * Each 64-bit word of the totals, summed over the CPUs. There may be hundreds of CPUs, and most words of most of them are
 * 0: a BigInt, which is dear, is made of the others alone. It is read whole, as the kernel goes on counting meanwhile; for
 * the same reason the low half is looked at first, since a count that passes 2^32 just then has its high half set before.
 */
function sumCpus(words: BigUint64Array, cpus: number, cpuWords: number): Float64Array {
  const sums = new Float64Array(cpuWords);
  const halves = new Uint32Array(words.buffer, words.byteOffset, cpus * cpuWords * 2);
  for (let cpu = 0, at = 0; cpu < cpus; cpu++)
    for (let word = 0; word < cpuWords; word++, at++) {
      if (halves[2 * at] === 0 && halves[2 * at + 1] === 0) continue;
      sums[word] = (sums[word] ?? 0) + Number(words[at] ?? 0n);
    }
  return sums;
}

export function readTotals(words: BigUint64Array, cpus: number, uplinks: readonly string[]): Totals {
  const sums = sumCpus(words, cpus, layout.size / 8);
  const sum = (word: number): number => sums[word] ?? 0;
  const forward = (direction: number): PacketCount => ({
    packets: sum(layout.forward / 8 + direction * 2),
    bytes: sum(layout.forward / 8 + direction * 2 + 1),
  });
  const tcpFlags = directions.flatMap((direction, i) => {
    const at = (field: number) => (flags: number) => sum(field / 8 + i * limits.TCP_FLAG_SETS + flags);
    const counts = countFlags(at(layout.flagBuffers), at(layout.flagPackets));
    return Object.entries(counts).map(([flag, packets]) => ({ direction, flag: flag as TcpFlag, packets }));
  });
  return { uplinks, forward: { ingress: forward(0), egress: forward(1) }, tcpFlags };
}

export function readDropTotals(words: BigUint64Array, cpus: number, reasons: DropReasons): DropTotal[] {
  const found: DropTotal[] = [];
  const sums = sumCpus(words, cpus, dropTotals.size / 8);
  for (let index = 0; index < 2 * limits.DROP_REASONS; index++) {
    const packets = sums[index * 2] ?? 0;
    if (packets === 0) continue;
    found.push({
      reason: reasons.name(reasonOfIndex(index % limits.DROP_REASONS)),
      direction: index < limits.DROP_REASONS ? "ingress" : "egress",
      packets,
      bytes: sums[index * 2 + 1] ?? 0,
    });
  }
  return found;
}
