// The samples of one step as bytes: what changed since the step before, so that a step costs little to keep safe.

import {
  type ByteReader,
  type ByteWriter,
  createByteReader,
  createByteWriter,
  MalformedBytesError,
  readable,
  unzigzag,
  zigzag,
} from "./bits.ts";
import type { Column } from "./sample-codec.ts";

/** Steps of a block at most: half an hour of steps of 15 s. */
export const blockStepsMax = 120;

// The first byte. A step that starts a block knows of none before it.
const startBit = 1;
const zstdBit = 2;

// How the value of a series stands to its last one: the same, eight bytes of its own, or from here on the zigzag of a
// difference that is not zero, less one.
const sameToken = 0;
const floatToken = 1;
/** Of smaller whole numbers, differences and their zigzag are exact. */
const wholeMax = 2 ** 50;

const isWhole = (value: number): boolean =>
  Number.isInteger(value) && Math.abs(value) < wholeMax && !Object.is(value, -0);

/** What the steps of a block have in common: each series of it has a place, in order of its first step. */
export type StepCoder = {
  /** Numbers of the series, by place. */
  readonly ids: readonly number[];
  holds(id: number): boolean;
  /** Of a series that comes twice the last value holds. */
  encode(step: { readonly ids: readonly number[]; readonly values: readonly number[] }): {
    readonly data: Uint8Array;
    readonly samples: number;
  };
  /** Values by place. Throws MalformedBytesError. */
  decode(data: Uint8Array): Column;
};

export function createStepCoder(): StepCoder {
  const ids: number[] = [];
  const places = new Map<number, number>();
  const last: number[] = [];
  let before: Column = [];
  let live = 0; // Series in the step before.
  let started = false;

  const join = (id: number): number => {
    places.set(id, ids.length);
    last.push(0);
    return ids.push(id) - 1;
  };

  return {
    ids,
    holds: (id) => places.has(id),
    encode(step) {
      const known = ids.length;
      const now: Column = new Array(known).fill(undefined);
      for (const [index, id] of step.ids.entries()) now[places.get(id) ?? join(id)] = step.values[index];
      const writer = createByteWriter(1024 + 2 * ids.length);
      writeJoined(writer, ids.slice(known));
      writeFlips(writer, before, now, known);
      const samples = writeValues(writer, now, last);
      before = now;
      live = samples;
      const head = started ? 0 : startBit;
      started = true;
      return { data: packed(head, writer.finish()), samples };
    },
    decode(data) {
      if (startsBlock(data) === started)
        throw new MalformedBytesError("a step does not follow on the one before");
      const reader = createByteReader(unpacked(data));
      const known = ids.length;
      for (const id of readJoined(reader)) join(id);
      const flips = readFlips(reader, known);
      live += ids.length - known;
      for (const place of flips) live += before[place] === undefined ? 1 : -1;
      const now = readValues(reader, { tokens: reader.varints(live), flips, before, last });
      before = now;
      started = true;
      return now;
    },
  };
}

/** Whether the step knows of none before it. */
export const startsBlock = (data: Uint8Array): boolean => ((data[0] ?? 0) & startBit) !== 0;

function packed(head: number, body: Uint8Array<ArrayBuffer>): Uint8Array {
  const small = Bun.zstdCompressSync(body, { level: 1 });
  const shorter = small.length < body.length;
  const data = new Uint8Array(1 + Math.min(small.length, body.length));
  data[0] = head | (shorter ? zstdBit : 0);
  data.set(shorter ? small : body, 1);
  return data;
}

function unpacked(data: Uint8Array): Uint8Array {
  const body = data.slice(1);
  if (((data[0] ?? 0) & zstdBit) === 0) return body;
  try {
    return Bun.zstdDecompressSync(body);
  } catch (error) {
    throw new MalformedBytesError("a step cannot be unpacked", { cause: error });
  }
}

function writeJoined(writer: ByteWriter, ids: readonly number[]): void {
  writer.varint(ids.length);
  let last = 0;
  for (const id of ids) {
    writer.varint(zigzag(id - last));
    last = id;
  }
}

function readJoined(reader: ByteReader): number[] {
  const ids: number[] = [];
  let last = 0;
  for (let left = reader.varint(); left > 0; left--) {
    last += unzigzag(reader.varint());
    ids.push(last);
  }
  return ids;
}

/** Which of the series that were known before came or went. */
function writeFlips(writer: ByteWriter, before: Column, now: Column, known: number): void {
  const gaps: number[] = [];
  let next = 0;
  for (let place = 0; place < known; place++) {
    if ((before[place] === undefined) === (now[place] === undefined)) continue;
    gaps.push(place - next);
    next = place + 1;
  }
  writer.varint(gaps.length);
  for (const gap of gaps) writer.varint(gap);
}

/** The places of those series, rising. */
function readFlips(reader: ByteReader, known: number): number[] {
  const flips: number[] = [];
  let next = 0;
  for (let left = reader.varint(); left > 0; left--) {
    const place = next + reader.varint();
    if (place >= known) throw new MalformedBytesError("a series that is not there comes or goes");
    flips.push(place);
    next = place + 1;
  }
  return flips;
}

/** All tokens, then all floats. */
function writeValues(writer: ByteWriter, now: Column, last: number[]): number {
  const floats: number[] = [];
  let samples = 0;
  for (let place = 0; place < now.length; place++) {
    const value = now[place];
    if (value === undefined) continue;
    samples++;
    const old = last[place] ?? 0;
    last[place] = value;
    if (Object.is(value, old)) writer.varint(sameToken);
    else if (isWhole(value) && isWhole(old)) writer.varint(zigzag(value - old) + floatToken);
    else {
      writer.varint(floatToken);
      floats.push(value);
    }
  }
  for (const value of floats) writer.float(value);
  return samples;
}

type ReadState = {
  readonly tokens: Float64Array;
  readonly flips: readonly number[];
  readonly before: Column;
  readonly last: number[];
};

/** The time that a query takes is spent here: a place has a value if it had one and did not go, or came, or is new. */
function readValues(reader: ByteReader, { tokens, flips, before, last }: ReadState): Column {
  const now: Column = new Array(last.length);
  let token = 0;
  let flip = 0;
  let nextFlip = flips[0] ?? -1;
  for (let place = 0; place < last.length; place++) {
    let present = place >= before.length || before[place] !== undefined;
    if (place === nextFlip) {
      present = !present;
      nextFlip = flips[++flip] ?? -1;
    }
    if (!present) {
      now[place] = undefined;
      continue;
    }
    const value = tokenValue(tokens[token++] ?? sameToken, last[place] ?? 0, reader);
    last[place] = value;
    now[place] = value;
  }
  return now;
}

function tokenValue(token: number, last: number, floats: ByteReader): number {
  if (token === sameToken) return last;
  return token === floatToken ? floats.float() : last + unzigzag(token - floatToken);
}

export type StepRow = readonly [id: number, at: number, data: Uint8Array];

/** Rows in the order of their ids, each block on its own. What stands behind a gap is a block that cannot be read. */
export function splitSteps<Row extends readonly [...StepRow, ...more: unknown[]]>(
  rows: readonly Row[],
): Row[][] {
  const blocks: Row[][] = [];
  for (const row of rows) {
    const block = blocks.at(-1);
    const follows = block?.at(-1)?.[0] === row[0] - 1 && !startsBlock(row[2]);
    if (block !== undefined && follows) block.push(row);
    else blocks.push([row]);
  }
  return blocks;
}

export type StepReader = {
  /** The next step of the block. Throws MalformedBytesError. */
  add(row: StepRow): void;
  /** By the number of the series; a value a step. */
  readonly columns: ReadonlyMap<number, Column>;
};

/** Turns the steps of a block into columns: of all series, or of those that are wanted. */
export function createStepReader(steps: number, wanted?: ReadonlySet<number>): StepReader {
  const coder = createStepCoder();
  const columns = new Map<number, Column>();
  const byPlace: (Column | undefined)[] = [];
  let step = 0;
  return {
    columns,
    add([, , data]) {
      const values = coder.decode(data);
      for (let place = byPlace.length; place < values.length; place++) {
        const id = coder.ids[place] ?? 0;
        const column: Column | undefined =
          wanted?.has(id) === false ? undefined : new Array(steps).fill(undefined);
        byPlace.push(column);
        if (column !== undefined) columns.set(id, column);
      }
      for (let place = 0; place < values.length; place++) {
        const column = byPlace[place];
        if (column !== undefined) column[step] = values[place];
      }
      step++;
    },
  };
}

/** The columns of the steps of a block, up to the first one that cannot be read: what follows builds on it. */
export function readSteps(
  rows: readonly StepRow[],
  wanted?: ReadonlySet<number>,
): { readonly columns: ReadonlyMap<number, Column>; readonly read: number } {
  const reader = createStepReader(rows.length, wanted);
  const add = (row: StepRow): boolean => {
    reader.add(row);
    return true;
  };
  const damaged = rows.findIndex((row) => readable(() => add(row)) === undefined);
  return { columns: reader.columns, read: damaged === -1 ? rows.length : damaged };
}
