// Reads the next records of a sink and encodes them: a kind of query, answered in the worker.

import type { FilterRules } from "../filter-rules.ts";
import type { EncoderSpec, Encoders } from "../sinks/encoder.ts";
import { encoders as allEncoders } from "../sinks/encoders.ts";
import type { Signal } from "../sinks/sink.ts";
import { StoreQueryError } from "./failure.ts";
import type { Reader } from "./query.ts";
import { batchOf, createTally } from "./sink-batch-body.ts";
import { readFlowBatch } from "./sink-batch-flows.ts";
import { readSampleBatch } from "./sink-batch-samples.ts";
import { readWanted } from "./sink-wanted.ts";

/**
 * Records are numbered from 1 in the order in which they were stored: rows by their seq, samples by how many were
 * stored before them in this file (all samples of a step follow each other). First and last are included.
 */
export type Ordinals = { readonly first: number; readonly last: number };

/** Which records a sink wants; the rest counts as filtered. */
export type SinkFilter = FilterRules & {
  /** Names of metrics, with stars; empty: all. */
  readonly metrics: readonly string[];
};

export type BatchQuery = Ordinals & {
  readonly signal: Signal;
  /** Of the file that the ordinals are of; in another one nothing is found (`stale`). */
  readonly generation: number;
  /**
   * Of these ordinals, so many were done before: a unit of metrics is read series by series, and may take several
   * bodies. With it `last` must be the `last` that the batch before gave.
   */
  readonly done: number;
  readonly filter: SinkFilter;
  /** Of records that another sink handed over: its filter as text. Only what passes both is wanted. */
  readonly wanted?: string;
  readonly encoder: EncoderSpec;
  /** Records of one body, bytes of it before compression, and the span of their times. */
  readonly recordsMax: number;
  readonly bytesMax: number;
  readonly spanMaxMs: number;
  /** Of metrics: the body ends with the series that it begins with. */
  readonly oneSeries?: boolean;
  /** Records before this have expired: they come as a batch of their own, without a body. Epoch milliseconds. */
  readonly cutoffAt: number;
  readonly now: number;
};

/** With all filters that a record must pass. */
export type FilteredQuery = BatchQuery & { readonly filters: readonly SinkFilter[] };

/**
 * `records + filtered + expired + missing + rejected` is how many ordinals this batch is done with. For flows that is
 * `last - first + 1`; for metrics `last` ends the unit, and `complete` says whether this batch does.
 */
export type Batch = Ordinals & {
  readonly complete: boolean;
  readonly records: number;
  readonly filtered: number;
  readonly expired: number;
  /** No more in the file. */
  readonly missing: number;
  /** Which no body of this format can hold. */
  readonly rejected: number;
  readonly rejectedMessage?: string;
  readonly markers: number;
  /** Of metrics: the number of the series that all records of the body are of, where they are of one. */
  readonly series?: number;
  readonly body?: Uint8Array<ArrayBuffer>;
  readonly rawBytes: number;
  /** Times of the records in the body; 0 without one. */
  readonly firstAt: number;
  readonly lastAt: number;
  /** The file is another one by now; nothing was read. */
  readonly stale?: true;
  /** Of a body with one record: that record as text, for the dead letters. */
  readonly text?: string;
};

type EncoderTable = Readonly<Partial<Record<EncoderSpec["format"], Encoders>>>;

/** Throws StoreQueryError for a format that does not carry the signal, and what the database throws. */
export function readBatch(reader: Reader, query: BatchQuery, encoders: EncoderTable = allEncoders): Batch {
  const { signal, generation, first, last } = query;
  check(query);
  const handed = query.wanted === undefined ? undefined : readWanted(query.wanted);
  if (query.wanted !== undefined && handed === undefined)
    throw new StoreQueryError("wanted", "wanted: the filter that goes with the range cannot be read.");
  const filters = handed === undefined ? [query.filter] : [query.filter, handed];
  if (generation !== reader.generation)
    return { ...batchOf({ first, last, complete: true }, createTally()), stale: true };
  const { format } = query.encoder;
  const { flows, metrics } = encoders[format] ?? {};
  if (signal === "flows" && flows !== undefined) return readFlowBatch(reader, { ...query, filters }, flows);
  if (signal === "metrics" && metrics !== undefined)
    return readSampleBatch(reader, { ...query, filters }, metrics);
  throw new StoreQueryError("encoder", `encoder: the format ${format} has no place for ${signal}.`);
}

function check({ first, last, done, recordsMax }: BatchQuery): void {
  const whole: readonly (readonly [name: string, value: number, least: number])[] = [
    ["first", first, 1],
    ["last", last, first],
    ["done", done, 0],
    ["recordsMax", recordsMax, 1],
  ];
  for (const [name, value, least] of whole)
    if (!Number.isSafeInteger(value) || value < least)
      throw new StoreQueryError(name, `${name}: ${value} is not a whole number from ${least} on.`);
}
