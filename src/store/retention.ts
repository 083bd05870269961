// Retention: keeps the file under its bound and rows under their age, oldest rows first.

import { pageBytes } from "./schema.ts";
import type { Database } from "./sqlite.ts";

const bytesMaxMin = 1024 * 1024;
const logBytesMax = 32 * 1024 * 1024;

/** How `bytesMax` is shared out. All in bytes but `pagesMax` and the rows. */
export type Budget = {
  /** Pages of the database file, free ones included. */
  readonly pagesMax: number;
  /** Size of the write-ahead log that is never passed. */
  readonly walMax: number;
  /** From this size on, the log is written back into the file. */
  readonly checkpointAt: number;
  /** Rows added, and removed, in one transaction: each at most an eighth of the log. */
  readonly chunkRows: number;
};

/** A row of IPv6 with counts near their maximum, with its share of the page. Typical rows take 60 to 90. */
const rowBytesWorst = 128;
/** Batch, dictionary, ledger, state, free list and pointer map, which one transaction may each extend. */
const slackPages = 16;

export function budgetOf(bytesMax: number): Budget {
  if (!(bytesMax >= bytesMaxMin))
    throw new Error(
      `The store needs at least ${bytesMaxMin} bytes, store.bytesMax is ${bytesMax}. Raise it.`,
    );
  const walMax = Math.min(logBytesMax, Math.floor(bytesMax / 4));
  return {
    pagesMax: Math.floor((bytesMax - walMax) / pageBytes),
    walMax,
    checkpointAt: Math.min(logBytesMax / 8, Math.floor(walMax / 2)),
    chunkRows: Math.min(20_000, Math.floor(walMax / 8 / rowBytesWorst)),
  };
}

/** The least `bytesMax` under which a file of so many bytes may stay as it is. */
export function bytesMaxFor(fileBytes: number): number {
  const bytes = Math.ceil(fileBytes / pageBytes) * pageBytes;
  return Math.max(bytesMaxMin, Math.min(bytes + logBytesMax, Math.ceil((bytes * 4) / 3)));
}

/** Pages that a transaction with so many new rows may need. */
export const pagesFor = (rows: number): number => Math.ceil((rows * rowBytesWorst) / pageBytes) + slackPages;

/** Bytes that writing `added` and removing `removed` rows may add to the log, which takes pages that became free too. */
export const walBytesFor = ({
  added,
  removed,
}: {
  readonly added: number;
  readonly removed: number;
}): number => pagesFor(added + removed) * (pageBytes + 24);

export type Retention = {
  /** Inside a transaction: makes room for so many rows and other pages. Returns how many rows went, at most `evictMax`. */
  makeRoom(options: {
    readonly rows: number;
    readonly pages: number;
    readonly evictMax: number;
    /** A file that is larger than its budget: brings what is in use down to that, not only to what the file has. */
    readonly fitting: boolean;
  }): number;
  /** Inside a transaction: removes rows that are too old, at most `rowsMax`. */
  expire(options: Ages & { readonly rowsMax: number }): number;
  /** Whether `expire` would find anything. */
  expires(options: Ages): boolean;
  /** Pages in use and pages of the file. */
  pages(): { readonly used: number; readonly total: number };
  /** Outside a transaction: gives up to `pages` free pages at the end of the file back. */
  shrink(pages: number): void;
};

/** Rows appended before `cutoffAt` are too old; `at` is now. */
export type Ages = { readonly cutoffAt: number; readonly at: number };

export function openRetention({
  database,
  pagesMax,
}: {
  readonly database: Database;
  readonly pagesMax: number;
}): Retention {
  const number = (sql: string) => database.prepare<unknown[], number | null>(sql).pluck();
  const pageCount = number("PRAGMA page_count");
  const freeCount = number("PRAGMA freelist_count");
  const oldestSeq = number("SELECT min(seq) FROM flows");
  const newestSeq = number("SELECT max(seq) FROM flows");
  const removeRows = database.prepare("DELETE FROM flows WHERE seq <= ?");
  const removeBatches = database.prepare("DELETE FROM batches WHERE last_seq <= ?");
  const firstFresh = number(
    "SELECT first_seq FROM batches WHERE at > ? AND at <= ? ORDER BY first_seq LIMIT 1",
  );
  const lastOld = number("SELECT max(last_seq) FROM batches WHERE first_seq < ? AND at <= ?");

  const pages = () => {
    const total = pageCount.get() ?? 0;
    return { used: total - (freeCount.get() ?? 0), total };
  };

  const removeUpTo = (seq: number): number => {
    const rows = removeRows.run(seq).changes;
    removeBatches.run(seq);
    return rows;
  };

  const held = () => {
    const oldest = oldestSeq.get() ?? undefined;
    const newest = newestSeq.get() ?? undefined;
    return oldest === undefined || newest === undefined ? undefined : { oldest, rows: newest - oldest + 1 };
  };

  // Oldest first, up to a batch that is young enough. Batches that are newer than now were written by a clock that was
  // ahead, or stand now while it is behind for a moment: their age is not known, so they go with an older one after
  // them, and never alone.
  const oldSeq = ({ cutoffAt, at }: Ages): number | undefined => {
    const fresh = firstFresh.get(cutoffAt, at) ?? Number.MAX_SAFE_INTEGER;
    return lastOld.get(fresh, cutoffAt) ?? undefined;
  };

  return {
    makeRoom({ rows, pages: others, evictMax, fitting }) {
      const need = pagesFor(rows) + others;
      // All that is too much at once would be one transaction without a bound.
      const limit = fitting ? pagesMax : Math.max(pagesMax, pages().total);
      let evicted = 0;
      // Rows differ in size and a page is free only when its last row is gone: count again after each step.
      while (evicted < evictMax) {
        const missing = need - (limit - pages().used);
        const store = missing > 0 ? held() : undefined;
        if (store === undefined) break;
        const share = Math.ceil((missing / Math.max(1, pages().used)) * store.rows) + 32;
        evicted += removeUpTo(store.oldest + Math.min(share, store.rows, evictMax - evicted) - 1);
      }
      return evicted;
    },
    expire({ rowsMax, ...ages }) {
      const old = oldSeq(ages);
      const store = old === undefined ? undefined : held();
      if (old === undefined || store === undefined) return 0;
      return removeUpTo(Math.min(old, store.oldest + rowsMax - 1));
    },
    expires: (ages) => oldSeq(ages) !== undefined,
    pages,
    shrink: (count) => {
      database.pragma(`incremental_vacuum(${Math.max(1, Math.floor(count))})`);
    },
  };
}
