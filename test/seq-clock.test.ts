// The clock of rows: when each was stored, whatever the batches say.

import { expect, test } from "bun:test";
import { createSeqClock } from "../src/store/seq-clock.ts";

test("knows the rows since the file was opened, and no others", () => {
  const clock = createSeqClock();
  expect(clock.storedAt(1)).toBeUndefined();
  clock.restart(100);
  clock.mark(100, 1000);
  clock.mark(110, 2000);
  clock.mark(110, 3000);
  clock.mark(120, 4000);
  expect([100, 101, 110, 111, 120, 121].map(clock.storedAt)).toEqual([
    undefined,
    2000,
    2000,
    4000,
    4000,
    undefined,
  ]);
  expect([1000, 2000, 2001, 4000, 4001].map(clock.seqAt)).toEqual([undefined, undefined, 111, 111, 121]);
  clock.restart(0);
  expect(clock.storedAt(120)).toBeUndefined();
});

test("stays bounded, and gets coarser instead", () => {
  const clock = createSeqClock();
  clock.restart(0);
  const writes = 100_000;
  for (let write = 1; write <= writes; write += 1) clock.mark(10 * write, 1000 * write);
  for (const write of [1, 777, 50_000, 99_999]) {
    const at = clock.storedAt(10 * write) ?? 0;
    expect(at).toBeGreaterThanOrEqual(1000 * write);
    expect(at - 1000 * write).toBeLessThan((1000 * writes) / 1000);
  }
  expect(clock.storedAt(10 * writes)).toBe(1000 * writes);
});
