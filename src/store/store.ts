// The store: a bounded log of flow rows with the ledger, on disk where that is possible, in memory where not.

import type { FlowRecord } from "../flow.ts";
import { formatCursor, type Order } from "./cursor.ts";
import { type DropQuery, type DropRanking, topDrops } from "./drops.ts";
import { isCorruption, StoreQueryError, StoreUnreadableError } from "./failure.ts";
import { type Recovery, sizesOf } from "./file.ts";
import type { ImportOf } from "./imports.ts";
import type { LedgerDeltas, LedgerName, LedgerTotals } from "./ledger.ts";
import type { Checkpoints } from "./log-file.ts";
import type { MinuteCount } from "./minutes.ts";
import type { Part } from "./part.ts";
import { type FlowPage, type FlowQuery, queryFlows, type Reader } from "./query.ts";
import { type AnswerOf, answerQuery, type QueryKind, type QueryOf } from "./query-kinds.ts";
import { checkRow, type EncodedRow } from "./rows.ts";
import {
  fitToBudget,
  note,
  openSession,
  replaceDamaged,
  type Session,
  storedRows,
  tryDisk,
  type WriteResult,
  writeBack,
  writeRows,
} from "./session.ts";

export type StoreOptions = {
  /** Made if absent. Holds `fovea.db`, and `fovea.lock`, which stays. */
  readonly dir: string;
  /** Bound on the file and its write-ahead log together; at least 1 MiB. */
  readonly bytesMax: number;
  /** Rows that were appended longer ago than this go. */
  readonly ageMaxMs: number;
  /** Wall clock, epoch milliseconds. */
  readonly now?: () => number;
  /** The path of the SQLite addon, from `unpackAddon`. */
  readonly nativeBinding?: string | undefined;
  /** A larger file is not checked whole at opening, which takes some 4 ms a MiB. Default 64 MiB. */
  readonly checkBytesMax?: number;
  /** Rows that one query looks at before it gives a cursor to go on. Default 100,000, some 10 to 20 ms. */
  readonly scanMax?: number;
  /** Interfaces and drop reasons that rows may name between them. Default 8,192. */
  readonly stringsMax?: number;
  /** How often a store that runs from memory tries the disk again. Default 30 s. */
  readonly retryMs?: number;
  /** What is written beside the rows; none by default. */
  readonly parts?: readonly Part[];
  /**
   * A file that is larger than `bytesMax` allows becomes smaller, within some appends; this is the default. False: the
   * opening throws StoreTooLargeError for it. Without its parts a file only gives up rows.
   */
  readonly mayShrink?: boolean;
};

export type AppendOptions = {
  readonly rows: readonly FlowRecord[];
  /** Records that were filtered or throttled: no rows, but part of the rollups. */
  readonly unkept?: readonly FlowRecord[];
  /** The rows are those of another node: they are kept, and part of no rollup. */
  readonly imported?: boolean;
  /** With `imported`: the file that they are of, which is remembered with them. */
  readonly importOf?: ImportOf;
  /** Default: now. */
  readonly at?: number;
  /** False where it comes many times a tick: a file that is too large becomes no smaller then. */
  readonly fit?: boolean;
  /**
   * What the caller counted since its last append. `rows.offered` must include these rows and those that it filtered
   * or throttled; what becomes of `rows` (kept, invalid, lost, evicted) the store counts itself.
   */
  readonly ledger?: LedgerDeltas;
};

/** `lost` with the reason in `failure`; `evicted` made room or grew too old. */
export type AppendResult = WriteResult & { readonly invalid: number };

export type StoreStats = {
  readonly mode: "disk" | "memory";
  /** Why the store runs from memory. */
  readonly memoryReason?: string;
  readonly path: string;
  readonly rows: number;
  readonly bytes: { readonly database: number; readonly wal: number };
  readonly bytesMax: number;
  /** The last packet of the oldest row, and when the newest was appended; absent when there are none. */
  readonly oldestAt?: number;
  readonly newestAt?: number;
  /** The newest seq ever given. */
  readonly lastSeq: number;
  readonly lastWriteMs: number;
  readonly lastCheckpointMs: number;
  readonly checkpoints: Checkpoints;
  /** Failed calls by the code of SQLite or of the system. */
  readonly errors: Readonly<Record<string, number>>;
  /** Files that could not be used and where they are now, newest last. */
  readonly recoveries: readonly Recovery[];
  /** How many there were since the start. */
  readonly recovered: number;
  /** Rows whose interface or reason reads "(other)" because the dictionary was full. */
  readonly stringsOther: number;
  /** Ledger counts that were refused: no count, or no known name. */
  readonly ledgerRefused: number;
};

/** A replaced file has another generation. */
export type Place = {
  readonly mode: "disk" | "memory";
  readonly path: string;
  readonly generation: number;
};

/** `code` is that of SQLite or of the system. */
export type ReadFailure = { readonly code: string; readonly message: string; readonly generation: number };

export type Store = Disposable & {
  /** Never throws for what is wrong with a row, the disk or the file. */
  append(options: AppendOptions): AppendResult;
  /** Throws StoreQueryError for a wrong parameter and StoreUnreadableError when the file cannot be read. */
  queryFlows(query: FlowQuery): FlowPage;
  /** Throws like `queryFlows`. */
  topDrops(query: DropQuery): DropRanking;
  /** Where another thread finds the rows. */
  place(): Place;
  /** Answers on this thread. Throws like `queryFlows`. */
  ask<Kind extends QueryKind>(kind: Kind, query: QueryOf<Kind>): AnswerOf<Kind>;
  /** A reader outside could not read the file: damage is treated as that which a query here meets. */
  readFailed(failure: ReadFailure): void;
  /** Nobody reads the file now, which lets the whole log be written back, if that is due. */
  readDone(): void;
  /** What the ledger by minute counted and the file does not have yet. */
  pendingMinutes(): readonly MinuteCount[];
  /** A cursor that goes on after (`oldest`) or before (`newest`) a row of this store. */
  cursorAt(options: { readonly seq: number; readonly order: Order }): string;
  ledger(): LedgerTotals;
  stats(): StoreStats;
  /** Writes what is still counted in memory, leaves one database file, gives the directory free. Never throws. */
  close(): void;
};

const mib = 1024 * 1024;

/**
 * Opens or makes the store. Throws NewerSchemaError, StoreLockedError and StoreTooLargeError; a damaged or foreign file is put aside, a
 * directory that cannot be written leaves the store in memory, and `stats` says so.
 */
export function openStore(options: StoreOptions): Store {
  const session = openSession({
    now: Date.now,
    checkBytesMax: 64 * mib,
    scanMax: 100_000,
    stringsMax: 8192,
    retryMs: 30_000,
    parts: [],
    mayShrink: true,
    ...options,
  });
  return {
    append: (append) => appendTo(session, append),
    queryFlows: (query) => read(session, (reader) => queryFlows(reader, query)),
    topDrops: (query) => read(session, (reader) => topDrops(reader, query)),
    place: () => {
      const { file } = session.open;
      return { mode: file.mode, path: file.path, generation: file.generation };
    },
    ask: (kind, query) => read(session, (reader) => answerQuery(reader, kind, query)),
    readFailed: (failure) => noteFailure(session, failure),
    readDone: () => {
      if (!session.closed) writeBack(session);
    },
    pendingMinutes: () => session.ledger.entriesWith({}, 0).minutes,
    cursorAt: ({ seq, order }) => {
      const { generation } = session.open.reader;
      return formatCursor({ order, generation, seq });
    },
    ledger: () => session.ledger.totals(),
    stats: () => statsOf(session),
    close: () => closeSession(session),
    [Symbol.dispose]: () => closeSession(session),
  };
}

function appendTo(session: Session, options: AppendOptions): AppendResult {
  if (session.closed) throw new Error("The store is closed: append what is left before closing it.");
  const { rows, at, ledger = {}, unkept = [], imported = false, importOf, fit = true } = options;
  const { encoded, invalid, deltas } = encode(rows, ledger);
  if (!imported) tellParts(session, encoded, unkept);
  const atNow = Number.isFinite(at) ? Math.trunc(at ?? 0) : session.options.now();
  tryDisk(session);
  if (session.damage !== undefined) replaceDamaged(session, session.damage);
  const cutoffAt = atNow - session.options.ageMaxMs;
  const counted = Object.values(deltas).some((count) => count !== 0);
  const nothing = encoded.length === 0 && !counted && !session.ledger.pending;
  const idle = nothing && !isDue(session, atNow, cutoffAt);
  const result = idle
    ? { kept: 0, lost: 0, evicted: 0 }
    : writeRows(session, { rows: encoded, at: atNow, deltas, importOf });
  if (fit) fitToBudget(session);
  return { ...result, invalid };
}

function tellParts({ options }: Session, kept: readonly EncodedRow[], unkept: readonly FlowRecord[]): void {
  const others = options.parts.some((part) => part.rows !== undefined) ? encode(unkept, {}).encoded : [];
  for (const part of options.parts) {
    part.rows?.(kept);
    if (others.length > 0) part.rows?.(others);
  }
}

function encode(
  rows: readonly FlowRecord[],
  ledger: LedgerDeltas,
): { readonly encoded: EncodedRow[]; readonly invalid: number; readonly deltas: LedgerDeltas } {
  const deltas: Partial<Record<LedgerName, number>> = { ...ledger };
  const encoded: EncodedRow[] = [];
  for (const row of rows) {
    const checked = checkRow(row);
    if (typeof checked !== "string") encoded.push(checked);
    else deltas[`rows.invalid.${checked}`] = (deltas[`rows.invalid.${checked}`] ?? 0) + 1;
  }
  return { encoded, invalid: rows.length - encoded.length, deltas };
}

function isDue(session: Session, at: number, cutoffAt: number): boolean {
  try {
    return session.open.writer.due({ at, cutoffAt });
  } catch (error) {
    note(session, error);
    return true; // The write will meet the same trouble and knows what to do.
  }
}

function read<Result>(session: Session, ask: (reader: Reader) => Result): Result {
  if (session.closed) throw new StoreUnreadableError("The store is closed.");
  try {
    return ask(session.open.reader);
  } catch (error) {
    if (error instanceof StoreQueryError) throw error;
    note(session, error);
    if (isCorruption(error)) session.damage = String(error);
    throw new StoreUnreadableError(`The store could not be read: ${String(error)}`, { cause: error });
  }
}

function noteFailure(session: Session, { code, message, generation }: ReadFailure): void {
  const error = Object.assign(new Error(message), { code });
  note(session, error);
  if (isCorruption(error) && generation === session.open.file.generation) session.damage = message;
}

function statsOf(session: Session): StoreStats {
  const { open, options, errors } = session;
  const edges = session.closed ? {} : edgesOf(session);
  return {
    mode: open.file.mode,
    ...(session.memoryReason === undefined ? {} : { memoryReason: session.memoryReason }),
    path: open.file.path,
    rows: storedRows(session),
    bytes: session.closed ? { database: 0, wal: 0 } : sizesOf(open.file),
    bytesMax: options.bytesMax,
    ...edges,
    lastSeq: open.writer.lastSeq,
    lastWriteMs: session.lastWriteMs,
    lastCheckpointMs: open.writer.log.lastCheckpointMs,
    checkpoints: open.writer.log.checkpoints,
    errors: Object.fromEntries(errors),
    recoveries: [...session.recoveries],
    recovered: session.recovered,
    stringsOther: open.writer.strings.others,
    ledgerRefused: session.ledger.refused,
  };
}

function edgesOf(session: Session): { readonly oldestAt?: number; readonly newestAt?: number } {
  const first = (sql: string): number | undefined =>
    read(session, (reader) => (reader.prepare(sql).all() as [number][])[0]?.[0]);
  try {
    // A batch tells when it was last added to, which for the oldest one may be long after its first row.
    const oldestAt = first("SELECT end_at FROM flows ORDER BY seq LIMIT 1");
    const newestAt = first("SELECT at FROM batches ORDER BY first_seq DESC LIMIT 1");
    return oldestAt === undefined || newestAt === undefined ? {} : { oldestAt, newestAt };
  } catch {
    return {}; // Counted by `read`; the rest of the statistics is still true.
  }
}

function closeSession(session: Session): void {
  if (session.closed) return;
  writeRest(session);
  try {
    if (session.open.file.mode === "disk") session.open.writer.log.checkpoint({ now: true });
  } catch (error) {
    note(session, error); // The log stays beside the file and is read at the next start.
  }
  session.closed = true;
  for (const part of session.options.parts) part.detach?.();
  session.open.file[Symbol.dispose]();
}

/** More than the parts need for what they may have pending, in steps of the smallest store. */
const lastWritesMax = 1024;

function writeRest(session: Session): void {
  const { options, ledger, open } = session;
  const parts = open.file.mode === "disk" ? options.parts : [];
  for (let writes = 0; writes < lastWritesMax; writes++) {
    const unfinished = parts.filter((part) => part.finish?.()).length > 0;
    if (!unfinished && !ledger.pending) return;
    const { failure } = writeRows(session, { rows: [], at: options.now(), deltas: {} });
    if (failure !== undefined) return;
  }
}
