// The next rows of a sink, encoded: what it does not want, what is too old and what is gone is counted on the way.

import { createFilter, type Filter } from "../filter.ts";
import type { FilterRules } from "../filter-rules.ts";
import { EncodeError, type Encoders, type FlowEncoder } from "../sinks/encoder.ts";
import type { Reader } from "./query.ts";
import { columns, decodeRow, type RawRow, type StoredFlow } from "./rows.ts";
import type { Batch, FilteredQuery } from "./sink-batch.ts";
import { batchOf, countRecord, createTally, type Tally } from "./sink-batch-body.ts";

/** Rows that one call looks at, and how long it goes on to further ones: most may be filtered. */
const rowsMax = 20_000;
const deadlineMs = 25;
/** Rows that are read at once. */
const sliceRows = 1024;

const filtersMax = 64;
const filters = new Map<string, Filter>();

/** Rules may hold thousands of networks; they are parsed once, not for each body. */
function filterOf({ include, exclude }: FilterRules): Filter {
  const key = JSON.stringify([include, exclude]);
  const known = filters.get(key);
  if (known !== undefined) return known;
  if (filters.size >= filtersMax) filters.clear();
  const filter = createFilter({ include, exclude });
  filters.set(key, filter);
  return filter;
}

type Filling = {
  readonly query: FilteredQuery;
  readonly filters: readonly Filter[];
  readonly tally: Tally;
  encoder(): FlowEncoder;
  readonly idOf: (seq: number) => string;
};

export function readFlowBatch(
  reader: Reader,
  query: FilteredQuery,
  make: NonNullable<Encoders["flows"]>,
): Batch {
  const { first, last, bytesMax, now, generation } = query;
  const tally = createTally();
  const prefix = `${query.encoder.node}/${generation.toString(36)}-`;
  let encoder: FlowEncoder | undefined;
  const made = (): FlowEncoder => {
    encoder ??= make(query.encoder, { bytesMax, now });
    return encoder;
  };
  const filling: Filling = {
    ...{ query, tally, filters: query.filters.map(filterOf), encoder: made },
    idOf: (seq) => prefix + seq.toString(36),
  };
  const next = fill(reader, filling, { first, last });
  return batchOf({ first, last: next - 1, complete: true }, tally, () => made().finish());
}

/** Returns the seq that the next batch begins with. */
function fill(reader: Reader, filling: Filling, { first, last }: { first: number; last: number }): number {
  const { tally, query } = filling;
  const statement = reader.prepare(
    `SELECT ${columns.join(", ")} FROM flows WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT ?`,
  );
  const endMs = performance.now() + deadlineMs;
  let next = first;
  for (let looked = 0; looked < rowsMax; ) {
    const limit = Math.min(sliceRows, rowsMax - looked, 64 + query.recordsMax);
    const rows = statement.all(next, last, limit) as RawRow[];
    for (const row of rows) {
      const [seq] = row;
      tally.missing += seq - next;
      next = seq;
      if (!take(filling, decodeRow(row, reader.strings))) return next;
      next++;
    }
    looked += rows.length;
    if (rows.length < limit) {
      tally.missing += last + 1 - next;
      return last + 1;
    }
    if (next > last || performance.now() > endMs) break;
  }
  return next;
}

/** False where the batch ends before this row. */
function take(filling: Filling, flow: StoredFlow): boolean {
  const { query, filters, tally } = filling;
  if (filters.some((passes) => passes(flow) !== undefined)) {
    tally.filtered++;
    return true;
  }
  if (flow.endAt < query.cutoffAt) {
    if (tally.records + tally.rejected > 0) return false;
    tally.expired++;
    return true;
  }
  if (tally.expired > 0 || tally.records >= query.recordsMax || !inSpan(tally, flow.endAt, query.spanMaxMs))
    return false;
  try {
    if (filling.encoder().add(flow, filling.idOf(flow.seq)))
      countRecord(tally, flow.endAt, () => JSON.stringify(flow));
    else if (tally.records > 0) return false;
    else throw new EncodeError("one record alone is larger than a body may be");
  } catch (error) {
    if (!(error instanceof EncodeError)) throw error;
    tally.rejected++;
    tally.rejectedMessage ??= error.message;
  }
  return true;
}

const inSpan = ({ records, firstAt, lastAt }: Tally, at: number, spanMaxMs: number): boolean =>
  records === 0 || Math.max(lastAt, at) - Math.min(firstAt, at) <= spanMaxMs;
