// Summaries of throttled intervals in the store.

import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { openReader } from "../src/store/query.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import { openStore } from "../src/store/store.ts";
import { openStrings } from "../src/store/strings.ts";
import { createStoredSummaries, querySummaries } from "../src/store/summaries.ts";
import type { ThrottleSummary } from "../src/throttle-summary.ts";

const summary = (second: number, rows = 3): ThrottleSummary => ({
  startAt: second * 1000,
  endAt: (second + 1) * 1000,
  rows,
  packets: rows * 10,
  bytes: rows * 1000,
  by: [
    { verdict: "forwarded", direction: "ingress", protocol: 6, rows, packets: rows * 10, bytes: rows * 1000 },
  ],
});

const root = mkdtempSync(join(tmpdir(), "fovea-summaries-"));
afterAll(() => rmSync(root, { recursive: true }));

let dirs = 0;

const withGroups = (second: number, groups: number): ThrottleSummary => ({
  ...summary(second),
  by: Array.from({ length: groups }, (_, group) => ({
    verdict: "forwarded",
    direction: "ingress",
    protocol: group,
    ...{ rows: 1_000_000 + second, packets: 123_456_789, bytes: 123_456_789_012 },
  })),
});

/** A sixty-fourth of what a store of 4 MiB leaves its file, of which a quarter is the log; and the two roots. */
const sharePages = (3 * 256) / 64 + 2;

/** What the table and its index take. */
function tablePages(dir: string): number {
  const database = openDatabase({ path: join(dir, "fovea.db"), readonly: true });
  try {
    const pages = database.prepare("SELECT count(*) FROM dbstat WHERE name LIKE 'summaries%'").pluck().get();
    return Number(pages);
  } finally {
    database.close();
  }
}

function openWith(ageMaxMs = 1e9, bytesMax = 4 * 1024 * 1024) {
  const dir = join(root, `${++dirs}`);
  const summaries = createStoredSummaries({ ageMaxMs });
  const store = openStore({ dir, bytesMax, ageMaxMs: 1e9, parts: [summaries] });
  const ask = (query: Parameters<typeof querySummaries>[1]) => {
    const database = openDatabase({ path: join(dir, "fovea.db"), readonly: true });
    const strings = openStrings({ database, lastSeq: 0, oldestSeq: () => 0, stringsMax: 100 });
    const reader = openReader({ database, generation: 0, strings, lastSeq: () => 0, scanMax: 1000 });
    try {
      return querySummaries(reader, query);
    } finally {
      database.close();
    }
  };
  return { summaries, store, ask, dir };
}

describe("summaries", () => {
  test("are written with the next append, newest first, and are found by their time", () => {
    const { summaries, store, ask } = openWith();
    using _ = store;
    summaries.add([summary(1), summary(2, 7)]);
    summaries.add([summary(5)]);
    store.append({ rows: [], at: 6000 });
    expect(ask({})).toEqual([summary(5), summary(2, 7), summary(1)]);
    expect(ask({ fromAt: 2500, toAt: 5000 })).toEqual([summary(2, 7)]);
    expect(ask({ limit: 1 })).toEqual([summary(5)]);
    store.append({ rows: [], at: 7000 });
    expect(ask({})).toHaveLength(3);
  });

  test("that are too old go, those behind a younger one stay", () => {
    const { summaries, store, ask } = openWith(10_000);
    using _ = store;
    summaries.add([summary(1), summary(2)]);
    store.append({ rows: [], at: 3000 });
    summaries.add([summary(100), summary(4)]); // The clock was set back between them.
    store.append({ rows: [], at: 20_000 });
    expect(ask({})).toEqual([summary(100), summary(4)]);
    expect(summaries.evicted).toBe(2);
  });

  test("wait in a bounded queue while there is no disk", () => {
    const summaries = createStoredSummaries({ ageMaxMs: 1e9 });
    summaries.add(Array.from({ length: 5000 }, (_, second) => summary(second)));
    expect(summaries.evicted).toBe(5000 - 4096);
  });

  test("stay within their share of the file", () => {
    const { summaries, store, ask, dir } = openWith();
    using _ = store;
    for (let second = 0; second < 2000; second += 100) {
      summaries.add(Array.from({ length: 100 }, (_, index) => summary(second + index)));
      store.append({ rows: [], at: second * 1000 });
    }
    const left = ask({ limit: 10_000 });
    expect(tablePages(dir)).toBeLessThanOrEqual(sharePages);
    expect(left.length).toBeGreaterThan(100);
    expect(left[0]).toEqual(summary(1999));
    expect(left.length + summaries.evicted).toBe(2000);
  });

  test("stay within it whatever they hold, a few groups or all", () => {
    const groups = fc.oneof(fc.constant(1), fc.nat(68), fc.constant(68));
    fc.assert(
      fc.property(fc.array(groups, { minLength: 40, maxLength: 120 }), (sizes) => {
        const { summaries, store, ask, dir } = openWith();
        using _ = store;
        for (const [second, size] of sizes.entries()) {
          summaries.add([withGroups(second, size)]);
          store.append({ rows: [], at: second * 1000 });
          expect(tablePages(dir)).toBeLessThanOrEqual(sharePages + 8); // What one transaction adds is yet to go.
        }
        const left = ask({ limit: 10_000 });
        expect(left[0]).toEqual(withGroups(sizes.length - 1, sizes.at(-1) ?? 0));
        expect(left.length + summaries.evicted).toBe(sizes.length);
      }),
      { numRuns: 8 },
    );
  });

  test("those of a file that was larger go, though none is added", () => {
    const { summaries, store, dir } = openWith(1e9, 16 * 1024 * 1024);
    for (let second = 0; second < 40; second++) {
      summaries.add([withGroups(second, 68)]);
      store.append({ rows: [], at: second * 1000 });
    }
    store.close();
    expect(tablePages(dir)).toBeGreaterThan(sharePages);
    const again = createStoredSummaries({ ageMaxMs: 1e9 });
    using smaller = openStore({ dir, bytesMax: 4 * 1024 * 1024, ageMaxMs: 1e9, parts: [again] });
    for (let at = 0; at < 20; at++) smaller.append({ rows: [], at: 40_000 + at });
    expect(tablePages(dir)).toBeLessThanOrEqual(sharePages);
    expect(again.evicted).toBeGreaterThan(10);
  });
});
