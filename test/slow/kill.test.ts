// kill -9 at any point under load: what a reader saw is there, the file is whole, every count adds up.

import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { totalOf } from "../../src/store/ledger.ts";
import { createRollups } from "../../src/store/rollups.ts";
import { createSamples } from "../../src/store/samples.ts";
import { openDatabase } from "../../src/store/sqlite.ts";
import { openStore } from "../../src/store/store.ts";
import { createStoredSummaries } from "../../src/store/summaries.ts";
import { expectLaws } from "../store.contract.ts";
import { startAt } from "../store.flows.ts";

const kills = 200;
const root = mkdtempSync(join(tmpdir(), "fovea-kill-"));
afterAll(() => rmSync(root, { recursive: true }));
const dir = join(root, "data");

type Seen = { readonly seq: number; readonly at: number };

/** Starts the load, kills it in or after the tick that its `lines`th line tells of; the last line that it wrote. */
async function runAndKill(seed: number, at: number, lines: number, spins: number): Promise<Seen> {
  const script = join(import.meta.dir, "kill-child.ts");
  const child = Bun.spawn([process.execPath, script, dir, String(seed), String(at)], {
    stdout: "pipe",
    stderr: "inherit",
  });
  let text = "";
  const decoder = new TextDecoder();
  for await (const bytes of child.stdout) {
    text += decoder.decode(bytes, { stream: true });
    if (text.split("\n").length <= lines || child.killed) continue;
    for (let spin = spins; spin > 0; spin--); // The kill falls anywhere in the next tick.
    child.kill("SIGKILL");
  }
  await child.exited;
  expect(child.signalCode).toBe("SIGKILL");
  const [seq = 0, time = at] = (text.split("\n").at(-2) ?? "").split(" ").map(Number);
  return { seq, at: time };
}

const read = <Row>(sql: string): Row[] => {
  const database = openDatabase({ path: join(dir, "fovea.db"), readonly: true });
  try {
    return database.prepare(sql).all() as Row[];
  } finally {
    database.close();
  }
};

function openAll(at: number) {
  const rollups = createRollups({
    ...{ keysMax: 50, minuteAgeMaxMs: 1e10, hourAgeMaxMs: 1e11 },
    now: () => at,
  });
  const samples = createSamples({ ageMaxMs: 1e10, seriesMax: 1000 });
  const parts = [rollups, samples, createStoredSummaries({ ageMaxMs: 1e10 })];
  const store = openStore({ dir, bytesMax: 4 * 2 ** 20, ageMaxMs: 1e12, now: () => at, parts });
  return { store, rollups, samples, [Symbol.dispose]: () => store.close() };
}

function checkAll(seen: Seen): void {
  expect(read("PRAGMA integrity_check")).toEqual([{ integrity_check: "ok" }]);
  using open = openAll(seen.at);
  const { store, rollups } = open;
  expect(store.stats()).toMatchObject({ mode: "disk", recoveries: [], ledgerRefused: 0 });
  expect(store.stats().lastSeq).toBeGreaterThanOrEqual(seen.seq);
  expectLaws(store);
  const [rows] = read<{ count: number; first: number; last: number }>(
    "SELECT count(*) AS count, min(seq) AS first, max(seq) AS last FROM flows",
  );
  expect(rows?.count).toBe(store.stats().rows);
  expect((rows?.last ?? 0) - (rows?.first ?? 0) + 1).toBe(rows?.count ?? 0);
  const totals = store.ledger();
  const minutes = read<{ name: string; value: number }>(
    "SELECT name, sum(value) AS value FROM ledger_minutes GROUP BY name ORDER BY name",
  );
  expect(Object.fromEntries(minutes.map(({ name, value }) => [name, value]))).toEqual(totals);
  const { offered, written, lost, pending } = rollups.facts();
  expect(written + lost + pending).toBe(offered);
  expect(offered).toBeLessThanOrEqual(totalOf(totals, "rows.offered"));
  // Before the last throttled interval was summed up it is only counted.
  const [summed] = read<{ rows: number | null }>("SELECT sum(rows) AS rows FROM summaries");
  expect(summed?.rows ?? 0).toBeLessThanOrEqual(totalOf(totals, "rows.throttled"));
}

describe("under load", () => {
  test(`survives ${kills} kills`, async () => {
    let at = startAt;
    let sumOfLost = 0;
    for (let round = 0; round < kills; round++) {
      const seen = await runAndKill(round + 1, at, 1 + ((round * 7) % 9), (round % 40) * 100_000);
      checkAll(seen);
      at = seen.at + 1000;
      sumOfLost += seen.seq;
    }
    // The load was one: rows came and went, minutes and blocks were written, intervals were throttled.
    expect(sumOfLost).toBeGreaterThan(0);
    using open = openAll(at);
    const totals = open.store.ledger();
    for (const name of ["rows.throttled", "rows.filtered", "rows.invalid", "rows.evicted"] as const)
      expect(totalOf(totals, name)).toBeGreaterThan(0);
    expect(open.rollups.facts().minuteRows).toBeGreaterThan(0);
    expect(open.samples.facts().samples).toBeGreaterThan(0);
    expect(read("SELECT count(*) AS count FROM sample_blocks")[0]).not.toEqual({ count: 0 });
    expect(read("SELECT count(*) AS count FROM summaries")[0]).not.toEqual({ count: 0 });
  }, 600_000);
});
