// Batches: runs of seqs that were appended within a few seconds, so that a time finds its rows without an index.

import { type BatchValues, createBatchValues } from "./batch-summary.ts";
import type { EncodedRow } from "./rows.ts";
import type { Database } from "./sqlite.ts";

type Edges = {
  readonly firstSeq: number;
  readonly lastSeq: number;
  /** Wall clock of the newest append in it. */
  readonly at: number;
  /** Of `endAt` of its rows, in whatever order the clock went. */
  readonly endMin: number;
  readonly endMax: number;
  /** Rows with verdict `dropped` or a drop reason: queries for those pass over batches without. */
  readonly dropped: number;
};

export type FreshBatch = Edges & { readonly rows: readonly EncodedRow[] };

export type Batch = Edges & {
  /** For the summary that is written when the batch grows no more; a crash before that leaves it without. */
  readonly values: BatchValues;
  /** The batch before, which this one closed. */
  readonly closed?: Pick<Batch, "firstSeq" | "lastSeq" | "values">;
};

/** Batches grow up to this many rows, so that a time finds rows without reading many others. */
const batchRowsMax = 8192;

export function batchOf(
  rows: readonly EncodedRow[],
  { firstSeq, at }: Pick<Batch, "firstSeq" | "at">,
): FreshBatch {
  let endMin = Number.POSITIVE_INFINITY;
  let endMax = Number.NEGATIVE_INFINITY;
  let dropped = 0;
  for (const { record } of rows) {
    const endAt = Math.trunc(record.endAt);
    endMin = Math.min(endMin, endAt);
    endMax = Math.max(endMax, endAt);
    if (record.verdict === "dropped" || record.dropReason !== undefined) dropped++;
  }
  return { firstSeq, lastSeq: firstSeq + rows.length - 1, at, endMin, endMax, dropped, rows };
}

/** The newest batch grown by a fresh one, or the fresh one when they are too far apart or too large together. */
export function grown(before: Batch | undefined, { rows, ...fresh }: FreshBatch, coalesceMs: number): Batch {
  const apart = before === undefined ? Number.POSITIVE_INFINITY : fresh.at - before.at;
  const rowsTogether = before === undefined ? 0 : fresh.lastSeq - before.firstSeq + 1;
  const joins = before !== undefined && apart >= 0 && apart < coalesceMs && rowsTogether <= batchRowsMax;
  const values = joins ? before.values : createBatchValues();
  values.add(rows);
  if (!joins) return { ...fresh, values, ...(before === undefined ? {} : { closed: closedOf(before) }) };
  return {
    firstSeq: before.firstSeq,
    lastSeq: fresh.lastSeq,
    at: fresh.at,
    endMin: Math.min(before.endMin, fresh.endMin),
    endMax: Math.max(before.endMax, fresh.endMax),
    dropped: before.dropped + fresh.dropped,
    values,
  };
}

const closedOf = ({ firstSeq, lastSeq, values }: Batch) => ({ firstSeq, lastSeq, values });

/** Writes a batch, over the shorter one that it grew from, and the summary of the one that it closed. */
export function batchWriter(database: Database): (batch: Batch) => void {
  const put = database.prepare(
    `INSERT INTO batches (first_seq, last_seq, at, end_min, end_max, dropped) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (first_seq) DO UPDATE SET last_seq = excluded.last_seq, at = excluded.at,
       end_min = excluded.end_min, end_max = excluded.end_max, dropped = excluded.dropped`,
  );
  const close = database.prepare("UPDATE batches SET summary = ? WHERE first_seq = ?");
  return ({ firstSeq, lastSeq, at, endMin, endMax, dropped, closed }) => {
    put.run(firstSeq, lastSeq, at, endMin, endMax, dropped);
    const summary = closed?.values.summary(closed.lastSeq - closed.firstSeq + 1) ?? null;
    if (closed !== undefined && summary !== null) close.run(summary, closed.firstSeq);
  };
}
