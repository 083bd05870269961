// Stores with rollups for the tests, a naive model of what they must say, and crashes of them.

import { expect } from "bun:test";
import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FlowRecord } from "../src/flow.ts";
import { openReader } from "../src/store/query.ts";
import { createRollups, type RollupOptions, type Rollups } from "../src/store/rollups.ts";
import { createSql } from "../src/store/schema.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import { openStore, type Store, type StoreOptions } from "../src/store/store.ts";
import { openStrings } from "../src/store/strings.ts";
import { queryTop, type TopAnswer } from "../src/store/top.ts";
import type { TopQuery } from "../src/store/top-groups.ts";
import { startAt } from "./store.flows.ts";

export const second = 1000;
export const minute = 60 * second;
export const hour = 60 * minute;
export const day = 24 * hour;

export type Clock = { at: number };
export type RollupStore = {
  readonly dir: string;
  readonly store: Store;
  readonly rollups: Rollups;
  readonly clock: Clock;
  /** Appends at the time of the clock; `unkept` are told as throttled. */
  append(rows: readonly FlowRecord[], unkept?: readonly FlowRecord[]): void;
  /** Moves the clock in steps, with an empty append at each, as the tick does. */
  pass(ms: number, stepMs?: number): void;
  /** Asks the file and what is pending, as the appliance does. */
  ask(query: TopQuery): TopAnswer;
  /** Rows of a statement on the file, read by another connection. */
  sql(text: string): unknown[];
};

export type Changes = Partial<RollupOptions> &
  Partial<Pick<StoreOptions, "bytesMax" | "ageMaxMs" | "retryMs" | "checkBytesMax">>;

const dirs: string[] = [];

export function freshDir(): string {
  const dir = mkdtempSync(join(tmpdir(), "fovea-rollups-"));
  dirs.push(dir);
  return dir;
}

/** To be called when all tests of a file are done. */
export function removeDirs(): void {
  for (const dir of dirs) rmSync(dir, { recursive: true, force: true });
}

export function openRollups(
  { dir = freshDir(), clock = { at: startAt } }: { readonly dir?: string; readonly clock?: Clock } = {},
  {
    bytesMax = 64 * 1024 * 1024,
    ageMaxMs = 100 * day,
    retryMs = 30_000,
    checkBytesMax = bytesMax,
    ...changes
  }: Changes = {},
): RollupStore {
  const rollups = createRollups({
    keysMax: 1000,
    minuteAgeMaxMs: 30 * day,
    hourAgeMaxMs: 400 * day,
    now: () => clock.at,
    ...changes,
  });
  const parts = [rollups];
  const store = openStore({ dir, bytesMax, ageMaxMs, retryMs, checkBytesMax, now: () => clock.at, parts });
  const append = (rows: readonly FlowRecord[], unkept: readonly FlowRecord[] = []): void => {
    const ledger = { "rows.offered": rows.length + unkept.length, "rows.throttled.window": unkept.length };
    store.append({ rows, unkept, at: clock.at, ledger });
  };
  return {
    dir,
    store,
    rollups,
    clock,
    append,
    pass(ms, stepMs = 5 * second) {
      for (let passed = 0; passed < ms; passed += stepMs) {
        clock.at += Math.min(stepMs, ms - passed);
        append([]);
      }
    },
    ask: (query) =>
      withReader(dir, (reader) => queryTop(reader, { ...query, pending: rollups.pending(query) })),
    sql: (text) => withReader(dir, ({ prepare }) => prepare(text).all()),
  };
}

export function withReader<Result>(
  dir: string,
  work: (reader: ReturnType<typeof openReader>) => Result,
): Result {
  const path = join(dir, "fovea.db");
  const database = openDatabase({ path: existsSync(path) ? path : ":memory:", readonly: existsSync(path) });
  if (database.memory) database.exec(createSql(1));
  const strings = openStrings({ database, lastSeq: 0, oldestSeq: () => 0, stringsMax: 100 });
  try {
    return work(openReader({ database, generation: 0, strings, lastSeq: () => 0, scanMax: 1000 }));
  } finally {
    database.close();
  }
}

/** The files as a kill would leave them now. */
export function crashed(dir: string): string {
  const copy = freshDir();
  for (const name of ["fovea.db", "fovea.db-wal"])
    if (existsSync(join(dir, name))) copyFileSync(join(dir, name), join(copy, name));
  return copy;
}

export const sumsOf = (records: readonly FlowRecord[]) => ({
  records: records.length,
  packets: records.reduce((sum, { packets }) => sum + packets, 0),
  bytes: records.reduce((sum, { bytes }) => sum + bytes, 0),
});

/** What the query for these records should say, ranked by bytes. */
export function rankedBy(
  records: readonly FlowRecord[],
  keysOf: (record: FlowRecord) => readonly string[],
): { key: string; records: number; packets: number; bytes: number }[] {
  const groups = new Map<string, FlowRecord[]>();
  for (const record of records)
    for (const key of keysOf(record)) groups.set(key, [...(groups.get(key) ?? []), record]);
  return [...groups]
    .map(([key, some]) => ({ key, ...sumsOf(some) }))
    .toSorted((a, b) => b.bytes - a.bytes || (a.key < b.key ? -1 : 1));
}

/** Records that end at one time. */
export const at = (endAt: number, records: readonly FlowRecord[]): FlowRecord[] =>
  records.map((record) => ({ ...record, startAt: endAt - 10, endAt }));

export const totalOf = ({ ask }: RollupStore) => ask({ by: "verdict" }).total;

export function expectCounts({ rollups, sql }: RollupStore): void {
  const { offered, written, lost, pending, minuteRows, hourRows } = rollups.facts();
  expect(offered).toBe(written + lost + pending);
  const [[minutes, hours] = []] = sql(
    "SELECT (SELECT count(*) FROM rollup_minutes), (SELECT count(*) FROM rollup_hours)",
  ) as number[][];
  expect([minuteRows, hourRows]).toEqual([minutes!, hours!]);
}
