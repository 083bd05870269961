// Writes the few protobuf types that Remote-Write needs into a buffer that is used again.
//
// The stale marker is a signalling NaN: as a number it would lose its bits, so fixed64 takes eight raw bytes.

export type ProtoWriter = {
  readonly length: number;
  /** Field numbers are at most 15: a tag is one byte. */
  varintField(field: number, value: number): void;
  doubleField(field: number, value: number): void;
  /** Eight bytes, the lowest first. */
  fixed64Field(field: number, bytes: Uint8Array): void;
  stringField(field: number, text: string): void;
  /** The start of a field whose `length` bytes the caller writes next. */
  lengthField(field: number, length: number): void;
  varint(value: number): void;
  raw(bytes: Uint8Array): void;
  /** Keeps the first `length` bytes alone. */
  truncate(length: number): void;
  /** What is written; void after the next write. */
  view(): Uint8Array<ArrayBuffer>;
};

const wire = { varint: 0, fixed64: 1, length: 2 } as const;

/** How many bytes a varint takes. */
export function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) length += 1;
  return length;
}

/** A field of `length` bytes with its tag and length. */
export const fieldLength = (length: number): number => 1 + varintLength(length) + length;

/** How many bytes a field of text takes. */
export function stringFieldLength(text: string): number {
  for (let index = 0; index < text.length; index++)
    if (text.charCodeAt(index) >= 0x80) return fieldLength(Buffer.byteLength(text));
  return fieldLength(text.length);
}

const utf8 = new TextEncoder();
const bytesAtFirst = 64 * 1024;

/** Grows by doubling and never shrinks. */
function createBuffer() {
  let bytes = new Uint8Array(bytesAtFirst);
  let view = new DataView(bytes.buffer);
  return {
    bytes: () => bytes,
    view: () => view,
    /** Room for `more` bytes after `length`. */
    reserve(length: number, more: number): Uint8Array<ArrayBuffer> {
      if (length + more <= bytes.length) return bytes;
      const grown = new Uint8Array(Math.max(bytes.length * 2, length + more));
      grown.set(bytes.subarray(0, length));
      bytes = grown;
      view = new DataView(bytes.buffer);
      return bytes;
    },
  };
}

/** Writes `text` at `at` if it is ASCII alone: for short texts several times as fast as an encoder. */
function putAscii(bytes: Uint8Array, at: number, text: string): boolean {
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code >= 0x80) return false;
    bytes[at + index] = code;
  }
  return true;
}

/** `value` is a safe integer, 0 or more. Returns where the next byte goes. */
function putVarint(bytes: Uint8Array, at: number, value: number): number {
  let end = at;
  let rest = value;
  // Shifts take 32 bits alone.
  for (; rest > 0x7fffffff; rest = Math.floor(rest / 0x80)) bytes[end++] = (rest % 0x80) | 0x80;
  for (; rest >= 0x80; rest >>>= 7) bytes[end++] = (rest & 0x7f) | 0x80;
  bytes[end++] = rest;
  return end;
}

/** Room for a tag and the longest varint of a safe integer. */
const headMax = 10;

export function createProtoWriter(): ProtoWriter {
  const buffer = createBuffer();
  let length = 0;
  const tagged = (field: number, type: number, value: number): void => {
    const bytes = buffer.reserve(length, headMax);
    bytes[length] = (field << 3) | type;
    length = putVarint(bytes, length + 1, value);
  };
  const raw = (given: Uint8Array): void => {
    buffer.reserve(length, given.length).set(given, length);
    length += given.length;
  };
  return {
    get length() {
      return length;
    },
    raw,
    varintField: (field, value) => tagged(field, wire.varint, value),
    lengthField: (field, size) => tagged(field, wire.length, size),
    doubleField: (field, value) => {
      buffer.reserve(length, 9)[length] = (field << 3) | wire.fixed64;
      buffer.view().setFloat64(length + 1, value, true);
      length += 9;
    },
    fixed64Field: (field, given) => {
      const bytes = buffer.reserve(length, 9);
      bytes[length] = (field << 3) | wire.fixed64;
      bytes.set(given.subarray(0, 8), length + 1);
      length += 9;
    },
    stringField: (field, text) => {
      const bytes = buffer.reserve(length, headMax + text.length);
      if (putAscii(bytes, length + fieldLength(text.length) - text.length, text)) {
        tagged(field, wire.length, text.length);
        length += text.length;
        return;
      }
      const encoded = utf8.encode(text);
      tagged(field, wire.length, encoded.length);
      raw(encoded);
    },
    varint: (value) => {
      length = putVarint(buffer.reserve(length, headMax), length, value);
    },
    truncate: (to) => {
      length = Math.min(length, to);
    },
    view: () => buffer.bytes().subarray(0, length),
  };
}

// Four are enough for two encoders at a time; a writer that held an uncommonly large body is not kept.
const spareMax = 4;
const spareBytesMax = 8 * 1024 * 1024;
const spare: ProtoWriter[] = [];

/** An empty writer, one that was given back where there is one. */
export const borrowWriter = (): ProtoWriter => spare.pop() ?? createProtoWriter();

/** Views of it are void from now on. */
export function returnWriter(writer: ProtoWriter): void {
  if (spare.length >= spareMax || writer.length > spareBytesMax) return;
  writer.truncate(0);
  spare.push(writer);
}
