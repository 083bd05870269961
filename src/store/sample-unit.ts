// Finds the samples of some steps by their ordinals, and puts them into the order in which they are sent: by series.

import { readable } from "./bits.ts";
import type { Reader } from "./query.ts";
import { blockPiece, logPiece, type Piece } from "./sample-piece.ts";
import { blockStepsMax } from "./sample-steps.ts";
import type { BatchQuery } from "./sink-batch.ts";

/** Whole steps of one block. Its samples are numbered series by series, those of a series by their steps. */
export type Unit = {
  readonly piece: Piece;
  /** Steps of the piece: from the first one, before the second one. */
  readonly from: number;
  readonly to: number;
  readonly last: number;
  /** Numbers of the series that have a sample in it, or had one in the step before; rising. */
  readonly ids: readonly number[];
  /** Of each of those, how many samples come before it, and how many there are in the end. */
  readonly starts: readonly number[];
  /** Whether the series was in the step before the first one. */
  before(id: number): boolean;
};

/** Without a unit, what is missing ends here. */
export type Found = { readonly unit: Unit } | { readonly missingTo: number };

type Wanted = Pick<BatchQuery, "first" | "last" | "done" | "spanMaxMs" | "cutoffAt">;

export function findUnit(reader: Reader, wanted: Wanted): Found {
  const { first, last, done } = wanted;
  const found = findPiece(reader, first);
  if (found === undefined) return { missingTo: last };
  if (typeof found === "number") return { missingTo: Math.min(last, found) };
  const { piece } = found;
  if (first <= piece.start) return { missingTo: Math.min(last, piece.start) };
  const from = piece.ends.findIndex((_, step) => startOf(piece, step) === first - 1);
  if (from === -1) {
    const within = piece.ends.find((end) => end >= first);
    return { missingTo: Math.min(last, within ?? found.end) };
  }
  const to = done > 0 ? endOf(piece, from, last) : reachOf(piece, from, wanted);
  return to === undefined ? { missingTo: last } : { unit: unitOf(reader, piece, from, to) };
}

type Place = {
  readonly piece: Piece;
  /** The last ordinal of the block, or of the step, that was looked for. */
  readonly end: number;
};

/** The piece that holds the ordinal, or the next one; a number is where what cannot be read ends. */
function findPiece(reader: Reader, ordinal: number): Place | number | undefined {
  // All blocks are older than the steps that are not compacted yet.
  const block = reaching(reader, "sample_blocks", ordinal);
  const row = block ?? reaching(reader, "sample_steps", ordinal);
  if (row === undefined) return undefined;
  const [id, end] = row;
  const piece = block === undefined ? logPiece(reader, id) : blockOrNone(reader, id);
  return piece === undefined || id > piece.lastId ? end : { piece, end };
}

const blockOrNone = (reader: Reader, id: number): Piece | undefined => readable(() => blockPiece(reader, id));

type TotalRow = readonly [id: number, total: number];

/** The first row up to which so many samples were stored. Ids have gaps, and totals no index: they rise together. */
function reaching(
  reader: Reader,
  table: "sample_blocks" | "sample_steps",
  ordinal: number,
): TotalRow | undefined {
  const ends = reader.prepare(`SELECT (SELECT min(id) FROM ${table}), (SELECT max(id) FROM ${table})`);
  const from = reader.prepare(`SELECT id, total FROM ${table} WHERE id >= ? ORDER BY id LIMIT 1`);
  const [least, most] = ends.get() as readonly [number | null, number | null];
  if (least === null || most === null) return undefined;
  let found = from.get(most) as TotalRow;
  if (found[1] < ordinal) return undefined;
  for (let low = least, high = most; low < high; ) {
    const middle = Math.floor((low + high) / 2);
    const row = from.get(middle) as TotalRow;
    if (row[1] < ordinal) low = row[0] + 1;
    else {
      high = middle;
      found = row;
    }
  }
  return found;
}

const startOf = ({ start, ends }: Piece, step: number): number => ends[step - 1] ?? start;

/** After the first step that ends with this ordinal. */
function endOf({ ends }: Piece, from: number, last: number): number | undefined {
  const step = ends.indexOf(last, from);
  return step === -1 ? undefined : step + 1;
}

/** As many steps as may be sent together; undefined where not even one may, as it is not whole. */
function reachOf(
  piece: Piece,
  from: number,
  { last, spanMaxMs, cutoffAt }: Pick<Wanted, "last" | "spanMaxMs" | "cutoffAt">,
): number | undefined {
  const { times, ends } = piece;
  const first = times[from] ?? 0;
  let to: number | undefined;
  for (let step = from; step < Math.min(ends.length, from + blockStepsMax); step++) {
    const at = times[step] ?? 0;
    const samples = (ends[step] ?? 0) - startOf(piece, step);
    const together = at - first <= spanMaxMs && at < cutoffAt === first < cutoffAt;
    if ((ends[step] ?? 0) > last || (to !== undefined && !together)) break;
    if (samples > 0) to = step + 1; // What ends with an empty step could not be told by its ordinals.
  }
  return to;
}

const unitsMax = 4;
const units = new WeakMap<Piece, Map<string, Unit>>();

function unitOf(reader: Reader, piece: Piece, from: number, to: number): Unit {
  const known = units.get(piece) ?? new Map<string, Unit>();
  units.set(piece, known);
  const key = `${from} ${to}`;
  const unit = known.get(key) ?? makeUnit(reader, piece, from, to);
  known.delete(key);
  known.set(key, unit);
  for (const oldest of known.keys()) if (known.size > unitsMax) known.delete(oldest);
  return unit;
}

function makeUnit(reader: Reader, piece: Piece, from: number, to: number): Unit {
  const before = beforeOf(reader, piece, from);
  const gone = from === 0 ? [...(piece.before ?? [])].filter((id) => piece.countIn(id, 0, to) === 0) : [];
  const all = gone.length === 0 ? piece.ids : [...new Set([...piece.ids, ...gone])].sort((a, b) => a - b);
  const ids: number[] = [];
  const starts: number[] = [];
  let total = 0;
  for (const id of all) {
    const samples = piece.countIn(id, from, to);
    if (samples === 0 && !before(id)) continue;
    ids.push(id);
    starts.push(total);
    total += samples;
  }
  starts.push(total);
  return { piece, from, to, last: piece.ends[to - 1] ?? 0, ids, starts, before };
}

function beforeOf(reader: Reader, piece: Piece, from: number): (id: number) => boolean {
  if (from > 0) return (id) => piece.countIn(id, from - 1, from) > 0;
  piece.before ??= seriesAt(reader, piece.firstId - 1);
  const { before } = piece;
  return (id) => before.has(id);
}

/** Of the step with which another piece ends; none where it is not in the file, or cannot be read. */
function seriesAt(reader: Reader, step: number): ReadonlySet<number> {
  const piece = pieceWith(reader, step);
  if (piece?.lastId !== step) return new Set();
  const { ids, times } = piece;
  return new Set(ids.filter((id) => piece.countIn(id, times.length - 1, times.length) > 0));
}

function pieceWith(reader: Reader, step: number): Piece | undefined {
  const has = (table: string): boolean =>
    reader.prepare(`SELECT 1 FROM ${table} WHERE id = ?`).get(step) !== undefined;
  if (has("sample_blocks")) return blockOrNone(reader, step);
  return has("sample_steps") ? logPiece(reader, step) : undefined;
}
