// Blocks of samples as whoever reads all of them needs them: steps with their ordinals, columns that are decoded late.

import type { EncodedSeries } from "../sinks/encoder.ts";
import { MalformedBytesError, readable } from "./bits.ts";
import type { Reader } from "./query.ts";
import { type Column, decodeColumn, decodeRuns, decodeTimes } from "./sample-codec.ts";
import { blockStepsMax, createStepReader, type StepRow, startsBlock } from "./sample-steps.ts";

/** Steps that belong together: a block in the file, or what there is of one that is not compacted yet. */
export type Piece = {
  /** Ids of its steps, which have no gap. */
  readonly firstId: number;
  readonly lastId: number;
  /** Samples that were stored before the first step, and up to and with each one. */
  readonly start: number;
  readonly ends: readonly number[];
  readonly times: readonly number[];
  /** Numbers of the series, rising. */
  readonly ids: readonly number[];
  /** From a step on, before another one. */
  countIn(id: number, from: number, to: number): number;
  /** Undefined where it cannot be read. */
  column(id: number): Column | undefined;
  /** Names that were asked for: a number may become that of another series once no block holds it. */
  readonly names: Map<number, EncodedSeries | undefined>;
  /** Series that were in the step before the first one, once that was looked up. */
  before: ReadonlySet<number> | undefined;
  /** About what it takes in memory. */
  readonly bytes: number;
};

type LogPiece = Piece & {
  /** False where it cannot be read; nothing behind it can be read then. */
  add(row: LoggedStep): boolean;
};

type LoggedStep = readonly [...StepRow, total: number];
type Pieces = Map<number, Piece | LogPiece>;

/** Sinks read live data and a backlog in turn: two stay, however large they are. */
const piecesMin = 2;
const piecesMax = 6;
const bytesMax = 32 * 2 ** 20;
/** A map entry, an array's head, the name and the labels. */
const seriesBytes = 700;

const caches = new WeakMap<Reader, Pieces>();

function piecesOf(reader: Reader): Pieces {
  const known = caches.get(reader);
  if (known !== undefined) return known;
  const pieces: Pieces = new Map();
  caches.set(reader, pieces);
  return pieces;
}

/** The piece is the last one used; those that were not used for long go. */
function keep<P extends Piece>(pieces: Pieces, piece: P): P {
  pieces.delete(piece.firstId);
  pieces.set(piece.firstId, piece);
  let bytes = [...pieces.values()].reduce((sum, one) => sum + one.bytes, 0);
  for (const [id, { bytes: freed }] of pieces) {
    if (pieces.size <= piecesMin || (pieces.size <= piecesMax && bytes <= bytesMax)) break;
    pieces.delete(id);
    bytes -= freed;
  }
  return piece;
}

/** The block in the file with this id. Throws MalformedBytesError. */
export function blockPiece(reader: Reader, id: number): Piece {
  const pieces = piecesOf(reader);
  const known = [...pieces.values()].find(({ lastId }) => lastId === id);
  return keep(pieces, known ?? readBlock(reader, id));
}

type BlockRow = readonly [samples: number, total: number, times: Uint8Array];

function readBlock(reader: Reader, id: number): Piece {
  const [samples, total, timesBytes] = reader
    .prepare("SELECT samples, total, times FROM sample_blocks WHERE id = ?")
    .get(id) as BlockRow;
  const times = decodeTimes(timesBytes);
  const rows = reader
    .prepare("SELECT series, data FROM sample_chunks WHERE block = ? ORDER BY series")
    .all(id) as (readonly [number, Uint8Array])[];
  const chunks = new Map<number, Chunk>();
  let bytes = 0;
  for (const [series, data] of rows) {
    const runs = runsOf(data, times.length);
    if (runs === undefined) continue;
    chunks.set(series, { data, runs });
    bytes += data.length + seriesBytes + 8 * runs.length;
  }
  const ends = endsOf(chunks.values(), times.length, total - samples);
  const surplus = (ends.at(-1) ?? 0) - total;
  if (surplus > 0) throw new MalformedBytesError(`block ${id} has ${surplus} samples more than it says`);
  // Whatever could not be read counts as if it were of the last step: it is told as missing there.
  ends[times.length - 1] = total;
  return {
    ...{ firstId: id - times.length + 1, lastId: id, start: total - samples, ends, times, bytes },
    ...{ ids: [...chunks.keys()], names: new Map(), before: undefined },
    countIn: (series, from, to) => countRuns(chunks.get(series)?.runs ?? [], from, to),
    column: lastColumn((series) => {
      const chunk = chunks.get(series);
      return chunk === undefined ? undefined : decodeColumn(chunk.data, times.length);
    }),
  };
}

/** Lengths of the runs without and with values, in turn. */
type Runs = readonly number[];
type Chunk = { readonly data: Uint8Array; readonly runs: Runs };

/** Undefined where they cannot be read. */
const runsOf = (data: Uint8Array, steps: number): Runs | undefined => readable(() => decodeRuns(data, steps));

function endsOf(chunks: Iterable<Chunk>, steps: number, start: number): number[] {
  const changes = new Array<number>(steps + 1).fill(0);
  for (const { runs } of chunks) {
    let step = 0;
    for (const [index, run] of runs.entries()) {
      if (index > 0) changes[step] = (changes[step] ?? 0) + (index % 2 === 1 ? 1 : -1);
      step += run;
    }
    if (runs.length % 2 === 0) changes[step] = (changes[step] ?? 0) - 1;
  }
  let live = 0;
  let end = start;
  return changes.slice(0, steps).map((change) => {
    live += change;
    end += live;
    return end;
  });
}

function countRuns(runs: Runs, from: number, to: number): number {
  let count = 0;
  let step = 0;
  for (const [index, run] of runs.entries()) {
    if (index % 2 === 1) count += Math.max(0, Math.min(to, step + run) - Math.max(from, step));
    step += run;
  }
  return count;
}

/** Decodes a column once where two bodies share it. */
function lastColumn(decode: (series: number) => Column | undefined): (series: number) => Column | undefined {
  let last: { readonly series: number; readonly column: Column | undefined } | undefined;
  return (series) => {
    if (last?.series !== series) last = { series, column: readable(() => decode(series)) };
    return last.column;
  };
}

/** What can be read of the steps that this one is among, up to the newest; the step itself may not be in it. */
export function logPiece(reader: Reader, step: number): Piece {
  const pieces = piecesOf(reader);
  const logged = [...pieces.values()].filter((piece) => "add" in piece);
  // Of a live step the one before was read last: it tells the block without a look at all of its steps.
  for (const piece of logged.filter(({ firstId, lastId }) => step >= firstId && step <= lastId + 1)) {
    extend(reader, piece);
    if (step <= piece.lastId) return keep(pieces, piece);
  }
  const firstId = firstOf(reader, step);
  const piece = logged.find((one) => one.firstId === firstId) ?? createLogPiece(firstId);
  extend(reader, piece);
  return keep(pieces, piece);
}

/** The step that starts the block. */
function firstOf(reader: Reader, step: number): number {
  const rows = reader
    .prepare("SELECT id, substr(data, 1, 1) FROM sample_steps WHERE id <= ? ORDER BY id DESC")
    .iterate(step) as Iterable<readonly [id: number, head: Uint8Array]>;
  let firstId = step;
  for (const [id, head] of rows) {
    if (id < firstId - 1) break;
    firstId = id;
    if (startsBlock(head)) break;
  }
  return firstId;
}

function extend(reader: Reader, piece: LogPiece): void {
  const rows = reader
    .prepare("SELECT id, at, data, total FROM sample_steps WHERE id > ? ORDER BY id")
    .iterate(piece.lastId) as Iterable<LoggedStep>;
  for (const row of rows) {
    const [id, , data] = row;
    const follows = id === piece.lastId + 1 && startsBlock(data) === (piece.times.length === 0);
    if (!follows || !piece.add(row)) break;
  }
}

function createLogPiece(firstId: number): LogPiece {
  const steps = createStepReader(blockStepsMax);
  const times: number[] = [];
  const ends: number[] = [];
  let start = 0;
  let ids: readonly number[] = [];
  let damaged = false;

  const samplesAt = (step: number): number => {
    let count = 0;
    for (const column of steps.columns.values()) if (column[step] !== undefined) count++;
    return count;
  };
  const reads = ([id, at, data, total]: LoggedStep): boolean => {
    if (times.length >= blockStepsMax) return false;
    const added = readable(() => {
      steps.add([id, at, data]);
      return true;
    });
    if (added === undefined) return false;
    const samples = samplesAt(times.length);
    if (times.length === 0) start = total - samples;
    return samples === total - (ends.at(-1) ?? start);
  };

  return {
    ...{ firstId, times, ends, names: new Map(), before: undefined },
    add(row) {
      damaged ||= !reads(row);
      if (damaged) return false;
      times.push(row[1]);
      ends.push(row[3]);
      return true;
    },
    countIn(id, from, to) {
      const column = steps.columns.get(id) ?? [];
      let count = 0;
      for (let step = from; step < to; step++) if (column[step] !== undefined) count++;
      return count;
    },
    column: (id) => steps.columns.get(id),
    get lastId() {
      return firstId + times.length - 1;
    },
    get start() {
      return start;
    },
    get ids() {
      if (ids.length !== steps.columns.size) ids = [...steps.columns.keys()].sort((a, b) => a - b);
      return ids;
    },
    get bytes() {
      return steps.columns.size * (8 * blockStepsMax + seriesBytes);
    },
  };
}
