// All parts of the history together, in the smallest store that may be: nothing stands still, nothing is lost.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRollups } from "../src/store/rollups.ts";
import { createSamples } from "../src/store/samples.ts";
import { openStore } from "../src/store/store.ts";
import { createStoredSummaries } from "../src/store/summaries.ts";
import { expectLaws } from "./store.contract.ts";
import { flows, startAt } from "./store.flows.ts";

const root = mkdtempSync(join(tmpdir(), "fovea-small-"));
afterAll(() => rmSync(root, { recursive: true }));

const minute = 60_000;
const bytesMax = 2 ** 20;

test("twenty hours in a store of 1 MiB", () => {
  const dir = join(root, "data");
  let at = startAt;
  const rollups = createRollups({
    ...{ keysMax: 1000, minuteAgeMaxMs: 1e12, hourAgeMaxMs: 1e12 },
    now: () => at,
  });
  const samples = createSamples({ ageMaxMs: 1e12, seriesMax: 1000 });
  const summaries = createStoredSummaries({ ageMaxMs: 1e12 });
  using store = openStore({
    ...{ dir, bytesMax, ageMaxMs: 1e12, now: () => at },
    parts: [rollups, samples, summaries],
  });
  let lost = 0;
  for (let step = 0; step < 60 * 20; step++) {
    at += minute;
    const series = Array.from({ length: 200 }, (_, index) => ({
      name: "counter",
      labels: { series: String(index) },
      value: step * index,
    }));
    samples.add({ at, series });
    const counts = { rows: 5, packets: 50, bytes: 5000 };
    summaries.add([{ startAt: at - 1000, endAt: at, ...counts, by: [] }]);
    const rows = flows(1200, step * 40).map((record) => ({ ...record, startAt: at - 900, endAt: at }));
    // More rows than one transaction of so small a store takes.
    const some = step % 60 === 0 ? rows : rows.slice(0, 40);
    lost += store.append({ rows: some, at, ledger: { "rows.offered": some.length } }).lost;
  }
  expect(lost).toBe(0);
  expect(store.stats().errors).toEqual({});
  expectLaws(store);
  const size = statSync(join(dir, "fovea.db")).size + statSync(join(dir, "fovea.db-wal")).size;
  expect(size).toBeLessThanOrEqual(bytesMax);
  const facts = rollups.facts();
  expect(facts.lost).toBe(0);
  expect(facts.pendingMinutes).toBeLessThanOrEqual(3);
  expect(facts.oldestHourAt).toBeLessThan(at - 60 * minute);
  expect(samples.facts()).toMatchObject({ pendingSteps: 0, lost: [] });
  expect(samples.facts().samples).toBeGreaterThan(1000);
}, 60_000);
