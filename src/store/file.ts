// Opens fovea.db: refuses a newer one, puts an unusable one aside, makes a new one, or does with memory.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { bytesOf, moveAside } from "./aside.ts";
import {
  errorCode,
  isCorruption,
  lossReason,
  NewerSchemaError,
  StoreLockedError,
  StoreTooLargeError,
} from "./failure.ts";
import type { LedgerTotals } from "./ledger.ts";
import { lockDirectory } from "./lock.ts";
import { type Budget, budgetOf, bytesMaxFor } from "./retention.ts";
import {
  applicationId,
  createFile,
  createSql,
  migrations,
  pageBytes,
  readHeader,
  schemaVersion,
} from "./schema.ts";
import { busyMs, type Database, openDatabase } from "./sqlite.ts";

/** An open store file. Disposal closes it and gives the directory free. */
export type StoreFile = Disposable & {
  readonly mode: "disk" | "memory";
  readonly path: string;
  readonly budget: Budget;
  readonly writer: Database;
  /** A second, read-only connection; in memory there is only one. */
  readonly reader: Database;
  /** Tells this file from one that was put aside. */
  readonly generation: number;
  readonly lastSeq: number;
  readonly ledger: LedgerTotals;
};

/** A file that could not be used, and where it is now. */
export type Recovery = { readonly at: number; readonly reason: string; readonly movedTo: string };

export type FileOptions = {
  readonly dir: string;
  readonly bytesMax: number;
  /** Files up to this size are checked whole at opening; larger ones show their damage when it is read. */
  readonly checkBytesMax: number;
  readonly at: number;
  /** The file that is there was found damaged, for this reason. */
  readonly damage?: string;
  readonly nativeBinding?: string | undefined;
};

/** What a store in memory may take: enough for the last minutes. */
const memoryBytesMax = 8 * 1024 * 1024;

const fileOf = (dir: string): string => join(dir, "fovea.db");

/** Opens the file in `dir`. Throws what keeps it from being written: a full disk, a read-only directory, a lock. */
export function openFile(options: FileOptions): { readonly file: StoreFile; readonly recovery?: Recovery } {
  const { dir, nativeBinding } = options;
  refuseNewer(dir); // Before the lock: nothing may be touched.
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  using undo = new DisposableStack();
  undo.use(lockDirectory({ dir, nativeBinding }));
  const recovery = putUnusableAside(options);
  const opened = openOrReplace(options);
  undo.use(opened.connections);
  const held = undo.move();
  const found = recovery ?? opened.recovery;
  return {
    file: { ...opened.connections, [Symbol.dispose]: () => held.dispose() },
    ...(found === undefined ? {} : { recovery: found }),
  };
}

/** A store that lives as long as the process, for when there is no place on disk. */
export function openInMemory({
  bytesMax,
  generation,
  nativeBinding,
}: {
  readonly bytesMax: number;
  readonly generation: number;
  readonly nativeBinding?: string | undefined;
}): StoreFile {
  const database = openDatabase({ path: ":memory:", nativeBinding });
  database.exec(createSql(generation));
  const budget = budgetOf(Math.min(bytesMax, memoryBytesMax));
  database.pragma(`max_page_count = ${budget.pagesMax}`);
  return {
    mode: "memory",
    path: ":memory:",
    budget,
    writer: database,
    reader: database,
    generation,
    lastSeq: 0,
    ledger: {},
    [Symbol.dispose]: () => database.close(),
  };
}

export const newGeneration = (): number => crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;

/** Why the file cannot be used now, and whether opening must be refused for it. */
export function unusable(error: unknown, dir: string): { readonly reason: string; readonly refuse: boolean } {
  const refuse = [NewerSchemaError, StoreLockedError, StoreTooLargeError].some(
    (kind) => error instanceof kind,
  );
  const message = error instanceof Error ? error.message : String(error);
  return { reason: `${lossReason(error, dir)}: ${message} (${errorCode(error)})`, refuse };
}

/** Undefined for a file that is within its bound. */
export function tooLarge(
  { path, writer, budget }: StoreFile,
  bytesMax: number,
): StoreTooLargeError | undefined {
  const bytes = Number(writer.pragma("page_count", { simple: true })) * pageBytes;
  const room = budget.pagesMax * pageBytes;
  if (bytes <= room) return undefined;
  return new StoreTooLargeError(
    `${path} takes ${bytes} bytes, and of store.bytesMax, ${bytesMax}, it may take ${room}. Set store.bytesMax to ` +
      `${bytesMaxFor(bytes)} at the least, or start the appliance once with ${bytesMax}: it makes the file smaller.`,
  );
}

function refuseNewer(dir: string): void {
  const path = fileOf(dir);
  const { kind, version } = readHeader(path);
  if (kind === "ours") checkVersion(path, version);
}

function checkVersion(path: string, version: number): void {
  if (version <= schemaVersion) return;
  throw new NewerSchemaError(
    `${path} has schema ${version}, written by a newer fovea; this one knows schemas up to ${schemaVersion}. ` +
      "Nothing was touched. Run the newer version, or give this one another data directory.",
  );
}

function putUnusableAside(options: FileOptions): Recovery | undefined {
  const { kind } = readHeader(fileOf(options.dir));
  if (kind === "foreign") return putAside(options, "not a file of this program");
  return kind === "ours" && options.damage !== undefined ? putAside(options, options.damage) : undefined;
}

function putAside({ dir, at, bytesMax }: FileOptions, reason: string): Recovery {
  return { at, reason, movedTo: moveAside({ path: fileOf(dir), at, bytesMax }) };
}

function openOrReplace(options: FileOptions): {
  readonly connections: StoreFile;
  readonly recovery?: Recovery;
} {
  try {
    return { connections: openConnections(options) };
  } catch (error) {
    if (!isCorruption(error)) throw error;
    const recovery = putAside(options, error instanceof Error ? error.message : String(error));
    return { connections: openConnections(options), recovery };
  }
}

/** A file whose pages read well and whose content cannot be ours. */
class DamagedFileError extends Error {
  readonly code = "SQLITE_CORRUPT_CONTENT";
}

function openConnections({ dir, bytesMax, checkBytesMax, nativeBinding }: FileOptions): StoreFile {
  const path = fileOf(dir);
  if (readHeader(path).kind === "absent") createFile({ path, generation: newGeneration(), nativeBinding });
  using undo = new DisposableStack();
  const writer = undo.adopt(openDatabase({ path, timeoutMs: busyMs, nativeBinding }), closeQuietly);
  const budget = budgetOf(bytesMax);
  const version = Number(writer.pragma("user_version", { simple: true }));
  checkVersion(path, version);
  configure(writer, budget);
  migrate(writer, version);
  checkContent(writer, bytesOf(path) + bytesOf(`${path}-wal`) <= checkBytesMax);
  const reader = undo.adopt(
    openDatabase({ path, readonly: true, timeoutMs: busyMs, nativeBinding }),
    closeQuietly,
  );
  reader.pragma("cache_size = -4000");
  const content = readContent(writer);
  const held = undo.move();
  return { mode: "disk", path, budget, writer, reader, ...content, [Symbol.dispose]: () => held.dispose() };
}

// Closing the last connection writes the log back, which fails on a full disk: then the log stays beside the file.
function closeQuietly(database: Database): void {
  try {
    database.close();
  } catch {
    // Nothing can be done about it, and nothing that was committed is lost.
  }
}

function configure(writer: Database, budget: Budget): void {
  writer.pragma("journal_mode = WAL"); // A file system without shared memory keeps the rollback journal: slower, right.
  writer.pragma("synchronous = NORMAL"); // A power cut may take the last transactions whole, never half of one.
  writer.pragma("wal_autocheckpoint = 0"); // Ours reports its failures.
  writer.pragma(`journal_size_limit = ${budget.walMax}`);
  writer.pragma("cache_size = -8000");
  writer.pragma("temp_store = MEMORY");
  writer.pragma("trusted_schema = OFF");
}

/** Whole or not at all: a file that cannot be brought to this schema now stays what it is. */
function migrate(writer: Database, version: number): void {
  if (version === schemaVersion) return;
  const steps = migrations.slice(Math.max(0, version - 1)).join(";\n");
  try {
    writer.exec(`BEGIN IMMEDIATE;\n${steps}\nPRAGMA user_version = ${schemaVersion};\nCOMMIT;`);
  } catch (error) {
    if (writer.inTransaction) writer.exec("ROLLBACK");
    throw error;
  }
}

const tableNames = [
  "batches",
  "dead_letters",
  "flows",
  "flows_readable",
  "imports",
  "ledger",
  "ledger_minutes",
  "rollup_hours",
  "rollup_minutes",
  "sample_blocks",
  "sample_chunks",
  "sample_steps",
  "series",
  "sink_states",
  "state",
  "strings",
  "summaries",
] as const;

function checkContent(database: Database, whole: boolean): void {
  if (database.pragma("application_id", { simple: true }) !== applicationId)
    throw new DamagedFileError("the application id is gone");
  const findings = database.pragma(whole ? "quick_check(1)" : "quick_check('ledger')", { simple: true });
  if (findings !== "ok") throw new DamagedFileError(`quick_check says: ${String(findings)}`);
  const names = database.prepare("SELECT name FROM sqlite_schema").pluck().all();
  const missing = tableNames.filter((name) => !names.includes(name));
  if (missing.length > 0) throw new DamagedFileError(`without ${missing.join(", ")}`);
}

function readContent(database: Database): Pick<StoreFile, "generation" | "lastSeq" | "ledger"> {
  const state = readCounts(database, "state");
  const newest = database.prepare<unknown[], number | null>("SELECT max(seq) FROM flows").pluck().get() ?? 0;
  const lastSeq = state.get("seq");
  const generation = state.get("generation");
  if (lastSeq === undefined || generation === undefined) throw new DamagedFileError("its state is not there");
  if (newest > lastSeq) throw new DamagedFileError(`its newest row is ${newest}, its counter ${lastSeq}`);
  return { generation, lastSeq, ledger: Object.fromEntries(readCounts(database, "ledger")) };
}

function readCounts(database: Database, table: "state" | "ledger"): ReadonlyMap<string, number> {
  const rows = database.prepare(`SELECT name, value FROM ${table}`).raw().all() as [string, number][];
  const wrong = rows.find(([, value]) => !Number.isSafeInteger(value) || value < 0);
  if (wrong !== undefined) throw new DamagedFileError(`${wrong[0]} is ${wrong[1]}, not a count`);
  return new Map(rows);
}

/** Sizes of the file and its log; those of memory are what SQLite holds. */
export function sizesOf({ mode, path, writer }: StoreFile): {
  readonly database: number;
  readonly wal: number;
} {
  if (mode === "disk") return { database: bytesOf(path), wal: bytesOf(`${path}-wal`) };
  const pragma = (name: string): number => Number(writer.pragma(name, { simple: true }));
  return { database: pragma("page_count") * pragma("page_size"), wal: 0 };
}
