// Ten million rows through a store of one million: the file stays as large as it may be, the newest rows are there.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FlowRecord } from "../../src/flow.ts";
import { totalOf } from "../../src/store/ledger.ts";
import { createRollups } from "../../src/store/rollups.ts";
import { openDatabase } from "../../src/store/sqlite.ts";
import { openStore } from "../../src/store/store.ts";
import { expectLaws } from "../store.contract.ts";
import { flow, startAt } from "../store.flows.ts";

const root = mkdtempSync(join(tmpdir(), "fovea-retention-"));
afterAll(() => rmSync(root, { recursive: true }));

const rows = 10_000_000;
const batchRows = 20_000;
/** Room for about a million rows and the rollups beside them. */
const bytesMax = 96 * 2 ** 20;

const sizeOf = (dir: string, name: string): number => statSync(join(dir, name)).size;

test("ten million rows through a store of a million", () => {
  const dir = join(root, "data");
  let at = startAt;
  const parts = [createRollups({ keysMax: 1000, minuteAgeMaxMs: 1e12, hourAgeMaxMs: 1e12, now: () => at })];
  using store = openStore({ dir, bytesMax, ageMaxMs: 1e12, now: () => at, parts });
  const batch = Array.from({ length: batchRows }, (_, index) => flow(index));
  const full: number[] = [];
  const held: number[] = [];
  for (let done = 0; done < rows; done += batchRows) {
    at += 4000; // 5,000 a second.
    const fresh = batch.map((record): FlowRecord => ({ ...record, startAt: at - 500, endAt: at }));
    const { kept } = store.append({ rows: fresh, ledger: { "rows.offered": batchRows } });
    expect(kept).toBe(batchRows);
    if (done < 2_000_000) continue;
    full.push(sizeOf(dir, "fovea.db"));
    expect(sizeOf(dir, "fovea.db") + sizeOf(dir, "fovea.db-wal")).toBeLessThanOrEqual(bytesMax);
    held.push(store.stats().rows);
  }
  // Flat, but for the last pages of its bound; the log beside it may come and go.
  expect(Math.max(...full) / Math.min(...full)).toBeLessThan(1.002);
  expect(Math.min(...held)).toBeGreaterThan(800_000);
  expect(Math.max(...held) / Math.min(...held)).toBeLessThan(1.1);
  // The oldest row is the one that so many later ones have left: none is missing between it and the newest.
  const { rows: stored, lastSeq, oldestAt, newestAt } = store.stats();
  expect(lastSeq).toBe(rows);
  const [oldest] = store.queryFlows({ order: "oldest", limit: 1 }).flows;
  expect(oldest?.seq).toBe(rows - stored + 1);
  expect(oldest?.endAt).toBe(startAt + 4000 * Math.ceil((oldest?.seq ?? 0) / batchRows));
  expect(oldestAt).toBe(oldest?.endAt ?? 0);
  expect(newestAt).toBe(at);
  expect(totalOf(store.ledger(), "rows.evicted")).toBe(rows - stored);
  expectLaws(store);
  store.close();
  const database = openDatabase({ path: join(dir, "fovea.db"), readonly: true });
  expect(database.pragma("integrity_check", { simple: true })).toBe("ok");
  expect(database.prepare("SELECT sum(records) FROM rollup_minutes").pluck().get()).toBe(rows);
  database.close();
}, 900_000);
