// The ledger by minute, in the file: when something was kept or lost, for as long as there is room.

import { pageBytes } from "./schema.ts";
import type { Database } from "./sqlite.ts";

/** What was counted in one minute; `at` is its start, epoch milliseconds. */
export type MinuteCount = { readonly at: number; readonly name: string; readonly value: number };

export const minuteMs = 60_000;

/** The start of the minute that a time is in. */
export const minuteOf = (at: number): number => Math.floor(at / minuteMs) * minuteMs;

/** A row with its share of the page. */
const minuteBytes = 48;
/** A month of the names that are usually counted. */
const rowsMaxMax = 600_000;
/** Rows that one transaction removes, after the file was larger; more than a minute has. */
const removeMax = 4096;

/** Rows that the table keeps: a thirty-second part of the file at the most. */
export const minuteRowsMax = (pagesMax: number): number =>
  Math.min(rowsMaxMax, Math.floor((pagesMax * pageBytes) / 32 / minuteBytes));

/** What so many further rows may take: they go into pages that may be half full. A few find room anyway. */
export const minutePages = (rows: number): number =>
  rows < 128 ? 0 : Math.ceil((rows * minuteBytes * 2) / pageBytes);

export type Minutes = {
  /** Inside a transaction: adds to what the minute has. */
  add(count: MinuteCount): void;
  /** Inside a transaction: the oldest make room, once a minute, or in each one while there are many too many. */
  trim(): void;
};

export function openMinutes({
  database,
  pagesMax,
}: {
  readonly database: Database;
  readonly pagesMax: number;
}): Minutes {
  const rowsMax = minuteRowsMax(pagesMax);
  const put = database.prepare(
    `INSERT INTO ledger_minutes (at, name, value) VALUES (?, ?, ?)
     ON CONFLICT (at, name) DO UPDATE SET value = value + excluded.value`,
  );
  const count = database.prepare<unknown[], number>("SELECT count(*) FROM ledger_minutes").pluck();
  const atOf = database
    .prepare<unknown[], number>("SELECT at FROM ledger_minutes ORDER BY at, name LIMIT 1 OFFSET ?")
    .pluck();
  const remove = database.prepare("DELETE FROM ledger_minutes WHERE at < ?");
  let rows: number | undefined; // As far as is known: an addition to a minute that is there is no row more.
  let trimmedAt = Number.NaN;
  let newestAt = Number.NaN;
  let surplus = false; // More than one transaction removes.
  return {
    add({ at, name, value }) {
      put.run(at, name, value);
      rows = (rows ?? 0) + 1;
      newestAt = at;
    },
    trim() {
      const known = rows !== undefined && !Number.isNaN(trimmedAt) && rows <= rowsMax;
      if (!surplus && (newestAt === trimmedAt || known)) return;
      trimmedAt = newestAt;
      rows = count.get() ?? 0;
      surplus = false;
      if (rows <= rowsMax) return;
      const over = rows - Math.floor(rowsMax * 0.95); // Some at once, not one a minute.
      surplus = over > removeMax;
      const from = atOf.get(Math.min(over, removeMax));
      if (from !== undefined) rows -= remove.run(from).changes;
    },
  };
}
