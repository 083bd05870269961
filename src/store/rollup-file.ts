// Rollups in the file: their two tables, and how far they have come.

import { formatAddress, type StoredAddress } from "./address.ts";
import type { PartBudget } from "./part.ts";
import type { CountedRow, RollupRow } from "./rollup-table.ts";
import { pageBytes } from "./schema.ts";
import type { Database } from "./sqlite.ts";

/**
 * A flow row of this node is part of the minutes that are written when its seq is at most `wholeSeq`, or when its seq
 * is at most `seq` and its minute at most `minuteAt`. What else is in `flows` was pending when the file was left.
 */
export type RollupMarks = {
  readonly wholeSeq: number;
  readonly seq: number;
  readonly minuteAt: number;
  /** The newest row of each table that is not part of something half written. Ids have no gaps. */
  readonly minuteId: number;
  readonly hourId: number;
  /** Minute rows up to this id are part of the hours. */
  readonly foldedId: number;
  /** Retention took rows of this minute, and of none after it. */
  readonly goneAt: number;
  /** Or of these minutes, from the first to the last, which were ahead of the clock when it took them. */
  readonly goneAheadFrom: number;
  readonly goneAheadTo: number;
  /** Records: `offered` = `written` + `lost` + those that are pending. */
  readonly offered: number;
  readonly written: number;
  readonly lost: number;
};

const stateNames: Readonly<Record<keyof RollupMarks, string>> = {
  wholeSeq: "rollup_whole_seq",
  seq: "rollup_seq",
  minuteAt: "rollup_minute_at",
  minuteId: "rollup_minute_id",
  hourId: "rollup_hour_id",
  foldedId: "rollup_folded_id",
  goneAt: "rollup_gone_at",
  goneAheadFrom: "rollup_gone_ahead_from",
  goneAheadTo: "rollup_gone_ahead_to",
  offered: "rollup_offered",
  written: "rollup_written",
  lost: "rollup_lost",
};

export const noMarks: RollupMarks = {
  wholeSeq: 0,
  seq: 0,
  minuteAt: 0,
  minuteId: 0,
  hourId: 0,
  foldedId: 0,
  goneAt: 0,
  goneAheadFrom: 0,
  goneAheadTo: 0,
  offered: 0,
  written: 0,
  lost: 0,
};

const markKeys = Object.keys(noMarks) as (keyof RollupMarks)[];

/** Undefined when no rollup was ever written to the file. */
export function readMarks(
  stateOf: (names: readonly string[]) => readonly (readonly [name: string, value: number])[],
): RollupMarks | undefined {
  const found = new Map(stateOf(markKeys.map((key) => stateNames[key])));
  if (found.size === 0) return undefined;
  const entries = markKeys.map((key) => [key, found.get(stateNames[key]) ?? 0] as const);
  return { ...noMarks, ...Object.fromEntries(entries) };
}

export const stateSql = (names: readonly string[]): string =>
  `SELECT name, value FROM state WHERE name IN (${names.map(() => "?").join(", ")})`;

/** A row with its index entry and its share of the page: 65 with IPv4 ends, 90 with IPv6. */
const rowBytes = 80;
/** Each table takes this part of the file at the most. */
const fileShare = 8;

/** Pages that so many rows may add or change. */
export const rollupPages = (rows: number): number => Math.ceil((rows * rowBytes * 1.5) / pageBytes) + 8;

export type RollupFile = {
  readonly generation: number;
  /** Rows that each table may hold. */
  readonly rowsMax: number;
  /** Rows that are written, read or removed in one transaction. */
  readonly stepRows: number;
  readonly minutes: RowTable;
  readonly hours: RowTable;
  marks(): RollupMarks | undefined;
  /** Inside a transaction: brings what is in the file to `marks`. */
  putMarks(marks: RollupMarks, inFile: RollupMarks | undefined): void;
  /** The newest seq in the file. */
  seq(): number;
  /** The first minute row of an id over `after` whose time is in the range. */
  firstIn(range: {
    readonly after: number;
    readonly fromAt: number;
    readonly toAt: number;
  }): number | undefined;
  minutesAfter(options: {
    readonly id: number;
    readonly toId: number;
    readonly limit: number;
  }): readonly RollupRow[];
  /** Rows of this node that are in no minute of the file. */
  unwritten(marks: RollupMarks): Iterable<CountedRow>;
};

export function openRollupFile(database: Database, { pagesMax }: PartBudget): RollupFile {
  const rowsMax = Math.floor((pagesMax * pageBytes) / fileShare / rowBytes);
  const stateNumber = database.prepare<unknown[], number>("SELECT value FROM state WHERE name = ?").pluck();
  const put = database.prepare(
    "INSERT INTO state (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
  );
  // The index: there are few rows of hours that are not over, and many that are not folded.
  const firstIn = database
    .prepare<unknown[], number | null>(
      `SELECT min(id) FROM rollup_minutes INDEXED BY rollup_minutes_at WHERE at >= ? AND at < ? AND id > ?`,
    )
    .pluck();
  const after = database
    .prepare<unknown[], StoredRollup>(
      `SELECT ${rollupColumns} FROM rollup_minutes WHERE id > ? AND id <= ? ORDER BY id LIMIT ?`,
    )
    .raw();
  return {
    generation: stateNumber.get("generation") ?? 0,
    rowsMax,
    stepRows: Math.min(4096, Math.max(64, Math.floor(rowsMax / 16))),
    minutes: openTable(database, "rollup_minutes"),
    hours: openTable(database, "rollup_hours"),
    marks: () =>
      readMarks(
        (names) =>
          database
            .prepare(stateSql(names))
            .raw()
            .all(...names) as [string, number][],
      ),
    putMarks(marks, inFile) {
      for (const key of markKeys) if (marks[key] !== inFile?.[key]) put.run(stateNames[key], marks[key]);
    },
    seq: () => stateNumber.get("seq") ?? 0,
    firstIn: ({ after: id, fromAt, toAt }) => firstIn.get(fromAt, toAt, id) ?? undefined,
    minutesAfter: ({ id, toId, limit }) => after.all(id, toId, limit).map(rollupOf),
    unwritten: (marks) => unwrittenRows(database, marks),
  };
}

/** In the order in which `rollupOf` reads them. */
export const rollupColumns =
  "at, source, destination, destination_port, protocol, direction, verdict, drop_reason, records, packets, bytes";

export type StoredRollup = readonly [
  at: number,
  source: StoredAddress | null,
  destination: StoredAddress | null,
  destinationPort: number | null,
  protocol: number,
  direction: number,
  verdict: number,
  dropReason: string | null,
  records: number,
  packets: number,
  bytes: number,
];

export const rollupOf = (row: StoredRollup): RollupRow => ({
  at: row[0],
  source: row[1],
  destination: row[2],
  destinationPort: row[3],
  protocol: row[4],
  direction: row[5],
  verdict: row[6],
  dropReason: row[7],
  records: row[8],
  packets: row[9],
  bytes: row[10],
});

export type Edges = { readonly from: number; readonly to: number };

export type RowTable = {
  insert(rows: readonly RollupRow[], firstId: number): void;
  newestId(): number;
  oldest(): { readonly id: number; readonly at: number } | undefined;
  removeFrom(id: number): void;
  removeUpTo(id: number): void;
  /** The newest time of rows up to an id that is not after `at`. */
  newestAt(options: { readonly toId: number; readonly at: number }): number;
  /** The first and the last time of rows up to an id that are after `at`. */
  ahead(options: { readonly toId: number; readonly at: number }): Edges | undefined;
  /** The first row of these ids that is not older than `cutoffAt`. */
  firstYoung(options: {
    readonly fromId: number;
    readonly toId: number;
    readonly cutoffAt: number;
  }): number | undefined;
};

function openTable(database: Database, name: "rollup_minutes" | "rollup_hours"): RowTable {
  const number = (sql: string) => database.prepare<unknown[], number | null>(sql).pluck();
  const insert = database.prepare(
    `INSERT INTO ${name} (id, ${rollupColumns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const newestId = number(`SELECT max(id) FROM ${name}`);
  const oldest = database.prepare<unknown[], { id: number; at: number }>(
    `SELECT id, at FROM ${name} ORDER BY id LIMIT 1`,
  );
  const removeFrom = database.prepare(`DELETE FROM ${name} WHERE id >= ?`);
  const removeUpTo = database.prepare(`DELETE FROM ${name} WHERE id <= ?`);
  const newestAt = number(`SELECT max(at) FROM ${name} NOT INDEXED WHERE id <= ? AND at <= ?`);
  const ahead = database.prepare<unknown[], { from: number | null; to: number | null }>(
    `SELECT min(at) AS "from", max(at) AS "to" FROM ${name} NOT INDEXED WHERE id <= ? AND at > ?`,
  );
  const firstYoung = number(
    `SELECT id FROM ${name} NOT INDEXED WHERE id BETWEEN ? AND ? AND at >= ? ORDER BY id LIMIT 1`,
  );
  return {
    insert(rows, firstId) {
      for (const [index, row] of rows.entries()) {
        const { at, source, destination, destinationPort, protocol, direction, verdict, dropReason } = row;
        const key = [source, destination, destinationPort, protocol, direction, verdict, dropReason];
        insert.run(firstId + index, at, ...key, row.records, row.packets, row.bytes);
      }
    },
    newestId: () => newestId.get() ?? 0,
    oldest: () => oldest.get() ?? undefined,
    removeFrom: (id) => removeFrom.run(id),
    removeUpTo: (id) => removeUpTo.run(id),
    newestAt: ({ toId, at }) => newestAt.get(toId, at) ?? 0,
    ahead({ toId, at }) {
      const { from = null, to = null } = ahead.get(toId, at) ?? {};
      return from === null || to === null ? undefined : { from, to };
    },
    firstYoung: ({ fromId, toId, cutoffAt }) => firstYoung.get(fromId, toId, cutoffAt) ?? undefined,
  };
}

type UnwrittenRow = readonly [
  endAt: number,
  source: StoredAddress,
  destination: StoredAddress,
  sourcePort: number,
  destinationPort: number,
  protocol: number,
  direction: number,
  verdict: number,
  dropReason: string | null,
  packets: number,
  bytes: number,
];

function* unwrittenRows(database: Database, { wholeSeq, seq, minuteAt }: RollupMarks): Iterable<CountedRow> {
  const statement = database.prepare(
    `SELECT end_at, source, destination, source_port, destination_port, protocol, direction, verdict,
       (SELECT text FROM strings WHERE id = drop_reason), packets, bytes
     FROM flows WHERE seq > ? AND node IS NULL AND NOT (seq <= ? AND end_at < ?)`,
  );
  const rows = statement.raw().iterate(wholeSeq, seq, minuteAt + 60_000) as Iterable<UnwrittenRow>;
  for (const [endAt, source, destination, sourcePort, destinationPort, protocol, ...rest] of rows) {
    const [direction, verdict, dropReason, packets, bytes] = rest;
    yield {
      source,
      destination,
      record: {
        endAt,
        source: formatAddress(source),
        destination: formatAddress(destination),
        sourcePort,
        destinationPort,
        protocol,
        direction: direction === 1 ? "egress" : "ingress",
        verdict: verdict === 1 ? "dropped" : "forwarded",
        ...(dropReason === null ? {} : { dropReason }),
        packets,
        bytes,
      },
    };
  }
}
