// The table of interfaces (GetIfTable2): rows to names and counts, which of them are shown, and names of their own.

import type { InterfaceCounters } from "../src/snapshot.ts";

/** MIB_IF_TABLE2 of netioapi.h: NumEntries, then rows at a multiple of eight bytes. */
export const ROWS_AT = 8;
/** sizeof MIB_IF_ROW2. */
export const ROW_BYTES = 1352;

// Offsets in MIB_IF_ROW2 of netioapi.h.
const INDEX_AT = 8;
const ALIAS_AT = 28;
const DESCRIPTION_AT = 542;
/** IF_MAX_STRING_SIZE + 1 characters of UTF-16. */
const TEXT_BYTES = 2 * 257;
const TYPE_AT = 1128;
const FLAGS_AT = 1152;
/** InterfaceAndOperStatusFlags: bit 0 is HardwareInterface, bit 1 FilterInterface. */
const FILTER_INTERFACE = 0x02;
/** IF_TYPE_SOFTWARE_LOOPBACK of ipifcons.h. */
const TYPE_LOOPBACK = 24;

const IN = {
  ...{ octets: 1208, unicast: 1216, nonUnicast: 1224, discards: 1232, errors: 1240, unknown: 1248 },
  ...{ unicastOctets: 1256, multicastOctets: 1264, broadcastOctets: 1272 },
};
const OUT = {
  ...{ octets: 1280, unicast: 1288, nonUnicast: 1296, discards: 1304, errors: 1312 },
  ...{ unicastOctets: 1320, multicastOctets: 1328, broadcastOctets: 1336 },
};

/**
 * A statistic is the sum of the 64-bit counts at these offsets. The first names are those that Linux has for the same;
 * Windows alone tells protocols that nothing was bound for, packets to many, and bytes by kind. OutQLen is a state.
 */
const statisticOffsets: readonly (readonly [name: string, at: readonly number[]])[] = [
  ["rx_bytes", [IN.octets]],
  ["rx_packets", [IN.unicast, IN.nonUnicast]],
  ["rx_errors", [IN.errors]],
  ["rx_dropped", [IN.discards]],
  ["tx_bytes", [OUT.octets]],
  ["tx_packets", [OUT.unicast, OUT.nonUnicast]],
  ["tx_errors", [OUT.errors]],
  ["tx_dropped", [OUT.discards]],
  ["rx_unknown_protocols", [IN.unknown]],
  ["rx_nonunicast_packets", [IN.nonUnicast]],
  ["rx_unicast_bytes", [IN.unicastOctets]],
  ["rx_multicast_bytes", [IN.multicastOctets]],
  ["rx_broadcast_bytes", [IN.broadcastOctets]],
  ["tx_nonunicast_packets", [OUT.nonUnicast]],
  ["tx_unicast_bytes", [OUT.unicastOctets]],
  ["tx_multicast_bytes", [OUT.multicastOctets]],
  ["tx_broadcast_bytes", [OUT.broadcastOctets]],
];

/** Added up exactly; past 2^53 the nearest number, which is what Prometheus keeps too. */
function statisticsAt(view: DataView, row: number): Record<string, number> {
  const statistics: Record<string, number> = {};
  for (const [name, offsets] of statisticOffsets) {
    let sum = 0n;
    for (const at of offsets) sum += view.getBigUint64(row + at, true);
    statistics[name] = Number(sum);
  }
  return statistics;
}

function textAt(view: DataView, at: number): string {
  const text = Buffer.from(view.buffer, view.byteOffset + at, TEXT_BYTES).toString("utf16le");
  const end = text.indexOf("\0");
  return end < 0 ? text : text.slice(0, end);
}

export type InterfaceRow = {
  /** Of this boot alone. */
  readonly index: number;
  /** What people know it by: Ethernet, vEthernet (nat), … */
  readonly alias: string;
  readonly loopback: boolean;
  readonly statistics: Readonly<Record<string, number>>;
};

/**
 * Without the filters between a driver and its protocols (WFP, QoS, the native Wi-Fi filter, …): each is listed as an
 * interface with the counts of the adapter below it, which would count every packet again.
 */
export function decodeInterfaces(view: DataView): InterfaceRow[] {
  const entries = view.getUint32(0, true);
  if (ROWS_AT + entries * ROW_BYTES > view.byteLength)
    throw new Error(`a table of ${entries} interfaces does not fit into its ${view.byteLength} bytes`);
  const rows: InterfaceRow[] = [];
  for (let entry = 0; entry < entries; entry += 1) {
    const at = ROWS_AT + entry * ROW_BYTES;
    if ((view.getUint8(at + FLAGS_AT) & FILTER_INTERFACE) !== 0) continue;
    const index = view.getUint32(at + INDEX_AT, true);
    rows.push({
      index,
      alias: textAt(view, at + ALIAS_AT) || textAt(view, at + DESCRIPTION_AT) || `interface ${index}`,
      loopback: view.getUint32(at + TYPE_AT, true) === TYPE_LOOPBACK,
      statistics: statisticsAt(view, at),
    });
  }
  return rows;
}

export type InterfaceSelection = {
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  readonly loopback: boolean;
};

/**
 * Names and patterns as on Linux, but without regard to case, as Windows compares names of interfaces. Windows allows
 * no slash in these, which a `*` would not stand for.
 */
export function interfaceTest({ include, exclude, loopback }: InterfaceSelection) {
  const testOf = (patterns: readonly string[]) => {
    const globs = patterns.map((pattern) => new Bun.Glob(pattern.toLowerCase()));
    return (name: string): boolean => globs.some((glob) => glob.match(name));
  };
  const [included, excluded] = [testOf(include), testOf(exclude)];
  return (row: Pick<InterfaceRow, "alias" | "loopback">): boolean => {
    const name = row.alias.toLowerCase();
    return (loopback || !row.loopback) && included(name) && !excluded(name);
  };
}

/** Of interfaces with one alias the one with the lowest index keeps it; the others are told apart by their index. */
export function nameInterfaces(rows: readonly InterfaceRow[]): InterfaceCounters[] {
  const used = new Set<string>();
  return rows
    .toSorted((a, b) => a.index - b.index)
    .map(({ alias, index, statistics }) => {
      let name = alias;
      while (used.has(name)) name = `${name} #${index}`;
      used.add(name);
      return { interface: name, statistics };
    });
}
