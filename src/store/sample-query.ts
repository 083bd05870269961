// Reads samples: which series there are, and their values over time, with the places where they ended.

import { readable } from "./bits.ts";
import { StoreQueryError } from "./failure.ts";
import type { Reader } from "./query.ts";
import { type Column, decodeColumn, decodeTimes } from "./sample-codec.ts";
import { type Labels, labelsText } from "./sample-series.ts";
import { readSteps, type StepRow, splitSteps } from "./sample-steps.ts";

export type SeriesQuery = {
  /** The name, or with a star at the end how it begins. */
  readonly name?: string;
  /** Labels that a series must have; it may have others. */
  readonly labels?: Labels;
  /** Default 1,000, at most 50,000. */
  readonly limit?: number;
};

export type SeriesAnswer = {
  /** By name, then labels. */
  readonly series: readonly { readonly name: string; readonly labels: Labels }[];
  /** Whether these are all. */
  readonly complete: boolean;
};

export type SamplesQuery = Omit<SeriesQuery, "limit"> & {
  readonly name: string;
  /** Epoch milliseconds: from `fromAt` on, before `toAt`. */
  readonly fromAt: number;
  readonly toAt: number;
  /** Gives only the last point of each step of so many milliseconds. */
  readonly stepMs?: number;
  /** Default 100, at most 1,000. */
  readonly seriesMax?: number;
  /** Of each series, oldest first. Default and at most 11,000. */
  readonly pointsMax?: number;
};

/** A null says that the series was there in the step before and is not in this one. No point: no step, or still gone. */
export type SamplePoint = readonly [at: number, value: number | null];

export type SamplesAnswer = {
  readonly series: readonly {
    readonly name: string;
    readonly labels: Labels;
    /** In the order in which they were taken; times go back where the clock did. */
    readonly points: readonly SamplePoint[];
  }[];
  /** Whether no series and no point was left out, for a bound or because its bytes cannot be read. */
  readonly complete: boolean;
};

const limits = {
  limit: { default: 1000, max: 50_000 },
  seriesMax: { default: 100, max: 1000 },
  pointsMax: { default: 11_000, max: 11_000 },
} as const;

/** Chunks that one query decodes: more than a second's work. */
const chunksMax = 200_000;

export function querySeries(reader: Reader, query: SeriesQuery): SeriesAnswer {
  const limit = bounded("limit", query.limit);
  const found = findSeries(reader, query, limit + 1);
  return {
    series: found.slice(0, limit).map(({ name, labels }) => ({ name, labels })),
    complete: found.length <= limit,
  };
}

export function querySamples(reader: Reader, query: SamplesQuery): SamplesAnswer {
  const seriesMax = bounded("seriesMax", query.seriesMax);
  const pointsMax = bounded("pointsMax", query.pointsMax);
  checkRange(query);
  // One transaction: a block that is made between two lookups would be in neither or both.
  const read = reader.database.transaction((): SamplesAnswer => {
    const found = findSeries(reader, query, seriesMax + 1);
    const wanted = found.slice(0, seriesMax);
    const pieces = piecesOf(reader, query, new Set(wanted.map(({ id }) => id)));
    const budget = { left: chunksMax };
    let complete = found.length <= seriesMax && pieces.every(({ whole }) => whole);
    const series = wanted.map(({ id, name, labels }) => {
      const points = createPoints({ ...query, pointsMax });
      for (const piece of pieces) if (!addPiece(points, { reader, id, piece, budget })) break;
      complete &&= points.complete && budget.left > 0;
      return { name, labels, points: points.all };
    });
    return { series: series.filter(({ points }) => points.length > 0), complete };
  });
  return read();
}

function bounded(name: keyof typeof limits, value: number = limits[name].default): number {
  const { max } = limits[name];
  if (!Number.isInteger(value) || value < 1 || value > max)
    throw new StoreQueryError(name, `${name}: ${value} is not a whole number from 1 to ${max}.`);
  return value;
}

function checkRange({ fromAt, toAt, stepMs }: SamplesQuery): void {
  for (const [name, value] of Object.entries({ fromAt, toAt, stepMs }))
    if (value !== undefined && !Number.isSafeInteger(value))
      throw new StoreQueryError(name, `${name}: ${value} is not a whole number of milliseconds.`);
  if (stepMs !== undefined && stepMs < 1)
    throw new StoreQueryError("stepMs", `stepMs: ${stepMs} is not positive.`);
  if (fromAt >= toAt) throw new StoreQueryError("toAt", `toAt: ${toAt} is not after fromAt ${fromAt}.`);
}

type FoundSeries = { readonly id: number; readonly name: string; readonly labels: Labels };

function findSeries(reader: Reader, { name, labels = {} }: SeriesQuery, limit: number): FoundSeries[] {
  const conditions: string[] = [];
  const parameters: string[] = [];
  const test = (sql: string, ...values: string[]): void => {
    conditions.push(sql);
    parameters.push(...values);
  };
  if (name !== undefined) testName(name, test);
  // A label stands in the text as it stands in a text of its own. Braces are left off, so that others may be beside it.
  for (const [key, value] of Object.entries(labels))
    test("instr(labels, ?) > 0", labelsText({ [key]: value }).slice(1, -1));
  const where = conditions.length === 0 ? "" : `WHERE ${conditions.join(" AND ")}`;
  const rows = reader
    .prepare(`SELECT id, name, labels FROM series ${where} ORDER BY name, labels`)
    .iterate(...parameters) as Iterable<readonly [number, string, string]>;
  const found: FoundSeries[] = [];
  for (const [id, rowName, text] of rows) {
    const own = JSON.parse(text) as Labels;
    // What looks like a label may stand within the value of another.
    if (!Object.entries(labels).every(([key, value]) => own[key] === value)) continue;
    found.push({ id, name: rowName, labels: own });
    if (found.length >= limit) break;
  }
  return found;
}

function testName(name: string, test: (sql: string, ...values: string[]) => void): void {
  const star = name.indexOf("*");
  if (name === "" || (star !== -1 && star !== name.length - 1))
    throw new StoreQueryError(
      "name",
      `name: "${name}" is no name, nor the beginning of one with * at its end.`,
    );
  if (star === -1) test("name = ?", name);
  else if (star > 0) test("name >= ? AND name < ?", name.slice(0, -1), `${name.slice(0, -1)}\u{10ffff}`);
}

/** Steps that belong together, in the file as chunks or as rows of their own. */
type Piece = {
  readonly firstId: number;
  readonly lastId: number;
  readonly times: readonly number[];
  /** False where some of its steps cannot be read, and are left out. */
  readonly whole: boolean;
  /** Of a series that is wanted. */
  column(series: number): Found;
};

/** No column where the series has none in the piece, or where that cannot be read. */
type Found = { readonly column: Column | undefined; readonly readable: boolean };

type BlockRow = readonly [id: number, times: Uint8Array];

/** In order of their steps; those that reach into the time asked for. */
function piecesOf(reader: Reader, { fromAt, toAt }: SamplesQuery, wanted: ReadonlySet<number>): Piece[] {
  const blocks = reader
    .prepare("SELECT id, times FROM sample_blocks WHERE end_at >= ? AND start_at < ? ORDER BY id")
    .all(fromAt, toAt) as BlockRow[];
  const rows = reader.prepare("SELECT id, at, data FROM sample_steps ORDER BY id").all() as StepRow[];
  const within = splitSteps(rows).filter((steps) => steps.some(([, at]) => at >= fromAt && at < toAt));
  return [
    ...blocks.map((block) => blockPiece(reader, block)),
    ...within.map((steps) => stepsPiece(steps, wanted)),
  ];
}

function blockPiece(reader: Reader, [id, bytes]: BlockRow): Piece {
  const times = readable(() => decodeTimes(bytes));
  // How many steps it had stands in its times.
  if (times === undefined)
    return { firstId: id, lastId: id, times: [], whole: false, column: () => unreadable };
  return {
    firstId: id - times.length + 1,
    lastId: id,
    times,
    whole: true,
    column: (series) => chunkOf(reader, { block: id, series, steps: times.length }),
  };
}

function stepsPiece(steps: readonly StepRow[], wanted: ReadonlySet<number>): Piece {
  const { columns, read } = readSteps(steps, wanted);
  return {
    firstId: steps[0]?.[0] ?? 0,
    lastId: steps.at(-1)?.[0] ?? 0,
    times: steps.slice(0, read).map(([, at]) => at),
    whole: read === steps.length,
    column: (series) => ({ column: columns.get(series), readable: true }),
  };
}

const unreadable: Found = { column: undefined, readable: false };

function chunkOf(
  reader: Reader,
  { block, series, steps }: { readonly block: number; readonly series: number; readonly steps: number },
): Found {
  const row = reader
    .prepare("SELECT data FROM sample_chunks WHERE block = ? AND series = ?")
    .get(block, series) as readonly [Uint8Array] | undefined;
  if (row === undefined) return { column: undefined, readable: true };
  const column = readable(() => decodeColumn(row[0], steps));
  return { column, readable: column !== undefined };
}

type Points = {
  /** Whether there may be more. */
  add(at: number, value: number | null): boolean;
  inRange(at: number): boolean;
  /** The last step that was looked at, and whether the series was in it. */
  last: { readonly id: number; readonly present: boolean } | undefined;
  /** Some could not be read. */
  leaveOut(): void;
  readonly all: readonly SamplePoint[];
  readonly complete: boolean;
};

function createPoints({
  fromAt,
  toAt,
  stepMs,
  pointsMax,
}: Pick<SamplesQuery, "fromAt" | "toAt" | "stepMs"> & { readonly pointsMax: number }): Points {
  const all: SamplePoint[] = [];
  let full = false;
  let leftOut = false;
  const stepOf = (at: number): number => (stepMs === undefined ? Number.NaN : Math.floor(at / stepMs));
  return {
    all,
    last: undefined,
    inRange: (at) => at >= fromAt && at < toAt,
    add(at, value) {
      const before = all.at(-1);
      if (before !== undefined && stepOf(before[0]) === stepOf(at)) all.pop();
      if (all.length >= pointsMax) full = true;
      else all.push([at, value]);
      return !full;
    },
    leaveOut() {
      leftOut = true;
    },
    get complete() {
      return !full && !leftOut;
    },
  };
}

type PieceOf = {
  readonly reader: Reader;
  readonly id: number;
  readonly piece: Piece;
  readonly budget: { left: number };
};

/** Whether the query may go on. */
function addPiece(points: Points, { reader, id, piece, budget }: PieceOf): boolean {
  if (--budget.left <= 0) return false;
  const { column, readable: known } = piece.column(id);
  if (!known) {
    // Whether the series was there is not known either: the next piece tells of no end.
    points.leaveOut();
    points.last = { id: piece.lastId, present: false };
    return true;
  }
  const { firstId, lastId, times } = piece;
  const [first = Number.NaN] = times;
  let present = false;
  if (points.last?.id === firstId - 1) present = points.last.present;
  else if (column?.[0] === undefined && points.inRange(first)) present = wasPresent(reader, id, firstId - 1);
  for (let step = 0; step < times.length; step++) {
    const at = times[step] ?? 0;
    const value = column?.[step];
    const told = value ?? (present ? null : undefined);
    present = value !== undefined;
    if (told !== undefined && points.inRange(at) && !points.add(at, told)) return false;
  }
  points.last = { id: lastId, present: present && piece.whole };
  return true;
}

/** Whether the series was in a step that ends a block; false when there is no such block any more. */
function wasPresent(reader: Reader, series: number, block: number): boolean {
  const row = reader.prepare("SELECT times FROM sample_blocks WHERE id = ?").get(block);
  if (row === undefined) return lastOfSteps(reader, series, block);
  const times = readable(() => decodeTimes((row as readonly [Uint8Array])[0]));
  if (times === undefined) return false;
  return chunkOf(reader, { block, series, steps: times.length }).column?.at(-1) !== undefined;
}

function lastOfSteps(reader: Reader, series: number, step: number): boolean {
  const rows = reader.prepare("SELECT id, at, data FROM sample_steps WHERE id <= ? ORDER BY id").all(step);
  const steps = splitSteps(rows as StepRow[]).at(-1) ?? [];
  if (steps.at(-1)?.[0] !== step) return false;
  return (
    readSteps(steps, new Set([series]))
      .columns.get(series)
      ?.at(-1) !== undefined
  );
}
