// Answers who and what the traffic of a time was, out of the rollups.

import type { Parameter } from "./filter.ts";
import { minuteMs } from "./minutes.ts";
import type { Reader } from "./query.ts";
import {
  noMarks,
  type RollupMarks,
  readMarks,
  rollupColumns,
  rollupOf,
  type StoredRollup,
  stateSql,
} from "./rollup-file.ts";
import { hourMs, hourOf, type Sums } from "./rollup-table.ts";
import {
  checkTop,
  createGroups,
  type Groups,
  rangeOf,
  rollupCondition,
  type TopKey,
  type TopOrder,
  type TopQuery,
  type TopRange,
} from "./top-groups.ts";

export type TopRank = Sums & { readonly key: string };

export type TopAnswer = {
  /** Greatest first. */
  readonly ranks: readonly TopRank[];
  /** All records of the range that match, each once. */
  readonly total: Sums;
  /** What no rank has: the ranks and this are the total, or twice the total by address, where each record has two. */
  readonly other: Sums;
  /**
   * Records whose ends and ports are not known, because they were not among the greatest of their minute or hour: the
   * most that a rank may lack. They are part of the total, unless the query asks for an address or a port.
   */
  readonly unnamed: Sums;
  /** The range that was summed up: whole minutes, or whole hours where the minutes are gone, and no more than there is. */
  readonly fromAt: number;
  readonly toAt: number;
  /** False when there were too many keys to tell them all apart: then other keys may belong among the ranks. */
  readonly complete: boolean;
};

/** Throws StoreQueryError for a wrong parameter. */
export function queryTop(reader: Reader, query: TopQuery): TopAnswer {
  checkTop(query);
  const groups = createGroups(query);
  // One transaction: a minute must not become part of an hour between two statements.
  const range = reader.database.transaction(() => readTables(reader, query, groups))();
  const { pending } = query;
  if (pending !== undefined) groups.addPending(pending);
  const { order = "bytes", limit = 10 } = query;
  const ranks = rank(groups, order, limit);
  const { total, unnamed, complete } = groups;
  const ends = query.by === "address" ? 2 : 1;
  const rest = (sum: keyof Sums): number => ranks.reduce((left, next) => left - next[sum], ends * total[sum]);
  const other = { records: rest("records"), packets: rest("packets"), bytes: rest("bytes") };
  return { ranks, total: { ...total }, other, unnamed: { ...unnamed }, ...range, complete };
}

function rank({ sums }: Groups, order: TopOrder, limit: number): readonly TopRank[] {
  return [...sums]
    .map(([key, { records, packets, bytes }]) => ({ key, records, packets, bytes }))
    .toSorted((a, b) => b[order] - a[order] || b.bytes - a.bytes || (a.key < b.key ? -1 : 1))
    .slice(0, limit);
}

/** Columns that the keys are made of; others need not be read. */
const keyColumns: Readonly<Record<TopKey, readonly string[]>> = {
  address: ["source", "destination"],
  source: ["source"],
  destination: ["destination"],
  pair: ["source", "destination"],
  port: ["destination_port"],
  protocol: ["protocol"],
  reason: ["verdict", "drop_reason"],
  verdict: ["verdict"],
  direction: ["direction"],
};

/** The columns of `rollupColumns` with something of their kind for those that need not be read. */
function columnsFor(by: TopKey): string {
  const needed = [...keyColumns[by], "records", "packets", "bytes"];
  return rollupColumns
    .split(", ")
    .map((column) => (needed.includes(column) ? column : column === "source" ? isNamed : "0"))
    .join(", ");
}

/** A source of nobody's where there is one: whether there is says whether the row has ends. */
const isNamed = "iif(source IS NULL, NULL, 0)";

type Scan = {
  readonly reader: Reader;
  readonly columns: string;
  readonly condition: { readonly sql: string; readonly parameters: readonly Parameter[] };
  readonly groups: Groups;
};

/** Adds what the file has; the range that there is. */
function readTables(reader: Reader, query: TopQuery, groups: Groups): TopRange {
  const marks = marksOf(reader);
  const range = query.pending?.range ?? rangeOf(query, marks);
  const minuteId = Math.min(query.pending?.minuteId ?? marks.minuteId, marks.minuteId);
  const columns = columnsFor(query.by);
  const scan: Scan = { reader, columns, condition: rollupCondition(query), groups };
  // Hours lie within the range whole; what is before, after or not folded yet is told by minutes.
  const fromAt = Math.min(-hourOf(-range.fromAt), range.toAt);
  const toAt = Math.max(hourOf(range.toAt), fromAt);
  addPeriods(scan, "rollup_hours", { fromAt, toAt, toId: marks.hourId });
  addPeriods(scan, "rollup_minutes", { fromAt: range.fromAt, toAt: fromAt, toId: marks.foldedId });
  addPeriods(scan, "rollup_minutes", { fromAt: toAt, toAt: range.toAt, toId: marks.foldedId });
  addUnfolded(scan, range, { afterId: marks.foldedId, toId: minuteId });
  return within(query, range, edgesOf(reader, query.pending?.edges));
}

function marksOf(reader: Reader): RollupMarks {
  return readMarks((names) => reader.prepare(stateSql(names)).all(...names) as [string, number][]) ?? noMarks;
}

/** One period after the other, so that what is in memory at once is one of them. */
function addPeriods(
  { reader, columns, condition, groups }: Scan,
  table: "rollup_hours" | "rollup_minutes",
  { fromAt, toAt, toId }: TopRange & { readonly toId: number },
): void {
  const next = reader.prepare(`SELECT min(at) FROM ${table} WHERE at >= ? AND at < ?`);
  const rows = reader.prepare(`SELECT ${columns} FROM ${table} WHERE at = ? AND id <= ?${condition.sql}`);
  for (let at = fromAt; at < toAt; ) {
    const [found] = next.all(at, toAt) as [number | null][];
    const start = found?.[0] ?? undefined;
    if (start === undefined) return;
    for (const row of rows.all(start, toId, ...condition.parameters) as StoredRollup[])
      groups.add(rollupOf(row));
    at = start + 1;
  }
}

/** Minute rows read at once. */
const chunkIds = 8192;

function addUnfolded(
  { reader, columns, condition, groups }: Scan,
  { fromAt, toAt }: TopRange,
  { afterId, toId }: { readonly afterId: number; readonly toId: number },
): void {
  const rows = reader.prepare(
    `SELECT ${columns} FROM rollup_minutes NOT INDEXED
     WHERE id > ? AND id <= ? AND at >= ? AND at < ?${condition.sql}`,
  );
  for (let id = afterId; id < toId; id += chunkIds) {
    const last = Math.min(id + chunkIds, toId);
    for (const row of rows.all(id, last, fromAt, toAt, ...condition.parameters) as StoredRollup[])
      groups.add(rollupOf(row));
  }
}

/** The first and last of what there is, of minutes, hours and what is pending. */
function edgesOf(reader: Reader, pending: TopRange | undefined): TopRange | undefined {
  const edge = (sql: string): number | undefined =>
    (reader.prepare(sql).all() as [number | null][])[0]?.[0] ?? undefined;
  const first = (table: string) => edge(`SELECT min(at) FROM ${table}`);
  const last = (table: string) => edge(`SELECT max(at) FROM ${table}`);
  const [minute, hour] = [last("rollup_minutes"), last("rollup_hours")];
  const starts = [first("rollup_minutes"), first("rollup_hours"), pending?.fromAt];
  const ends = [
    minute === undefined ? undefined : minute + minuteMs,
    hour === undefined || minute !== undefined ? undefined : hour + hourMs,
    pending?.toAt,
  ];
  const known = (times: readonly (number | undefined)[]) => times.filter((time) => time !== undefined);
  if (known(starts).length === 0) return undefined;
  return { fromAt: Math.min(...known(starts)), toAt: Math.max(...known(ends)) };
}

function within({ toAt }: TopQuery, range: TopRange, edges: TopRange | undefined): TopRange {
  const end = toAt === undefined ? (edges?.toAt ?? range.fromAt) : range.toAt;
  const start = Math.max(range.fromAt, edges?.fromAt ?? range.fromAt);
  return { fromAt: Math.min(start, end), toAt: end };
}
