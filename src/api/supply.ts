// What one follower of the store is to get next: flows after its place, and what history does not have of that time.

import { formatCursor, parseCursor } from "../store/cursor.ts";
import type { FlowFilter } from "../store/filter.ts";
import { type LedgerTotals, reasonFamilies } from "../store/ledger.ts";
import type { FlowPage, FlowQuery } from "../store/query.ts";
import type { StoredFlow } from "../store/rows.ts";
import type { StreamText } from "./stream-text.ts";

/** The file that rows go to now, and the newest seq given in it. */
export type Head = { readonly generation: number; readonly seq: number };

/** What followers ask of the store. */
export type Source = {
  flows(query: FlowQuery): Promise<FlowPage>;
  head(): Head;
  ledger(): LedgerTotals;
};

export type Supply = {
  /** The next piece of text; empty when this read found nothing. Throws like the queries of the store. */
  next(): Promise<string>;
  /** Whether a further read may find something without a further append. */
  readonly more: boolean;
  /** Goes on after what `next` gave. */
  cursor(): string;
  /** Rows after the place of the follower up to `head`, whether or not they would match. */
  rowsUpTo(head: Head): number;
};

const pageRows = 1000;
const noticeMs = 1000;

/** Rows of these families are in no history; those that were evicted were there to be read. */
const thrown = reasonFamilies.filter((family) => family.startsWith("rows.") && family !== "rows.evicted");

/** What was thrown away between two states of the ledger, by name. */
export function thrownBetween(before: LedgerTotals, after: LedgerTotals): Readonly<Record<string, number>> {
  const grown = Object.entries(after)
    .filter(([name]) => thrown.some((family) => name.startsWith(`${family}.`)))
    .map(([name, count]) => [name, count - (before[name] ?? 0)] as const);
  return Object.fromEntries(grown.filter(([, count]) => count > 0));
}

/** Tells at most once a second, and then all since the last time. */
function createNotices(source: Source) {
  let told = source.ledger();
  let toldMs = Number.NEGATIVE_INFINITY;
  let passed = 0;
  return {
    passed: (rows: number) => {
      passed += rows;
    },
    take: () => {
      if (performance.now() - toldMs < noticeMs) return undefined;
      const now = source.ledger();
      const lost = thrownBetween(told, now);
      if (passed === 0 && Object.keys(lost).length === 0) return undefined;
      const notice = { lost, passed };
      [told, toldMs, passed] = [now, performance.now(), 0];
      return notice;
    },
  };
}

/**
 * Without `cursor` it begins with the oldest row that `filter.fromAt` lets pass; without that, with the next row. Throws
 * like the queries of the store: it has read once when it returns.
 */
export async function openSupply(options: {
  readonly source: Source;
  readonly filter: FlowFilter;
  readonly cursor?: string | undefined;
  readonly text: StreamText;
  readonly chunkBytes: number;
}): Promise<Supply> {
  const { source, filter, text, chunkBytes } = options;
  const { generation, seq: newest } = source.head();
  const notices = createNotices(source);
  const cursorOf = (seq: number) => formatCursor({ order: "oldest", generation, seq });
  let readCursor = options.cursor ?? (filter.fromAt === undefined ? cursorOf(newest) : undefined);
  let pending: readonly StoredFlow[] = [];
  let [place, more] = [0, true];

  const read = async (): Promise<void> => {
    const page = await source.flows({
      ...filter,
      order: "oldest",
      limit: pageRows,
      ...(readCursor === undefined ? {} : { cursor: readCursor }),
    });
    place = parseCursor(page.cursor, { order: "oldest", generation });
    readCursor = page.cursor;
    pending = page.flows;
    more = page.more;
    notices.passed(page.lost);
  };
  const seqNow = (): number => (pending[0] === undefined ? place : pending[0].seq - 1);
  const takeFlows = (): string => {
    let piece = "";
    let taken = 0;
    for (const flow of pending) {
      if (piece.length >= chunkBytes) break;
      piece += text.flow(flow, cursorOf(flow.seq));
      taken++;
    }
    pending = pending.slice(taken);
    return piece;
  };

  await read();
  let start = text.start;
  return {
    next: async () => {
      if (pending.length === 0 && start === "") await read();
      const notice = notices.take();
      const piece = start + takeFlows();
      start = "";
      return notice === undefined ? piece : piece + text.lost(notice, cursorOf(seqNow()));
    },
    get more() {
      return more || pending.length > 0;
    },
    cursor: () => cursorOf(seqNow()),
    // Of another file nothing is known.
    rowsUpTo: (head) => (head.generation === generation ? Math.max(0, head.seq - seqNow()) : 0),
  };
}
