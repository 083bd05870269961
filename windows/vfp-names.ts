// What the counters of the virtual switch are called, in each of its sources, and what they are called here.

import type { Direction } from "../src/flow.ts";
import type { TcpFlag } from "../src/snapshot.ts";
import type { SwitchCounters, SwitchSource } from "./counters.ts";

type Meaning =
  | { readonly flag: TcpFlag }
  | { readonly statistic: string }
  /** The reason of a drop. */
  | { readonly drop: string };

const statistic = (name: string): Meaning => ({ statistic: name });

/**
 * Labels without anything but letters and digits, in lower case. The text form writes `SYN-ACK packets`, the JSON
 * `TcpResetPackets`, HNS `SynAckPackets`. Totals (`DroppedPackets`) stand beside their parts and are left out.
 */
const meanings: ReadonlyMap<string, Meaning> = new Map<string, Meaning>([
  ["synpackets", { flag: "SYN" }],
  ["synackpackets", { flag: "SYN-ACK" }],
  ["finpackets", { flag: "FIN" }],
  ["rstpackets", { flag: "RST" }],
  ["resetpackets", { flag: "RST" }],
  ["connectionsverified", statistic("Verified")],
  ["connectionstimedout", statistic("TimedOutCount")],
  ["connectionsreset", statistic("ResetCount")],
  ["connectionsresets", statistic("ResetCount")],
  ["connectionsresetbysyn", statistic("ResetSyn")],
  ["connectionsresethalfttl", statistic("ResetHalfTTL")],
  ["connectionsresetbyinjectedreset", statistic("ResetInjected")],
  ["connectionsclosedbyfin", statistic("ClosedFin")],
  ["connectionsexpiredtotimewait", statistic("TimeWaitExpiredCount")],
  ["connectionstimewait", statistic("TimeWaitExpiredCount")],
  ["halfopentimeouts", statistic("TcpHalfOpenTimeouts")],
  ["droppedaclpackets", { drop: "aclrule" }],
  ["droppedacl", { drop: "aclrule" }],
  ["dropacl", { drop: "aclrule" }],
]);

/** What a counter of a port counts; undefined for those that nobody asks for. */
export const meaningOf = (label: string): Meaning | undefined =>
  meanings.get(
    label
      .toLowerCase()
      .replace(/[^a-z0-9]/g, "")
      .replace(/^tcp/, ""),
  );

export type NamedCount = { readonly direction: Direction; readonly meaning: Meaning; readonly count: bigint };

/** A source that names one counter twice has it counted once: the first one. */
const firstOf = <T>(items: readonly T[], key: (item: T) => string): readonly T[] =>
  [...new Map(items.toReversed().map((item) => [key(item), item])).values()].toReversed();

export function switchCountersFrom(source: SwitchSource, counts: readonly NamedCount[]): SwitchCounters {
  const named = firstOf(counts, ({ direction, meaning }) => `${direction} ${Object.entries(meaning)}`);
  return {
    source,
    drops: named.flatMap(({ direction, meaning, count }) =>
      "drop" in meaning ? [{ reason: meaning.drop, direction, packets: count }] : [],
    ),
    tcpFlags: named.flatMap(({ direction, meaning, count }) =>
      "flag" in meaning ? [{ direction, flag: meaning.flag, packets: count }] : [],
    ),
    tcpStatistics: named.flatMap(({ direction, meaning, count }) =>
      "statistic" in meaning ? [{ direction, statistic: meaning.statistic, count }] : [],
    ),
  };
}
