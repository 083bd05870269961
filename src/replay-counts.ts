// Counts that only grow, found in any snapshot: so that a recording that begins again does not set them back.

import type { Snapshot } from "./snapshot.ts";

/** A place in a snapshot whose number only grows. Members of a list are known by their texts, not by their place. */
type Visit = (place: string, value: number) => number;

// Numbers in these are states, times or bounds.
const noCounts = new Set([
  "/flows",
  "/flowTable/live",
  "/flowTable/max",
  "/dnsAnswers",
  "/dnsErrors",
  "/dns/latency/bounds",
  "/tcpSockets",
  "/udpActiveSockets",
  "/maps",
  "/endpointUse/local",
  "/endpointUse/remote",
  "/endpointUse/overflow",
  "/endpointUse/sources",
]);

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null;

const textsOf = (item: unknown, index: number): string => {
  if (!isObject(item)) return String(index);
  return Object.values(item)
    .filter((value) => typeof value === "string")
    .join(" ");
};

function walk(value: unknown, place: string, visit: Visit): unknown {
  if (typeof value === "number") return visit(place, value);
  if (Array.isArray(value))
    return value.map((item: unknown, index) => walk(item, `${place}/${textsOf(item, index)}`, visit));
  if (!isObject(value)) return value;
  const entries = Object.entries(value).map(([name, inner]) => [
    name,
    noCounts.has(`${place}/${name}`) ? inner : walk(inner, `${place}/${name}`, visit),
  ]);
  return Object.fromEntries(entries);
}

/** Every count of a snapshot by its place. */
export function countsOf(snapshot: Snapshot): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  walk(snapshot, "", (place, value) => {
    counts.set(place, value);
    return value;
  });
  return counts;
}

// Seconds are no whole numbers: without this, adding up could end below the last value, and a count that falls by
// the last digit is one that began anew.
const aboveRounding = 1e-9;

/** By how much each count is higher in `last` than in `first`. */
export function growth(first: Snapshot, last: Snapshot): ReadonlyMap<string, number> {
  const before = countsOf(first);
  const grown = new Map<string, number>();
  for (const [place, value] of countsOf(last)) {
    const exact = Math.max(0, value - (before.get(place) ?? 0));
    grown.set(place, Number.isInteger(exact) ? exact : exact + aboveRounding);
  }
  return grown;
}

/** The snapshot with each count raised by so many times its growth. */
export function grownBy(snapshot: Snapshot, grows: ReadonlyMap<string, number>, times: number): Snapshot {
  if (times === 0) return snapshot;
  return walk(snapshot, "", (place, value) => value + times * (grows.get(place) ?? 0)) as Snapshot;
}
