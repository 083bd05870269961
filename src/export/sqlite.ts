// The SQLite file of an export: flows as anyone can read them, with indices, and the manifest as a table.

import type { FlowRecord } from "../flow.ts";
import { type Database, openDatabase } from "../store/sqlite.ts";
import { type ExportedFlow, type RowReader, type RowWriter, readRecord } from "./format.ts";
import { exportFormat, type Head, type Manifest, readManifest, type Totals } from "./manifest.ts";

/** "FovX" in ASCII; tells an export from the store itself, and from every other SQLite file. */
const exportApplicationId = 0x466f7658;

type Value = string | number | null;
type Column = readonly [definition: string, value: (flow: ExportedFlow) => Value];

const iso = (at: number): string => new Date(at).toISOString();

const columns: readonly Column[] = [
  ["seq INTEGER PRIMARY KEY", ({ seq }) => seq],
  ["started TEXT NOT NULL", ({ startAt }) => iso(startAt)],
  ["ended TEXT NOT NULL", ({ endAt }) => iso(endAt)],
  ["start_at INTEGER NOT NULL", ({ startAt }) => startAt],
  ["end_at INTEGER NOT NULL", ({ endAt }) => endAt],
  ["direction TEXT NOT NULL", ({ direction }) => direction],
  ["verdict TEXT NOT NULL", ({ verdict }) => verdict],
  ["drop_reason TEXT", ({ dropReason }) => dropReason ?? null],
  ["protocol INTEGER NOT NULL", ({ protocol }) => protocol],
  ["source TEXT NOT NULL", ({ source }) => source],
  ["source_port INTEGER NOT NULL", ({ sourcePort }) => sourcePort],
  ["destination TEXT NOT NULL", ({ destination }) => destination],
  ["destination_port INTEGER NOT NULL", ({ destinationPort }) => destinationPort],
  ["icmp_type INTEGER", ({ icmpType }) => icmpType ?? null],
  ["icmp_code INTEGER", ({ icmpCode }) => icmpCode ?? null],
  ["packets INTEGER NOT NULL", ({ packets }) => packets],
  ["bytes INTEGER NOT NULL", ({ bytes }) => bytes],
  ["tcp_flags INTEGER NOT NULL", ({ tcpFlags }) => tcpFlags],
  ["interface TEXT NOT NULL", (flow) => flow.interface],
  ["rtt_us INTEGER", ({ rttUs }) => rttUs ?? null],
  ["retransmits INTEGER", ({ retransmits }) => retransmits ?? null],
  ["dns_error TEXT", ({ dnsError }) => dnsError ?? null],
  ["evict_reason TEXT NOT NULL", ({ evictReason }) => evictReason],
  ["node TEXT", ({ node }) => node ?? null],
];

const names = columns.map(([definition]) => definition.split(" ", 1)[0] ?? "");

// Nothing of it is any good before it is whole, so that a journal would be written for nothing. The one in memory has
// pages that were there before, and there are none.
const createSql = `
PRAGMA journal_mode = MEMORY;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA application_id = ${exportApplicationId};
PRAGMA user_version = ${exportFormat};
BEGIN;
CREATE TABLE export (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE flows (${columns.map(([definition]) => definition).join(", ")});
`;

// At the end, from rows that are sorted once.
const indexSql = `
CREATE INDEX flows_ended ON flows (end_at);
CREATE INDEX flows_source ON flows (source);
CREATE INDEX flows_destination ON flows (destination);
COMMIT;
`;

/** Texts as they are, everything else as JSON. */
const valueText = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));

function closing(path: string, options: { readonly readonly: boolean; readonly nativeBinding?: string }) {
  const undo = new DisposableStack();
  const database = undo.adopt(openDatabase({ path, ...options }), (opened) => opened.close());
  return { database, undo };
}

/** Writes into an empty file. */
export function openSqliteWriter({
  path,
  head,
  nativeBinding,
}: {
  readonly path: string;
  readonly head: Head;
  readonly nativeBinding?: string | undefined;
}): RowWriter & Disposable {
  const binding = nativeBinding === undefined ? {} : { nativeBinding };
  const { database, undo } = closing(path, { readonly: false, ...binding });
  database.exec(createSql);
  const insert = database.prepare(
    `INSERT INTO flows (${names.join(", ")}) VALUES (${names.map(() => "?").join(", ")})`,
  );
  const tell = database.prepare("INSERT INTO export (name, value) VALUES (?, ?)");
  return {
    rows: (flows) => {
      for (const flow of flows) insert.run(columns.map(([, value]) => value(flow)));
      return Promise.resolve();
    },
    end: (totals: Totals) => {
      for (const [name, value] of Object.entries({ ...head, ...totals }))
        if (value !== undefined) tell.run(name, valueText(value));
      database.exec(indexSql);
      undo.dispose();
      return Promise.resolve();
    },
    [Symbol.dispose]: () => undo.dispose(),
  };
}

export const isSqlite = (start: string): boolean => start.startsWith("SQLite format 3\0");

/** Throws for a file that is something else, is damaged, or was written by a newer fovea. */
function check(database: Database): Manifest {
  database.pragma("trusted_schema = OFF"); // Whoever wrote the file wrote its views and triggers too.
  if (database.pragma("application_id", { simple: true }) !== exportApplicationId)
    throw new Error("is a SQLite file, and no export of fovea");
  const manifest = readManifest(manifestIn(database));
  const findings = database.pragma("quick_check(1)", { simple: true });
  if (findings !== "ok") throw new Error(`is damaged: ${String(findings)}`);
  const kind = database.prepare<unknown[], string>("SELECT type FROM sqlite_schema WHERE name = ?").pluck();
  if (kind.get("flows") !== "table") throw new Error("has no table flows");
  return manifest;
}

const texts = new Set(["version", "node", "cluster", "from", "to"]);

function manifestIn(database: Database): Record<string, unknown> {
  const rows = database.prepare("SELECT name, value FROM export").raw().all() as [string, string][];
  return Object.fromEntries(
    rows.map(([name, value]) => [name, texts.has(name) ? value : (JSON.parse(value) as unknown)]),
  );
}

const keyOf = (name: string): string => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
const fields = names
  .filter((name) => name !== "started" && name !== "ended")
  .map((name) => ({ name, key: keyOf(name) }));

function recordOf(row: readonly unknown[]): FlowRecord {
  const record: Record<string, unknown> = {};
  for (const [index, { key }] of fields.entries()) if (row[index] !== null) record[key] = row[index];
  const read = readRecord(record);
  if (typeof read === "string") throw new Error(`row ${String(row[0])} is wrong: ${read}`);
  return read;
}

/** Rows that are read in one go. */
const batchRows = 2000;

function* batchesOf(database: Database): Generator<readonly FlowRecord[]> {
  const page = database
    .prepare<unknown[], unknown[]>(
      `SELECT ${fields.map(({ name }) => name).join(", ")} FROM flows WHERE seq > ? ORDER BY seq LIMIT ?`,
    )
    .raw();
  let after: unknown = -1;
  for (;;) {
    const rows = page.all(after, batchRows);
    if (rows.length === 0) return;
    yield rows.map(recordOf);
    after = rows.at(-1)?.[0];
  }
}

export function openSqlite({
  path,
  nativeBinding,
}: {
  readonly path: string;
  readonly nativeBinding?: string | undefined;
}): RowReader {
  const binding = nativeBinding === undefined ? {} : { nativeBinding };
  const { database, undo } = closing(path, { readonly: true, ...binding });
  using closed = new DisposableStack();
  closed.use(undo);
  const manifest = check(database);
  const { rows, lost: _lost, lostSince: _since, ...head } = manifest;
  closed.move();
  return {
    head,
    *batches() {
      let read = 0;
      for (const batch of batchesOf(database)) {
        read += batch.length;
        yield batch;
      }
      if (read !== rows) throw new Error(`it holds ${read} rows and says that it has ${rows}`);
    },
    [Symbol.dispose]: () => undo.dispose(),
  };
}
