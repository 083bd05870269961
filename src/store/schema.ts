// What stands in fovea.db: its tables, and how to tell our file from another without opening it.

import { closeSync, fsyncSync, openSync, readSync, renameSync, rmSync } from "node:fs";
import type { EvictReason } from "../flow.ts";
import { openDatabase } from "./sqlite.ts";

/** "Fove" in ASCII; tells our files from every other SQLite file. */
export const applicationId = 0x466f7665;
export const schemaVersion = 3;
/** The schema in which rows changed last: what exported records may hold. */
export const rowsVersion = 2;
export const pageBytes = 4096;

const v4Text = (column: string): string =>
  [24, 16, 8, 0].map((shift) => `((${column} >> ${shift}) & 255)`).join(" || '.' || ");
const v6Text = (column: string): string =>
  Array.from({ length: 8 }, (_, group) => `lower(substr(hex(${column}), ${group * 4 + 1}, 4))`).join(
    " || ':' || ",
  );
const addressText = (column: string): string =>
  `CASE typeof(${column}) WHEN 'integer' THEN ${v4Text(column)} ELSE ${v6Text(column)} END`;
const timeText = (ms: string): string => `strftime('%Y-%m-%dT%H:%M:%fZ', (${ms}) / 1000.0, 'unixepoch')`;

// Columns that filters read come first: SQLite decodes a row up to the last column that it needs. An IPv4 address is
// an integer, an IPv6 address a blob of 16 bytes, so that every CIDR is one range that the other family never meets.
// A batch is a run of seqs that were appended within a few seconds; it finds a time without an index on every row.
const tables = `
CREATE TABLE flows (
  seq INTEGER PRIMARY KEY,
  end_at INTEGER NOT NULL,
  verdict INTEGER NOT NULL,
  direction INTEGER NOT NULL,
  protocol INTEGER NOT NULL,
  source INTEGER NOT NULL,
  destination INTEGER NOT NULL,
  source_port INTEGER NOT NULL,
  destination_port INTEGER NOT NULL,
  drop_reason INTEGER,
  packets INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  duration_ms INTEGER NOT NULL,
  tcp_flags INTEGER NOT NULL,
  interface INTEGER NOT NULL,
  evict_reason INTEGER NOT NULL,
  rtt_us INTEGER,
  retransmits INTEGER,
  icmp_type INTEGER,
  icmp_code INTEGER,
  dns_error INTEGER,
  node INTEGER
);
CREATE TABLE batches (
  first_seq INTEGER PRIMARY KEY,
  last_seq INTEGER NOT NULL,
  at INTEGER NOT NULL,
  end_min INTEGER NOT NULL,
  end_max INTEGER NOT NULL,
  dropped INTEGER NOT NULL,
  summary BLOB
);
CREATE TABLE strings (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE ledger (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
`;

// Rollups hold exact totals: what found no place among the greatest keys of its time is in a row without ends. Drop
// reasons are text there, because the dictionary forgets texts that no row uses any more.
const rollupTable = (name: string): string => `
CREATE TABLE ${name} (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  source INTEGER,
  destination INTEGER,
  destination_port INTEGER,
  protocol INTEGER NOT NULL,
  direction INTEGER NOT NULL,
  verdict INTEGER NOT NULL,
  drop_reason TEXT,
  records INTEGER NOT NULL,
  packets INTEGER NOT NULL,
  bytes INTEGER NOT NULL
);
CREATE INDEX ${name}_at ON ${name} (at);
`;

// Samples come as steps, each with the values of all series at one time, and end as chunks, each with the values of
// one series over a block of steps. The ledger by minute says when something was lost, not only that it was.
const historyTables = (total: string): string => `
${rollupTable("rollup_minutes")}${rollupTable("rollup_hours")}
CREATE TABLE summaries (
  id INTEGER PRIMARY KEY,
  start_at INTEGER NOT NULL,
  end_at INTEGER NOT NULL,
  rows INTEGER NOT NULL,
  packets INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  counts TEXT NOT NULL
);
CREATE INDEX summaries_end_at ON summaries (end_at);
CREATE TABLE ledger_minutes (
  at INTEGER NOT NULL,
  name TEXT NOT NULL,
  value INTEGER NOT NULL,
  PRIMARY KEY (at, name)
) WITHOUT ROWID;
CREATE TABLE series (id INTEGER PRIMARY KEY, name TEXT NOT NULL, labels TEXT NOT NULL, UNIQUE (name, labels));
CREATE TABLE sample_steps (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, data BLOB NOT NULL${total});
CREATE TABLE sample_blocks (
  id INTEGER PRIMARY KEY,
  start_at INTEGER NOT NULL,
  end_at INTEGER NOT NULL,
  samples INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  times BLOB NOT NULL${total}
);
CREATE TABLE sample_chunks (
  block INTEGER NOT NULL,
  series INTEGER NOT NULL,
  data BLOB NOT NULL,
  PRIMARY KEY (block, series)
) WITHOUT ROWID;
CREATE TABLE imports (sha256 TEXT PRIMARY KEY, at INTEGER NOT NULL, rows INTEGER NOT NULL, node TEXT NOT NULL) WITHOUT ROWID;
`;

/** How many samples were stored in this file up to and including that step, or block. */
const totalColumn = ", total INTEGER";

// States are JSON; a row without a sink holds what is counted for all of them.
const sinkTables = `
CREATE TABLE sink_states (
  sink TEXT NOT NULL,
  signal TEXT NOT NULL,
  state TEXT NOT NULL,
  PRIMARY KEY (sink, signal)
) WITHOUT ROWID;
CREATE TABLE dead_letters (
  id INTEGER PRIMARY KEY,
  sink TEXT NOT NULL,
  signal TEXT NOT NULL,
  at INTEGER NOT NULL,
  reason TEXT NOT NULL,
  code TEXT NOT NULL,
  message TEXT NOT NULL,
  records INTEGER NOT NULL,
  text TEXT NOT NULL
);
`;

/** The evict reasons by their number in the file: their place here. New ones go to the end. */
export const storedEvictReasons = [
  "fin",
  "rst",
  "idle",
  "active",
  "full",
  "first",
  "shutdown",
] as const satisfies readonly EvictReason[];

const evictText = storedEvictReasons.map((reason, number) => `WHEN ${number} THEN '${reason}'`).join(" ");

// For people with a SQLite shell. IPv6 in full, without "::".
const readable = `
CREATE VIEW flows_readable AS SELECT
  f.seq,
  ${timeText("f.end_at - f.duration_ms")} AS started,
  ${timeText("f.end_at")} AS ended,
  CASE f.direction WHEN 0 THEN 'ingress' ELSE 'egress' END AS direction,
  CASE f.verdict WHEN 0 THEN 'forwarded' ELSE 'dropped' END AS verdict,
  r.text AS drop_reason,
  f.protocol,
  ${addressText("f.source")} AS source,
  f.source_port,
  ${addressText("f.destination")} AS destination,
  f.destination_port,
  f.packets, f.bytes, f.tcp_flags, f.icmp_type, f.icmp_code,
  i.text AS interface,
  f.rtt_us, f.retransmits,
  CASE f.evict_reason ${evictText} END AS evict_reason,
  d.text AS dns_error,
  n.text AS node
FROM flows f
LEFT JOIN strings i ON i.id = f.interface
LEFT JOIN strings r ON r.id = f.drop_reason
LEFT JOIN strings d ON d.id = f.dns_error
LEFT JOIN strings n ON n.id = f.node;
`;

/** Ids in `strings` that are always there: no text, and the stand-in for texts that found no place. */
export const emptyStringId = 0;
export const otherStringId = 1;

const firstRows = (generation: number): string => `
INSERT INTO strings (id, text) VALUES (${emptyStringId}, ''), (${otherStringId}, '(other)');
INSERT INTO state (name, value) VALUES ('seq', 0), ('generation', ${generation});
`;

/**
 * Everything of a new file. Incremental auto-vacuum costs nothing that could be measured and lets the file shrink in
 * steps, without a second copy of it on a disk that may be full.
 */
export const createSql = (generation: number): string => `
PRAGMA page_size = ${pageBytes};
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = ${applicationId};
BEGIN;
${tables}${historyTables(totalColumn)}${sinkTables}${readable}${firstRows(generation)}
PRAGMA user_version = ${schemaVersion};
COMMIT;
`;

/** What brings a file of each schema to the next one: the first entry takes schema 1 to 2. */
export const migrations: readonly string[] = [
  `ALTER TABLE flows ADD COLUMN dns_error INTEGER;
   ALTER TABLE flows ADD COLUMN node INTEGER;
   ALTER TABLE batches ADD COLUMN summary BLOB;
   ${historyTables("")}
   DROP VIEW flows_readable;
   ${readable}`,
  // The totals of steps are filled in when they are read first: their samples must be decoded to be counted.
  `ALTER TABLE sample_steps ADD COLUMN total INTEGER;
   ALTER TABLE sample_blocks ADD COLUMN total INTEGER;
   UPDATE sample_blocks SET total = counted.total
     FROM (SELECT id, sum(samples) OVER (ORDER BY id) AS total FROM sample_blocks) AS counted
     WHERE counted.id = sample_blocks.id;
   ${sinkTables}`,
];

/** Makes a whole file under another name first: a crash half-way leaves nothing that looks like a store. */
export function createFile({
  path,
  generation,
  nativeBinding,
}: {
  readonly path: string;
  readonly generation: number;
  readonly nativeBinding?: string | undefined;
}): void {
  const fresh = `${path}.new`;
  for (const part of [fresh, `${fresh}-journal`]) rmSync(part, { force: true });
  const database = openDatabase({ path: fresh, nativeBinding });
  try {
    database.exec(createSql(generation));
  } finally {
    database.close();
  }
  syncFile(fresh);
  renameSync(fresh, path);
}

function syncFile(path: string): void {
  const file = openSync(path, "r+");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

export type Header = { readonly kind: "absent" | "ours" | "foreign"; readonly version: number };

/** Reads the file's first page header as plain bytes: opening it as a database would already make files beside it. */
export function readHeader(path: string): Header {
  const bytes = firstBytes(path);
  if (bytes === undefined || bytes.length === 0) return { kind: "absent", version: 0 };
  if (bytes.length < 100 || bytes.toString("latin1", 0, 16) !== "SQLite format 3\0")
    return { kind: "foreign", version: 0 };
  const ours = bytes.readUInt32BE(68) === applicationId;
  return { kind: ours ? "ours" : "foreign", version: bytes.readUInt32BE(60) };
}

function firstBytes(path: string): Buffer | undefined {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
  try {
    const bytes = Buffer.alloc(100);
    return bytes.subarray(0, readSync(file, bytes, 0, bytes.length, 0));
  } finally {
    closeSync(file);
  }
}
