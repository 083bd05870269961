// The next samples of a sink, encoded: some steps of a block series by series, so that a backlog names each series once.

import { globTest } from "../filter.ts";
import { type EncodedSeries, EncodeError, type Encoders, type SampleEncoder } from "../sinks/encoder.ts";
import type { Reader } from "./query.ts";
import type { Column } from "./sample-codec.ts";
import type { Piece } from "./sample-piece.ts";
import type { Labels } from "./sample-series.ts";
import { findUnit, type Unit } from "./sample-unit.ts";
import type { Batch, FilteredQuery } from "./sink-batch.ts";
import {
  batchOf,
  countMarker,
  countRecord,
  countSeries,
  createTally,
  doneOf,
  type Tally,
} from "./sink-batch-body.ts";

export function readSampleBatch(
  reader: Reader,
  query: FilteredQuery,
  make: NonNullable<Encoders["metrics"]>,
): Batch {
  // One transaction: a block that is made between two lookups would be in neither or both.
  const read = reader.database.transaction((): Batch => {
    const found = findUnit(reader, query);
    if ("unit" in found) return readUnit({ reader, query, make, unit: found.unit });
    const tally = createTally();
    const { first, done } = query;
    const last = done > 0 ? query.last : found.missingTo;
    tally.missing = last - first + 1 - done;
    return batchOf({ first, last, complete: true }, tally);
  });
  return read();
}

type Reading = {
  readonly reader: Reader;
  readonly query: FilteredQuery;
  readonly make: NonNullable<Encoders["metrics"]>;
  readonly unit: Unit;
};

function readUnit(reading: Reading): Batch {
  const { query, unit } = reading;
  const { first, done } = query;
  const { last, piece } = unit;
  const body = createBody(reading);
  const expired = (piece.times[unit.to - 1] ?? 0) < query.cutoffAt;
  const complete = expired ? skip(reading, body.tally) : walk(reading, body);
  // Beside what was walked there is only what could not be read.
  if (complete) body.tally.missing += last - first + 1 - done - doneOf(body.tally);
  return batchOf({ first, last, complete }, body.tally, body.finish);
}

/** The series that `done` samples stand before the end of, and how many of its own are among them. */
function placeOf({ starts, ids }: Unit, done: number): { readonly index: number; readonly own: number } {
  let low = 0;
  let high = ids.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((starts[middle + 1] ?? 0) > done) high = middle;
    else low = middle + 1;
  }
  return { index: low, own: Math.max(0, done - (starts[low] ?? 0)) };
}

/** Counts a unit that has expired as a whole. */
function skip({ reader, query, unit }: Reading, tally: Tally): true {
  const wants = wantsOf(query);
  const { index: start, own } = placeOf(unit, query.done);
  for (let index = start; index < unit.ids.length; index++) {
    const samples = samplesOf(unit, index) - (index === start ? own : 0);
    const series = seriesOf(reader, unit.piece, unit.ids[index] ?? 0);
    if (series === undefined) tally.missing += samples;
    else if (wants(series.name)) tally.expired += samples;
    else tally.filtered += samples;
  }
  return true;
}

const samplesOf = ({ starts }: Unit, index: number): number =>
  (starts[index + 1] ?? 0) - (starts[index] ?? 0);

/** Whether it came to the end of the unit. */
function walk({ reader, query, unit }: Reading, body: Body): boolean {
  const { tally } = body;
  const wants = wantsOf(query);
  const place = query.done === 0 ? { index: 0, own: 0 } : placeOf(unit, query.done);
  for (let { index, own } = place; index < unit.ids.length; index++, own = 0) {
    if (query.oneSeries === true && tally.records > 0) return false;
    const id = unit.ids[index] ?? 0;
    const samples = samplesOf(unit, index) - own;
    const series = seriesOf(reader, unit.piece, id);
    const wanted = series !== undefined && wants(series.name);
    const column = wanted && samples > 0 ? unit.piece.column(id) : noValues;
    if (series === undefined || column === undefined) tally.missing += samples;
    else if (!wanted) tally.filtered += samples;
    // Markers before its first sample went with the body before this one.
    else if (
      !walkColumn(body, unit, { series, id, column, own, marks: query.done === 0 || doneOf(tally) > 0 })
    )
      return false;
  }
  return true;
}

const noValues: Column = [];

type Walk = {
  readonly series: EncodedSeries;
  readonly id: number;
  readonly column: Column;
  /** Samples of the series that are done. */
  readonly own: number;
  /** Whether markers ahead of its first sample are to be added. */
  readonly marks: boolean;
};

function walkColumn(body: Body, unit: Unit, { series, id, column, own, marks }: Walk): boolean {
  const { times } = unit.piece;
  let marking = marks;
  let present = unit.before(id);
  let left = own;
  for (let step = unit.from; step < unit.to; step++) {
    const value = column[step];
    const at = times[step] ?? 0;
    if (value === undefined) {
      if (present && marking) body.mark(series, at);
    } else if (left > 0) left--;
    else if (!body.add(series, at, value, id)) return false;
    else marking = true;
    present = value !== undefined;
  }
  return true;
}

type Body = {
  readonly tally: Tally;
  /** False where the body ends before this sample. */
  add(series: EncodedSeries, at: number, value: number, id: number): boolean;
  /** A marker that finds no place is left out: the receiver then ends the series some minutes later. */
  mark(series: EncodedSeries, at: number): void;
  finish(): ReturnType<SampleEncoder["finish"]>;
};

function createBody({ query, make }: Reading): Body {
  const { recordsMax, cutoffAt, bytesMax, now } = query;
  const tally = createTally();
  let encoder: SampleEncoder | undefined;
  const current = (): SampleEncoder => {
    encoder ??= make(query.encoder, { bytesMax, now });
    return encoder;
  };

  /** A first one always fits, but not behind markers. */
  const enter = (series: EncodedSeries, at: number, value: number): boolean => {
    if (current().add(series, at, value)) return true;
    if (tally.records > 0) return false;
    encoder = undefined;
    tally.markers = 0;
    if (current().add(series, at, value)) return true;
    throw new EncodeError("one sample alone is larger than a body may be");
  };

  return {
    tally,
    add(series, at, value, id) {
      if (tally.records >= recordsMax) return false;
      // Only in a unit that was begun before this one had expired.
      if (at < cutoffAt) tally.expired++;
      else
        try {
          if (!enter(series, at, value)) return false;
          countRecord(tally, at, () => textOf(series, at, value));
          countSeries(tally, id);
        } catch (error) {
          if (!(error instanceof EncodeError)) throw error;
          tally.rejected++;
          tally.rejectedMessage ??= error.message;
        }
      return true;
    },
    mark(series, at) {
      try {
        if (at >= cutoffAt && current().add(series, at, null)) countMarker(tally, at);
      } catch (error) {
        if (!(error instanceof EncodeError)) throw error; // Its samples are counted.
      }
    },
    finish: () => current().finish(),
  };
}

function textOf({ name, labels }: EncodedSeries, at: number, value: number): string {
  const pairs = Object.entries(labels).map(([key, text]) => `${key}=${JSON.stringify(text)}`);
  return `${name}{${pairs.join(",")}} ${value} @${at}`;
}

/** Undefined where the file does not know it. */
function seriesOf(reader: Reader, { names }: Piece, id: number): EncodedSeries | undefined {
  const known = names.get(id);
  if (known !== undefined || names.has(id)) return known;
  const row = reader.prepare("SELECT name, labels FROM series WHERE id = ?").get(id) as
    | readonly [name: string, labels: string]
    | undefined;
  const series = row === undefined ? undefined : { name: row[0], labels: JSON.parse(row[1]) as Labels };
  names.set(id, series);
  return series;
}

/** Names, and lists of patterns, that are remembered. */
const testedMax = 8192;
const testsMax = 64;
const tests = new Map<string, (name: string) => boolean>();

function wantsOf({ filters }: FilteredQuery): (name: string) => boolean {
  const wanted = filters.map(({ metrics }) => nameTest(metrics));
  return (name) => wanted.every((wants) => wants(name));
}

/** Whether one of the patterns stands for the name; without any, all do. */
function nameTest(globs: readonly string[]): (name: string) => boolean {
  if (globs.length === 0) return () => true;
  const key = JSON.stringify(globs);
  const known = tests.get(key);
  if (known !== undefined) return known;
  if (tests.size >= testsMax) tests.clear();
  const matches = globs.map(globTest);
  const tested = new Map<string, boolean>();
  const test = (name: string): boolean => {
    const before = tested.get(name);
    if (before !== undefined) return before;
    if (tested.size >= testedMax) tested.clear();
    const wanted = matches.some((match) => match(name));
    tested.set(name, wanted);
    return wanted;
  };
  tests.set(key, test);
  return test;
}
