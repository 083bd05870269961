// Batches for the tests: encoders that write a line a record, and a sink that reads all it is told of.

import { expect } from "bun:test";
import { join } from "node:path";
import { type EncodedSeries, EncodeError, type EncoderLimits, type Encoders } from "../src/sinks/encoder.ts";
import { openReader, type Reader } from "../src/store/query.ts";
import { type Batch, type BatchQuery, readBatch } from "../src/store/sink-batch.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import { openStringLookup } from "../src/store/strings.ts";

function createLines({ bytesMax }: EncoderLimits) {
  const lines: string[] = [];
  let rawBytes = 0;
  return {
    add(line: string): boolean {
      const bytes = line.length + 1;
      if (lines.length > 0 && rawBytes + bytes > bytesMax) return false;
      lines.push(line);
      rawBytes += bytes;
      return true;
    },
    finish: () => ({ body: Buffer.from(lines.join("\n")), rawBytes }),
  };
}

export const textOf = (value: number | null): string => (Object.is(value, -0) ? "-0" : String(value));

export type SampleLine = { readonly key: string; readonly at: number; readonly value: string };
export const keyOf = ({ name, labels }: EncodedSeries): string => name + JSON.stringify(labels);

/** Refuses flows to port 666, and series with the label `poison`. */
export const lineEncoders: { readonly ndjson: Required<Encoders> } = {
  ndjson: {
    flows: (_spec, limits) => {
      const lines = createLines(limits);
      return {
        add(flow, id) {
          if (flow.destinationPort === 666) throw new EncodeError("port 666 cannot be encoded");
          return lines.add(JSON.stringify({ id, ...flow }));
        },
        finish: lines.finish,
      };
    },
    metrics: (_spec, limits) => {
      const lines = createLines(limits);
      return {
        add(series, at, value) {
          if (series.labels["poison"] !== undefined) throw new EncodeError("poison cannot be encoded");
          return lines.add(JSON.stringify({ key: keyOf(series), at, value: textOf(value) }));
        },
        finish: lines.finish,
      };
    },
  },
};

export const linesOf = <Line>({ body }: Batch): Line[] =>
  body === undefined
    ? []
    : Buffer.from(body)
        .toString()
        .split("\n")
        .map((line) => JSON.parse(line) as Line);

export type File = Disposable & {
  readonly reader: Reader;
  read(query: BatchQuery): Batch;
  /** Of the table `state`. */
  state(name: string): number;
};

/** A connection of its own, as the worker has one. */
export function openFile(dir: string): File {
  const database = openDatabase({ path: join(dir, "fovea.db"), readonly: true });
  const stateOf = database.prepare<unknown[], number>("SELECT value FROM state WHERE name = ?").pluck();
  const state = (name: string): number => stateOf.get(name) ?? 0;
  const reader = openReader({
    database,
    generation: state("generation"),
    strings: openStringLookup(database),
    lastSeq: () => state("seq"),
    scanMax: 1000,
  });
  return {
    reader,
    state,
    read(query) {
      database.exec("BEGIN");
      try {
        return readBatch(reader, query, lineEncoders);
      } finally {
        database.exec("COMMIT");
      }
    },
    [Symbol.dispose]: () => database.close(),
  };
}

export const queryOf = (
  signal: BatchQuery["signal"],
  { reader }: File,
  changes: Partial<BatchQuery> & { readonly last: number },
): BatchQuery => ({
  signal,
  generation: reader.generation,
  first: 1,
  done: 0,
  filter: { include: [], exclude: [], metrics: [] },
  encoder: { format: "ndjson", node: "n1", cluster: "", version: "1", externalLabels: {} },
  recordsMax: 1000,
  bytesMax: 2 ** 20,
  spanMaxMs: Number.POSITIVE_INFINITY,
  cutoffAt: 0,
  now: 0,
  ...changes,
});

export const doneOf = ({ records, filtered, expired, missing, rejected }: Batch): number =>
  records + filtered + expired + missing + rejected;

/** Where a sink goes on: part of a query. */
export type Next = { readonly first: number; readonly last?: number; readonly done: number };

/** Checks what holds of each batch, and says where to go on. */
export function follow(query: BatchQuery, batch: Batch): Next {
  const { first, done } = query;
  const now = done + doneOf(batch);
  expect(batch.first).toBe(first);
  expect(batch.last).toBeLessThanOrEqual(query.last);
  expect(doneOf(batch)).toBeGreaterThan(0);
  expect(batch.records).toBeLessThanOrEqual(query.recordsMax);
  expect(linesOf(batch)).toHaveLength(batch.records + batch.markers);
  expect(batch.text !== undefined).toBe(batch.records === 1);
  if (batch.records > 0) {
    expect(batch.firstAt).toBeGreaterThanOrEqual(query.cutoffAt);
    // A unit that was begun keeps its span.
    if (done === 0) expect(batch.lastAt - batch.firstAt).toBeLessThanOrEqual(query.spanMaxMs);
  }
  if (batch.complete) {
    expect(now).toBe(batch.last - first + 1);
    return { first: batch.last + 1, done: 0 };
  }
  expect(now).toBeLessThan(batch.last - first + 1);
  return { first, last: batch.last, done: now };
}

/** All batches up to `last`. `change` says what the query is each time. */
export function drain(
  signal: BatchQuery["signal"],
  file: File,
  last: number,
  change: (number: number) => Partial<BatchQuery> = () => ({}),
): Batch[] {
  const batches: Batch[] = [];
  let next: Next = { first: 1, done: 0 };
  while (next.first <= last) {
    const query = queryOf(signal, file, { last, ...change(batches.length), ...next });
    const batch = file.read(query);
    next = follow(query, batch);
    batches.push(batch);
  }
  return batches;
}

export const sum = (batches: readonly Batch[], count: (batch: Batch) => number): number =>
  batches.reduce((total, batch) => total + count(batch), 0);
