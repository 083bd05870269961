// Reads the store's file from outside, whether or not an appliance has it open.

import { errorCode, StoreQueryError } from "./failure.ts";
import { openReader, type Reader } from "./query.ts";
import { type AnswerOf, answerQuery, type QueryKind, type QueryOf } from "./query-kinds.ts";
import { readHeader, schemaVersion } from "./schema.ts";
import { openDatabase } from "./sqlite.ts";
import { openStringLookup } from "./strings.ts";

export type FileReader = Disposable & {
  /** Throws StoreQueryError for a wrong parameter, and what the database throws. */
  ask<Kind extends QueryKind>(kind: Kind, query: QueryOf<Kind>): AnswerOf<Kind>;
};

/** How long a call waits for another program's lock. */
const busyMs = 1000;
/** Rows that are looked at in one statement. */
const sliceRows = 50_000;
/** How long a query of rows goes on to look for more. */
const deadlineMs = 250;

function checkKind(path: string): void {
  const { kind } = readHeader(path);
  if (kind === "absent") throw new Error(`${path} is not there`);
  if (kind === "foreign") throw new Error(`${path} is no store of fovea`);
}

function checkSchema(path: string, version: number): void {
  if (version === schemaVersion) return;
  throw new Error(
    version > schemaVersion
      ? `${path} has schema ${version}, written by a newer fovea; this one knows schemas up to ${schemaVersion}`
      : `${path} has schema ${version}, older than ${schemaVersion}: start the appliance once, which brings it up to date`,
  );
}

const remedies: readonly (readonly [RegExp, string])[] = [
  [/^SQLITE_(CANTOPEN|READONLY)/, "; its directory must be writable, or the file copied to one that is"],
  [/^SQLITE_(CORRUPT|NOTADB)/, "; it is damaged"],
];

function unreadable(path: string, error: unknown): Error {
  const text = error instanceof Error ? error.message : String(error);
  const remedy = remedies.find(([code]) => code.test(errorCode(error)))?.[1] ?? "";
  return new Error(`${path} cannot be read: ${text}${remedy}`, { cause: error });
}

const isSqlite = (error: unknown): boolean => errorCode(error).startsWith("SQLITE_");

/**
 * Throws when the file is no store, or not one of this schema. Each question is one transaction, and none is open
 * between them: an appliance could not write its log back meanwhile.
 */
export function openFileReader({
  path,
  nativeBinding,
}: {
  readonly path: string;
  readonly nativeBinding?: string | undefined;
}): FileReader {
  checkKind(path);
  using undo = new DisposableStack();
  const told = <Result>(read: () => Result): Result => {
    try {
      return read();
    } catch (error) {
      throw isSqlite(error) && !(error instanceof StoreQueryError) ? unreadable(path, error) : error;
    }
  };
  const database = undo.adopt(
    told(() => openDatabase({ path, readonly: true, timeoutMs: busyMs, nativeBinding })),
    (opened) => opened.close(),
  );
  database.pragma("trusted_schema = OFF");
  checkSchema(
    path,
    told(() => Number(database.pragma("user_version", { simple: true }))),
  );
  const reader = told(() => readerOf(database));
  const held = undo.move();
  return {
    ask: (kind, query) =>
      told(() => {
        database.exec("BEGIN");
        try {
          return answerQuery(reader, kind, query);
        } finally {
          if (database.inTransaction) database.exec("COMMIT");
        }
      }),
    [Symbol.dispose]: () => held.dispose(),
  };
}

function readerOf(database: Reader["database"]): Reader {
  const state = database.prepare<unknown[], number>("SELECT value FROM state WHERE name = ?").pluck();
  return openReader({
    database,
    generation: state.get("generation") ?? 0,
    strings: openStringLookup(database),
    lastSeq: () => state.get("seq") ?? 0,
    scanMax: sliceRows,
    deadlineMs,
  });
}
