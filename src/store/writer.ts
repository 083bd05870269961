// Writes to one open file: rows, what retention takes, and the ledger, in one transaction.

import { type Batch, batchOf, batchWriter, grown } from "./batches.ts";
import { type ImportOf, openImports } from "./imports.ts";
import type { LedgerEntries } from "./ledger.ts";
import { frameBytes, type LogFile, openLogFile } from "./log-file.ts";
import { type Minutes, minutePages, openMinutes } from "./minutes.ts";
import type { OpenPart, Part } from "./part.ts";
import { type Ages, type Budget, openRetention, type Retention, walBytesFor } from "./retention.ts";
import { type Column, type EncodedRow, groupRows, insertSql, pushColumns } from "./rows.ts";
import type { Database, Statement } from "./sqlite.ts";
import { openStrings, type Strings } from "./strings.ts";

/** What a write changed. */
export type Written = {
  readonly kept: number;
  readonly evictedBySize: number;
  readonly evictedByAge: number;
};

export type WriteOptions = {
  readonly rows: readonly EncodedRow[];
  /** Wall clock of the append, epoch milliseconds. */
  readonly at: number;
  /** Rows appended before this are too old. */
  readonly cutoffAt: number;
  /** What the ledger must hold once this is committed. */
  readonly ledger: (written: Written) => LedgerEntries;
  /** The file that the rows are imported from. */
  readonly importOf?: ImportOf | undefined;
  /** Of `parts` of the writer, those that write in this transaction. */
  readonly parts: readonly OpenPart[];
  /** Rows go until what is in use fits the budget, a bounded number of them. */
  readonly fitting?: boolean;
};

export type Writer = {
  /** None in memory. */
  readonly parts: readonly OpenPart[];
  /** Whether a transaction with so much in it fits into the log. */
  fits(options: { readonly rows: number; readonly at: number; readonly parts: readonly OpenPart[] }): boolean;
  /** All or nothing: throws with the file as it was. */
  write(options: WriteOptions): Written;
  /** Whether rows grew too old, or a part has something to write. */
  due(options: Ages): boolean;
  /** Pages in use and pages of the file. */
  pages: Retention["pages"];
  /** Gives free pages over the budget back, in a bounded step; whether any went. */
  shrink(): boolean;
  readonly log: LogFile;
  readonly strings: Strings;
  /** The seq of the newest row ever written. */
  readonly lastSeq: number;
};

export function openWriter({
  database,
  budget,
  lastSeq: seqInFile,
  coalesceMs,
  stringsMax,
  parts,
}: {
  readonly database: Database;
  readonly budget: Budget;
  readonly lastSeq: number;
  /** Appends within so much time of each other make one batch. */
  readonly coalesceMs: number;
  readonly stringsMax: number;
  readonly parts: readonly Part[];
}): Writer {
  const put = openStatements(database);
  const minSeq = database.prepare<unknown[], number | null>("SELECT min(seq) FROM flows").pluck();
  const retention = openRetention({ database, pagesMax: budget.pagesMax });
  const log = openLogFile({ database, budget });
  const minutes = openMinutes({ database, pagesMax: budget.pagesMax });
  const imports = openImports(database);
  const open = openParts(parts, database, budget);
  let lastSeq = seqInFile;
  let lastBatch: Batch | undefined;
  const oldestSeq = (): number => minSeq.get() ?? lastSeq + 1;
  const strings = openStrings({ database, lastSeq, oldestSeq, stringsMax });

  const insertRows = (
    rows: readonly EncodedRow[],
    at: number,
    before: Batch | undefined,
  ): Batch | undefined => {
    if (rows.length === 0) return before;
    const seq = lastSeq + rows.length;
    for (let start = 0; start < rows.length; start += groupRows)
      put.rows(rows.slice(start, start + groupRows), { firstSeq: lastSeq + 1 + start, strings });
    const batch = grown(before, batchOf(rows, { firstSeq: lastSeq + 1, at }), coalesceMs);
    put.batch(batch);
    put.seq.run(seq);
    return batch;
  };

  const walBytes = (rows: number, pages: number): number =>
    walBytesFor({ added: rows, removed: budget.chunkRows * 2 }) + pages * frameBytes;

  return {
    strings,
    log,
    parts: open,
    fits: ({ rows, at, parts: some }) => walBytes(rows, pagesOf(some, at)) <= budget.walMax,
    get lastSeq() {
      return lastSeq;
    },
    due: (ages) => retention.expires(ages) || open.some((part) => part.due(ages.at)),
    write({ rows, at, cutoffAt, ledger, importOf, parts: some, fitting = false }) {
      // After a time without a disk many minutes come at once.
      const { minutes: waiting } = ledger({ kept: rows.length, evictedBySize: 0, evictedByAge: 0 });
      const pages = pagesOf(some, at) + minutePages(waiting.length);
      log.fit(walBytes(rows.length, pages));
      const { written, batch } = transaction(database, strings, () => {
        const evicted = evict(retention, budget, { rows: rows.length, pages, at, cutoffAt, fitting });
        const emptied = evicted.evictedByAge + evicted.evictedBySize > 0 && minSeq.get() === null;
        const after = insertRows(rows, at, emptied ? undefined : lastBatch);
        const change = { kept: rows.length, ...evicted };
        writeLedger(put, minutes, ledger(change));
        if (importOf !== undefined) imports.add(importOf, { rows: rows.length, at });
        for (const part of some) part.write(at);
        return { written: change, batch: after };
      });
      for (const part of some) part.settle();
      lastBatch = batch;
      lastSeq += rows.length;
      const removed = written.evictedBySize + written.evictedByAge;
      log.grew(walBytesFor({ added: rows.length, removed }) + pages * frameBytes);
      return written;
    },
    pages: retention.pages,
    shrink: () => shrinkStep(retention, log, budget),
  };
}

function openParts(parts: readonly Part[], database: Database, budget: Budget): readonly OpenPart[] {
  if (!database.memory) return parts.map((part) => part.open({ database, budget }));
  for (const part of parts) part.detach?.();
  return [];
}

const pagesOf = (parts: readonly OpenPart[], at: number): number =>
  parts.reduce((sum, part) => sum + part.pages(at), 0);

function shrinkStep(retention: Retention, log: LogFile, budget: Budget): boolean {
  const { used, total } = retention.pages();
  const pages = Math.min(total - budget.pagesMax, total - used, Math.floor(budget.walMax / 8 / frameBytes));
  if (pages <= 0) return false;
  log.fit(pages * 2 * frameBytes); // A page that moves takes the page that points to it along.
  retention.shrink(pages);
  log.grew(pages * 2 * frameBytes);
  return retention.pages().total < total;
}

type RowNumbers = { readonly firstSeq: number; readonly strings: Strings };

function openStatements(database: Database) {
  const insertOne = database.prepare(insertSql(1));
  const insertGroup = database.prepare(insertSql(groupRows));
  const insert = (
    statement: Statement,
    rows: readonly EncodedRow[],
    { firstSeq, strings }: RowNumbers,
  ): void => {
    const parameters: Column[] = [];
    for (const [index, row] of rows.entries())
      pushColumns(parameters, row, { seq: firstSeq + index, strings });
    statement.run(parameters);
  };
  return {
    rows(rows: readonly EncodedRow[], { firstSeq, strings }: RowNumbers): void {
      if (rows.length === groupRows) insert(insertGroup, rows, { firstSeq, strings });
      else
        for (const [index, row] of rows.entries())
          insert(insertOne, [row], { firstSeq: firstSeq + index, strings });
    },
    batch: batchWriter(database),
    total: database.prepare(
      "INSERT INTO ledger (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    ),
    seq: database.prepare("UPDATE state SET value = ? WHERE name = 'seq'"),
  };
}

function writeLedger(
  put: ReturnType<typeof openStatements>,
  minutes: Minutes,
  { totals, minutes: counts }: LedgerEntries,
): void {
  for (const [name, value] of totals) put.total.run(name, value);
  for (const count of counts) minutes.add(count);
  minutes.trim();
}

/** A bounded number of rows where none are added; as many as the new ones need where some are. */
function evict(
  retention: Retention,
  { chunkRows }: Budget,
  {
    rows,
    pages,
    fitting,
    ...ages
  }: Ages & { readonly rows: number; readonly pages: number; readonly fitting: boolean },
): Omit<Written, "kept"> {
  const evictedByAge = retention.expire({ ...ages, rowsMax: chunkRows });
  const evictMax = rows + pages === 0 ? chunkRows : Number.POSITIVE_INFINITY;
  return { evictedByAge, evictedBySize: retention.makeRoom({ rows, pages, evictMax, fitting }) };
}

/** Runs `work` whole or not at all; the dictionary in memory goes with the file. */
function transaction<Result>(database: Database, strings: Strings, work: () => Result): Result {
  try {
    database.exec("BEGIN IMMEDIATE");
    const result = work();
    database.exec("COMMIT");
    strings.commit();
    return result;
  } catch (error) {
    // On a full disk SQLite may have rolled back by itself.
    if (database.inTransaction) database.exec("ROLLBACK");
    strings.rollback();
    throw error;
  }
}
