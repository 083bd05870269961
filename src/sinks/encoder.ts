// How records become the body of a request: the contract of the encoders, which run in the query worker.

import type { StoredFlow } from "../store/rows.ts";
import type { Labels } from "../store/sample-series.ts";

/** Plain data that survives a structured clone. Each format has its encoder in encoders.ts. */
export type EncoderSpec = {
  readonly format:
    | "remote-write-1"
    | "remote-write-2"
    | "otlp-protobuf"
    | "otlp-json"
    | "loki"
    | "azure-logs"
    | "ndjson"
    | "prometheus-text";
  /** Of this machine. */
  readonly node: string;
  readonly cluster: string;
  readonly version: string;
  /**
   * Added to each series or stream, or as attributes of the resource. One that a series has already, in whatever case,
   * stays as the series has it.
   */
  readonly externalLabels: Labels;
  /** What else a format needs to know. */
  readonly options?: Readonly<Record<string, string | number | boolean>>;
};

/** One series as it is handed over: the same object for all of its samples in a body. */
export type EncodedSeries = { readonly name: string; readonly labels: Labels };

export type EncodedBody = {
  readonly body: Uint8Array<ArrayBuffer>;
  /** Before compression. */
  readonly rawBytes: number;
};

/**
 * Both take records until one does not fit: `add` then returns false and has taken nothing of it; a first one always
 * fits. `finish` is called once, after at least one record. Throws EncodeError for a record that this format cannot carry.
 */
export type FlowEncoder = {
  /** `id` is the same whenever the record is sent. */
  add(flow: StoredFlow, id: string): boolean;
  finish(): EncodedBody;
};

export type SampleEncoder = {
  /**
   * All samples of a series come one after the other, in the order of their times (epoch milliseconds). A null is
   * the place where the series ended: a stale marker where the format has one.
   */
  add(series: EncodedSeries, at: number, value: number | null): boolean;
  finish(): EncodedBody;
};

export type EncoderLimits = {
  /** Of the body before compression. */
  readonly bytesMax: number;
  /** Epoch milliseconds. */
  readonly now: number;
};

export type Encoders = {
  readonly flows?: (spec: EncoderSpec, limits: EncoderLimits) => FlowEncoder;
  readonly metrics?: (spec: EncoderSpec, limits: EncoderLimits) => SampleEncoder;
};

/** A record that no body of this format can hold: it is rejected with the reason `encode`. */
export class EncodeError extends Error {}
