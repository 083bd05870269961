// What is missing of a time: rows that were never kept or are kept no more, packets that no flow tells of.

import { checkTimes } from "./filter.ts";
import { type LedgerTotals, reasonFamilies, totalOf } from "./ledger.ts";
import { type MinuteCount, minuteOf } from "./minutes.ts";
import type { Reader } from "./query.ts";

export type LostQuery = {
  /** Epoch milliseconds of the last packet, from inclusive, to exclusive. Without both: all that the store ever saw. */
  readonly fromAt?: number;
  readonly toAt?: number;
  /** How long after its last packet a flow may be reported; default a minute. */
  readonly lateMs?: number;
};

/**
 * A record is counted in the minute in which it was appended, which may be up to `lateMs` after its last packet. So
 * these are the counts of every minute in which records of the range were appended: what is missing of the range is
 * among them, and some of what they count may have ended shortly before or after it. Never too little, as long as the
 * clock was not set back within the range. Rows of other nodes count in the minute of their import.
 */
export type LostInRange = {
  /** The oldest minute that is known: of the time before, nothing is. Absent when there is none, or all is known. */
  readonly sinceAt?: number;
  /**
   * By the names of the ledger, those that are not zero: rows that were filtered, throttled, invalid or lost, packets
   * that were untracked, and `rows.evicted`, rows that were kept in that time and are not in the store any more.
   */
  readonly lost: Readonly<Record<string, number>>;
};

const evicted = "rows.evicted";
const lostFamilies = reasonFamilies.filter((family) => family !== evicted);
const isLost = (name: string): boolean => lostFamilies.some((family) => name.startsWith(`${family}.`));

const lateMsDefault = 60_000;

type Minutes = { readonly first: number; readonly last: number };

/** The minutes in which records of the range may have been appended. */
function minutesOf({ fromAt, toAt, lateMs = lateMsDefault }: LostQuery): Minutes {
  return {
    first: fromAt === undefined ? Number.MIN_SAFE_INTEGER : minuteOf(fromAt),
    last: toAt === undefined ? Number.MAX_SAFE_INTEGER : minuteOf(toAt + lateMs),
  };
}

export function lostIn(reader: Reader, query: LostQuery): LostInRange {
  checkTimes(query);
  if (query.fromAt === undefined && query.toAt === undefined) return lostOf(ledgerIn(reader));
  const minutes = minutesOf(query);
  const counts = countsIn(reader, minutes);
  const kept = counts.get("rows.kept") ?? 0;
  const sinceAt = oldestMinute(reader);
  return {
    ...(sinceAt === undefined ? {} : { sinceAt }),
    lost: nonzero([
      ...[...counts].filter(([name]) => isLost(name)),
      [evicted, evictedOf(reader, minutes, kept)],
    ]),
  };
}

/** Of all time, from the totals of the ledger. */
export function lostOf(totals: LedgerTotals): LostInRange {
  const counts = Object.entries(totals).filter(([name]) => isLost(name));
  return { lost: nonzero([...counts, [evicted, totalOf(totals, evicted)]]) };
}

/** Adds what was counted and is in no file yet: on a full disk that is where the losses are. */
export function withPending(
  { lost, ...rest }: LostInRange,
  pending: readonly MinuteCount[],
  query: LostQuery,
): LostInRange {
  const { first, last } = minutesOf(query);
  const sum = new Map(Object.entries(lost));
  for (const { at, name, value } of pending)
    if (isLost(name) && at >= first && at <= last) sum.set(name, (sum.get(name) ?? 0) + value);
  return { ...rest, lost: Object.fromEntries(sum) };
}

const nonzero = (counts: readonly (readonly [string, number])[]): Record<string, number> =>
  Object.fromEntries(counts.filter(([, count]) => count > 0));

const ledgerIn = (reader: Reader): LedgerTotals =>
  Object.fromEntries(reader.prepare("SELECT name, value FROM ledger").all() as [string, number][]);

function countsIn(reader: Reader, { first, last }: Minutes): ReadonlyMap<string, number> {
  const sums = reader.prepare(
    "SELECT name, sum(value) FROM ledger_minutes WHERE at BETWEEN ? AND ? GROUP BY name",
  );
  return new Map(sums.all(first, last) as [string, number][]);
}

function oldestMinute(reader: Reader): number | undefined {
  const [[oldest] = []] = reader.prepare("SELECT min(at) FROM ledger_minutes").all() as [number | null][];
  return oldest ?? undefined;
}

/**
 * Rows get their seqs in the order in which they are kept, and are evicted in that order: how many were kept later
 * says which seqs those of the minutes have, and the oldest seq that is held how many of them are gone. Exact to the
 * minute; batches could not tell, since one may be of several minutes.
 */
function evictedOf(reader: Reader, { last }: Minutes, kept: number): number {
  const held = reader.held();
  const after = reader.prepare("SELECT total(value) FROM ledger_minutes WHERE at > ? AND name = 'rows.kept'");
  const [[keptLater] = [0]] = after.all(last) as [number][];
  const oldest = held.last - keptLater - kept + 1;
  return Math.min(kept, Math.max(0, held.first - oldest));
}
