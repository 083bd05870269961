// Statistics of TCP, UDP, IP and ICMP: where each count stands in the buffers of iphlpapi, and 32-bit counts made wide.

/** Offset in bytes; little-endian. */
type Field = { readonly name: string; readonly at: number; readonly bits: 32 | 64 };

export type StatisticsLayout = {
  readonly bytes: number;
  readonly fields: readonly Field[];
  /** Counts that stay unnamed until they are more than zero, as Linux does with ICMP types: there are 512 of them. */
  readonly sparse: readonly Field[];
};

const narrow = (at: number, names: readonly string[]): Field[] =>
  names.map((name, index) => ({ name, at: at + 4 * index, bits: 32 }));

// Names are those of /proc/net/snmp, which like the ones of Windows come from the MIBs (RFC 4022, 4113, 4293). Settings
// and states of now stand among the counts, and are left out as on Linux: RtoAlgorithm, RtoMin, RtoMax, MaxConn,
// CurrEstab, NumConns; Forwarding, DefaultTTL, NumIf, NumAddr, NumRoutes; NumAddrs of UDP.
const tcpOpens = ["ActiveOpens", "PassiveOpens", "AttemptFails", "EstabResets"];

/** MIB_TCPSTATS of tcpmib.h. */
export const tcpStatistics: StatisticsLayout = {
  bytes: 60,
  fields: [...narrow(16, tcpOpens), ...narrow(36, ["InSegs", "OutSegs", "RetransSegs", "InErrs", "OutRsts"])],
  sparse: [],
};

/** MIB_TCPSTATS2 of tcpmib.h: segments are wide, and begin at a multiple of eight. */
export const tcpStatistics2: StatisticsLayout = {
  bytes: 72,
  fields: [
    ...narrow(16, tcpOpens),
    { name: "InSegs", at: 40, bits: 64 },
    { name: "OutSegs", at: 48, bits: 64 },
    ...narrow(56, ["RetransSegs", "InErrs", "OutRsts"]),
  ],
  sparse: [],
};

/** MIB_UDPSTATS of udpmib.h. */
export const udpStatistics: StatisticsLayout = {
  bytes: 20,
  fields: narrow(0, ["InDatagrams", "NoPorts", "InErrors", "OutDatagrams"]),
  sparse: [],
};

/** MIB_UDPSTATS2 of udpmib.h. */
export const udpStatistics2: StatisticsLayout = {
  bytes: 32,
  fields: [
    { name: "InDatagrams", at: 0, bits: 64 },
    ...narrow(8, ["NoPorts", "InErrors"]),
    { name: "OutDatagrams", at: 16, bits: 64 },
  ],
  sparse: [],
};

/** MIB_IPSTATS of ipmib.h; there is no wide one. RoutingDiscards is the one count that Linux does not have. */
export const ipStatistics: StatisticsLayout = {
  bytes: 92,
  fields: [
    ...narrow(8, ["InReceives", "InHdrErrors", "InAddrErrors", "ForwDatagrams", "InUnknownProtos"]),
    ...narrow(28, ["InDiscards", "InDelivers", "OutRequests", "RoutingDiscards", "OutDiscards"]),
    ...narrow(48, ["OutNoRoutes", "ReasmTimeout", "ReasmReqds", "ReasmOKs", "ReasmFails"]),
    ...narrow(68, ["FragOKs", "FragFails", "FragCreates"]),
  ],
  sparse: [],
};

const icmpTypes = (at: number, prefix: string): Field[] =>
  narrow(
    at,
    Array.from({ length: 256 }, (_, type) => `${prefix}${type}`),
  );

/** MIB_ICMP_EX of ipmib.h: messages, errors and 256 counts by type of what came in, then the same of what went out. */
export const icmpStatistics: StatisticsLayout = {
  bytes: 2064,
  fields: [...narrow(0, ["InMsgs", "InErrors"]), ...narrow(1032, ["OutMsgs", "OutErrors"])],
  sparse: [...icmpTypes(8, "InType"), ...icmpTypes(1040, "OutType")],
};

const WRAP = 2n ** 32n;

/**
 * Makes one 32-bit count wide: adds what it went up by, through 2^32 too, and never falls. No machine counts 2^31 between
 * two ticks, so what looks like that is a way back. Either the count began anew, and is far below what it was; or it was
 * read between two updates of its per-processor parts and is a little less, and the higher one stands until it is
 * reached again.
 */
export function createWidening(): (narrow: number) => bigint {
  let last: bigint | undefined;
  let wide = 0n;
  return (narrow) => {
    const value = BigInt(narrow);
    const forward = last === undefined ? value : (value - last + WRAP) % WRAP;
    const began = last !== undefined && value <= last / 2n;
    if (last === undefined || forward < WRAP / 2n) wide += forward;
    else if (began) wide += value;
    else return wide;
    last = value;
    return wide;
  };
}

export type StatisticsReader = (view: DataView) => ReadonlyMap<string, bigint>;

/** Of one protocol and address family: keeps what it needs to know of the reading before. */
export function createStatisticsReader(layout: StatisticsLayout): StatisticsReader {
  const wideners = new Map<string, (narrow: number) => bigint>();

  function widen(name: string, narrow: number): bigint {
    let widener = wideners.get(name);
    if (widener === undefined) {
      widener = createWidening();
      wideners.set(name, widener);
    }
    return widener(narrow);
  }

  return (view) => {
    const counts = new Map<string, bigint>();
    for (const { name, at, bits } of layout.fields)
      counts.set(name, bits === 64 ? view.getBigUint64(at, true) : widen(name, view.getUint32(at, true)));
    for (const { name, at } of layout.sparse) {
      const narrow = view.getUint32(at, true);
      if (narrow > 0 || wideners.has(name)) counts.set(name, widen(name, narrow));
    }
    return counts;
  };
}

/**
 * Added up exactly and turned into numbers at the end: past 2^53 the nearest one, which is what Prometheus keeps too.
 */
export function sumCounts(parts: readonly ReadonlyMap<string, bigint>[]): Record<string, number> {
  const sums = new Map<string, bigint>();
  for (const part of parts) for (const [name, count] of part) sums.set(name, (sums.get(name) ?? 0n) + count);
  return Object.fromEntries([...sums].map(([name, count]) => [name, Number(count)]));
}
