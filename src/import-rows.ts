// Adds a part of an exported file to a store: each row once, however often an import is broken off and begun again.

import type { FlowRecord } from "./flow.ts";
import { checkRow } from "./store/rows.ts";
import type { Store } from "./store/store.ts";

export type ImportPart = {
  /** Of the whole file. */
  readonly sha256: string;
  /** Where the rows are from that name no node themselves. */
  readonly node: string;
  /** Rows of the file that the store has been given already, all in all. */
  readonly before: number;
  readonly rows: readonly FlowRecord[];
};

/** A part that cannot be taken as it is. Nothing was, but what the message tells of. */
export class ImportRefused extends Error {
  override readonly name = "ImportRefused";
}

type ImportStore = Pick<Store, "append" | "ask" | "stats">;

/** Rows of the file that the store was given, 0 when it does not know the file. Throws when it cannot be read. */
export const rowsImported = (store: Pick<Store, "ask">, sha256: string): number =>
  store.ask("imported", { sha256 })?.rows ?? 0;

/** Throws ImportRefused, and StoreUnreadableError when the store cannot be read. */
export function importRows(
  store: ImportStore,
  { sha256, node, before, rows }: ImportPart,
): { readonly kept: number; readonly evicted: number } {
  const { mode, memoryReason = "unknown" } = store.stats();
  if (mode === "memory")
    throw new ImportRefused(`the store is not on disk, and would forget them: ${memoryReason}`);
  const had = rowsImported(store, sha256);
  if (had !== before)
    throw new ImportRefused(
      `the store has ${had} rows of this file, not ${before}: another import is going on`,
    );
  const named = rows.map((row) => (row.node === undefined ? { ...row, node } : row));
  for (const [index, row] of named.entries()) {
    const checked = checkRow(row);
    if (typeof checked === "string") throw new ImportRefused(`record ${index + 1} is wrong: its ${checked}`);
  }
  const { kept, lost, evicted, failure } = store.append({
    rows: named,
    imported: true,
    importOf: { sha256, node },
    ledger: { "rows.offered": named.length },
  });
  if (lost > 0)
    throw new ImportRefused(
      `${kept} of ${rows.length} rows could be written (${failure}); begun again, the import goes on after them`,
    );
  return { kept, evicted };
}
