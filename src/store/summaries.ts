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
/** Of the file. */
const share = 1 / 64;
/** Numbers, and the entry of the index. */
const numbersBytes = 80;
/** What a page holds of rows. */
const usableBytes = pageBytes - 36;
/** However short they are: their sizes are read at the opening. */
const rowsMax = 500_000;
/** Rows that one transaction removes. */
const removeMax = 1024;

/** What a row takes, with what it leaves empty in its page; a longer one has pages of its own. */
function rowBytes(countsBytes: number): number {
  const bytes = countsBytes + numbersBytes;
  if (bytes > usableBytes) return Math.ceil(bytes / usableBytes) * pageBytes;
  return pageBytes / Math.floor(usableBytes / bytes);
}

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

const bytesOf = (rows: readonly SummaryRow[]): number =>
  rows.reduce((sum, row) => sum + rowBytes(row[5].length), 0);

/** Pages that rows of so many bytes may add or change. */
const pagesIn = (bytes: number): number => Math.ceil((bytes * 4) / 3 / pageBytes) + 4;

/** As many of the first as fit into so many pages, one at the least. */
function firstOf(rows: readonly SummaryRow[], pagesMax: number): readonly SummaryRow[] {
  let some = rows.slice(0, 1024);
  while (some.length > 1 && pagesIn(bytesOf(some)) > pagesMax)
    some = some.slice(0, Math.ceil(some.length / 2));
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
      const removed = (added: number): number =>
        Math.min((pagesMax * pageBytes) / 2, 2 * added + table.excess(added));
      let written: readonly SummaryRow[] = [];
      let gone: Removed = { rows: 0, bytes: 0 };
      opened = true;
      const due = (): boolean => pending.length > 0 || table.excess(0) > 0;
      return {
        due,
        pages() {
          if (!due()) return 0;
          const added = bytesOf(firstOf(pending, pagesMax));
          return pagesIn(added) + pagesIn(removed(added));
        },
        write(at) {
          written = firstOf(pending, pagesMax);
          for (const row of written) table.put(row);
          const added = bytesOf(written);
          // A clock that was set forward must not take all of them at once.
          const bounds = { cutoffAt: at - ageMaxMs, added, bytesMax: removed(added) };
          gone = due() ? table.trim(bounds) : { rows: 0, bytes: 0 };
        },
        settle() {
          pending = pending.slice(written.length);
          evicted += gone.rows;
          table.changed(written.length - gone.rows, bytesOf(written) - gone.bytes);
          [written, gone] = [[], { rows: 0, bytes: 0 }];
        },
      } satisfies OpenPart;
    },
  };
}

/** Of rows that are in the file. */
type Removed = { readonly rows: number; readonly bytes: number };

function openTable(database: Database, { pagesMax }: PartBudget) {
  const tableBytesMax = pagesMax * pageBytes * share;
  const insert = database.prepare(
    "INSERT INTO summaries (start_at, end_at, rows, packets, bytes, counts) VALUES (?, ?, ?, ?, ?, ?)",
  );
  const oldest = database
    .prepare<unknown[], [id: number, length: number]>(
      `SELECT id, octet_length(counts) FROM summaries ORDER BY id LIMIT ${removeMax}`,
    )
    .raw();
  const removeUpTo = database.prepare("DELETE FROM summaries WHERE id <= ?");
  // Oldest first and up to one that is young enough, so that a clock that was ahead takes nothing else along.
  const firstYoung = database
    .prepare<unknown[], number | null>("SELECT id FROM summaries WHERE end_at >= ? ORDER BY id LIMIT 1")
    .pluck();
  let [rows, bytes] = sizeOf(database);
  return {
    put: (row: SummaryRow): void => void insert.run(...row),
    /** Bytes that are too much in the file once so many are added. */
    excess: (added: number): number =>
      Math.max(0, bytes + added - tableBytesMax, rows > rowsMax ? pageBytes : 0),
    /** Removes rows of at most so many bytes, or one. */
    trim(bounds: { readonly cutoffAt: number; readonly added: number; readonly bytesMax: number }): Removed {
      const youngId = firstYoung.get(bounds.cutoffAt) ?? Number.POSITIVE_INFINITY;
      const gone = { rows: 0, bytes: 0 };
      let lastId = 0;
      for (const [id, length] of oldest.iterate()) {
        const tooMuch = bytes + bounds.added - gone.bytes > tableBytesMax || rows - gone.rows > rowsMax;
        const next = gone.bytes + rowBytes(length);
        if (!(tooMuch || id < youngId) || (gone.rows > 0 && next > bounds.bytesMax)) break;
        gone.rows++;
        gone.bytes = next;
        lastId = id;
      }
      if (gone.rows > 0) removeUpTo.run(lastId);
      return gone;
    },
    /** The transaction was committed. */
    changed(rowsMore: number, bytesMore: number): void {
      rows += rowsMore;
      bytes += bytesMore;
    },
  };
}

function sizeOf(database: Database): [rows: number, bytes: number] {
  const lengths = database
    .prepare<unknown[], [length: number, rows: number]>(
      "SELECT octet_length(counts), count(*) FROM summaries GROUP BY 1",
    )
    .raw()
    .all();
  const rows = lengths.reduce((sum, [, count]) => sum + count, 0);
  return [rows, lengths.reduce((sum, [length, count]) => sum + count * rowBytes(length), 0)];
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
