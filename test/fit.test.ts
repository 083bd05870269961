// A store that is opened with a lower bound: it gets smaller with all its parts, in bounded steps, and loses no row.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { StoreTooLargeError } from "../src/store/failure.ts";
import { type Fitting, fitFor } from "../src/store/fit.ts";
import { budgetOf, bytesMaxFor } from "../src/store/retention.ts";
import { createRollups } from "../src/store/rollups.ts";
import { createSamples } from "../src/store/samples.ts";
import { createSinkStates } from "../src/store/sink-states.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { createStoredSummaries } from "../src/store/summaries.ts";
import { append, expectLaws } from "./store.contract.ts";
import { flows, startAt } from "./store.flows.ts";

setDefaultTimeout(120_000);

const mib = 2 ** 20;
const minute = 60_000;
const sink = { sink: "far", signal: "flows" } as const;

const root = mkdtempSync(join(tmpdir(), "fovea-fit-"));
afterAll(() => rmSync(root, { recursive: true }));

let dirs = 0;
const freshDir = (): string => join(root, `${++dirs}`);

function openAll(dir: string, bytesMax: number, clock: { at: number }) {
  const now = () => clock.at;
  const ages = { minuteAgeMaxMs: 1e12, hourAgeMaxMs: 1e12 };
  const rollups = createRollups({ keysMax: 1000, ...ages, now });
  const samples = createSamples({ ageMaxMs: 1e12, seriesMax: 1000 });
  const summaries = createStoredSummaries({ ageMaxMs: 1e12 });
  const sinks = createSinkStates();
  sinks.declare([{ ...sink, start: "oldest", fed: false }]);
  const parts = [rollups, summaries, samples, sinks];
  const store = openStore({ dir, bytesMax, ageMaxMs: 1e12, now, parts });
  const tick = (step: number, rowCount: number) => {
    clock.at += minute;
    const at = clock.at;
    const series = Array.from({ length: 300 }, (_, index) => ({
      name: "counter",
      labels: { series: String(index) },
      value: ((step * 7919 + index * 104_729) % 1_000_003) / 7,
    }));
    samples.add({ at, series });
    const counts = { rows: 5, packets: 50, bytes: 5000 };
    summaries.add([{ startAt: at - 1000, endAt: at, ...counts, by: [] }]);
    const rows = flows(rowCount, step * 97).map((row) => ({ ...row, startAt: at - 900, endAt: at }));
    return append(store, rows, at);
  };
  return { store, rollups, samples, sinks, tick };
}

const fileBytes = (dir: string): number => statSync(join(dir, "fovea.db")).size;
const roomOf = (bytesMax: number): number => budgetOf(bytesMax).pagesMax * 4096;

function checkFile(dir: string): unknown {
  const database = openDatabase({ path: join(dir, "fovea.db"), readonly: true });
  try {
    return database.pragma("integrity_check", { simple: true });
  } finally {
    database.close();
  }
}

const largeMax = 8 * mib;
const large = freshDir();
const closedAt = { at: startAt };
beforeAll(() => {
  const { store, tick } = openAll(large, largeMax, closedAt);
  for (let step = 0; step < 160; step++) tick(step, 600);
  store.close();
  expect(fileBytes(large)).toBeGreaterThan(5.5 * mib);
});

function largeCopy(): string {
  const dir = freshDir();
  cpSync(large, dir, { recursive: true });
  return dir;
}

/** Appends as ticks do until the file has its size; fails when it never gets there. */
function appendUntilItFits(dir: string, bytesMax: number, tick: (step: number) => { lost: number }): void {
  for (let step = 0; fileBytes(dir) > roomOf(bytesMax); step++) {
    expect(step).toBeLessThan(5000);
    expect(tick(step).lost).toBe(0);
    expect(fileBytes(dir)).toBeLessThanOrEqual(largeMax);
  }
}

describe("a lower bound", () => {
  test.each([1, 2, 3, 5])("of %p MiB, where there were 8", (share) => {
    const bytesMax = share * mib;
    const [dir, clock] = [largeCopy(), { ...closedAt }];
    const { store, rollups, samples, sinks, tick } = openAll(dir, bytesMax, clock);
    using _ = store;
    const before = store.stats().lastSeq;
    appendUntilItFits(dir, bytesMax, (step) => tick(1000 + step, 20));
    for (let step = 0; step < 20; step++) expect(tick(2000 + step, 100)).toMatchObject({ lost: 0 });
    const { bytes, rows, lastSeq, errors, recoveries } = store.stats();
    expect({ errors, recoveries }).toEqual({ errors: {}, recoveries: [] });
    expect(bytes.database + bytes.wal).toBeLessThanOrEqual(bytesMax);
    expect(checkFile(dir)).toBe("ok");
    // What the parts keep to their shares leaves rows more than half of the file.
    expect(rows).toBeGreaterThan((roomOf(bytesMax) * 0.3) / 100);
    expect(lastSeq).toBeGreaterThan(before);
    expectLaws(store);
    const { offered, written, lost, pending } = rollups.facts();
    expect(offered).toBe(written + lost + pending);
    expect(samples.facts().bytes).toBeLessThanOrEqual(roomOf(bytesMax) / 8);
    const state = sinks.state(sink);
    const counted = Object.values(state?.counts ?? {}).reduce((sum, count) => sum + count, 0);
    expect(state?.pending).toBe(rows);
    expect(state?.offered).toBe(counted + rows);
  });

  test("is kept to by an opening that has no parts, as far as rows go, and never endlessly", () => {
    const dir = largeCopy();
    using store = openStore({ dir, bytesMax: mib, ageMaxMs: 1e12, now: () => closedAt.at });
    for (let step = 0; Object.keys(store.stats().errors).length === 0; step++) {
      expect(step).toBeLessThan(5000);
      expect(append(store, flows(1, step), closedAt.at)).toMatchObject({ kept: 1, lost: 0 });
    }
    const smallest = fileBytes(dir);
    for (let step = 0; step < 30; step++)
      expect(append(store, flows(500, step), closedAt.at)).toMatchObject({ kept: 500, lost: 0 });
    // It does with what it has, and rows come and go in that.
    expect(store.stats().rows).toBeGreaterThan(0);
    expect(fileBytes(dir)).toBeLessThanOrEqual(smallest + mib / 2);
    expect(store.stats().errors).toEqual({ STORE_TOO_LARGE: 1 });
    expectLaws(store);
  });

  test("is refused where the file may not become smaller, with the least that does", () => {
    const dir = largeCopy();
    const fixed = (bytesMax: number): Store =>
      openStore({ dir, bytesMax, ageMaxMs: 1e12, mayShrink: false, now: () => closedAt.at });
    const least = bytesMaxFor(fileBytes(dir));
    expect(() => fixed(least - 8192)).toThrow(StoreTooLargeError);
    expect(() => fixed(2 * mib)).toThrow(`Set store.bytesMax to ${least} at the least`);
    using store = fixed(least);
    const { "rows.kept": kept = 0, "rows.evicted.size": evicted = 0 } = store.ledger();
    expect(store.stats()).toMatchObject({ mode: "disk", rows: kept - evicted, errors: {} });
  });
});

test("the least bound for a file leaves it room, and one page less does not", () => {
  for (const pages of [1, 200, 1000, 24_575, 24_576, 24_577, 250_000]) {
    const bytesMax = bytesMaxFor(pages * 4096);
    expect(budgetOf(bytesMax).pagesMax).toBeGreaterThanOrEqual(pages);
    if (bytesMax > mib) expect(budgetOf(bytesMax - 8192).pagesMax).toBeLessThan(pages);
  }
});

describe("steps", () => {
  const none = { evictedBySize: 0, evictedByAge: 0 };

  function fitting(changes: Partial<Fitting>) {
    const calls: string[] = [];
    const told =
      <Result>(name: string, work: () => Result) =>
      () => {
        calls.push(name);
        return work();
      };
    const all: Fitting = {
      pages: () => ({ used: 100, total: 100 }),
      pagesMax: 50,
      partsDue: () => false,
      writeParts: () => undefined,
      evictRows: () => none,
      giveBack: () => false,
      wrote: () => undefined,
      ...changes,
    };
    const { writeParts, evictRows, giveBack } = all;
    const steps = {
      ...all,
      writeParts: told("parts", writeParts),
      evictRows: told("rows", evictRows),
      giveBack: told("back", giveBack),
    };
    return { calls, run: (msMax: number) => fitFor(msMax, steps) };
  }

  test("end where nothing can go", () => {
    const { calls, run } = fitting({});
    expect(run(60_000)).toBe("stuck");
    expect(calls).toEqual(["rows", "back"]);
  });

  test("pass over parts that have something else to do", () => {
    const { calls, run } = fitting({ partsDue: () => true });
    expect(run(60_000)).toBe("stuck");
    expect(calls.slice(-2)).toEqual(["rows", "back"]);
  });

  test("are parts, then rows, then pages, until the file fits", () => {
    let [used, total, due] = [100, 100, 3];
    const { calls, run } = fitting({
      pages: () => ({ used, total }),
      partsDue: () => due > 0,
      writeParts: () => {
        used -= 10;
        due--;
      },
      evictRows: () => {
        if (used <= 50) return none;
        used -= 10;
        return { ...none, evictedBySize: 5 };
      },
      giveBack: () => {
        total -= 25;
        return true;
      },
    });
    expect(run(60_000)).toBe("fits");
    expect(calls).toEqual(["parts", "parts", "parts", "rows", "rows", "rows", "back", "rows", "back"]);
  });

  test("are one when there is no time", () => {
    const { calls, run } = fitting({ evictRows: () => ({ ...none, evictedByAge: 1 }) });
    expect(run(0)).toBe("more");
    expect(calls).toEqual(["rows"]);
  });
});
