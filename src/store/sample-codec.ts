// The values of one series over a block of steps as bytes and back, bit for bit.

import {
  type ByteReader,
  type ByteWriter,
  bitLength,
  createByteReader,
  createByteWriter,
  MalformedBytesError,
  unzigzag,
  zigzag,
} from "./bits.ts";

/** A value a step; undefined where the series was not there. */
export type Column = (number | undefined)[];

// The first byte says how the values are coded, and whether there is one at each step. If not, the lengths of the runs
// without and with values follow in turn. Most series are whole numbers or have few decimals: of those, scaled to whole
// numbers, the values, their differences or the differences of these are coded, whatever takes least. The rest (noise,
// NaN, infinities, minus zero, counts near 2^53) is coded by the bits in which a value differs from the one before.
const fullBit = 1;
const wholeBit = 2;

/** Throws for a column without a value. */
export function encodeColumn(column: Readonly<Column>): Uint8Array<ArrayBuffer> {
  const values = column.filter((value) => value !== undefined);
  if (values.length === 0) throw new Error("A column without a value is not stored.");
  const full = values.length === column.length ? fullBit : 0;
  const whole = asWhole(values);
  const writer = createByteWriter();
  writer.byte(full | (whole === undefined ? 0 : wholeBit));
  if (full === 0) writeRuns(writer, column);
  if (whole === undefined) writeRaw(writer, values);
  else writeWhole(writer, whole);
  return writer.finish();
}

/** `count` is that of the steps of the block. Throws MalformedBytesError. */
export function decodeColumn(bytes: Uint8Array, count: number): Column {
  const reader = createByteReader(bytes);
  const head = reader.byte();
  const runs = (head & fullBit) !== 0 ? [0, count] : readRuns(reader, count);
  const present = runs.reduce((sum, run, index) => sum + (index % 2 === 1 ? run : 0), 0);
  if (present === 0) throw new MalformedBytesError("a column has no value");
  const values = (head & wholeBit) !== 0 ? readWhole(reader, present) : readRaw(reader, present);
  if ((head & fullBit) !== 0) return values;
  const column: Column = [];
  let next = 0;
  for (const [index, run] of runs.entries())
    for (let step = 0; step < run; step++) column.push(index % 2 === 1 ? values[next++] : undefined);
  return column;
}

/**
 * Lengths of the runs without and with values in a column, in turn, in a fraction of the time that the values take.
 * Throws MalformedBytesError.
 */
export function decodeRuns(bytes: Uint8Array, count: number): readonly number[] {
  const reader = createByteReader(bytes);
  return (reader.byte() & fullBit) !== 0 ? [0, count] : readRuns(reader, count);
}

/** More steps than any block has. */
const timesMax = 4096;

/** The times of the steps of a block. */
export function encodeTimes(times: readonly number[]): Uint8Array {
  const column = encodeColumn(times);
  const bytes = new Uint8Array(2 + column.length);
  new DataView(bytes.buffer).setUint16(0, times.length, true);
  bytes.set(column, 2);
  return bytes;
}

/** Throws MalformedBytesError. */
export function decodeTimes(bytes: Uint8Array): number[] {
  const count = (bytes[0] ?? 0) + 256 * (bytes[1] ?? 0);
  if (count > timesMax) throw new MalformedBytesError(`a block has ${count} steps`);
  return decodeColumn(bytes.subarray(2), count).map((at) => at ?? 0);
}

function writeRuns(writer: ByteWriter, column: Readonly<Column>): void {
  let present = false;
  let run = 0;
  for (const value of column) {
    if ((value !== undefined) !== present) {
      writer.varint(run);
      run = 0;
      present = !present;
    }
    run++;
  }
  writer.varint(run);
}

function readRuns(reader: ByteReader, count: number): number[] {
  const runs: number[] = [];
  for (let left = count; left > 0; ) {
    const run = reader.varint();
    if (run > left || (run === 0 && runs.length > 0)) throw new MalformedBytesError("the runs fit no block");
    runs.push(run);
    left -= run;
  }
  return runs;
}

/** Decimals that are tried. */
const decimalsMax = 9;
/** Larger ones are coded as they are: of smaller ones, second differences and their signs are exact. */
const wholeMax = 2 ** 50;

type Whole = { readonly decimals: number; readonly values: Float64Array };

/** The values as whole numbers over a power of ten, if each is that to the bit. */
function asWhole(values: readonly number[]): Whole | undefined {
  let decimals = 0;
  for (const value of values)
    while (!isWhole(value, 10 ** decimals)) if (++decimals > decimalsMax) return undefined;
  const scale = 10 ** decimals;
  // What had few decimals enough for its own scale may be too large for that of the others.
  if (decimals > 0 && !values.every((value) => isWhole(value, scale))) return undefined;
  return { decimals, values: new Float64Array(values.map((value) => scaledBy(value, scale))) };
}

/** Never minus zero, which is then told from zero. */
const scaledBy = (value: number, scale: number): number => Math.round(value * scale) + 0;

function isWhole(value: number, scale: number): boolean {
  const scaled = scaledBy(value, scale);
  return Math.abs(scaled) < wholeMax && Object.is(scaled / scale, value);
}

/** How often differences are taken at most: none, speed, acceleration. */
const orderMax = 2;

/** The first `order` of these are the first value each time before differences were taken; the rest are differences. */
function differences(values: Float64Array, order: number): Float64Array {
  const found = values.slice();
  for (let taken = 1; taken <= order; taken++)
    for (let index = found.length - 1; index >= taken; index--)
      found[index] = (found[index] ?? 0) - (found[index - 1] ?? 0);
  return found;
}

type Coding = {
  readonly order: number;
  /** Codes are what differences are above this; without it, their zigzag. */
  readonly from: number | undefined;
  readonly codes: Float64Array;
  /** The low bits of a code that stand as they are; what is above them is coded by gamma. */
  readonly width: number;
  readonly cost: number;
};

/** The width of codes that are all zero: they take no bits at all. */
const noWidth = 63;

function codingOf(values: Float64Array, order: number): Coding {
  const codes = differences(values, order).subarray(order);
  // What only grows is coded from its least on; differences that go both ways gather around zero.
  const least = leastOf(codes);
  const from = order === 0 || least >= 0 ? least : undefined;
  for (let index = 0; index < codes.length; index++) {
    const value = codes[index] ?? 0;
    codes[index] = from === undefined ? zigzag(value) : value - from;
  }
  const { width, cost } = cheapestWidth(codes);
  return { order, from, codes, width, cost: cost + order * 16 };
}

// Loops over an index: to iterate over these arrays, or to reduce them, takes several times as long.
function leastOf(values: Float64Array): number {
  let least = Number.POSITIVE_INFINITY;
  for (let index = 0; index < values.length; index++) least = Math.min(least, values[index] ?? 0);
  return least;
}

function cheapestCoding(values: Float64Array): Coding {
  let best = codingOf(values, 0);
  for (let order = 1; order <= Math.min(orderMax, values.length - 1); order++) {
    const coding = codingOf(values, order);
    if (coding.cost < best.cost) best = coding;
  }
  return best;
}

/** The cost in bits has one minimum, near the width of the mean. */
function cheapestWidth(codes: Float64Array): { readonly width: number; readonly cost: number } {
  let sum = 0;
  for (let index = 0; index < codes.length; index++) sum += codes[index] ?? 0;
  if (sum === 0) return { width: noWidth, cost: 0 };
  let width = Math.max(0, Math.min(52, bitLength(Math.floor(sum / codes.length)) - 1));
  let cost = costOf(codes, width);
  for (const step of [-1, 1])
    for (let next = width + step; next >= 0 && next <= 52; next += step) {
      const nextCost = costOf(codes, next);
      if (nextCost >= cost) break;
      width = next;
      cost = nextCost;
    }
  return { width, cost };
}

function costOf(codes: Float64Array, width: number): number {
  const scale = 2 ** width;
  let bits = codes.length * width;
  for (let index = 0; index < codes.length; index++)
    bits += 2 * bitLength(Math.floor((codes[index] ?? 0) / scale) + 1) - 1;
  return bits;
}

function writeWhole(writer: ByteWriter, { decimals, values }: Whole): void {
  const { order, from, codes, width } = cheapestCoding(values);
  writer.byte(decimals | (order << 4) | (from === undefined ? signedBit : 0));
  writer.byte(width);
  for (const first of differences(values, order).subarray(0, order)) writer.varint(zigzag(first));
  if (from !== undefined) writer.varint(zigzag(from));
  if (width === noWidth) return;
  const scale = 2 ** width;
  for (const code of codes) {
    writer.gamma(Math.floor(code / scale) + 1);
    writer.bits(code % scale, width);
  }
}

const signedBit = 64;

function readWhole(reader: ByteReader, count: number): number[] {
  const head = reader.byte();
  const width = reader.byte();
  const order = Math.min((head >> 4) & 3, count);
  const values: number[] = [];
  for (let index = 0; index < order; index++) values.push(unzigzag(reader.varint()));
  const from = (head & signedBit) === 0 ? unzigzag(reader.varint()) : undefined;
  const scale = 2 ** width;
  for (let index = order; index < count; index++) {
    const code = width === noWidth ? 0 : (reader.gamma() - 1) * scale + reader.bits(width);
    values.push(from === undefined ? unzigzag(code) : code + from);
  }
  for (let taken = order; taken >= 1; taken--)
    for (let index = taken; index < count; index++)
      values[index] = (values[index] ?? 0) + (values[index - 1] ?? 0);
  const divisor = 10 ** (head & 15);
  if (divisor === 1) return values;
  for (const [index, value] of values.entries()) values[index] = value / divisor;
  return values;
}

/** Where in a word bits ever differ: so many, above so many that never do. */
type Window = { readonly shift: number; readonly bits: number };

function windowOf(differing: number): Window {
  if (differing === 0) return { shift: 0, bits: 0 };
  const shift = 31 - Math.clz32(differing & -differing);
  return { shift, bits: 32 - Math.clz32(differing) - shift };
}

// A double is two words, the low one first. Each is coded by the bits in which it differs from the one before, of
// those that ever differ in the column: what is measured has a size and a precision of its own.
function writeRaw(writer: ByteWriter, values: readonly number[]): void {
  const words = new Uint32Array(new Float64Array(values).buffer);
  const differing = [0, 0];
  for (let index = 2; index < words.length; index++)
    differing[index % 2] = (differing[index % 2] ?? 0) | ((words[index] ?? 0) ^ (words[index - 2] ?? 0));
  const windows = differing.map(windowOf);
  writer.float(values[0] ?? 0);
  for (const { shift, bits } of windows) {
    writer.byte(shift);
    writer.byte(bits);
  }
  for (let index = 2; index < words.length; index += 2) {
    const changes = [0, 1].map((word) => (words[index + word] ?? 0) ^ (words[index + word - 2] ?? 0));
    const same = changes.every((change) => change === 0);
    writer.bits(same ? 0 : 1, 1);
    if (same) continue;
    for (const [word, { shift, bits }] of windows.entries())
      writer.bits((changes[word] ?? 0) >>> shift, bits);
  }
}

function readRaw(reader: ByteReader, count: number): number[] {
  const words = new Uint32Array(2 * count);
  words.set(new Uint32Array(new Float64Array([reader.float()]).buffer));
  const windows = [0, 1].map((): Window => ({ shift: reader.byte(), bits: reader.byte() }));
  for (let index = 2; index < words.length; index += 2) {
    const same = reader.bits(1) === 0;
    for (const [word, { shift, bits }] of windows.entries())
      words[index + word] = (words[index + word - 2] ?? 0) ^ (same ? 0 : reader.bits(bits) << shift);
  }
  return [...new Float64Array(words.buffer)];
}
