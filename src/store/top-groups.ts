// Totals by one key of the rollups: who talked, to which port, why packets were dropped.

import { type Direction, protocolNames, type Verdict } from "../flow.ts";
import { type AddressRange, formatAddress, parseRange, type StoredAddress } from "./address.ts";
import { StoreQueryError } from "./failure.ts";
import { type Condition, checkTimes, conditionOf, valuesMax } from "./filter.ts";
import { minuteOf } from "./minutes.ts";
import type { RollupMarks } from "./rollup-file.ts";
import { hourMs, hourOf, type RollupKey, type Sums } from "./rollup-table.ts";

export const topKeys = [
  "address",
  "source",
  "destination",
  "pair",
  "port",
  "protocol",
  "reason",
  "verdict",
  "direction",
] as const;
export type TopKey = (typeof topKeys)[number];

export const topOrders = ["bytes", "packets", "records"] as const;
export type TopOrder = (typeof topOrders)[number];

export type TopQuery = {
  /** Epoch milliseconds, from inclusive, to exclusive; without one, all there is on that side. */
  readonly fromAt?: number;
  readonly toAt?: number;
  /** `port` is the destination's, 0 where there is none or it is a client's. `address` is either end. */
  readonly by: TopKey;
  /** Default `bytes`. */
  readonly order?: TopOrder;
  /** Default 10, at most `topLimitMax`. */
  readonly limit?: number;
  readonly verdict?: Verdict;
  readonly direction?: Direction;
  /** IANA protocol number. */
  readonly protocol?: number;
  /** Addresses and networks in CIDR notation, of either end. */
  readonly address?: readonly string[];
  /** Of the destination. */
  readonly port?: number;
  /** What is in no file yet, from `Rollups.pending` for the same query. */
  readonly pending?: PendingTop;
};

export const topLimitMax = 1000;
/** Keys that one answer tells apart. */
export const topGroupsMax = 100_000;

/** Starts of minutes or hours. */
export type TopRange = { readonly fromAt: number; readonly toAt: number };

/** Plain data, so that it can go to another thread. */
export type PendingTop = {
  readonly range: TopRange;
  /** Rows of later ids were still pending when this was taken. */
  readonly minuteId: number;
  readonly groups: readonly (readonly [key: string, records: number, packets: number, bytes: number])[];
  readonly total: Sums;
  readonly unnamed: Sums;
  /** The first and the last of its minutes. */
  readonly edges?: TopRange;
  readonly complete: boolean;
};

/** Throws StoreQueryError with the name of a wrong key. */
export function checkTop(query: TopQuery): void {
  const { fromAt, toAt, by, order = "bytes", limit = 10 } = query;
  checkTimes({ ...(fromAt === undefined ? {} : { fromAt }), ...(toAt === undefined ? {} : { toAt }) });
  if (!topKeys.includes(by))
    throw new StoreQueryError("by", `by is "${String(by)}", not one of ${topKeys.join(", ")}.`);
  if (!topOrders.includes(order))
    throw new StoreQueryError("order", `order is "${String(order)}", not one of ${topOrders.join(", ")}.`);
  if (!Number.isInteger(limit) || limit < 1 || limit > topLimitMax)
    throw new StoreQueryError("limit", `limit: ${limit} is not a whole number from 1 to ${topLimitMax}.`);
}

/**
 * The range that rollups can tell, which has all that was asked for. An hour is told by its minutes as long as all of
 * them are there.
 */
export function rangeOf(
  { fromAt = 0, toAt }: TopQuery,
  { goneAt, goneAheadFrom, goneAheadTo }: Pick<RollupMarks, "goneAt" | "goneAheadFrom" | "goneAheadTo">,
): TopRange {
  const from = Math.max(0, minuteOf(fromAt));
  const to = toAt === undefined ? hourOf(Number.MAX_SAFE_INTEGER) : -minuteOf(-toAt);
  const ahead = (at: number): boolean => hourOf(goneAheadFrom) <= hourOf(at) && hourOf(at) <= goneAheadTo;
  const whole = (at: number): boolean => at === hourOf(at) || (goneAt < hourOf(at) && !ahead(at));
  return { fromAt: whole(from) ? from : hourOf(from), toAt: whole(to) ? to : hourOf(to) + hourMs };
}

/** The rows that match, as a condition. A row without ends meets every test of ends: what it holds is not known. */
export function rollupCondition({ verdict, direction, protocol, address, port }: TopQuery): Condition {
  const plain = conditionOf(
    {
      ...(verdict === undefined ? {} : { verdict }),
      ...(direction === undefined ? {} : { direction }),
      ...(protocol === undefined ? {} : { protocol }),
    },
    () => undefined,
  );
  const ends = conditionOf(
    {
      ...(address === undefined ? {} : { addresses: checkedRanges(address) }),
      ...(port === undefined ? {} : { destinationPorts: checkedPort(port) }),
    },
    () => undefined,
  );
  if (plain === undefined || ends === undefined || ends.sql === "")
    return plain ?? { sql: "", parameters: [] };
  return {
    sql: `${plain.sql} AND (source IS NULL OR (1${ends.sql}))`,
    parameters: [...plain.parameters, ...ends.parameters],
  };
}

// With the names of this query's keys.
function checkedRanges(texts: readonly string[]): readonly string[] {
  for (const text of texts) rangeOfAddress(text);
  if (texts.length > valuesMax)
    throw new StoreQueryError(
      "address",
      `address has ${texts.length} values, at most ${valuesMax} are taken.`,
    );
  return texts;
}

function rangeOfAddress(text: string): AddressRange {
  const range = parseRange(text);
  if (range !== undefined) return range;
  throw new StoreQueryError("address", `"${text}" is neither an address nor a network such as 10.0.0.0/8.`);
}

function checkedPort(port: number): readonly number[] {
  if (Number.isInteger(port) && port >= 0 && port <= 0xffff) return [port];
  throw new StoreQueryError("port", `port: ${port} is not a whole number from 0 to 65535.`);
}

/** The same test as `rollupCondition`, for rows in memory. */
export function rollupTest(query: TopQuery): (row: RollupKey) => boolean {
  rollupCondition(query); // Throws for what is wrong.
  const { port, protocol } = query;
  const verdict = query.verdict === undefined ? undefined : query.verdict === "dropped" ? 1 : 0;
  const direction = query.direction === undefined ? undefined : query.direction === "egress" ? 1 : 0;
  const ranges = query.address?.length ? query.address.map(rangeOfAddress) : undefined;
  return (row) => {
    if (verdict !== undefined && row.verdict !== verdict) return false;
    if (direction !== undefined && row.direction !== direction) return false;
    if (protocol !== undefined && row.protocol !== protocol) return false;
    const { source, destination } = row;
    if (source === null || destination === null) return true;
    if (port !== undefined && row.destinationPort !== port) return false;
    return ranges?.some((range) => isIn(source, range) || isIn(destination, range)) ?? true;
  };
}

function isIn(address: StoredAddress, { low, high }: AddressRange): boolean {
  if (typeof address === "number")
    return typeof low === "number" && typeof high === "number" && address >= low && address <= high;
  if (typeof low === "number" || typeof high === "number") return false;
  return Buffer.compare(address, low) >= 0 && Buffer.compare(address, high) <= 0;
}

type MutableSums = { -readonly [Sum in keyof Sums]: Sums[Sum] };

export type Groups = {
  /** Adds a row that matches. */
  add(row: RollupKey & Sums): void;
  addPending(pending: PendingTop): void;
  readonly sums: ReadonlyMap<string, Sums>;
  readonly total: Sums;
  /** Rows without ends. */
  readonly unnamed: Sums;
  /** False when some keys were not told apart. */
  readonly complete: boolean;
};

export function createGroups(query: TopQuery): Groups {
  const keysOf = keyReader(query.by, addressTexts());
  // Nobody knows whether a row without ends would have met a test of ends.
  const namedOnly = (query.address?.length ?? 0) > 0 || query.port !== undefined;
  const sums = new Map<string, MutableSums>();
  const total = { records: 0, packets: 0, bytes: 0 };
  const unnamed = { records: 0, packets: 0, bytes: 0 };
  let complete = true;

  const addTo = (key: string, row: Sums): void => {
    const known = sums.get(key);
    if (known !== undefined) addSums(known, row);
    else if (sums.size >= topGroupsMax) complete = false;
    else sums.set(key, { records: row.records, packets: row.packets, bytes: row.bytes });
  };

  return {
    add(row) {
      if (row.source === null) {
        addSums(unnamed, row);
        if (namedOnly) return;
      }
      addSums(total, row);
      for (const key of keysOf(row)) addTo(key, row);
    },
    addPending(pending) {
      for (const [key, records, packets, bytes] of pending.groups) addTo(key, { records, packets, bytes });
      addSums(total, pending.total);
      addSums(unnamed, pending.unnamed);
      complete &&= pending.complete;
    },
    sums,
    total,
    unnamed,
    get complete() {
      return complete;
    },
  };
}

function addSums(into: MutableSums, { records, packets, bytes }: Sums): void {
  into.records += records;
  into.packets += packets;
  into.bytes += bytes;
}

/** The keys of a row, none when it has none: both ends for `address`. */
function keyReader(
  by: TopKey,
  text: (address: StoredAddress) => string,
): (row: RollupKey) => readonly string[] {
  switch (by) {
    case "address":
      return ({ source, destination }) =>
        source === null || destination === null ? [] : [text(source), text(destination)];
    case "source":
      return ({ source }) => (source === null ? [] : [text(source)]);
    case "destination":
      return ({ destination }) => (destination === null ? [] : [text(destination)]);
    case "pair":
      return ({ source, destination }) =>
        source === null || destination === null ? [] : [`${text(source)} -> ${text(destination)}`];
    case "port":
      return ({ destinationPort }) => (destinationPort === null ? [] : [String(destinationPort)]);
    case "protocol":
      return ({ protocol }) => [protocolNames[protocol] ?? String(protocol)];
    case "reason":
      return ({ dropReason, verdict }) => (dropReason === null && verdict === 0 ? [] : [dropReason ?? ""]);
    case "verdict":
      return ({ verdict }) => [verdict === 1 ? "dropped" : "forwarded"];
    case "direction":
      return ({ direction }) => [direction === 1 ? "egress" : "ingress"];
    default:
      return by satisfies never;
  }
}

/** Formats an address once: the same ones come again and again. */
function addressTexts(): (address: StoredAddress) => string {
  const texts = new Map<number | string, string>();
  return (address) => {
    const key = typeof address === "number" ? address : address.toString("latin1");
    const known = texts.get(key);
    if (known !== undefined) return known;
    if (texts.size >= topGroupsMax) texts.clear();
    const text = formatAddress(address);
    texts.set(key, text);
    return text;
  };
}
