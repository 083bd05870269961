// Where an import goes: a running appliance, or the store of a stopped one.

import { statSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { Config } from "../config-schema.ts";
import type { FlowRecord } from "../flow.ts";
import { type ImportPart, importRows, rowsImported } from "../import-rows.ts";
import { StoreLockedError } from "../store/failure.ts";
import { bytesMaxFor } from "../store/retention.ts";
import { openStore, type Store } from "../store/store.ts";
import type { Client } from "./client.ts";

export type ImportTarget = Disposable & {
  /** Rows of this file that it was given so far, in all imports of it. */
  had(sha256: string, signal: AbortSignal): Promise<number>;
  /** Takes all rows, or throws; what it took before that it knows by then. */
  add(part: ImportPart, signal: AbortSignal): Promise<Added>;
};

/** `evicted`: older rows that went meanwhile; `expired`: those of them that went for their age, where that is known. */
export type Added = { readonly kept: number; readonly evicted: number; readonly expired?: number };

// A request takes this much; the smallest appliance of the defaults takes four times as much.
const bodyCharsMax = 256 * 1024;

/** The rows as bodies, one record a line. */
function* bodiesOf(rows: readonly FlowRecord[]): Generator<{ readonly body: string; readonly rows: number }> {
  let lines: string[] = [];
  let chars = 0;
  for (const row of rows) {
    const line = `${JSON.stringify(row)}\n`;
    if (chars + line.length > bodyCharsMax) {
      yield { body: lines.join(""), rows: lines.length };
      lines = [];
      chars = 0;
    }
    lines.push(line);
    chars += line.length;
  }
  if (lines.length > 0) yield { body: lines.join(""), rows: lines.length };
}

const hadSchema = z.object({ rows: z.int().min(0) });
const addedSchema = z.object({ kept: z.number(), evicted: z.number() });

/** A header carries no others; the records name the node in full. */
const inHeader = (text: string): string => text.replace(/[^\x20-\x7e]/g, "?");

export function openServerTarget(client: Client): ImportTarget {
  return {
    had: async (sha256, signal) =>
      (await client.get("import", hadSchema, new URLSearchParams({ sha256 }), signal)).rows,
    add: async ({ sha256, node, before, rows }, signal) => {
      const total = { kept: 0, evicted: 0 };
      let sent = before;
      for (const { body, rows: count } of bodiesOf(rows)) {
        const headers = {
          "Content-Type": "application/x-ndjson",
          "Fovea-Node": inHeader(node),
          "Fovea-Sha256": sha256,
          "Fovea-Before": String(sent),
        };
        const { kept, evicted } = await client.post("import", addedSchema, { headers, body }, signal);
        sent += count;
        total.kept += kept;
        total.evicted += evicted;
      }
      return total;
    },
    [Symbol.dispose]: () => undefined,
  };
}

export type StoppedStore = {
  readonly dataDir: string;
  readonly config: Config;
  /** Whether the configuration was named for this import, or is the one that is found on this machine. */
  readonly configNamed: boolean;
  readonly nativeBinding: string | undefined;
};

/** The bound under which all that is in the directory fits. */
function bytesMaxOf(dataDir: string): number {
  const sizeOf = (name: string): number => {
    try {
      return statSync(join(dataDir, name)).size;
    } catch {
      return 0; // Whatever else is wrong with it, opening it tells.
    }
  };
  return bytesMaxFor(sizeOf("fovea.db") + sizeOf("fovea.db-wal"));
}

type Bounds = { readonly bytesMax: number; readonly ageMaxMs: number };

/**
 * The directory may be of another machine, whose configuration is not here: what it holds must not go for the defaults,
 * or for the bounds of this machine. Only a configuration that was named for the import bounds it.
 */
const boundsOf = ({ dataDir, config: { store }, configNamed }: StoppedStore): Bounds =>
  configNamed
    ? { bytesMax: store.bytesMax, ageMaxMs: store.ageMax }
    : { bytesMax: Math.max(store.bytesMax, bytesMaxOf(dataDir)), ageMaxMs: Number.MAX_SAFE_INTEGER };

function openStopped(target: StoppedStore): Store {
  const { dataDir, nativeBinding } = target;
  try {
    // What stands beside the rows is not opened here, and could not become smaller.
    return openStore({ dir: dataDir, ...boundsOf(target), nativeBinding, mayShrink: false });
  } catch (error) {
    if (!(error instanceof StoreLockedError)) throw error;
    throw new Error(`${error.message} To import into a running appliance, leave --data-dir out.`);
  }
}

export function openStoreTarget(target: StoppedStore): ImportTarget {
  const store = openStopped(target);
  const expired = (): number => {
    const { "rows.evicted.age": rows = 0 } = store.ledger();
    return rows;
  };
  return {
    had: (sha256) => Promise.resolve(rowsImported(store, sha256)),
    add: (part) => {
      const before = expired();
      const added = importRows(store, part);
      return Promise.resolve({ ...added, expired: expired() - before });
    },
    [Symbol.dispose]: () => store.close(),
  };
}
