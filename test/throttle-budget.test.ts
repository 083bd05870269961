// The budgets of the throttle: never more than they allow is kept, whatever the load and however settings change.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { ThrottleSettings } from "../src/throttle.ts";
import { windowMax } from "../src/throttle-window.ts";
import { anySettings, anyStep, anySteps, rig, settings } from "./throttle.rig.ts";

const shareOf = ({ rate, reserve }: ThrottleSettings): number => Number((rate * reserve).toPrecision(12));

type Rated = { readonly rate: number };
type Allowance = Pick<ThrottleSettings, "mode" | "window" | "intervalMs" | "tickMs">;

/** The most that a budget may let pass within `spanMs`, which is no longer than its window. */
function budgetOf({ mode, window, intervalMs, rate, tickMs = 0 }: Allowance & Rated, spanMs: number): number {
  if (rate === 0) return 0;
  if (mode === "window") return Math.ceil(rate * window);
  const usual = tickMs > intervalMs ? Math.ceil((2 * rate * tickMs) / intervalMs) : 2 * rate;
  return Math.max(1, Math.min(usual, rate * window)) + (spanMs / intervalMs) * rate;
}

const reserveOf = (given: ThrottleSettings, spanMs: number): number =>
  budgetOf({ ...given, rate: shareOf(given) }, spanMs);

const rounding = 1e-6; // Of a bucket that was refilled many times.

/** From one step to the next. */
type Stay = { readonly ms: number; readonly settings: ThrottleSettings; readonly kept: number };

describe("never more than the budget is kept", () => {
  test("in as many intervals as the window has", () => {
    fc.assert(
      fc.property(anySettings, anySteps, (given, steps) => {
        const { clock, offer } = rig(given);
        const keptIn = new Map<number, number>();
        for (const { passedMs, offered, record } of steps) {
          clock.ms += passedMs;
          const interval = Math.floor(clock.ms / given.intervalMs);
          keptIn.set(interval, (keptIn.get(interval) ?? 0) + offer(offered, record));
        }
        const spanMs = given.window * given.intervalMs;
        for (const first of keptIn.keys()) {
          let kept = 0;
          for (const [interval, count] of keptIn)
            if (interval >= first && interval < first + given.window) kept += count;
          expect(kept).toBeLessThanOrEqual(budgetOf(given, spanMs) + reserveOf(given, spanMs) + rounding);
        }
      }),
      { numRuns: 300 },
    );
  });

  test("by the larger of the budgets, while settings change", () => {
    const changing = fc.array(fc.tuple(fc.option(anySettings), anyStep), { maxLength: 60 });
    fc.assert(
      fc.property(anySettings, changing, (first, steps) => {
        const { throttle, clock, offer } = rig(first);
        const stays: Stay[] = [];
        let inForce: ThrottleSettings = first;
        for (const [next, { passedMs, offered, record }] of steps) {
          clock.ms += passedMs;
          inForce = next ?? inForce;
          if (next !== null) throttle.apply(inForce);
          stays.push({ ms: clock.ms, settings: inForce, kept: offer(offered, record) });
        }
        for (let from = 0; from < stays.length; from++) checkSpans(stays.slice(from));
      }),
      { numRuns: 300 },
    );
  });

  /** All spans from the first stay that lie within each of the windows that were in force in them. */
  function checkSpans(stays: readonly Stay[]): void {
    let [shortestMs, documented, reserve, kept, smooth] = [Number.POSITIVE_INFINITY, 0, 0, 0, false];
    const startMs = stays[0]!.ms;
    for (const { ms, settings, kept: keptHere } of stays) {
      shortestMs = Math.min(shortestMs, (settings.window - 1) * settings.intervalMs);
      if (ms - startMs > shortestMs) return;
      documented = Math.max(documented, budgetOf(settings, 0));
      reserve = Math.max(reserve, reserveOf(settings, 0));
      smooth ||= settings.mode === "smooth";
      kept += keptHere;
      // Buckets refill while time passes, at the rates in force: both of them by 20 each half second at most.
      const refilled = smooth ? ((ms - startMs) / 500) * 20 * 2 : 0;
      expect(kept).toBeLessThanOrEqual(documented + reserve + refilled + rounding);
    }
  }
});

describe("apply", () => {
  test("of another rate lets what was kept stand where it stands", () => {
    const { throttle, clock, offer } = rig({ rate: 10, window: 3 });
    expect(offer(100)).toBe(30);
    clock.ms += 1000;
    throttle.apply({ ...settings, rate: 15, window: 3 });
    expect(offer(100)).toBe(15);
    clock.ms += 2000; // The first 30 have left the window, the 15 have not.
    expect(offer(100)).toBe(30);
    throttle.apply({ ...settings, rate: 5, window: 3 });
    expect(offer(100)).toBe(0);
  });

  test("of another window or interval counts all that was kept as kept just now", () => {
    for (const change of [{ window: 4 }, { intervalMs: 2000 }]) {
      const { throttle, clock, offer } = rig({ rate: 10, window: 3 });
      expect(offer(30)).toBe(30);
      clock.ms += 2000;
      const next = { ...settings, rate: 10, window: 3, ...change };
      throttle.apply(next);
      expect(offer(100)).toBe(10 * next.window - 30);
      clock.ms += next.intervalMs * next.window;
      expect(offer(100)).toBe(10 * next.window);
    }
  });

  test("of another mode knows what was kept", () => {
    const { throttle, clock, offer } = rig({ rate: 10, window: 3 });
    expect(offer(5)).toBe(5);
    throttle.apply({ ...settings, mode: "smooth", rate: 10, window: 3 });
    expect(offer(100)).toBe(15); // The burst of 20 less the 5.
    clock.ms += 1000;
    expect(offer(100)).toBe(10);
    throttle.apply({ ...settings, rate: 10, window: 3 });
    expect(offer(100)).toBe(0);
    clock.ms += 2000;
    expect(offer(100)).toBe(20);
  });

  test("in mode smooth goes on with the tokens that are there, as far as they fit", () => {
    const { throttle, clock, offer } = rig({ mode: "smooth", rate: 10 });
    expect(offer(5)).toBe(5);
    throttle.apply({ ...settings, mode: "smooth", rate: 100 });
    expect(offer(100)).toBe(15);
    clock.ms += 1000;
    throttle.apply({ ...settings, mode: "smooth", rate: 10 });
    expect(offer(100)).toBe(20);
  });

  test("of enabled false keeps everything, and true again goes on", () => {
    const { throttle, offer } = rig({ rate: 10, window: 3 });
    expect(offer(100)).toBe(30);
    throttle.apply({ ...settings, enabled: false, rate: 10, window: 3 });
    expect(offer(100_000)).toBe(100_000);
    expect(throttle.facts()).toMatchObject({ enabled: false, active: false });
    throttle.apply({ ...settings, rate: 10, window: 3 });
    expect(offer(100)).toBe(0);
  });

  test("of what cannot work changes nothing and names it", () => {
    const { throttle, offer } = rig({ rate: 10, window: 3 });
    for (const [wrong, named] of [
      [{ rate: 0 }, "rate 0"],
      [{ rate: Number.NaN }, "rate NaN"],
      [{ window: 0 }, "window 0"],
      [{ window: 1.5 }, "window 1.5"],
      [{ window: windowMax + 1 }, `window ${windowMax + 1}`],
      [{ intervalMs: 0 }, "intervalMs 0"],
      [{ reserve: 1.5 }, "reserve 1.5"],
      [{ tickMs: Number.NaN }, "tickMs NaN"],
    ] as const)
      expect(() => throttle.apply({ ...settings, ...wrong })).toThrow(named);
    expect(offer(100)).toBe(30);
  });
});
