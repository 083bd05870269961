// The ledger by minute: its sums are the totals, whatever happens to the disk.

import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import type { LedgerDeltas } from "../src/store/ledger.ts";
import type { MinuteCount } from "../src/store/minutes.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { flow, flows, startAt } from "./store.flows.ts";

const root = mkdtempSync(join(tmpdir(), "fovea-minutes-"));
afterAll(() => rmSync(root, { recursive: true }));

const minutesIn = (dir: string): readonly MinuteCount[] => {
  const database = openDatabase({ path: join(dir, "fovea.db"), readonly: true });
  try {
    return database
      .prepare("SELECT at, name, value FROM ledger_minutes ORDER BY at, name")
      .all() as MinuteCount[];
  } finally {
    database.close();
  }
};

function sumsOf(counts: readonly MinuteCount[]): Readonly<Record<string, number>> {
  const sums: Record<string, number> = {};
  for (const { name, value } of counts) sums[name] = (sums[name] ?? 0) + value;
  return Object.fromEntries(Object.entries(sums).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

const minute = 60_000;

describe("the ledger by minute", () => {
  test("tells when something was kept, and when it was not", () => {
    const dir = join(root, "when");
    const store = openStore({ dir, bytesMax: 2 ** 20, ageMaxMs: 1e12 });
    store.append({ rows: flows(3), at: startAt + 1000, ledger: { "rows.offered": 3 } });
    store.append({
      rows: [],
      at: startAt + 59_999,
      ledger: { "rows.offered": 7, "rows.throttled.window": 7 },
    });
    store.append({ rows: [flow(4)], at: startAt + 3 * minute, ledger: { "rows.offered": 1 } });
    store.close();
    expect(minutesIn(dir)).toEqual([
      { at: startAt, name: "rows.kept", value: 3 },
      { at: startAt, name: "rows.offered", value: 10 },
      { at: startAt, name: "rows.throttled.window", value: 7 },
      { at: startAt + 3 * minute, name: "rows.kept", value: 1 },
      { at: startAt + 3 * minute, name: "rows.offered", value: 1 },
    ]);
  });

  test("sums up to the totals after any appends and restarts, with a clock that jumps", () => {
    const step = fc.record({
      rows: fc.nat(40),
      throttled: fc.nat(20),
      jumpMs: fc.constantFrom(0, 500, minute, -60 * minute, 24 * 60 * minute),
      restart: fc.boolean(),
    });
    let dirs = 0;
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const dir = join(root, `sum-${++dirs}`);
        let at = startAt;
        const open = () => openStore({ dir, bytesMax: 2 ** 20, ageMaxMs: 1e12, now: () => at });
        let store = open();
        for (const { rows, throttled, jumpMs, restart } of steps) {
          at += jumpMs;
          const ledger = { "rows.offered": rows + throttled, "rows.throttled.window": throttled };
          store.append({ rows: flows(rows), ledger });
          if (!restart) continue;
          store.close();
          store = open();
        }
        const totals = store.ledger();
        store.close();
        expect(sumsOf(minutesIn(dir))).toEqual(totals);
      }),
      { numRuns: 30 },
    );
  });

  test("keeps its minutes while there is no disk, and takes them there", () => {
    const dir = join(root, "no-disk");
    writeFileSync(dir, "");
    let at = startAt;
    const store: Store = openStore({
      dir,
      bytesMax: 2 ** 20,
      ageMaxMs: 1e12,
      now: () => at,
      retryMs: minute,
    });
    const offer = (count: number, more: LedgerDeltas = {}) =>
      store.append({ rows: flows(count), ledger: { "rows.offered": count, ...more } });
    offer(5);
    at += 30_000;
    offer(6, { "rows.offered": 8, "rows.filtered.excluded": 2 });
    expect(store.stats().mode).toBe("memory");
    rmSync(dir);
    at += 2 * minute;
    offer(1);
    const totals = store.ledger();
    expect(store.stats()).toMatchObject({ mode: "disk", rows: 12 });
    store.close();
    const minutes = minutesIn(dir);
    expect(sumsOf(minutes)).toEqual(totals);
    expect(minutes).toContainEqual({ at: startAt, name: "rows.filtered.excluded", value: 2 });
    expect(minutes).toContainEqual({ at: startAt, name: "rows.offered", value: 13 });
    // Written again, and kept then.
    expect(minutes).toContainEqual({ at: startAt + 2 * minute, name: "rows.kept", value: 12 });
  });

  test("stays within its share of the file, oldest minutes first", () => {
    const dir = join(root, "bounded");
    const store = openStore({ dir, bytesMax: 2 ** 20, ageMaxMs: 1e12 });
    for (let index = 0; index < 1000; index++)
      store.append({
        rows: [],
        at: startAt + index * minute,
        ledger: { "rows.offered": 1, "rows.filtered.x": 1 },
      });
    store.close();
    const minutes = minutesIn(dir);
    expect(minutes.length).toBeLessThanOrEqual(512);
    expect(minutes.length).toBeGreaterThan(400);
    expect(minutes.at(-1)?.at).toBe(startAt + 999 * minute);
  });
});
