// Reads the kernel's records word by word, and turns live flows into the rows that leave the platform.

import type { Direction, EvictReason, FlowRecord } from "../src/flow.ts";
import type { KernelClock } from "./clock.ts";
import { flowRecord, hook as hooks } from "./contract.gen.ts";
import { type FlowColumns, KEY_WORDS } from "./flow-columns.ts";
import { ipv6Text } from "./proc/address.ts";

const PORTS_WORD = flowRecord.sourcePort / 4;
const META_WORD = flowRecord.protocol / 4;
const SCOPE_WORD = flowRecord.ifindex / 4;
const BYTES_WORD = flowRecord.bytes / 4;

const protocolOf = (words: Uint32Array, at: number): number => (words[at + META_WORD] ?? 0) & 0xff;
export const hookOf = (words: Uint32Array, at: number): number => ((words[at + META_WORD] ?? 0) >>> 8) & 0xff;
export const tcpFlagsOf = (words: Uint32Array, at: number): number =>
  ((words[at + META_WORD] ?? 0) >>> 16) & 0xff;
/** Interface of a flow record, cause of a drop record. */
export const scopeOf = (words: Uint32Array, at: number): number => words[at + SCOPE_WORD] ?? 0;
export const bytesOf = (words: Uint32Array, at: number): number =>
  (words[at + BYTES_WORD] ?? 0) + (words[at + BYTES_WORD + 1] ?? 0) * 2 ** 32;

const DIRECTION_BIT: Readonly<Record<Direction, number>> = { ingress: 1 << 8, egress: 2 << 8 };

/** The flow table's key of a record: addresses, ports, protocol, direction, and the drop reason or 0. */
export function flowKey(
  key: Uint32Array,
  words: Uint32Array,
  at: number,
  direction: Direction,
  reason: number,
): void {
  for (let i = 0; i <= PORTS_WORD; i++) key[i] = words[at + i] ?? 0;
  key[9] = protocolOf(words, at) | DIRECTION_BIT[direction];
  key[10] = reason;
}

/** The key of the same flow seen from its other end. */
export function reverseKey(key: Uint32Array, words: Uint32Array, at: number): void {
  const ports = words[at + PORTS_WORD] ?? 0;
  for (let i = 0; i < 4; i++) {
    key[i] = words[at + 4 + i] ?? 0;
    key[4 + i] = words[at + i] ?? 0;
  }
  key[8] = ((ports << 16) | (ports >>> 16)) >>> 0;
  key[9] = protocolOf(words, at) | DIRECTION_BIT.ingress;
  key[10] = 0;
}

export const hookDirection = (hook: number): Direction => (hook === hooks.EGRESS ? "egress" : "ingress");

const swap16 = (value: number): number => ((value & 0xff) << 8) | (value >>> 8);
const ICMP = 1;
const ICMPV6 = 58;
const TCP = 6;

/** Rows that wait for the next snapshot. */
export function createRowList(): { add(row: FlowRecord): void; take(): readonly FlowRecord[] } {
  let rows: FlowRecord[] = [];
  return {
    add: (row) => void rows.push(row),
    take() {
      const taken = rows;
      rows = [];
      return taken;
    },
  };
}

const isIcmp = (protocol: number): boolean => protocol === ICMP || protocol === ICMPV6;

/** Fields that only some rows have are assigned one by one: very many rows may be made in a few ticks. */
type Row = { -readonly [Name in keyof FlowRecord]: FlowRecord[Name] };

function addOptional(row: Row, flows: FlowColumns, slot: number, ports: number): void {
  const rttUs = flows.rttUs[slot] ?? 0;
  const retransmits = flows.retransmits[slot] ?? 0;
  if (isIcmp(row.protocol)) {
    row.icmpType = ports & 0xff;
    row.icmpCode = (ports >>> 8) & 0xff;
  }
  if (rttUs > 0) row.rttUs = rttUs;
  // A socket of this node told its round trip time: it would have told what it sent again.
  if (retransmits > 0 || (rttUs > 0 && row.protocol === TCP)) row.retransmits = retransmits;
}

/** The row of what is unreported of a flow. */
export function rowOf(options: {
  flows: FlowColumns;
  slot: number;
  clock: KernelClock;
  interfaceName: (ifindex: number) => string;
  dropReason?: (reason: number) => string;
  evictReason: EvictReason;
}): FlowRecord {
  const { flows, slot, clock, dropReason } = options;
  const { keys } = flows;
  const at = slot * KEY_WORDS;
  const ports = keys[at + 8] ?? 0;
  const meta = keys[at + 9] ?? 0;
  const ported = !isIcmp(meta & 0xff);
  const row: Row = {
    startAt: clock.toEpochMs(flows.firstNs[slot] ?? 0),
    endAt: clock.toEpochMs(flows.lastNs[slot] ?? 0),
    source: ipv6Text(flows.keyView, at * 4),
    destination: ipv6Text(flows.keyView, at * 4 + 16),
    sourcePort: ported ? swap16(ports & 0xffff) : 0,
    destinationPort: ported ? swap16(ports >>> 16) : 0,
    protocol: meta & 0xff,
    direction: (meta & DIRECTION_BIT.egress) === 0 ? "ingress" : "egress",
    verdict: dropReason === undefined ? "forwarded" : "dropped",
    packets: flows.packets[slot] ?? 0,
    bytes: flows.bytes[slot] ?? 0,
    tcpFlags: flows.flags[slot] ?? 0,
    interface: options.interfaceName(flows.ifindex[slot] ?? 0),
    evictReason: options.evictReason,
  };
  if (dropReason !== undefined) row.dropReason = dropReason(keys[at + 10] ?? 0);
  addOptional(row, flows, slot, ports);
  return row;
}
