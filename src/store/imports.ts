// The table of imports: how much of which file of another node is in the store, written with the rows themselves.

import type { Reader } from "./query.ts";
import type { Database } from "./sqlite.ts";

/** A file that rows are imported from, and the node that it is of. */
export type ImportOf = { readonly sha256: string; readonly node: string };

/** What was imported of a file. A file that was imported twice has its rows twice here. */
export type ImportedFile = { readonly rows: number; readonly at: number; readonly node: string };

/** Files that are remembered; one that is forgotten can be imported again. */
const filesMax = 10_000;

export type Imports = {
  /** Inside the transaction of the rows: so many more of the file are in the store. */
  add(file: ImportOf, count: { readonly rows: number; readonly at: number }): void;
};

export function openImports(database: Database): Imports {
  const put = database.prepare(
    `INSERT INTO imports (sha256, at, rows, node) VALUES (?, ?, ?, ?)
     ON CONFLICT (sha256) DO UPDATE SET at = excluded.at, rows = rows + excluded.rows, node = excluded.node`,
  );
  const forget = database.prepare(
    "DELETE FROM imports WHERE sha256 IN (SELECT sha256 FROM imports ORDER BY at DESC LIMIT -1 OFFSET ?)",
  );
  return {
    add({ sha256, node }, { rows, at }) {
      put.run(sha256, at, rows, node);
      forget.run(filesMax);
    },
  };
}

/** Undefined for a file of which nothing was imported. */
export function importedFile(
  reader: Reader,
  { sha256 }: { readonly sha256: string },
): ImportedFile | undefined {
  const found = reader.prepare("SELECT rows, at, node FROM imports WHERE sha256 = ?").all(sha256);
  const [row] = found as [rows: number, at: number, node: string][];
  return row === undefined ? undefined : { rows: row[0], at: row[1], node: row[2] };
}
