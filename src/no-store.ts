// Stands in for the store where SQLite cannot be loaded at all: keeps the ledger, and counts every row as lost.

import { formatCursor } from "./store/cursor.ts";
import { StoreUnreadableError } from "./store/failure.ts";
import { createLedger } from "./store/ledger.ts";
import type { Store } from "./store/store.ts";

/** The scrape goes on without a store; `problem` says why there is none. */
export function noStore(options: { readonly problem: string; readonly bytesMax: number }): Store {
  const { problem, bytesMax } = options;
  const ledger = createLedger({});
  const refuse = (): never => {
    throw new StoreUnreadableError(`There is no store: ${problem}`);
  };
  return {
    append: ({ rows, ledger: deltas = {} }) => {
      ledger.add({ ...deltas, "rows.lost.error": rows.length });
      return { kept: 0, lost: rows.length, evicted: 0, invalid: 0, failure: "error" };
    },
    queryFlows: refuse,
    topDrops: refuse,
    ask: refuse,
    place: () => ({ mode: "memory", path: "", generation: 0 }),
    readFailed: () => undefined,
    readDone: () => undefined,
    pendingMinutes: () => [],
    cursorAt: ({ seq, order }) => formatCursor({ order, generation: 0, seq }),
    ledger: () => ledger.totals(),
    stats: () => ({
      mode: "memory",
      memoryReason: problem,
      path: "",
      rows: 0,
      bytes: { database: 0, wal: 0 },
      bytesMax,
      lastSeq: 0,
      lastWriteMs: 0,
      lastCheckpointMs: 0,
      checkpoints: { count: 0, seconds: 0 },
      errors: {},
      recoveries: [],
      recovered: 0,
      stringsOther: 0,
      ledgerRefused: ledger.refused,
    }),
    close: () => undefined,
    [Symbol.dispose]: () => undefined,
  };
}
