// Which runs of rows a query must look at, found in the table of batches.

import type { SummaryTest } from "./batch-summary.ts";
import type { Order } from "./cursor.ts";
import type { Database } from "./sqlite.ts";

/** Seqs from `first` to `last`, both included. Seqs have no gaps, so this also says how many rows there are. */
export type Span = { readonly first: number; readonly last: number };

export type SpanQuery = {
  readonly within: Span;
  readonly order: Order;
  readonly fromAt?: number | undefined;
  readonly toAt?: number | undefined;
  /** Only batches that hold dropped rows. */
  readonly dropped: boolean;
  /** Only batches whose summary passes. */
  readonly test?: SummaryTest | undefined;
  /** Rows in all spans together. */
  readonly rowsMax: number;
};

export type Spans = {
  /** In the asked order; neighbours made one. */
  readonly spans: readonly Span[];
  /** Rows in the spans. */
  readonly rows: number;
  /** What is left to look at; undefined when everything beyond these spans holds no match. */
  readonly rest: Span | undefined;
};

/** Batches looked at in one call. A clock that jumps to and fro makes every batch its own span. */
const batchesMax = 1024;

export type SpanFinder = (query: SpanQuery) => Spans;

type BatchRow = readonly [firstSeq: number, lastSeq: number, summary: Buffer | null];

export function openSpans(database: Database): SpanFinder {
  const matching = (order: "ASC" | "DESC", summary: "summary" | "NULL") =>
    database
      .prepare<unknown[], BatchRow>(
        `SELECT first_seq, last_seq, ${summary} FROM batches
         WHERE first_seq <= ? AND last_seq >= ? AND end_max >= ? AND end_min < ? AND dropped >= ?
         ORDER BY first_seq ${order}`,
      )
      .raw();
  const statements = {
    oldest: { plain: matching("ASC", "NULL"), summed: matching("ASC", "summary") },
    newest: { plain: matching("DESC", "NULL"), summed: matching("DESC", "summary") },
  };

  return (query) => {
    const { within, order, fromAt, toAt, dropped, test } = query;
    if (within.first > within.last) return { spans: [], rows: 0, rest: undefined };
    if (fromAt === undefined && toAt === undefined && !dropped && test === undefined)
      return gather([[within.first, within.last, null]], query);
    const statement = test === undefined ? statements[order].plain : statements[order].summed;
    const lowest = Number.MIN_SAFE_INTEGER;
    const highest = Number.MAX_SAFE_INTEGER;
    const batches = statement.iterate(
      within.last,
      within.first,
      fromAt ?? lowest,
      toAt ?? highest,
      dropped ? 1 : 0,
    );
    return gather(batches, query); // Leaving its loop early ends the statement.
  };
}

/** Cuts the batches to the asked seqs and the bound on rows, and joins neighbours. */
function gather(batches: Iterable<BatchRow>, { within, order, test, rowsMax }: SpanQuery): Spans {
  const spans: Span[] = [];
  let rows = 0;
  let looked = 0;
  for (const [from, to, summary] of batches) {
    const whole = { first: Math.max(from, within.first), last: Math.min(to, within.last) };
    if (rows >= rowsMax || looked >= batchesMax)
      return { spans, rows, rest: startingWith(whole, within, order) };
    looked++;
    if (test !== undefined && !test(summary)) continue;
    const span = firstRows(whole, rowsMax - rows, order);
    rows += span.last - span.first + 1;
    join(spans, span, order);
    if (span.first !== whole.first || span.last !== whole.last)
      return { spans, rows, rest: following(span, within, order) };
  }
  return { spans, rows, rest: undefined };
}

const startingWith = ({ first, last }: Span, within: Span, order: Order): Span =>
  order === "oldest" ? { first, last: within.last } : { first: within.first, last };

const following = ({ first, last }: Span, within: Span, order: Order): Span =>
  order === "oldest" ? { first: last + 1, last: within.last } : { first: within.first, last: first - 1 };

function firstRows({ first, last }: Span, rowsMax: number, order: Order): Span {
  return order === "oldest"
    ? { first, last: Math.min(last, first + rowsMax - 1) }
    : { first: Math.max(first, last - rowsMax + 1), last };
}

function join(spans: Span[], span: Span, order: Order): void {
  if (span.first > span.last) return;
  const before = spans.at(-1);
  if (before !== undefined && order === "oldest" && before.last + 1 === span.first)
    spans[spans.length - 1] = { first: before.first, last: span.last };
  else if (before !== undefined && order === "newest" && span.last + 1 === before.first)
    spans[spans.length - 1] = { first: span.first, last: before.last };
  else spans.push(span);
}
