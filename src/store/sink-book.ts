// The accounts of all sinks in memory, and what each transaction of an open file does for them.

import { z } from "zod";
import { createDeadLetters, type DeadLetters, lettersBytesMax } from "./dead-letters.ts";
import type { PartBudget } from "./part.ts";
import { pagesOf } from "./sample-work.ts";
import { pageBytes } from "./schema.ts";
import { createSeqClock, type SeqClock } from "./seq-clock.ts";
import type { Ordinals } from "./sink-batch.ts";
import { openSinkFile, type SinkFile, type StateRow, type View } from "./sink-file.ts";
import { freeIn, grown } from "./sink-ranges.ts";
import {
  advanced,
  declaredAs,
  goneSince,
  jsonOf,
  keyText,
  type Marks,
  marksOf,
  moved,
  newRecord,
  plus,
  readRecord,
  recordText,
  type SinkRecord,
} from "./sink-record.ts";
import type { SinkCounts, SinkDeclaration, SinkKey } from "./sink-states.ts";
import type { Database } from "./sqlite.ts";

/** What is counted for all sinks together. */
type Totals = {
  /** Rows that left the file and that no sink had still to send, by reason. */
  readonly sent: SinkCounts;
  /** Dead letters that gave way. */
  readonly letters: number;
  readonly unreadable: number;
};

export type Book = {
  declared: ReadonlyMap<string, SinkDeclaration>;
  /** What is declared was not yet compared with the records. */
  stale: boolean;
  /** Of sinks that are declared, and of others until they are written. */
  records: Map<string, SinkRecord>;
  /** What the file does not have of them, or of the totals, or has too much. */
  readonly dirty: Set<string>;
  doomed: readonly StateRow[];
  totals: Totals;
  readonly letters: DeadLetters;
  readonly clock: SeqClock;
  file: SinkFile | undefined;
  /** The file when it was last written to, or opened; kept while there is none. */
  view: View | undefined;
  /** Up to here rows that left the file were told by whether they were sent. */
  seen: Marks;
  staged:
    | {
        readonly records: Map<string, SinkRecord>;
        readonly totals: Totals;
        readonly view: View;
        readonly at: number;
      }
    | undefined;
};

export const createBook = (): Book => ({
  declared: new Map(),
  stale: false,
  records: new Map(),
  dirty: new Set(),
  doomed: [],
  totals: { sent: {}, letters: 0, unreadable: 0 },
  letters: createDeadLetters(),
  clock: createSeqClock(),
  file: undefined,
  view: undefined,
  seen: { oldest: 1, age: 0, size: 0 },
  staged: undefined,
});

/** No sink is called so. */
const totalsKey = { sink: "", signal: "flows" } as const;
const totalsText = keyText(totalsKey);

export function recordOf({ declared, records }: Book, key: SinkKey): SinkRecord | undefined {
  const text = keyText(key);
  return declared.has(text) ? records.get(text) : undefined;
}

export function change(book: Book, record: SinkRecord, changes: Partial<SinkRecord>): void {
  const key = keyText(record);
  book.records.set(key, { ...record, ...changes });
  book.dirty.add(key);
}

export function detach(book: Book): void {
  book.file = undefined;
  book.staged = undefined;
  book.letters.detach();
}

export function openBook(book: Book, database: Database, { pagesMax }: PartBudget): void {
  detach(book);
  const file = openSinkFile(database);
  const view = file.view();
  const rows = rowsByKey(file);
  if (!isSame(book.view, view)) goOver(book, view, rows);
  book.clock.restart(view.flows.head);
  book.letters.open(database, Math.min(lettersBytesMax, Math.floor((pagesMax * pageBytes) / 64)));
  book.file = file;
  book.stale = true;
  // What went while no sink was there was nobody's.
  if (reconcile(book)) keepTotals(book, totalsNow(book, view, 0));
  for (const record of book.records.values()) {
    const now = advanced(record, view[record.signal]);
    if (now.counts === record.counts) book.records.set(keyText(record), now);
    else change(book, now, {});
  }
  book.view = view;
  book.seen = marksOf(view.flows);
}

function keepTotals(book: Book, totals: Totals): void {
  if (totals === book.totals) return;
  book.totals = totals;
  book.dirty.add(totalsText);
}

const rowsByKey = (file: SinkFile): ReadonlyMap<string, StateRow> =>
  new Map(file.states().map((row) => [keyText(row), row]));

/** The file that was open before, and not an older copy of it. */
function isSame(before: View | undefined, now: View): boolean {
  if (before === undefined) return false;
  return (["flows", "metrics"] as const).every(
    (signal) =>
      before[signal].generation === now[signal].generation && before[signal].head <= now[signal].head,
  );
}

/** What the other file knows of a sink holds; a sink that it does not know goes on there. */
function goOver(book: Book, view: View, rows: ReadonlyMap<string, StateRow>): void {
  const { records } = book;
  if (book.view !== undefined) {
    const { oldest, head } = book.view.flows;
    keepTotals(book, withSent(book, { corrupt: sentOf(book, { first: oldest, last: head }) }));
    book.dirty.add(totalsText);
  }
  for (const [key, record] of records)
    if (rows.has(key)) {
      records.delete(key);
      book.dirty.delete(key);
    } else change(book, moved(record, view[record.signal]), {});
  book.view = view;
  book.seen = marksOf(view.flows);
  const written = rows.get(totalsText);
  if (written !== undefined) readTotals(book, written.state);
}

/** Whether there is a sink that all rows are for. */
const isOffered = ({ declared, records }: Book): boolean =>
  [...declared].some(([key, { signal, fed }]) => signal === "flows" && !fed && records.has(key));

/** Rows that no sink had still to send; none where nobody wanted them. */
function sentOf(book: Book, rows: Ordinals): number {
  if (!isOffered(book) || rows.first > rows.last) return 0;
  const flows = [...book.records].flatMap(([key, { signal, ranges }]) =>
    book.declared.has(key) && signal === "flows" ? [ranges] : [],
  );
  return freeIn(
    rows,
    flows.map((ranges) => grown(ranges, Math.max(rows.last, ranges.at(-1)?.last ?? 0))),
  );
}

const withSent = ({ totals }: Book, sent: SinkCounts): Totals => ({
  ...totals,
  sent: plus(totals.sent, sent),
});

const count = z.int().min(0);
const writtenTotals = z.object({
  sent: z.record(z.string(), count),
  letters: count,
  unreadable: count,
  marks: z.tuple([count, count, count]),
});

function readTotals(book: Book, text: string): void {
  const parsed = writtenTotals.safeParse(jsonOf(text));
  if (!parsed.success) {
    book.totals = { sent: {}, letters: 0, unreadable: 1 };
    book.dirty.add(totalsText);
    return;
  }
  const { marks, ...totals } = parsed.data;
  const [oldest, age, size] = marks;
  book.totals = totals;
  book.seen = { oldest, age, size };
}

/** Brings the records in line with what is declared. Whether one of rows was there, or was found in the file. */
function reconcile(book: Book): boolean {
  const { file, view, declared, records, dirty } = book;
  if (!book.stale || file === undefined || view === undefined) return false;
  const rows = rowsByKey(file);
  let found = false;
  for (const [key, declaration] of declared) {
    const known = records.get(key) ?? loaded(book, view, declaration, rows.get(key)?.state);
    found ||= known?.signal === "flows";
    const record = known ?? newRecord(declaration, view[declaration.signal]);
    if (known === undefined) dirty.add(totalsText); // From now on rows that leave the file are told by it.
    const fit = declaredAs(record, declaration);
    if (fit !== records.get(key)) change(book, fit, {});
  }
  for (const key of records.keys()) if (!declared.has(key) && !dirty.has(key)) records.delete(key);
  book.doomed = unusedOf(
    [...rows].flatMap(([key, row]) => (records.has(key) || key === totalsText ? [] : [row])),
  );
  book.stale = false;
  return found;
}

/** For what was declared since the file was opened. */
function renew(book: Book): void {
  if (!book.stale || book.file === undefined) return;
  if (book.records.size === 0) {
    book.view = book.file.view(); // Without a sink, nothing kept up with the file.
    book.seen = marksOf(book.view.flows);
  }
  reconcile(book);
}

/** Undefined where the file has none. */
function loaded(
  book: Book,
  view: View,
  declaration: SinkDeclaration,
  text: string | undefined,
): SinkRecord | undefined {
  if (text === undefined) return undefined;
  const now = view[declaration.signal];
  const record = readRecord(declaration, text)?.record;
  if (record === undefined) {
    book.totals = { ...book.totals, unreadable: book.totals.unreadable + 1 };
    book.dirty.add(totalsText);
    return newRecord({ ...declaration, start: "oldest" }, now);
  }
  return record.generation === now.generation && record.head <= now.head ? record : moved(record, now);
}

/** States of sinks that are not declared. */
const undeclaredMax = 64;

/** Too many of them, those first that were not used for longest. */
function unusedOf(rows: readonly StateRow[]): readonly StateRow[] {
  const used = (row: StateRow): number => {
    const signal = row.signal === "flows" ? "flows" : "metrics";
    return readRecord({ sink: row.sink, signal }, row.state)?.used ?? -1;
  };
  const byUse = rows.map((row) => ({ row, used: used(row) })).sort((a, b) => a.used - b.used);
  return byUse.slice(0, Math.max(0, rows.length - undeclaredMax)).map(({ row }) => row);
}

/** Whether something is in memory alone. */
export const isDirty = ({ dirty, doomed, letters }: Book): boolean =>
  dirty.size > 0 || doomed.length > 0 || letters.due;

export function isDue(book: Book): boolean {
  const { file, view, records } = book;
  if (book.stale || isDirty(book)) return true;
  if (records.size === 0 || file === undefined || view === undefined) return false;
  const now = file.view();
  return (["flows", "metrics"] as const).some(
    (signal) => now[signal].head !== view[signal].head || now[signal].oldest !== view[signal].oldest,
  );
}

/** By which a text may grow in one write: a count of each reason for eviction, and digits. */
const growthBytes = 200;

/** A row with its key and its share of the page; what is too large for one has pages of its own, and had others. */
const rowBytes = (bytes: number): number =>
  bytes <= 900 ? bytes + 100 : 1000 + 2 * Math.ceil(bytes / (pageBytes - 4)) * pageBytes;

/** Any write may change any record: it may be the one that takes rows away. */
export function pagesIn(book: Book): number {
  renew(book);
  const { records, dirty, doomed, letters } = book;
  const states = records.size + doomed.length + dirty.size;
  const texts = [...records.values()].reduce(
    (sum, record) => sum + rowBytes(Buffer.byteLength(recordText(record, 1e13)) + growthBytes),
    rowBytes(400),
  );
  const bytes = doomed.reduce((sum, { state }) => sum + rowBytes(Buffer.byteLength(state)), texts);
  const plan = letters.plan();
  const letterPages = plan.letters === 0 ? 0 : pagesOf(plan.bytes + 300 * plan.letters) + plan.letters;
  return (states === 0 ? 0 : pagesOf(bytes)) + letterPages;
}

/** In the transaction. What changed in memory stands, should it be undone. */
export function stage(book: Book, at: number): void {
  renew(book);
  const { file, records, dirty, doomed, letters } = book;
  if (file === undefined) return;
  const view = file.view();
  const next = new Map<string, SinkRecord>();
  for (const [key, record] of records) {
    const now = advanced(record, view[record.signal]);
    next.set(key, now);
    if (dirty.has(key) || now.counts !== record.counts)
      file.put({ sink: now.sink, signal: now.signal, state: recordText(now, at) });
  }
  const totals = totalsNow(book, view, letters.write());
  if (totals !== book.totals || dirty.has(totalsText)) {
    const { oldest, age, size } = view.flows;
    file.put({ ...totalsKey, state: JSON.stringify({ ...totals, marks: [oldest, age, size] }) });
  }
  for (const row of doomed) file.remove(row);
  book.staged = { records: next, totals, view, at };
}

/** Written whenever rows left the file, so that none is told of twice. */
function totalsNow(book: Book, view: View, lettersGone: number): Totals {
  const gone = isOffered(book) ? goneSince(book.seen, view.flows) : [];
  if (gone.length === 0 && lettersGone === 0) return book.totals;
  const sent = Object.fromEntries(gone.map(({ reason, ...rows }) => [reason, sentOf(book, rows)]));
  const { letters, ...totals } = withSent(book, sent);
  return { ...totals, letters: letters + lettersGone };
}

/** The transaction was committed. */
export function settle(book: Book): void {
  const { staged, declared } = book;
  if (staged === undefined) return;
  book.records = new Map([...staged.records].filter(([key]) => declared.has(key)));
  book.totals = staged.totals;
  book.view = staged.view;
  book.clock.mark(staged.view.flows.head, staged.at);
  book.seen = marksOf(staged.view.flows);
  book.dirty.clear();
  book.doomed = [];
  book.letters.settle();
  book.staged = undefined;
}
