// Stores with samples for the tests: what is asked of them, and what a plain model says.

import { expect } from "bun:test";
import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openReader } from "../src/store/query.ts";
import type { SampleStep } from "../src/store/sample-pending.ts";
import { querySamples, type SamplePoint } from "../src/store/sample-query.ts";
import { createSamples, type Samples } from "../src/store/samples.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { openStrings } from "../src/store/strings.ts";

const dirs: string[] = [];

/** A directory that `removeDirs` takes away. */
export function newDir(): string {
  const dir = mkdtempSync(join(tmpdir(), "fovea-samples-"));
  dirs.push(dir);
  return dir;
}

/** For the end of a test file. */
export function removeDirs(): void {
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true });
}

export const mib = 2 ** 20;
export const stepMs = 15_000;
export const startAt = Date.UTC(2026, 0, 1);
export const always = { fromAt: 0, toAt: 2 ** 50 };

export type World = {
  readonly dir: string;
  readonly samples: Samples;
  readonly store: Store;
};

type Bounds = { readonly ageMaxMs?: number; readonly seriesMax?: number; readonly bytesMax?: number };

export function openWorld(bounds: Bounds = {}, dir = newDir()): World {
  const { ageMaxMs = 1e12, seriesMax = 5000, bytesMax = 64 * mib } = bounds;
  const samples = createSamples({ ageMaxMs, seriesMax });
  return { dir, samples, store: openStore({ dir, bytesMax, ageMaxMs: 1e12, parts: [samples] }) };
}

/** Asks as another connection sees the file. */
export function ask<Answer>(
  dir: string,
  question: (reader: ReturnType<typeof openReader>) => Answer,
): Answer {
  const database = openDatabase({ path: join(dir, "fovea.db"), readonly: true });
  const strings = openStrings({ database, lastSeq: 0, oldestSeq: () => 0, stringsMax: 100 });
  try {
    return question(openReader({ database, generation: 0, strings, lastSeq: () => 0, scanMax: 1000 }));
  } finally {
    database.close();
  }
}

/** Appends until nothing is left to write, compact or remove; fails if that never happens. */
export function settle({ store, samples, dir }: World, at: number): void {
  for (let calls = 0, before = ""; ; calls += 1) {
    store.append({ rows: [], at });
    const now = JSON.stringify([
      samples.facts(),
      ask(dir, ({ database }) => database.pragma("data_version")),
    ]);
    const left = samples.facts().pendingSteps + leftovers(dir);
    if (left === 0 && now === before) return;
    before = now;
    if (calls > 5000) throw new Error(`still at work: ${now}`);
  }
}

export const tableCount = (dir: string, sql: string): number =>
  ask(dir, ({ database }) => Number(database.prepare(sql).pluck().get()));

/** Chunks that belong to no block. */
export const leftovers = (dir: string): number =>
  tableCount(dir, "SELECT count(*) FROM sample_chunks WHERE block NOT IN (SELECT id FROM sample_blocks)");

export const sample = (name: string, value: number, labels: Record<string, string> = {}) => ({
  name,
  labels,
  value,
});

export const values = (points: readonly SamplePoint[] | undefined): (number | null)[] =>
  (points ?? []).map(([, value]) => value);

/** The points of each series by the text of it, as they should be. */
export function expected(steps: readonly SampleStep[], { fromAt, toAt }: { fromAt: number; toAt: number }) {
  const all = new Map<string, [number, number | null][]>();
  let before = new Set<string>();
  for (const { at, series } of steps) {
    const now = new Set<string>();
    const add = (key: string, value: number | null) => {
      if (at >= fromAt && at < toAt) all.set(key, [...(all.get(key) ?? []), [at, value]]);
    };
    for (const { name, labels, value } of series) {
      const key = name + JSON.stringify(labels);
      now.add(key);
      add(key, value);
    }
    for (const key of before) if (!now.has(key)) add(key, null);
    before = now;
  }
  return Object.fromEntries([...all].sort(([a], [b]) => (a < b ? -1 : 1)));
}

export function answered(dir: string, range: { fromAt: number; toAt: number }) {
  const { series, complete } = ask(dir, (reader) =>
    querySamples(reader, { name: "*", ...range, seriesMax: 1000 }),
  );
  expect(complete).toBe(true);
  return Object.fromEntries(
    series
      .map(({ name, labels, points }) => [name + JSON.stringify(labels), points] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

/** The files as they stand on the disk, without the lock: what is there after the power was cut. */
export function copyOf(dir: string): string {
  const copy = newDir();
  for (const name of ["fovea.db", "fovea.db-wal"])
    if (existsSync(join(dir, name))) copyFileSync(join(dir, name), join(copy, name));
  return copy;
}
