// What `pktmon counters --json` says of drops, and their sums: each drop once, whatever happens to the counters.

import type { Direction } from "../src/flow.ts";
import type { DropTotal } from "../src/snapshot.ts";
import { countOf, parseExact } from "./exact-json.ts";
import { decodeOutput } from "./spawn.ts";

/** What one component of the network stack dropped in one direction since the session began. */
export type DropCounter = {
  /** The same for the same counter of the same component in each reading. */
  readonly key: string;
  readonly direction: Direction;
  /** That of the last drop: pktmon keeps no others. */
  readonly reason: string;
  readonly packets: bigint;
  readonly bytes: bigint;
};

type Fields = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const objectsIn = (value: unknown): readonly Fields[] =>
  (Array.isArray(value) ? value : [value]).filter(isObject);

/** Versions differ in case and spaces of keys (`DropReason`, `Last Drop Reason`). */
const bare = (key: string): string => key.toLowerCase().replace(/[^a-z]/g, "");

const fieldOf = (object: Fields, ...names: readonly string[]): unknown =>
  Object.entries(object).find(([key]) => names.includes(bare(key)))?.[1];

const textOf = (value: unknown): string =>
  typeof value === "string" || typeof value === "number" ? `${value}`.trim() : "";

/** Control characters break JSON inside of a string and mean nothing outside. */
const withoutControls = (text: string): string => text.replace(/[\p{Cc}\uFEFF]/gu, " ");

/** In double-byte code pages the second half of a character may look like a backslash. */
const withoutStrayEscapes = (text: string): string => text.replace(/\uFFFD\\/g, "??");

/** Lines before and after the JSON are passed over. Throws where there is none. */
function jsonIn(output: Uint8Array): unknown {
  const printed = withoutControls(decodeOutput(output));
  const start = printed.search(/[[{]/);
  const end = Math.max(printed.lastIndexOf("]"), printed.lastIndexOf("}"));
  if (start < 0 || end < start) throw new Error("there is no JSON in it");
  const json = printed.slice(start, end + 1);
  try {
    return parseExact(json);
  } catch {
    return parseExact(withoutStrayEscapes(json));
  }
}

const reasonMax = 64;

/** `Inspection drop` is InspectionDrop, as the words of the switch are; a number stands for itself. */
function reasonOf(...places: readonly Fields[]): string {
  const told = places
    .map((place) => textOf(fieldOf(place, "dropreason", "lastdropreason", "reason")))
    .find((text) => text !== "");
  if (told === undefined) return "unknown";
  if (/^\d+$/.test(told)) return `reason-${told}`;
  const words = told.split(/[^\p{L}\p{N}]+/u).filter((word) => word !== "");
  const name = words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join("");
  return name === "" ? "unknown" : name.slice(0, reasonMax);
}

const sides = [
  ["ingress", ["inbound", "in", "rx", "ingress"]],
  ["egress", ["outbound", "out", "tx", "egress"]],
] as const;

/** Counters of flow name the edge that the packets crossed; those of drops are of this type. */
const isDrop = (counter: Fields): boolean =>
  /drop/i.test(textOf(fieldOf(counter, "type"))) || /drop/i.test(textOf(fieldOf(counter, "name")));

function dropsOf(counter: Fields, component: string): readonly DropCounter[] {
  if (!isDrop(counter)) return [];
  return sides.flatMap(([direction, names]) => {
    const side = fieldOf(counter, ...names);
    if (!isObject(side)) return [];
    const packets = countOf(fieldOf(side, "packets"));
    if (packets === undefined) return [];
    const bytes = countOf(fieldOf(side, "bytes")) ?? 0n;
    const key = `${component} ${textOf(fieldOf(counter, "name"))} ${direction}`;
    return [{ key, direction, reason: reasonOf(side, counter), packets, bytes }];
  });
}

/**
 * A packet crosses many components, each of which counts it as flow; it is dropped by one, which alone counts it as
 * dropped. So flow is never added up, and drops are, over all components. One that stands in several groups (a protocol
 * under each of its adapters) has the same id in each, and counts once. Throws where the output is not understood.
 */
export function parseDropCounters(output: Uint8Array): readonly DropCounter[] {
  const root = jsonIn(output);
  const groups = objectsIn(isObject(root) ? (fieldOf(root, "groups") ?? root) : root);
  const counters = groups.flatMap((group) =>
    objectsIn(fieldOf(group, "components")).flatMap((component) => {
      const id = textOf(fieldOf(component, "id", "componentid"));
      const name = `${textOf(fieldOf(group, "group", "name"))}/${textOf(fieldOf(component, "name"))}`;
      return objectsIn(fieldOf(component, "counters")).flatMap((counter) =>
        dropsOf(counter, id === "" ? name : id),
      );
    }),
  );
  return [...new Map(counters.toReversed().map((counter) => [counter.key, counter])).values()];
}

export type DropSums = {
  /** The first reading of a session gives what was there before; from then on everything counts. */
  take(counters: readonly DropCounter[]): void;
  /** The next reading is the first one of another session. */
  restart(): void;
  /** Cumulative, never falls. */
  totals(): readonly DropTotal[];
};

/** More than the components of a large host; of those beyond, the ones that were seen the longest ago are forgotten. */
const countersMax = 16_384;

/** Texts of a system are few; those beyond count as this one. */
const reasonsMax = 256;
const otherReason = "other";

type Sum = { readonly reason: string; readonly direction: Direction; packets: bigint; bytes: bigint };
const add = (sum: Sum, { packets, bytes }: Reading): void => {
  sum.packets += packets;
  sum.bytes += bytes;
};

type Reading = { readonly packets: bigint; readonly bytes: bigint };

const nothing: Reading = { packets: 0n, bytes: 0n };

/** A counter that fell was reset, and what it has now came since. */
const risen = (before: Reading, now: Reading): Reading =>
  now.packets < before.packets || now.bytes < before.bytes
    ? now
    : { packets: now.packets - before.packets, bytes: now.bytes - before.bytes };

export function createDropSums(): DropSums {
  const sums = new Map<string, Sum>();
  const before = new Map<string, Reading>();
  let first = true;

  const sumOf = (reason: string, direction: Direction): Sum => {
    const known = sums.get(`${reason} ${direction}`);
    if (known !== undefined) return known;
    if (sums.size >= 2 * reasonsMax && reason !== otherReason) return sumOf(otherReason, direction);
    const fresh: Sum = { reason, direction, packets: 0n, bytes: 0n };
    sums.set(`${reason} ${direction}`, fresh);
    return fresh;
  };
  return {
    take(counters) {
      for (const { key, direction, reason, packets, bytes } of counters) {
        const now = { packets, bytes };
        const added = first ? nothing : risen(before.get(key) ?? nothing, now);
        if (packets > 0n) add(sumOf(reason, direction), added); // Without a drop there is no reason.
        before.delete(key); // The order is that of the last sight.
        before.set(key, now);
      }
      for (const [key] of before) {
        if (before.size <= countersMax) break;
        before.delete(key);
      }
      first = false;
    },
    restart() {
      before.clear();
      first = true;
    },
    totals: () =>
      [...sums.values()].map(({ reason, direction, packets, bytes }) => ({
        reason,
        direction,
        packets: Number(packets),
        bytes: Number(bytes),
      })),
  };
}
