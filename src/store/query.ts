// Reads flows page by page: newest or oldest first, from a cursor, never holding the thread for long.

import { summaryTest } from "./batch-summary.ts";
import { formatCursor, type Order, parseCursor } from "./cursor.ts";
import { StoreQueryError } from "./failure.ts";
import { addressTests, type Condition, conditionOf, type FlowFilter } from "./filter.ts";
import { columns, decodeRow, type RawRow, type StoredFlow } from "./rows.ts";
import { openSpans, type Span, type SpanFinder, type Spans } from "./spans.ts";
import type { Database, Statement } from "./sqlite.ts";
import type { StringLookup } from "./strings.ts";

export type FlowQuery = FlowFilter & {
  /** Default `newest`: newest rows first. */
  readonly order?: Order;
  /** Rows of the page, at most `limitMax`; default 100. */
  readonly limit?: number;
  /** Of an earlier page of the same order; the filter should be the same too. */
  readonly cursor?: string;
};

export type FlowPage = {
  readonly flows: readonly StoredFlow[];
  /** Goes on after this page. In oldest order it also finds rows that are appended later. */
  readonly cursor: string;
  /** Whether rows are left to look at now. A page may be empty and not the last. */
  readonly more: boolean;
  /** Rows that were looked at. */
  readonly scanned: number;
  /**
   * In oldest order, rows after the given cursor that retention took before they were read, whether or not they would
   * have matched. The cursor of this page is past them.
   */
  readonly lost: number;
};

export const limitMax = 5000;
const limitDefault = 100;

export type Reader = {
  readonly database: Database;
  readonly spans: SpanFinder;
  /** A prepared statement for the text, from a bounded cache. */
  prepare(sql: string): Statement;
  readonly generation: number;
  readonly strings: StringLookup;
  /** Seqs that are in the store now. */
  held(): Span;
  /** Rows that are looked at in one go. */
  readonly scanMax: number;
  /** How long a query goes on to further ones; 0 for no further one. */
  readonly deadlineMs: number;
};

export function openReader({
  database,
  generation,
  strings,
  lastSeq,
  scanMax,
  deadlineMs = 0,
}: {
  readonly database: Database;
  readonly generation: number;
  readonly strings: StringLookup;
  readonly lastSeq: () => number;
  readonly scanMax: number;
  readonly deadlineMs?: number;
}): Reader {
  const statementsMax = 64;
  const statements = new Map<string, Statement>();
  const oldest = database.prepare<unknown[], number | null>("SELECT min(seq) FROM flows").pluck();
  return {
    database,
    spans: openSpans(database),
    generation,
    strings,
    scanMax,
    deadlineMs,
    prepare(sql) {
      const known = statements.get(sql);
      if (known !== undefined) return known;
      if (statements.size >= statementsMax) statements.clear();
      const statement = database.prepare(sql).raw();
      statements.set(sql, statement);
      return statement;
    },
    held: () => ({ first: oldest.get() ?? lastSeq() + 1, last: lastSeq() }),
  };
}

export function queryFlows(reader: Reader, query: FlowQuery): FlowPage {
  const { order = "newest", limit = limitDefault } = query;
  checkPage(order, limit);
  const condition = conditionOf(query, reader.strings.find);
  const { within, lost } = windowOf(reader, query, order);
  const { flows, rest, scanned } =
    condition === undefined ? nothing : scan(reader, { query, order, limit, condition, within });
  return {
    flows,
    cursor: formatCursor({ order, generation: reader.generation, seq: lookedUpTo(rest, within, order) }),
    more: rest !== undefined,
    scanned,
    lost,
  };
}

const nothing: Found = { flows: [], rest: undefined, scanned: 0 };

/** The last seq before what is left, in the asked order. */
function lookedUpTo(rest: Span | undefined, within: Span, order: Order): number {
  if (order === "newest") return rest === undefined ? within.first : rest.last + 1;
  return rest === undefined ? Math.max(within.last, within.first - 1) : rest.first - 1;
}

function checkPage(order: Order, limit: number): void {
  if (order !== "newest" && order !== "oldest")
    throw new StoreQueryError("order", `order is "${String(order)}", not newest or oldest.`);
  if (!Number.isInteger(limit) || limit < 1 || limit > limitMax)
    throw new StoreQueryError("limit", `limit: ${limit} is not a whole number from 1 to ${limitMax}.`);
}

/** The seqs that are left to look at, and how many before them are gone. */
function windowOf(
  reader: Reader,
  { cursor }: FlowQuery,
  order: Order,
): { readonly within: Span; readonly lost: number } {
  const held = reader.held();
  if (cursor === undefined) return { within: held, lost: 0 };
  const seq = parseCursor(cursor, { order, generation: reader.generation });
  if (order === "newest")
    return { within: { first: held.first, last: Math.min(held.last, seq - 1) }, lost: 0 };
  const next = seq + 1;
  return {
    within: { first: Math.max(held.first, next), last: held.last },
    lost: Math.max(0, held.first - next),
  };
}

type Found = {
  readonly flows: readonly StoredFlow[];
  /** What is left to look at; undefined when there is nothing. */
  readonly rest: Span | undefined;
  readonly scanned: number;
};

type Scan = {
  readonly query: FlowQuery;
  readonly order: Order;
  readonly limit: number;
  readonly condition: Condition;
  readonly within: Span;
};

/** Slice by slice, until the page is full, everything was looked at, or the time is over. */
function scan(reader: Reader, options: Scan): Found {
  const { query, order, limit } = options;
  const dropped = query.verdict === "dropped" || query.dropReason !== undefined;
  const test = summaryTest(query);
  // Eight more tests of a row double the time that one takes.
  const rowsMax = Math.ceil(reader.scanMax / (1 + addressTests(query) / 8));
  const endMs = performance.now() + reader.deadlineMs;
  const flows: StoredFlow[] = [];
  let scanned = 0;
  let rest: Span | undefined = options.within;
  do {
    const { fromAt, toAt } = query;
    const slice = reader.spans({ within: rest, order, fromAt, toAt, dropped, test, rowsMax });
    scanned += readSlice(reader, options, slice, flows);
    if (flows.length >= limit) return { flows, rest: after(flows.at(-1), options), scanned };
    rest = slice.rest;
  } while (rest !== undefined && performance.now() < endMs);
  return { flows, rest, scanned };
}

/** What is left after a row that filled the page. */
function after(row: StoredFlow | undefined, { order, within }: Scan): Span | undefined {
  const seq = row?.seq ?? 0;
  const rest = order === "oldest" ? { ...within, first: seq + 1 } : { ...within, last: seq - 1 };
  return rest.first > rest.last ? undefined : rest;
}

/** Adds the matches of a slice to the page, and returns how many rows were looked at. */
function readSlice(
  reader: Reader,
  { order, limit, condition }: Scan,
  { spans, rows }: Spans,
  flows: StoredFlow[],
): number {
  let scanned = 0;
  for (const span of spans) {
    for (const row of readSpan(reader, { span, order, limit: limit - flows.length, condition }))
      flows.push(row);
    const last = flows.at(-1)?.seq;
    if (flows.length >= limit && last !== undefined)
      return scanned + (order === "oldest" ? last - span.first + 1 : span.last - last + 1);
    scanned += span.last - span.first + 1;
  }
  return rows;
}

function readSpan(
  reader: Reader,
  { span, order, limit, condition }: Pick<Scan, "order" | "limit" | "condition"> & { readonly span: Span },
): StoredFlow[] {
  const statement = reader.prepare(
    `SELECT ${columns.join(", ")} FROM flows WHERE seq BETWEEN ? AND ?${condition.sql}
     ORDER BY seq ${order === "oldest" ? "ASC" : "DESC"} LIMIT ?`,
  );
  const rows = statement.all(span.first, span.last, ...condition.parameters, limit) as RawRow[];
  return rows.map((row) => decodeRow(row, reader.strings));
}
