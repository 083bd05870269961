// Summaries of throttled intervals: what history did not keep, by verdict, direction and protocol.

import type { ThrottleSummary } from "../throttle-summary.ts";
import type { OpenPart, Part, PartBudget } from "./part.ts";
import type { Reader } from "./query.ts";
import { pageBytes } from "./schema.ts";
import type { Database } from "./sqlite.ts";

export type StoredSummaries = Part & {
  add(summaries: readonly ThrottleSummary[]): void;
  /** Summaries that retention or a full queue took, since the start; the ledger has their counts. */
  readonly evicted: number;
};

export type SummaryQuery = {
  /** Epoch milliseconds; intervals that end after `fromAt` and begin before `toAt`. */
  readonly fromAt?: number;
  readonly toAt?: number;
  /** Newest first; default 100. */
  readonly limit?: number;
};

/** While no disk takes them. */
const pendingMax = 4096;
/** A row with its counts, its index entry and its share of the page, when few kinds of traffic were throttled. */
const rowBytes = 256;
const rowsMaxMax = 500_000;

/** As it stands in the file. */
type SummaryRow = readonly [
  startAt: number,
  endAt: number,
  rows: number,
  packets: number,
  bytes: number,
  counts: string,
];

const rowOf = ({ startAt, endAt, rows, packets, bytes, by }: ThrottleSummary): SummaryRow => [
  Math.trunc(startAt),
  Math.trunc(endAt),
  rows,
  packets,
  bytes,
  JSON.stringify(by),
];

/** Pages that so many rows may add or change; the numbers and the entry of the index take some 80 bytes a row. */
const pagesOf = (rows: readonly SummaryRow[]): number =>
  Math.ceil((rows.reduce((sum, row) => sum + row[5].length + 80, 0) * 4) / 3 / pageBytes) + 4;

/** As many of the first as fit into so many pages, one at the least. */
function firstOf(rows: readonly SummaryRow[], pagesMax: number): readonly SummaryRow[] {
  let some = rows.slice(0, 1024);
  while (some.length > 1 && pagesOf(some) > pagesMax) some = some.slice(0, Math.ceil(some.length / 2));
  return some;
}

/** Takes a sixty-fourth part of the file at the most, and none longer than `ageMaxMs`. */
export function createStoredSummaries({ ageMaxMs }: { readonly ageMaxMs: number }): StoredSummaries {
  let pending: SummaryRow[] = [];
  let evicted = 0;
  let opened = false;
  return {
    add(summaries) {
      pending.push(...summaries.map(rowOf));
      const over = pending.length - pendingMax;
      if (over <= 0) return;
      pending = pending.slice(over);
      evicted += over;
    },
    get evicted() {
      return evicted;
    },
    finish: () => opened && pending.length > 0,
    open: ({ database, budget }) => {
      const table = openTable(database, budget);
      // Of one transaction: the log of a small file is small.
      const pagesMax = Math.max(8, Math.min(600, Math.floor(budget.pagesMax / 24)));
      let written = 0;
      let gone = 0;
      opened = true;
      return {
        due: () => pending.length > 0,
        pages: () => (pending.length === 0 ? 0 : 2 * pagesOf(firstOf(pending, pagesMax))),
        write: (at) => {
          const some = firstOf(pending, pagesMax);
          written = some.length;
          for (const row of some) table.put(row);
          // A clock that was set forward must not take all of them at once.
          gone = written > 0 ? table.trim({ cutoffAt: at - ageMaxMs, rowsMax: 2 * written + 16 }) : 0;
        },
        settle: () => {
          pending = pending.slice(written);
          evicted += gone;
          [written, gone] = [0, 0];
        },
      } satisfies OpenPart;
    },
  };
}

function openTable(database: Database, { pagesMax }: PartBudget) {
  const rowsMax = Math.min(rowsMaxMax, Math.floor((pagesMax * pageBytes) / 64 / rowBytes));
  const insert = database.prepare(
    "INSERT INTO summaries (start_at, end_at, rows, packets, bytes, counts) VALUES (?, ?, ?, ?, ?, ?)",
  );
  const newest = database.prepare<unknown[], number | null>("SELECT max(id) FROM summaries").pluck();
  const oldest = database.prepare<unknown[], number | null>("SELECT min(id) FROM summaries").pluck();
  const removeUpTo = database.prepare("DELETE FROM summaries WHERE id <= ?");
  // Oldest first and up to one that is young enough, so that a clock that was ahead takes nothing else along.
  const firstYoung = database
    .prepare<unknown[], number | null>("SELECT id FROM summaries WHERE end_at >= ? ORDER BY id LIMIT 1")
    .pluck();
  return {
    put: (row: SummaryRow): void => void insert.run(...row),
    /** Removes at most `rowsMax`. */
    trim({ cutoffAt, rowsMax: most }: { readonly cutoffAt: number; readonly rowsMax: number }): number {
      const last = newest.get() ?? 0;
      const young = firstYoung.get(cutoffAt) ?? last + 1;
      const toId = Math.min(Math.max(young - 1, last - rowsMax), (oldest.get() ?? 0) + most - 1);
      return removeUpTo.run(toId).changes;
    },
  };
}

/** Newest first. */
export function querySummaries(
  reader: Reader,
  { fromAt = Number.MIN_SAFE_INTEGER, toAt = Number.MAX_SAFE_INTEGER, limit = 100 }: SummaryQuery,
): readonly ThrottleSummary[] {
  const found = reader
    .prepare(
      `SELECT start_at, end_at, rows, packets, bytes, counts FROM summaries
       WHERE end_at > ? AND start_at < ? ORDER BY end_at DESC, id DESC LIMIT ?`,
    )
    .all(fromAt, toAt, Math.min(limit, 10_000)) as SummaryRow[];
  return found.map(([startAt, endAt, rows, packets, bytes, counts]) => ({
    startAt,
    endAt,
    rows,
    packets,
    bytes,
    by: JSON.parse(counts) as ThrottleSummary["by"],
  }));
}
