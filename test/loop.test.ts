// The tick: its pace, what it skips, how it stops.

import { expect, test } from "bun:test";
import { type Clock, createLoop, systemClock } from "../src/loop.ts";

/** Time passes only by sleeping and by what a turn takes. */
function fakeClock(): Clock & { nowMs: number; readonly slept: number[] } {
  return {
    nowMs: 1000,
    slept: [],
    now() {
      return this.nowMs;
    },
    sleep(ms, signal) {
      if (signal.aborted) return Promise.resolve();
      this.slept.push(ms);
      this.nowMs += ms;
      return Promise.resolve();
    },
  };
}

/** Runs as many turns as `takesMs` has entries, each taking that long. */
async function turns(takesMs: readonly number[], tickMs: () => number) {
  const clock = fakeClock();
  const stop = new AbortController();
  const starts: number[] = [];
  const loop = createLoop({
    clock,
    tickMs,
    tick: () => {
      starts.push(clock.nowMs - 1000);
      clock.nowMs += takesMs[starts.length - 1] ?? 0;
      if (starts.length === takesMs.length) stop.abort();
      return Promise.resolve();
    },
  });
  await loop.run(stop.signal);
  return { starts, facts: loop.facts(), slept: clock.slept };
}

test("turns start at a fixed pace, the first at once, however long each takes", async () => {
  const { starts, facts, slept } = await turns([10, 40, 0, 99], () => 100);
  expect(starts).toEqual([0, 100, 200, 300]);
  expect(slept).toEqual([90, 60, 100]);
  expect(facts).toEqual({ ticks: 4, skipped: 0, lastTickSeconds: 0.099 });
});

test("a turn that is too long makes the ones that it covers fall out, counted; none is made up for", async () => {
  const { starts, facts } = await turns([350, 100, 101, 0], () => 100);
  expect(starts).toEqual([0, 400, 500, 700]);
  expect(facts).toMatchObject({ ticks: 4, skipped: 3 + 1 });
});

test("the pace can change while the loop runs", async () => {
  let asked = 0;
  const { starts } = await turns([0, 0, 0, 0], () => (++asked > 4 ? 500 : 100));
  expect(starts[1]).toBe(100);
  expect((starts[3] ?? 0) - (starts[2] ?? 0)).toBe(500);
});

test("turns never overlap", async () => {
  const stop = new AbortController();
  let inside = 0;
  let most = 0;
  let count = 0;
  const loop = createLoop({
    tickMs: () => 1,
    tick: async () => {
      inside += 1;
      most = Math.max(most, inside);
      await Bun.sleep(5);
      inside -= 1;
      count += 1;
      if (count === 5) stop.abort();
    },
  });
  await loop.run(stop.signal);
  expect([most, loop.facts().ticks]).toEqual([1, 5]);
  expect(loop.facts().skipped).toBeGreaterThan(0);
});

test("what a turn throws ends the loop", async () => {
  const loop = createLoop({
    clock: fakeClock(),
    tickMs: () => 100,
    tick: () => Promise.reject(new Error("store is gone")),
  });
  expect(loop.run(new AbortController().signal)).rejects.toThrow("store is gone");
  await Bun.sleep(0);
});

test("a stop ends the sleep between turns at once", async () => {
  const stop = new AbortController();
  const loop = createLoop({ tickMs: () => 60_000, tick: () => Promise.resolve() });
  const done = loop.run(stop.signal);
  while (loop.facts().ticks === 0) await Bun.sleep(0);
  const stoppedAt = performance.now();
  stop.abort();
  await done;
  expect(performance.now() - stoppedAt).toBeLessThan(10_000);
});

test("a loop that is stopped before it starts does nothing", async () => {
  const loop = createLoop({ tickMs: () => 1, tick: () => Promise.reject(new Error("ran")) });
  await loop.run(AbortSignal.abort());
  expect(loop.facts().ticks).toBe(0);
});

test("the signal of a turn aborts when its time is over, and when the loop stops", async () => {
  const stop = new AbortController();
  const reasons: string[] = [];
  const loop = createLoop({
    tickMs: () => 5,
    tick: (signal) =>
      new Promise((resolve) => {
        signal.addEventListener("abort", () => {
          reasons.push(String(signal.reason));
          resolve();
        });
        if (reasons.length === 1) stop.abort(new Error("stop"));
      }),
  });
  await loop.run(stop.signal);
  expect(reasons).toEqual(["Error: the tick was not done in 5 ms", "Error: stop"]);
});

test("a sleep of the system clock lasts and can be cut short", async () => {
  const clock = systemClock();
  const startMs = clock.now();
  await clock.sleep(20, new AbortController().signal);
  expect(clock.now() - startMs).toBeGreaterThanOrEqual(19);
  await clock.sleep(60_000, AbortSignal.abort());
  expect(clock.now() - startMs).toBeLessThan(30_000);
});
