// One budget of the throttle: a window that counts what was kept, and in mode smooth a bucket that decides.

import { type Bucket, createBucket } from "./throttle-bucket.ts";
import { createWindow, type Window } from "./throttle-window.ts";

export type BudgetPlan = {
  readonly mode: "window" | "smooth";
  /** Records an interval; 0 for a budget that has nothing to spend. */
  readonly rate: number;
  readonly window: number;
  readonly intervalMs: number;
  readonly tickMs?: number;
};

/** The window counts in both modes, so that a change of mode knows what was kept. */
export type Budget = { readonly plan: BudgetPlan; readonly window: Window; readonly bucket?: Bucket };

/** Monotonic time and the number of the interval that it lies in. */
export type Moment = { readonly atMs: number; readonly interval: number };

/** Records of two intervals; of two ticks where these are longer, because what came in a tick comes at once. */
const usualBurst = ({ rate, intervalMs, tickMs = 0 }: BudgetPlan): number =>
  tickMs > intervalMs ? Math.ceil((2 * rate * tickMs) / intervalMs) : 2 * rate;

// A bucket that never holds a whole token keeps nothing at all, where the window would keep one record.
const burstOf = (plan: BudgetPlan): number =>
  plan.rate === 0 ? 0 : Math.max(1, Math.min(usualBurst(plan), plan.rate * plan.window));

const bucketSize = (plan: BudgetPlan) => ({ ratePerMs: plan.rate / plan.intervalMs, burst: burstOf(plan) });

function withNewBucket(plan: BudgetPlan, window: Window, { atMs }: Moment): Budget {
  if (plan.mode === "window") return { plan, window };
  const size = bucketSize(plan);
  const level = Math.max(0, size.burst - window.held);
  return { plan, window, bucket: createBucket({ size, level, atMs }) };
}

/** `held` counts as kept just now. */
export function createBudget(plan: BudgetPlan, now: Moment, held = 0): Budget {
  const window = createWindow({ size: plan.window, interval: now.interval, held });
  return withNewBucket(plan, window, now);
}

/**
 * With the same window and interval, what was kept so far goes on to count where it stands. With another window or
 * interval, all of it counts as kept just now. A bucket that is made anew holds the burst less all of that. So no
 * change admits more than the larger of the two budgets.
 */
export function changedBudget(
  { plan: before, window, bucket }: Budget,
  plan: BudgetPlan,
  now: Moment,
): Budget {
  if (plan.window !== before.window || plan.intervalMs !== before.intervalMs)
    return createBudget(plan, now, window.held);
  if (bucket === undefined || plan.mode === "window") return withNewBucket(plan, window, now);
  bucket.resize(bucketSize(plan), now.atMs);
  return { plan, window, bucket };
}

/** Whether one more record fits; it then counts. The window must stand at the interval of that time. */
export function spend({ plan, window, bucket }: Budget, atMs: number): boolean {
  // As the reference compares: the divisor is always the whole window, also at the start.
  const spent = bucket === undefined ? window.held / plan.window >= plan.rate : !bucket.take(atMs);
  if (spent) return false;
  window.add();
  return true;
}

/** The most records at once: those of a whole window, or the burst. */
export const limitOf = ({ plan }: Budget): number =>
  plan.mode === "window" ? plan.rate * plan.window : burstOf(plan);

/** Spent part of the limit, 0 to 1. */
export function useOf(budget: Budget, atMs: number): number {
  const limit = limitOf(budget);
  const used = budget.bucket === undefined ? budget.window.held : limit - budget.bucket.level(atMs);
  return Math.min(1, used / limit);
}
