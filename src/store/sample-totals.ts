// How many samples were stored in a file, and how many of them it gave up: what the ordinals of samples stand on.

import type { Database } from "./sqlite.ts";

/** Why samples are in the file no more: retention, or bytes that could not be read. */
export type SampleGone = "age" | "size" | "damaged";

/** Names in the table `state`. All samples before the oldest in the file, and any between, are in one of the last. */
export const sampleNames = {
  stored: "samples",
  age: "samples.evicted.age",
  size: "samples.evicted.size",
  damaged: "samples.evicted.damaged",
} as const;

export type SampleTotals = {
  /** Up to the last block of the file. */
  readonly blocks: number;
  /** Ever, whether or not they are still there. */
  readonly stored: number;
  /** In a transaction, like `give`. */
  store(total: number): void;
  give(reason: SampleGone, samples: number): void;
};

export function openSampleTotals(database: Database): SampleTotals {
  const read = (sql: string, ...parameters: readonly string[]): number =>
    database
      .prepare<unknown[], number | null>(sql)
      .pluck()
      .get(...parameters) ?? 0;
  const put = database.prepare(
    "INSERT INTO state (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
  );
  const add = database.prepare(
    "INSERT INTO state (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
  );
  const blocks = read("SELECT total FROM sample_blocks ORDER BY id DESC LIMIT 1");
  return {
    blocks,
    stored: Math.max(blocks, read("SELECT value FROM state WHERE name = ?", sampleNames.stored)),
    store: (total) => void put.run(sampleNames.stored, total),
    give: (reason, samples) => void add.run(sampleNames[reason], samples),
  };
}

export type StepTotal = {
  readonly id: number;
  readonly total: number;
  /** About what the row takes in the file. */
  readonly bytes: number;
};

/** For steps that were written without. In several transactions, as the write-ahead log has a bound too. */
export function fillTotals({
  database,
  steps,
  bytesOnce,
}: {
  readonly database: Database;
  readonly steps: readonly StepTotal[];
  readonly bytesOnce: number;
}): void {
  const fill = database.prepare("UPDATE sample_steps SET total = ? WHERE id = ?");
  const totals = openSampleTotals(database);
  const some = database.transaction((first: number): number => {
    let next = first;
    for (let left = bytesOnce; left > 0 && next < steps.length; next++) {
      const { id, total, bytes } = steps[next] ?? { id: 0, total: 0, bytes: 0 };
      fill.run(total, id);
      totals.store(total);
      left -= bytes;
    }
    return next;
  });
  for (let next = 0; next < steps.length; ) {
    next = some(next);
    database.pragma("wal_checkpoint(PASSIVE)");
  }
}
