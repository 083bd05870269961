// What an answer says is missing: by minute, of all time, of rows that retention took, and of what waits for a disk.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { StoreQueryError } from "../src/store/failure.ts";
import type { LedgerDeltas } from "../src/store/ledger.ts";
import { type LostQuery, lostOf, withPending } from "../src/store/lost.ts";
import { openQueries } from "../src/store/queries.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import { openStore, type Store, type StoreOptions } from "../src/store/store.ts";
import { flow, flows, startAt } from "./store.flows.ts";

setDefaultTimeout(60_000);

const root = mkdtempSync(join(tmpdir(), "fovea-lost-"));
afterAll(() => rmSync(root, { recursive: true }));

const minute = 60_000;
const at = (minutes: number): number => startAt + minutes * minute;

let dirs = 0;
const open = (options: Partial<StoreOptions> = {}): Store =>
  openStore({
    dir: join(root, `${++dirs}`),
    bytesMax: 64 * 1024 * 1024,
    ageMaxMs: 1e10,
    now: () => startAt,
    ...options,
  });

const tick = (store: Store, minutes: number, rows: number, ledger: LedgerDeltas = {}): void => {
  store.append({ rows: flows(rows), at: at(minutes), ledger: { "rows.offered": rows, ...ledger } });
};

describe("what is missing of a range", () => {
  test("are the counts of the minutes in which its records may have come", () => {
    using store = open();
    tick(store, 0, 10, { "rows.offered": 13, "rows.throttled.window": 3 });
    tick(store, 1.5, 10, { "rows.offered": 15, "rows.filtered.excluded": 5, "packets.untracked.parse": 7 });
    tick(store, 5, 10, { "rows.offered": 12, "rows.throttled.window": 2, "packets.seen": 9 });
    store.append({ rows: [flow(1, { packets: -1 })], at: at(5), ledger: { "rows.offered": 1 } });
    const lost = (query: LostQuery) => store.ask("lost", { lateMs: 0, ...query });
    expect(lost({ fromAt: at(0), toAt: at(0.5) })).toEqual({
      sinceAt: at(0),
      lost: { "rows.throttled.window": 3 },
    });
    expect(lost({ fromAt: at(1.9), toAt: at(4.9) }).lost).toEqual({
      "packets.untracked.parse": 7,
      "rows.filtered.excluded": 5,
    });
    expect(lost({ fromAt: at(2), toAt: at(4.9) }).lost).toEqual({});
    expect(lost({ fromAt: at(2), toAt: at(4.9), lateMs: minute }).lost).toEqual({
      "rows.invalid.count": 1,
      "rows.throttled.window": 2,
    });
    expect(lost({ fromAt: at(4) }).lost).toEqual({ "rows.invalid.count": 1, "rows.throttled.window": 2 });
    const all = {
      "packets.untracked.parse": 7,
      "rows.filtered.excluded": 5,
      "rows.invalid.count": 1,
      "rows.throttled.window": 5,
    };
    expect(lost({ toAt: at(9) })).toEqual({ sinceAt: at(0), lost: all });
    expect(lost({})).toEqual({ lost: all });
    expect(lostOf(store.ledger())).toEqual({ lost: all });
    expect(lost({ fromAt: at(6) })).toEqual({ sinceAt: at(0), lost: {} });
  });

  test("is not known before the first minute, and nothing is while there is none", () => {
    using store = open();
    expect(store.ask("lost", { fromAt: at(0) })).toEqual({ lost: {} });
    tick(store, 7, 1);
    expect(store.ask("lost", { fromAt: at(0) })).toEqual({ sinceAt: at(7), lost: {} });
  });

  test("is asked by times", () => {
    using store = open();
    expect(() => store.ask("lost", { fromAt: Number.NaN })).toThrow(StoreQueryError);
  });
});

describe("rows that retention took", () => {
  test("are those of the minutes whose rows are gone", () => {
    using store = open({ ageMaxMs: 10 * minute });
    for (const minutes of [0, 1, 2, 3]) tick(store, minutes, 100);
    const evicted = (fromAt: number, toAt: number) =>
      store.ask("lost", { fromAt, toAt, lateMs: 0 }).lost["rows.evicted"] ?? 0;
    expect(evicted(at(0), at(9))).toBe(0);
    store.append({ rows: [], at: at(11.5) }); // Rows of minutes 0 and 1 are too old.
    expect(store.stats().rows).toBe(200);
    expect(evicted(at(0), at(0.9))).toBe(100);
    expect(evicted(at(0), at(1.9))).toBe(200);
    expect(evicted(at(1), at(2.9))).toBe(100);
    expect(evicted(at(2), at(9))).toBe(0);
    expect(evicted(at(0), at(99))).toBe(200);
    expect(store.ask("lost", {}).lost).toEqual({ "rows.evicted": 200 });
  });

  test("are told to the row, minute by minute, whatever size took", () => {
    const ticks = fc.array(fc.nat(3000), { minLength: 2, maxLength: 12 });
    fc.assert(
      fc.property(ticks, (counts) => {
        using store = open({ bytesMax: 1024 * 1024 });
        for (const [index, rows] of counts.entries()) tick(store, index / 2, rows);
        const { rows: held, lastSeq } = store.stats();
        const gone = lastSeq - held;
        for (let first = 0; first * 2 < counts.length; first++) {
          const seqsBefore = counts.slice(0, first * 2).reduce((sum, count) => sum + count, 0);
          const kept = counts.slice(first * 2, first * 2 + 2).reduce((sum, count) => sum + count, 0);
          const expected = Math.min(kept, Math.max(0, gone - seqsBefore));
          const { lost } = store.ask("lost", { fromAt: at(first), toAt: at(first + 0.9), lateMs: 0 });
          expect(lost).toEqual(expected === 0 ? {} : { "rows.evicted": expected });
        }
      }),
      { numRuns: 25 },
    );
  });
});

describe("what is in no file yet", () => {
  test("is told too", async () => {
    using store = open();
    tick(store, 0, 10, { "rows.offered": 14, "rows.throttled.window": 4 });
    const pending = [
      { at: at(0), name: "rows.throttled.window", value: 2 },
      { at: at(1), name: "rows.lost.disk_full", value: 500 },
      { at: at(1), name: "rows.offered", value: 500 },
      { at: at(9), name: "rows.lost.disk_full", value: 1 },
    ];
    const failing = { ...store, pendingMinutes: () => pending };
    await using queries = openQueries({ store: failing });
    const range = { fromAt: at(0), toAt: at(2), lateMs: 0 };
    expect(await queries.lost(range)).toEqual({
      sinceAt: at(0),
      lost: { "rows.throttled.window": 6, "rows.lost.disk_full": 500 },
    });
    expect(withPending({ lost: {} }, pending, { fromAt: at(9) }).lost).toEqual({ "rows.lost.disk_full": 1 });
  });

  test("is what a store counted that could not write", async () => {
    const dir = join(root, "busy");
    using store = open({ dir });
    tick(store, 0, 10);
    await using queries = openQueries({ store });
    const other = openDatabase({ path: join(dir, "fovea.db") });
    other.exec("BEGIN IMMEDIATE");
    tick(store, 2, 30);
    expect(store.pendingMinutes()).toContainEqual({ at: at(2), name: "rows.lost.busy", value: 30 });
    expect((await queries.lost({ fromAt: at(2) })).lost).toEqual({ "rows.lost.busy": 30 });
    expect((await queries.lost({ fromAt: at(4) })).lost).toEqual({});
    expect((await queries.lost({})).lost).toEqual({ "rows.lost.busy": 30 });
    other.close();
    tick(store, 3, 1);
    expect(store.pendingMinutes()).toEqual([]);
    expect((await queries.lost({ fromAt: at(2) })).lost).toEqual({ "rows.lost.busy": 30 });
  });

  test("is asked of memory where there is no disk", async () => {
    const dir = join(root, "no-directory");
    writeFileSync(dir, "");
    using store = open({ dir });
    tick(store, 3, 10, { "rows.offered": 14, "rows.throttled.window": 4 });
    await using queries = openQueries({ store });
    const lost = { "rows.throttled.window": 4 };
    expect(await queries.lost({ fromAt: at(3) })).toEqual({ sinceAt: at(3), lost });
    expect(await queries.lost({})).toEqual({ lost });
    expect(queries.facts().started).toBe(0);
  });
});
