// Makes a file that is larger than its budget smaller: first the parts, then rows, then the pages that came free.

import type { Writer, Written } from "./writer.ts";

type Evicted = Omit<Written, "kept">;

export type Fitting = {
  /** In use, and in all. */
  pages(): { readonly used: number; readonly total: number };
  readonly pagesMax: number;
  partsDue(): boolean;
  /** One transaction with all parts. */
  writeParts(): void;
  /** One transaction: takes a bounded number of rows, while more pages are in use than the budget has. */
  evictRows(): Evicted;
  /** Gives a bounded number of free pages back. Whether any went. */
  giveBack(): boolean;
  /** After each of these. */
  wrote(): void;
};

/** Transactions of the parts that bring no page: what they have due is something else, and rows have their turn. */
const idleMax = 32;

/** `stuck`: all rows are gone, no part has anything to give, and it does not fit. */
export type Fit = "fits" | "more" | "stuck";

/**
 * Works for about so long, one transaction at the least. Parts keep to shares of the budget: only what they leave is
 * for rows.
 */
export function fitFor(
  msMax: number,
  { pages, pagesMax, partsDue, writeParts, evictRows, giveBack, wrote }: Fitting,
): Fit {
  const endMs = performance.now() + msMax;
  let least = Number.POSITIVE_INFINITY;
  let idle = 0;
  do {
    const { used, total } = pages();
    if (total <= pagesMax) return "fits";
    idle = used < least ? 0 : idle + 1;
    least = Math.min(least, used);
    if (idle < idleMax && partsDue()) writeParts();
    else if (gone(evictRows()) === 0 && !giveBack()) return "stuck";
    wrote();
  } while (performance.now() < endMs);
  return pages().total <= pagesMax ? "fits" : "more";
}

const gone = ({ evictedByAge, evictedBySize }: Evicted): number => evictedByAge + evictedBySize;

/** What `write` is given: no rows, and whether the parts have their turn, or rows make room. */
type Empty = {
  readonly rows: readonly [];
  readonly at: number;
  readonly last: boolean;
  readonly fitting: boolean;
};

/** The steps of an open file. */
export function fittingOf(
  { pages, parts, shrink, log }: Writer,
  at: number,
  write: (chunk: Empty) => Written,
): Omit<Fitting, "pagesMax"> {
  const empty = (last: boolean): Empty => ({ rows: [], at, last, fitting: !last });
  return {
    ...{ pages, giveBack: shrink, wrote: log.checkpoint },
    partsDue: () => parts.some((part) => part.due(at)),
    writeParts: () => void write(empty(true)),
    evictRows: () => write(empty(false)),
  };
}
