// What an open store is between calls: its file, its ledger, its troubles, and how it gets over them.

import { errorCode, isCorruption, type LossReason, lossReason } from "./failure.ts";
import {
  type FileOptions,
  newGeneration,
  openFile,
  openInMemory,
  type Recovery,
  type StoreFile,
  tooLarge,
  unusable,
} from "./file.ts";
import { fitFor, fittingOf } from "./fit.ts";
import { minutesInMemory, minutesWithout, rowsInMemory } from "./from-memory.ts";
import type { ImportOf } from "./imports.ts";
import { createLedger, type Ledger, type LedgerDeltas, totalOf } from "./ledger.ts";
import { minuteRowsMax } from "./minutes.ts";
import type { OpenPart, Part } from "./part.ts";
import { openReader, type Reader } from "./query.ts";
import { budgetOf } from "./retention.ts";
import type { EncodedRow } from "./rows.ts";
import { openWriter, type Writer, type Written } from "./writer.ts";

export type SessionOptions = {
  readonly dir: string;
  readonly bytesMax: number;
  readonly ageMaxMs: number;
  readonly now: () => number;
  readonly checkBytesMax: number;
  readonly scanMax: number;
  readonly stringsMax: number;
  /** How long a store that runs from memory waits before it tries the disk again. */
  readonly retryMs: number;
  readonly nativeBinding?: string | undefined;
  /** What is written beside the rows. */
  readonly parts: readonly Part[];
  readonly mayShrink: boolean;
};

type Open = { readonly file: StoreFile; readonly writer: Writer; readonly reader: Reader };

export type Session = {
  readonly options: SessionOptions;
  readonly ledger: Ledger;
  readonly errors: Map<string, number>;
  readonly recoveries: Recovery[];
  /** Files that were put aside, all of them. */
  recovered: number;
  open: Open;
  /** Why the store runs from memory. */
  memoryReason: string | undefined;
  triedAt: number;
  /** A read met damage: the next append replaces the file. */
  damage: string | undefined;
  /** The file was made as small as its budget asks for, or as can be. */
  sized: boolean;
  lastWriteMs: number;
  closed: boolean;
};

/** Throws when another process has the directory or a newer version wrote the file; anything else it gets over. */
export function openSession(options: SessionOptions): Session {
  const { pagesMax } = budgetOf(options.bytesMax); // Too small a bound is refused, on disk or not.
  const place = openSomewhere({ options, lastSeqMin: 0, mayRefuse: true });
  const session: Session = {
    options,
    ledger: createLedger(place.open.file.ledger, { minutesMax: minuteRowsMax(pagesMax) }),
    errors: new Map(),
    recoveries: [],
    recovered: 0,
    open: place.open,
    memoryReason: undefined,
    triedAt: 0,
    damage: undefined,
    sized: false,
    lastWriteMs: 0,
    closed: false,
  };
  settleIn(session, place);
  fitToBudget(session, fitAtOpenMs);
  return session;
}

/** An opened file, what was put aside for it, and what kept it from being on disk. */
type Place = {
  readonly open: Open;
  readonly recovery?: Recovery;
  readonly reason?: string;
  readonly error?: unknown;
};

function settleIn(session: Session, { open, recovery, reason, error }: Place): void {
  session.open = open;
  session.sized = false;
  session.memoryReason = reason;
  session.triedAt = session.options.now();
  if (error !== undefined) note(session, error);
  if (recovery !== undefined) {
    session.recoveries.push(recovery);
    session.recovered++;
  }
  if (session.recoveries.length > recoveriesMax) session.recoveries.shift();
}

/** The newest that `stats` tells of. */
const recoveriesMax = 8;

const fileOptions = (options: SessionOptions, damage?: string): FileOptions => ({
  dir: options.dir,
  bytesMax: options.bytesMax,
  checkBytesMax: options.checkBytesMax,
  at: options.now(),
  nativeBinding: options.nativeBinding,
  ...(damage === undefined ? {} : { damage }),
});

type Opening = {
  readonly options: SessionOptions;
  /** Seqs go on after this one. */
  readonly lastSeqMin: number;
  /** The file that is there was found damaged. */
  readonly damage?: string;
};

/** On disk if that can be, in memory if not. */
function openSomewhere({ mayRefuse, ...opening }: Opening & { readonly mayRefuse: boolean }): Place {
  const { options, damage } = opening;
  try {
    return openOnDisk(opening);
  } catch (error) {
    if (isCorruption(error) && damage === undefined)
      return openSomewhere({ ...opening, damage: String(error), mayRefuse });
    const { reason, refuse } = unusable(error, options.dir);
    if (refuse && mayRefuse) throw error;
    const { bytesMax, nativeBinding } = options;
    const file = openInMemory({ bytesMax, generation: newGeneration(), nativeBinding });
    return { open: attach(file, options, opening.lastSeqMin), reason, error };
  }
}

function openOnDisk({ options, lastSeqMin, damage }: Opening): Place {
  using undo = new DisposableStack();
  const { file, recovery } = openFile(fileOptions(options, damage));
  undo.use(file);
  const larger = options.mayShrink ? undefined : tooLarge(file, options.bytesMax);
  if (larger !== undefined) throw larger;
  const open = attach(file, options, lastSeqMin);
  undo.move(); // The file now lives as long as the session.
  return { open, ...(recovery === undefined ? {} : { recovery }) };
}

function attach(file: StoreFile, options: SessionOptions, lastSeqMin: number): Open {
  const lastSeq = Math.max(file.lastSeq, lastSeqMin);
  // Before the first row is written: parts read it there.
  if (lastSeq > file.lastSeq)
    file.writer.prepare("UPDATE state SET value = ? WHERE name = 'seq'").run(lastSeq);
  const writer = openWriter({
    database: file.writer,
    budget: file.budget,
    lastSeq,
    coalesceMs: Math.min(10_000, options.ageMaxMs / 100),
    stringsMax: options.stringsMax,
    parts: options.parts,
  });
  const reader = openReader({
    database: file.reader,
    generation: file.generation,
    strings: writer.strings,
    lastSeq: () => writer.lastSeq,
    scanMax: options.scanMax,
  });
  return { file, writer, reader };
}

/** Distinct error codes that are told apart; SQLite has about a hundred. */
const errorCodesMax = 128;

export function note(session: Session, error: unknown): void {
  const code = errorCode(error);
  const name = session.errors.has(code) || session.errors.size < errorCodesMax ? code : "other";
  session.errors.set(name, (session.errors.get(name) ?? 0) + 1);
}

/** At a start that found the file larger than its budget; the rest is done with the appends. */
const fitAtOpenMs = 1000;
/** What one append may add to the tick. */
const fitAtAppendMs = 100;

/** After bytesMax was lowered: makes the file smaller, for a bounded time. */
export function fitToBudget(session: Session, msMax = fitAtAppendMs): void {
  const { writer, file } = session.open;
  if (session.sized || file.mode === "memory") return;
  const { pagesMax } = file.budget;
  try {
    writer.log.checkpoint({ now: true });
    const steps = fittingOf(writer, session.options.now(), (chunk) => write(session, chunk));
    const fit = fitFor(msMax, { ...steps, pagesMax });
    session.sized = fit !== "more";
    // Whatever else goes wrong, not larger than this. While it is larger, parts may need some pages on the way.
    if (fit === "fits") file.writer.pragma(`max_page_count = ${pagesMax}`);
    if (fit === "stuck") note(session, tooLarge(file, session.options.bytesMax));
    if (session.sized) writer.log.checkpoint({ now: true }); // Before that the disk has nothing of it.
  } catch (error) {
    note(session, error);
    if (isCorruption(error)) replaceDamaged(session, String(error));
  }
}

/** Rows in the store. From the ledger, so that a damaged file can be counted too. */
export function storedRows({ ledger }: Session): number {
  const totals = ledger.totals();
  return totalOf(totals, "rows.kept") - totalOf(totals, "rows.evicted");
}

/** Puts the damaged file aside and goes on in an empty one, with the ledger and the seq as they were. */
export function replaceDamaged(session: Session, damage: string): void {
  const { options, ledger, open } = session;
  const gone = storedRows(session);
  session.damage = undefined;
  open.file[Symbol.dispose]();
  const lastSeqMin = open.writer.lastSeq;
  settleIn(session, openSomewhere({ options, lastSeqMin, damage, mayRefuse: false }));
  ledger.add(ledger.moveTo(session.open.file.ledger));
  ledger.add({ "rows.evicted.corrupt": gone }, options.now());
}

/** From memory back to disk, once that works again, with the rows that are in memory. */
export function tryDisk(session: Session): void {
  const { options, ledger, open } = session;
  const sinceMs = Math.abs(options.now() - session.triedAt); // A clock that steps back must not stop this.
  if (open.file.mode === "disk" || sinceMs < options.retryMs) return;
  session.triedAt = options.now();
  try {
    settleIn(session, openOnDisk({ options, lastSeqMin: 0 }));
  } catch (error) {
    for (const part of options.parts) part.detach?.(); // Some may have been told of a file that is closed again.
    note(session, error);
    return;
  }
  const rows = rowsInMemory(open);
  const minutes = minutesInMemory(open);
  open.file[Symbol.dispose]();
  const counted = ledger.moveTo(session.open.file.ledger);
  fitToBudget(session);
  // These rows are kept when they are written again, which counts them.
  const kept = (counted["rows.kept"] ?? 0) - rows.length;
  ledger.addMinutes(minutesWithout(minutes, rows.length));
  writeRows(session, { rows, at: options.now(), deltas: { ...counted, "rows.kept": kept }, told: true });
}

export type WriteResult = Readonly<Record<"kept" | "lost" | "evicted", number>> & {
  /** Why rows were lost. */
  readonly failure?: LossReason;
};

/** Writes rows and counts, in transactions that each obey the laws; what cannot be written is counted as lost. */
export function writeRows(
  session: Session,
  {
    rows,
    at,
    deltas,
    told = false,
    importOf,
  }: {
    readonly rows: readonly EncodedRow[];
    readonly at: number;
    readonly deltas: LedgerDeltas;
    /** The ledger by minute knows of `deltas` already. */
    readonly told?: boolean;
    readonly importOf?: ImportOf | undefined;
  },
): WriteResult {
  const { chunkRows } = session.open.file.budget;
  const toldAt = told ? undefined : at;
  let offered = deltas["rows.offered"] ?? 0;
  let kept = 0;
  let evicted = 0;
  for (let start = 0; ; start += chunkRows) {
    const chunk = rows.slice(start, start + chunkRows);
    const last = start + chunkRows >= rows.length;
    // Each transaction but the last offers exactly what it keeps; the last has the rest of what was counted.
    const share = last ? offered : Math.min(offered, chunk.length);
    offered -= share;
    session.ledger.add(last ? { ...deltas, "rows.offered": share } : { "rows.offered": share }, toldAt);
    const result = writeChunk(session, { rows: chunk, at, importOf, last });
    if (typeof result === "string") {
      const lost = rows.length - start;
      if (!last) session.ledger.add({ ...deltas, "rows.offered": offered }, toldAt);
      session.ledger.add({ [`rows.lost.${result}`]: lost }, at);
      return { kept, lost, evicted, failure: result };
    }
    kept += result.kept;
    evicted += result.evictedBySize + result.evictedByAge;
    if (last) return { kept, lost: 0, evicted };
  }
}

type Chunk = {
  readonly rows: readonly EncodedRow[];
  readonly at: number;
  readonly importOf?: ImportOf | undefined;
  /** With it all rows of the append are in the file, and the parts have their turn. */
  readonly last: boolean;
  /** Rows go until what is in use fits the budget, a bounded number of them. */
  readonly fitting?: boolean;
};

function writeChunk(session: Session, chunk: Chunk): Written | LossReason {
  let result: Written | LossReason;
  try {
    result = writeOrReplace(session, chunk);
  } catch (error) {
    note(session, error);
    result = lossReason(error, session.options.dir);
  }
  writeBack(session);
  return result;
}

function writeOrReplace(session: Session, chunk: Chunk): Written {
  try {
    return write(session, chunk);
  } catch (error) {
    if (!isCorruption(error)) throw error;
    note(session, error);
    replaceDamaged(session, String(error));
    return write(session, chunk);
  }
}

/** One transaction for all; where the log is too small for that, one for the rows and one for each part. */
function write(session: Session, chunk: Chunk): Written {
  const { writer } = session.open;
  const parts = chunk.last ? writer.parts : [];
  if (writer.fits({ rows: chunk.rows.length, at: chunk.at, parts })) return writeOnce(session, chunk, parts);
  const written = { ...writeOnce(session, chunk, []) };
  for (const part of parts) {
    const { evictedByAge, evictedBySize } = writePart(session, chunk.at, part);
    written.evictedByAge += evictedByAge;
    written.evictedBySize += evictedBySize;
  }
  return written;
}

const nothingWritten: Written = { kept: 0, evictedBySize: 0, evictedByAge: 0 };

/** What a part could not write now stays pending: the rows before it are in the file, and must not count as lost. */
function writePart(session: Session, at: number, part: OpenPart): Written {
  try {
    return part.due(at) ? writeOnce(session, { rows: [], at, last: true }, [part]) : nothingWritten;
  } catch (error) {
    note(session, error);
    if (isCorruption(error)) session.damage = String(error);
    return nothingWritten;
  }
}

function writeOnce(
  session: Session,
  { rows, at, importOf, fitting = false }: Chunk,
  parts: readonly OpenPart[],
): Written {
  const { open, ledger, options } = session;
  const started = performance.now();
  const counted = (written: Written): LedgerDeltas => ({
    "rows.kept": written.kept,
    "rows.evicted.size": written.evictedBySize,
    "rows.evicted.age": written.evictedByAge,
  });
  const written = open.writer.write({
    rows,
    at,
    cutoffAt: at - options.ageMaxMs,
    ledger: (own) => ledger.entriesWith(counted(own), at),
    importOf,
    parts,
    fitting,
  });
  ledger.settle(counted(written));
  session.lastWriteMs = performance.now() - started;
  return written;
}

/** A log that cannot be written back now is tried again after the next write; its rows are safe and readable. */
export function writeBack(session: Session): void {
  try {
    session.open.writer.log.checkpoint();
  } catch (error) {
    note(session, error);
    if (isCorruption(error)) session.damage = String(error);
  }
}
