// The throttle: which flow records are kept, by the documented moving average or by a token bucket.

import { printDuration } from "./config-units.ts";
import type { FlowRecord } from "./flow.ts";
import { type BudgetPlan, changedBudget, createBudget, limitOf, spend, useOf } from "./throttle-budget.ts";
import { createSummaries, createTally, type ThrottleSummary } from "./throttle-summary.ts";
import { windowMax } from "./throttle-window.ts";

export type ThrottleSettings = {
  readonly enabled: boolean;
  readonly mode: "window" | "smooth";
  /** Records an interval. */
  readonly rate: number;
  /** Intervals that the average is taken over. */
  readonly window: number;
  readonly intervalMs: number;
  /** Share of the budget, 0 to 1, that stands beside it for records that matter. */
  readonly reserve: number;
  /** Whether the caller logs a status line an interval. */
  readonly print: boolean;
  /** How far apart records come, all of that time at once; absent where each comes when it is seen. */
  readonly tickMs?: number;
};

/** Why a record is not kept: the mode's budget is spent; `reserve`: it matters, and the reserve is spent as well. */
export type ThrottleReason = "window" | "smooth" | "reserve";

export type ThrottleFacts = Omit<ThrottleSettings, "tickMs"> & {
  /** The most records at once: those of a whole window, or the burst of the bucket. Without the reserve. */
  readonly limit: number;
  /** Records kept an interval, averaged over the window. Without the reserve. */
  readonly rateNow: number;
  /** Spent part of the limit, 0 to 1. */
  readonly windowUse: number;
  /** Spent part of the reserve, 0 to 1; absent without one. */
  readonly reserveUse?: number;
  /** Whether a record was thrown away in this interval or the last one. */
  readonly active: boolean;
  /** Number of the interval: a new one is due a new status line. */
  readonly interval: number;
};

export type Throttle = {
  /** Undefined when the record is kept, else why not. Constant time. `atMs` is of `elapsedMs`, by default now. */
  admit(record: FlowRecord, atMs?: number): ThrottleReason | undefined;
  /** For records that came at once: reading the clock costs as much as all the rest of `admit`. */
  elapsedMs(): number;
  /** Of intervals that ended; with `now` also of the one that goes on, which may then leave a further one. */
  takeSummaries(options?: { readonly now?: boolean }): readonly ThrottleSummary[];
  /** From the next record on. What was kept so far goes on to count: see `changedBudget`. */
  apply(settings: ThrottleSettings): void;
  facts(): ThrottleFacts;
};

const RST = 4;

/** Records that the reserve is for: what goes wrong on the network must not drown in what goes well. */
export const matters = ({ verdict, tcpFlags, dnsError }: FlowRecord): boolean =>
  verdict === "dropped" || (tcpFlags & RST) !== 0 || dnsError !== undefined;

function check({ rate, window, intervalMs, reserve, tickMs = 0 }: ThrottleSettings): void {
  const wrong = [
    rate > 0 && Number.isFinite(rate) ? "" : `rate ${rate}, which is not above 0`,
    Number.isInteger(window) && window >= 1 && window <= windowMax
      ? ""
      : `window ${window}, which is no whole number from 1 to ${windowMax}`,
    intervalMs > 0 && Number.isFinite(intervalMs) ? "" : `intervalMs ${intervalMs}, which is not above 0`,
    reserve >= 0 && reserve <= 1 ? "" : `reserve ${reserve}, which is not from 0 to 1`,
    tickMs >= 0 && Number.isFinite(tickMs) ? "" : `tickMs ${tickMs}, which is below 0`,
  ].filter((text) => text !== "");
  if (wrong.length > 0) throw new RangeError(`the throttle cannot work with ${wrong.join(" and ")}`);
}

// 3 x 0.1 is 0.30000000000000004, and the window would keep one record too many.
const reservePlan = (settings: ThrottleSettings): BudgetPlan => ({
  ...settings,
  rate: Number((settings.rate * settings.reserve).toPrecision(12)),
});

type Clocks = { readonly elapsedMs: () => number; readonly now: () => number };

/** Numbers the intervals, and sums up what was thrown away in each. */
function createIntervals({ elapsedMs, now }: Clocks, startIntervalMs: number) {
  const tally = createTally();
  const summaries = createSummaries();
  let intervalMs = startIntervalMs;
  let [number, endMs, startAt] = [0, 0, 0];
  let lossyNumber = Number.NEGATIVE_INFINITY;

  const begin = (atMs: number) => {
    number = Math.floor(atMs / intervalMs);
    endMs = (number + 1) * intervalMs;
    startAt = Math.round(now() - (atMs - number * intervalMs));
  };
  const summarise = () => {
    const counts = tally.take();
    if (counts !== undefined) summaries.add({ startAt, endAt: startAt + Math.round(intervalMs), ...counts });
  };
  const lossy = () => number - lossyNumber <= 1;

  begin(elapsedMs());
  return {
    /** The interval that the time has ended leaves its summary. */
    moveTo(atMs: number): void {
      if (atMs < endMs) return;
      summarise();
      begin(atMs);
    },
    number: () => number,
    lose(record: FlowRecord): void {
      tally.add(record, 1);
      lossyNumber = number;
    },
    /** Whether a record was lost to this interval or the last one. */
    lossy,
    resize(nextMs: number, atMs: number): void {
      if (nextMs === intervalMs) return;
      summarise();
      const wasLossy = lossy();
      intervalMs = nextMs;
      begin(atMs);
      lossyNumber = wasLossy ? number : Number.NEGATIVE_INFINITY;
    },
    take(unfinished: boolean): readonly ThrottleSummary[] {
      if (unfinished) summarise();
      return summaries.take();
    },
  };
}

/** The monotonic clock alone decides; the wall clock gives the times in summaries. */
export function createThrottle(options: { readonly settings: ThrottleSettings } & Clocks): Throttle {
  const { elapsedMs } = options;
  let { settings } = options;
  check(settings);
  const intervals = createIntervals(options, settings.intervalMs);
  const start = { atMs: elapsedMs(), interval: intervals.number() };
  let documented = createBudget(settings, start);
  // Kept also while its share is 0, so that it knows what it has spent when it gets one.
  let reserve = createBudget(reservePlan(settings), start);

  const moveTo = (atMs: number): number => {
    intervals.moveTo(atMs);
    documented.window.moveTo(intervals.number());
    reserve.window.moveTo(intervals.number());
    return atMs;
  };

  const fate = (record: FlowRecord, atMs: number): ThrottleReason | undefined => {
    if (spend(documented, atMs)) return undefined;
    if (settings.reserve === 0 || !matters(record)) return settings.mode;
    return spend(reserve, atMs) ? undefined : "reserve";
  };

  return {
    admit(record, atMs = elapsedMs()) {
      if (!settings.enabled) return undefined;
      const reason = fate(record, moveTo(atMs));
      if (reason !== undefined) intervals.lose(record);
      return reason;
    },
    elapsedMs,
    takeSummaries({ now: unfinished = false } = {}) {
      moveTo(elapsedMs());
      return intervals.take(unfinished);
    },
    apply(next) {
      check(next);
      const atMs = moveTo(elapsedMs());
      intervals.resize(next.intervalMs, atMs);
      settings = next;
      const now = { atMs, interval: intervals.number() };
      documented = changedBudget(documented, next, now);
      reserve = changedBudget(reserve, reservePlan(next), now);
    },
    facts() {
      const atMs = moveTo(elapsedMs());
      const { tickMs: _, ...told } = settings;
      return {
        ...told,
        limit: limitOf(documented),
        rateNow: documented.window.held / settings.window,
        windowUse: useOf(documented, atMs),
        ...(settings.reserve === 0 ? {} : { reserveUse: useOf(reserve, atMs) }),
        active: settings.enabled && intervals.lossy(),
        interval: intervals.number(),
      };
    },
  };
}

/** The words of the reference's `print_status`, for those who watch for them. */
export function statusLine({ mode, rate, window, intervalMs, limit, rateNow }: ThrottleFacts): string {
  const bound = mode === "window" ? `with window size of ${window}` : `with burst of ${limit}`;
  const now = `current rate is: ${Math.floor(rateNow)} per interval`;
  return `limit is ${rate.toFixed(2)} per ${printDuration(intervalMs)} ${bound}, ${now}`;
}
