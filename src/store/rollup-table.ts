// Rollups in memory: exact totals of each minute or hour by key, with a bound on the keys.

import type { FlowRecord } from "../flow.ts";
import type { StoredAddress } from "./address.ts";
import { minuteOf } from "./minutes.ts";
import type { EncodedRow } from "./rows.ts";
import { textMax } from "./strings.ts";

export const hourMs = 3_600_000;

/** The start of the hour that a time is in. */
export const hourOf = (at: number): number => Math.floor(at / hourMs) * hourMs;

/** What records are added up by, with the numbers of the file. */
export type RollupKey = {
  /** Ends and port are null in rows for what was not among the greatest; the rest is exact there too. */
  readonly source: StoredAddress | null;
  readonly destination: StoredAddress | null;
  readonly destinationPort: number | null;
  readonly protocol: number;
  /** 1 is egress. */
  readonly direction: number;
  /** 1 is dropped. */
  readonly verdict: number;
  readonly dropReason: string | null;
};

/** Exact up to 2^53. */
export type Sums = { readonly records: number; readonly packets: number; readonly bytes: number };

export type RollupRow = RollupKey & Sums & { readonly at: number };

type Entry = RollupKey & { -readonly [Sum in keyof Sums]: Sums[Sum] };

/** How many keys stay: forwarded ones by bytes, dropped ones by packets, so that drops survive beside elephants. */
export type Places = { readonly forwarded: number; readonly dropped: number };

/** As much of an encoded row as is counted. */
export type CountedRow = Pick<EncodedRow, "source" | "destination"> & {
  readonly record: Pick<
    FlowRecord,
    | "endAt"
    | "source"
    | "destination"
    | "sourcePort"
    | "destinationPort"
    | "protocol"
    | "direction"
    | "verdict"
    | "dropReason"
    | "packets"
    | "bytes"
  >;
};

export type Period = {
  /** Its start. */
  readonly at: number;
  /** The least of what was given as `mark` when something was added. */
  mark: number;
  readonly keys: Map<string, Entry>;
  /** Totals without ends. */
  readonly others: Map<number | string, Entry>;
};

export type RollupTable = {
  /** Adds a record to its minute. */
  count(row: CountedRow, mark: number): void;
  /** Adds totals to the period that they name. */
  add(row: RollupRow): void;
  /** Adds all that another table holds, which is done with then. */
  adopt(other: RollupTable): void;
  /** Removes the periods up to `lastAt` and gives their rows, oldest period first. */
  take(options: { readonly lastAt: number; readonly places: Places }): RollupRow[];
  rows(): Iterable<RollupRow>;
  readonly periods: ReadonlyMap<number, Period>;
  readonly keys: number;
  /** Records in the table. */
  readonly records: number;
  /** Records that lost their key, since the start. */
  readonly folded: number;
};

/** Beyond so many rows without ends in one period, what comes new loses its reason too. */
const otherRowsMax = 256;
const otherReason = "(other)";
const firstClientPort = 32_768;

/**
 * When there are more than `keysMax` keys, the lesser half goes to rows without ends. When there are more than
 * `periodsMax` periods, the oldest becomes part of the next. Totals stay exact.
 */
export function createRollupTable({
  keysMax,
  periodsMax,
}: {
  readonly keysMax: number;
  readonly periodsMax: number;
}): RollupTable {
  const held: Held = {
    keysMax,
    periodsMax,
    periods: new Map(),
    last: undefined,
    keys: 0,
    records: 0,
    folded: 0,
  };
  return {
    count: (row, mark) => count(held, row, mark),
    add: (row) => add(held, row),
    adopt(other) {
      for (const from of other.periods.values()) addPeriod(held, periodOf(held, from.at, from.mark), from);
      held.records += other.records;
      held.folded += other.folded;
    },
    take: ({ lastAt, places }) => take(held, lastAt, places),
    *rows() {
      for (const period of held.periods.values()) yield* rowsOf(period);
    },
    periods: held.periods,
    get keys() {
      return held.keys;
    },
    get records() {
      return held.records;
    },
    get folded() {
      return held.folded;
    },
  };
}

type Held = {
  readonly keysMax: number;
  readonly periodsMax: number;
  readonly periods: Map<number, Period>;
  /** Where the record before went: nearly always where the next one goes. */
  last: Period | undefined;
  keys: number;
  records: number;
  folded: number;
};

// Runs once a record: half of what it takes is the text of the key.
function count(held: Held, { record, source, destination }: CountedRow, mark: number): void {
  const { packets, bytes, protocol } = record;
  const period = periodOf(held, minuteOf(record.endAt), mark);
  const destinationPort = portOf(record);
  const direction = record.direction === "egress" ? 1 : 0;
  const verdict = record.verdict === "dropped" ? 1 : 0;
  const rest = numberOf(destinationPort, protocol, verdict, direction);
  const dropReason = record.dropReason === undefined ? null : cut(record.dropReason);
  const key = keyText(record.source, record.destination, rest, dropReason);
  held.records++;
  const known = period.keys.get(key);
  if (known !== undefined) {
    known.records++;
    known.packets += packets;
    known.bytes += bytes;
    return;
  }
  insert(held, period, key, {
    source,
    destination,
    destinationPort,
    protocol,
    direction,
    verdict,
    dropReason,
    records: 1,
    packets,
    bytes,
  });
}

function add(held: Held, { at, ...entry }: RollupRow): void {
  const { source, destination, destinationPort, protocol, direction, verdict, dropReason } = entry;
  const period = periodOf(held, at, 0);
  held.records += entry.records;
  if (source === null || destination === null || destinationPort === null) addOther(period, entry);
  else {
    const rest = numberOf(destinationPort, protocol, verdict, direction);
    addEntry(held, period, keyText(plainText(source), plainText(destination), rest, dropReason), entry);
  }
}

function take(held: Held, lastAt: number, places: Places): RollupRow[] {
  const taken = [...held.periods.values()].filter(({ at }) => at <= lastAt).toSorted((a, b) => a.at - b.at);
  for (const period of taken) keepGreatest(held, [period], () => places);
  const rows = taken.flatMap(rowsOf);
  for (const period of taken) {
    held.periods.delete(period.at);
    held.keys -= period.keys.size;
  }
  for (const row of rows) held.records -= row.records;
  held.last = undefined;
  return rows;
}

function periodOf(held: Held, at: number, mark: number): Period {
  const { last } = held;
  const period = last?.at === at ? last : (held.periods.get(at) ?? makePeriod(held, at, mark));
  held.last = period;
  if (period.mark > mark) period.mark = mark;
  return period;
}

function makePeriod(held: Held, at: number, mark: number): Period {
  const { periods, periodsMax } = held;
  const period: Period = { at, mark, keys: new Map(), others: new Map() };
  periods.set(at, period);
  if (periods.size <= periodsMax) return period;
  const [oldest, next] = [...periods.values()].toSorted((a, b) => a.at - b.at);
  if (oldest === undefined || next === undefined) return period;
  periods.delete(oldest.at);
  held.keys -= oldest.keys.size;
  addPeriod(held, next, oldest);
  return oldest === period ? next : period;
}

function addPeriod(held: Held, into: Period, from: Period): void {
  into.mark = Math.min(into.mark, from.mark);
  for (const [key, entry] of from.keys) addEntry(held, into, key, entry);
  for (const entry of from.others.values()) addOther(into, entry);
}

function addEntry(held: Held, period: Period, key: string, entry: Entry): void {
  const known = period.keys.get(key);
  if (known !== undefined) addSums(known, entry);
  else insert(held, period, key, entry);
}

function insert(held: Held, period: Period, key: string, entry: Entry): void {
  const { keysMax } = held;
  if (held.keys >= keysMax) keepGreatest(held, [...held.periods.values()], (found) => halfOf(keysMax, found));
  period.keys.set(key, entry);
  held.keys++;
}

/** A fifth of the places at the least are there for drops, as in what is written. */
function halfOf(keysMax: number, { forwarded, dropped }: Places): Places {
  const half = Math.floor(keysMax / 2);
  const drops = Math.min(dropped, Math.max(half - forwarded, Math.floor(half / 5)));
  return { forwarded: half - drops, dropped: drops };
}

function keepGreatest(held: Held, periods: readonly Period[], placesOf: (found: Places) => Places): void {
  const stays = greatest(periods, placesOf);
  for (const period of periods)
    for (const [key, entry] of period.keys) {
      if (stays(entry)) continue;
      period.keys.delete(key);
      held.keys--;
      held.folded += entry.records;
      addOther(period, entry);
    }
}

/**
 * The reply of a server goes to a port that its client took at random: each would be a key of its own and push
 * everything else out of its place. Such a port is 0, "a client's port".
 */
const portOf = ({ sourcePort, destinationPort }: CountedRow["record"]): number =>
  sourcePort < firstClientPort && destinationPort >= firstClientPort ? 0 : destinationPort;

const cut = (text: string): string => (text.length <= textMax ? text : text.slice(0, textMax));

const numberOf = (port: number, protocol: number, verdict: number, direction: number): number =>
  ((port * 256 + protocol) * 2 + verdict) * 2 + direction;

const keyText = (source: string, destination: string, rest: number, reason: string | null): string =>
  reason === null ? `${source} ${destination} ${rest}` : `${source} ${destination} ${rest} ${reason}`;

const plainText = (address: StoredAddress): string =>
  typeof address === "number" ? String(address) : address.toString("hex");

const rowsOf = ({ at, keys, others }: Period): RollupRow[] =>
  [...keys.values(), ...others.values()].map((entry) => ({ at, ...entry }));

function addSums(into: Entry, { records, packets, bytes }: Sums): void {
  into.records += records;
  into.packets += packets;
  into.bytes += bytes;
}

function addOther({ others }: Period, entry: RollupKey & Sums): void {
  const { protocol, direction, verdict, records, packets, bytes } = entry;
  const rest = numberOf(0, protocol, verdict, direction);
  let { dropReason } = entry;
  let key = otherKey(rest, dropReason);
  let known = others.get(key);
  if (known === undefined && dropReason !== null && others.size >= otherRowsMax) {
    dropReason = otherReason;
    key = otherKey(rest, dropReason);
    known = others.get(key);
  }
  if (known !== undefined) addSums(known, entry);
  else {
    const ends = { source: null, destination: null, destinationPort: null };
    others.set(key, { ...ends, protocol, direction, verdict, dropReason, records, packets, bytes });
  }
}

const otherKey = (rest: number, reason: string | null): number | string =>
  reason === null ? rest : `${rest} ${reason}`;

/** Tells, for each entry once, whether it is among the greatest. */
function greatest(
  periods: readonly Period[],
  placesOf: (found: Places) => Places,
): (entry: Entry) => boolean {
  const bytes: number[] = [];
  const packets: number[] = [];
  for (const period of periods)
    for (const entry of period.keys.values())
      if (entry.verdict === 1) packets.push(entry.packets);
      else bytes.push(entry.bytes);
  const places = placesOf({ forwarded: bytes.length, dropped: packets.length });
  const forwarded = amongGreatest(bytes, places.forwarded);
  const dropped = amongGreatest(packets, places.dropped);
  return (entry) => (entry.verdict === 1 ? dropped(entry.packets) : forwarded(entry.bytes));
}

/** Tells, for each of the values once, whether it is among the `count` greatest; of equal ones the first are. */
function amongGreatest(values: readonly number[], count: number): (value: number) => boolean {
  if (values.length <= count) return () => true;
  const sorted = Float64Array.from(values).sort();
  const least = count === 0 ? Number.POSITIVE_INFINITY : (sorted[values.length - count] ?? 0);
  let equals = 0;
  for (let index = values.length - count; index < values.length && sorted[index] === least; index++) equals++;
  return (value) => value > least || (value === least && equals-- > 0);
}
