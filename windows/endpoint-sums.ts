// Counters of endpoints by numbers, so that thousands of endpoints are added up quickly, and the sections they make.

import type { Direction } from "../src/flow.ts";
import type { Endpoint, TcpFlag, Totals } from "../src/snapshot.ts";
import type { DropCount, EndpointReading, SwitchCounters } from "./counters.ts";

/** Exact counts by the numbers of their counters; undefined where one is not known. */
export type Counts = (bigint | undefined)[];

type Kind = "packets" | "bytes" | "drops" | "flags" | "statistics";
type Counter = { readonly kind: Kind; readonly direction: Direction; readonly name: string };

const directions = ["ingress", "egress"] as const;

/** The switch has some 25 reasons, and fewer statistics; a source that makes up more is cut here. */
const namesMax = 64;
const otherName = "other";

/** Numbers counters in the order in which they come up. */
function createNumbers() {
  const counters: Counter[] = [];
  const byName = () => ({ ingress: new Map<string, number>(), egress: new Map<string, number>() });
  const numbers = {
    ...{ packets: byName(), bytes: byName(), drops: byName(), flags: byName(), statistics: byName() },
  };
  const numberOf = (kind: Kind, direction: Direction, name: string): number => {
    const known = numbers[kind][direction];
    const number = known.get(name);
    if (number !== undefined) return number;
    if (known.size >= namesMax && name !== otherName) return numberOf(kind, direction, otherName);
    known.set(name, counters.length);
    return counters.push({ kind, direction, name }) - 1;
  };
  return { counters, numberOf };
}

/** What is listed twice is one counter in two parts. */
function add(counts: Counts, number: number, count: bigint): void {
  const before = counts[number];
  counts[number] = before === undefined ? count : before + count;
}

type Sections = {
  readonly forward: Totals["forward"];
  readonly drops: Endpoint["drops"];
  readonly tcpFlags: Endpoint["tcpFlags"];
  readonly tcpStatistics: Endpoint["tcpStatistics"];
};

export type EndpointCounters = {
  /** What HNS counts itself. */
  ofEndpoint(reading: EndpointReading): Counts;
  ofSwitch(counters: SwitchCounters): Counts;
  /** As numbers: beyond 2^53 the last digits are rounded. */
  sections(counts: Counts): Sections;
};

export function createEndpointCounters(): EndpointCounters {
  const { counters, numberOf } = createNumbers();

  const addDrops = (counts: Counts, drops: readonly DropCount[]): void => {
    for (const { reason, direction, packets } of drops)
      add(counts, numberOf("drops", direction, reason), packets);
  };
  return {
    ofEndpoint({ forward, drops }) {
      const counts: Counts = [];
      for (const direction of directions) {
        add(counts, numberOf("packets", direction, ""), forward[direction].packets);
        add(counts, numberOf("bytes", direction, ""), forward[direction].bytes);
      }
      addDrops(counts, drops);
      return counts;
    },
    ofSwitch({ drops, tcpFlags, tcpStatistics }) {
      const counts: Counts = [];
      addDrops(counts, drops);
      for (const { direction, flag, packets } of tcpFlags)
        add(counts, numberOf("flags", direction, flag), packets);
      for (const { direction, statistic, count } of tcpStatistics)
        add(counts, numberOf("statistics", direction, statistic), count);
      return counts;
    },
    sections(counts) {
      const forward = { ingress: { packets: 0, bytes: 0 }, egress: { packets: 0, bytes: 0 } };
      const drops: Endpoint["drops"][number][] = [];
      const tcpFlags: Endpoint["tcpFlags"][number][] = [];
      const tcpStatistics: Endpoint["tcpStatistics"][number][] = [];
      for (const [number, { kind, direction, name }] of counters.entries()) {
        const exact = counts[number];
        if (exact === undefined) continue;
        const count = Number(exact);
        if (kind === "packets" || kind === "bytes") forward[direction][kind] = count;
        else if (kind === "drops") drops.push({ reason: name, direction, packets: count });
        else if (kind === "flags") tcpFlags.push({ direction, flag: name as TcpFlag, packets: count });
        else tcpStatistics.push({ direction, statistic: name, count });
      }
      return { forward, drops, tcpFlags, tcpStatistics };
    },
  };
}

/** A count that is read while it goes up may be a little less than before; one at half of it or below began anew. */
const beganAnew = (before: bigint | undefined, count: bigint | undefined): boolean =>
  before !== undefined && count !== undefined && before > 0n && 2n * count <= before;

/** So few may fall by half for being a little less: of these each speaks for itself alone. */
const fewMax = 16n;

/**
 * `counts` are all that one source tells of an endpoint, and begin anew together: one that did speaks for those that have
 * passed their last value since.
 */
function resetGroup(last: Counts, counts: Counts): boolean {
  const fallen = [...counts.keys()].filter((number) => beganAnew(last[number], counts[number]));
  const all = fallen.some((number) => (last[number] ?? 0n) > fewMax);
  for (const number of all ? last.keys() : fallen) if (last[number] !== undefined) last[number] = 0n;
  return fallen.length > 0;
}

/**
 * Adds to the sums what was counted since the last reading, and takes the counts as the last ones; tells whether they
 * began anew, and then adds all of them. A smaller fall adds nothing: the last value stands until it is passed. Counters
 * that were not known begin at their present counts when `fromNow`, else at 0.
 */
export function advance(sums: Counts, last: Counts, counts: Counts, fromNow: boolean): boolean {
  const reset = resetGroup(last, counts);
  for (const [number, count] of counts.entries()) {
    if (count === undefined) continue;
    const before = last[number] ?? (fromNow && !reset ? count : 0n);
    if (count < before) continue;
    last[number] = count;
    add(sums, number, count - before);
  }
  return reset;
}
