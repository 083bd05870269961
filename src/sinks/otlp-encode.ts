// OTLP messages to the bytes of a body, and how many these will be before there is one.

import { type DescMessage, type MessageShape, toBinary, toJson } from "@bufbuild/protobuf";
import type { EncodedBody, EncoderSpec } from "./encoder.ts";
import type { AnyValue, KeyValue, NumberPoint } from "./otlp.gen.ts";

/** The two that OTLP/HTTP has for the same messages. */
export type Notation = "protobuf" | "json";

function encodeMessage<Desc extends DescMessage>(
  notation: Notation,
  schema: Desc,
  message: MessageShape<Desc>,
): Uint8Array<ArrayBuffer> {
  if (notation === "protobuf") return toBinary(schema, message);
  // An enumeration must be a number in the JSON of OTLP, other than protobuf's own.
  return new TextEncoder().encode(JSON.stringify(toJson(schema, message, { enumAsInteger: true })));
}

/** `compression` of the options is `gzip` or `none`. */
export function encodeBody<Desc extends DescMessage>(
  notation: Notation,
  schema: Desc,
  message: MessageShape<Desc>,
  { options }: EncoderSpec,
): EncodedBody {
  const raw = encodeMessage(notation, schema, message);
  const body = options?.["compression"] === "gzip" ? Bun.gzipSync(raw) : raw;
  return { body, rawBytes: raw.length };
}

/**
 * Bytes of the parts that a body is put together of. Never too small, so that no body is larger than it may be; too
 * large by no more than a few in a hundred.
 */
export type Sizes = {
  /** Of a message as it is, by encoding it: for those that a body has few of. */
  message<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): number;
  /** What a message of a list takes in it, when it takes `bytes` alone. */
  element(bytes: number): number;
  text(value: string): number;
  /** The list of a message with what names it. */
  attributes(attributes: readonly KeyValue[]): number;
  /** Without its attributes. */
  numberPoint(point: NumberPoint): number;
  /** What a message may take more than `message` says once its empty list is filled. */
  readonly listBytes: number;
};

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) bytes += 1;
  return bytes;
}

/** A field with a length; all of ours have numbers below 16, which take one byte. */
const fieldBytes = (length: number): number => 1 + varintBytes(length) + length;

const utf8Bytes = (value: string): number => Buffer.byteLength(value, "utf8");

/** Counts are not negative: those below zero would take ten bytes. */
function binaryValueBytes({ value }: AnyValue): number {
  if (value.case === "stringValue") return fieldBytes(utf8Bytes(value.value));
  return value.case === undefined ? 0 : 1 + varintBytes(Number(value.value));
}

const binaryAttributeBytes = ({ key, value }: KeyValue): number =>
  fieldBytes(fieldBytes(utf8Bytes(key)) + (value === undefined ? 0 : fieldBytes(binaryValueBytes(value))));

const sum = (all: readonly KeyValue[], bytesOf: (one: KeyValue) => number): number => {
  let bytes = 0;
  for (const one of all) bytes += bytesOf(one);
  return bytes;
};

const binarySizes: Sizes = {
  message: (schema, message) => encodeMessage("protobuf", schema, message).length,
  element: fieldBytes,
  text: utf8Bytes,
  attributes: (all) => sum(all, binaryAttributeBytes),
  numberPoint: ({ value }) => (value.case === undefined ? 11 : 18),
  // Two levels whose length was one byte and may become four.
  listBytes: 6,
};

const jsonTextBytes = (value: string): number => utf8Bytes(JSON.stringify(value));

/** Numbers that are not finite stand there as text, and so do all of 64 bits. */
const jsonNumberBytes = (value: number | bigint): number => String(value).length + 2;

function jsonValueBytes({ value }: AnyValue): number {
  if (value.case === undefined) return '"value":{}'.length;
  const bytes = value.case === "stringValue" ? jsonTextBytes(value.value) : jsonNumberBytes(value.value);
  return '"value":{"":}'.length + value.case.length + bytes;
}

const jsonAttributeBytes = ({ key, value }: KeyValue): number =>
  '{"key":,},'.length + jsonTextBytes(key) + (value === undefined ? 0 : jsonValueBytes(value));

const jsonSizes: Sizes = {
  message: (schema, message) => encodeMessage("json", schema, message).length,
  element: (bytes) => bytes + 1,
  text: jsonTextBytes,
  attributes: (all) => (all.length === 0 ? 0 : ',"attributes":[]'.length + sum(all, jsonAttributeBytes)),
  numberPoint: ({ value }) =>
    '{"timeUnixNano":"1700000000000000000",}'.length +
    (value.case === undefined
      ? '"flags":1'.length
      : '"":'.length + value.case.length + jsonNumberBytes(value.value)),
  listBytes: '"dataPoints":[],'.length,
};

export const sizesOf: Readonly<Record<Notation, Sizes>> = { protobuf: binarySizes, json: jsonSizes };
