// The documented keys of the throttle, read from whatever was written as the reference agent reads them.

import type { Config } from "./config-schema.ts";
import { printDuration } from "./config-units.ts";
import type { ThrottleSettings } from "./throttle.ts";
import { windowMax } from "./throttle-window.ts";

export const throttleKeys = [
  "throttle_enabled",
  "throttle_rate",
  "throttle_window",
  "throttle_interval",
  "throttle_print",
] as const;
export type ThrottleKey = (typeof throttleKeys)[number];

/** What is in force, in the form in which it may be written. */
export type ThrottleValues = {
  readonly throttle_enabled: boolean;
  readonly throttle_rate: number;
  readonly throttle_window: number;
  readonly throttle_interval: string;
  readonly throttle_print: boolean;
};

export const throttleDefaults: ThrottleValues = {
  throttle_enabled: true,
  throttle_rate: 5000,
  throttle_window: 300,
  throttle_interval: "1s",
  throttle_print: false,
};

/** Records an interval. */
const rateMax = 25_000;
/** What the reference's filter makes of a window of 1. */
const windowForOne = 5;

/** A value that a source gave. Whole numbers are bigints: a number has a fraction, or was written as if it had. */
export type WrittenValue = { readonly value: unknown; readonly file: string; readonly line?: number };

/** A value that is not in force as it was written. Never a reason to refuse a configuration. */
export type Rejection = {
  readonly file: string;
  readonly line?: number;
  readonly key: string;
  /** As JSON has it, cut; empty where there is no value to show. */
  readonly value: string;
  readonly message: string;
};

export function rejectionText({ file, line, key, value, message }: Rejection): string {
  const place = line === undefined ? file : `${file}:${line}`;
  return `${place}: ${[key, value, message].filter((part) => part !== "").join(" ")}`;
}

const shownMax = 80;

export function shownValue(value: unknown): string {
  const text = textOf(value);
  return text.length > shownMax ? `${text.slice(0, shownMax)}…` : text;
}

function textOf(value: unknown): string {
  if (typeof value === "bigint") return String(value);
  // 5000.0, and neither 5000, which would do, nor the null that JSON makes of what is infinite.
  if (typeof value === "number") return Number.isInteger(value) ? value.toFixed(1) : String(value);
  return String(JSON.stringify(value, (_, inner) => (typeof inner === "bigint" ? Number(inner) : inner)));
}

/** What a written value comes to: without a value, what stands below it is in force. */
type Reading<T> = { readonly value?: T; readonly problem?: string };

/** As the reference: a boolean or "true" in any case; everything else is false. */
export function readFlag(written: unknown): { readonly value: boolean; readonly problem?: string } {
  if (typeof written === "boolean") return { value: written };
  const word = typeof written === "string" ? written.toLowerCase() : "";
  if (word === "true" || word === "false") return { value: word === "true" };
  return { value: false, problem: "is neither true nor false" };
}

/** An integer, or text as Go's Atoi takes it: a sign, zeros in front, no spaces. More digits are no 64 bits. */
function countOf(written: unknown): bigint | undefined {
  if (typeof written === "bigint") return written;
  const digits = typeof written === "string" ? /^\+?0*(\d{1,19})$/.exec(written)?.[1] : undefined;
  return digits === undefined ? undefined : BigInt(digits);
}

function readRate(written: unknown): Reading<number> {
  const rate = countOf(written);
  if (rate === undefined) return { problem: "is no whole number" };
  return rate >= 1n && rate <= rateMax ? { value: Number(rate) } : { problem: `is not from 1 to ${rateMax}` };
}

function readWindow(written: unknown): Reading<number> {
  const window = countOf(written);
  if (window === undefined) return { problem: "is no whole number" };
  if (window < 1n || window > windowMax) return { problem: `is not from 1 to ${windowMax}` };
  return window === 1n
    ? { value: windowForOne, problem: "is too short to average over" }
    : { value: Number(window) };
}

const msPerUnit: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds of "3s", "1.5m" or "0.5h"; undefined when the text is none of these. */
function intervalMsOf(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)([smh])$/.exec(text);
  return match === null ? undefined : Math.round(Number(match[1]) * (msPerUnit[match[2] ?? ""] ?? 0));
}

function readInterval(written: unknown): Reading<string> {
  const ms = typeof written === "string" ? intervalMsOf(written) : undefined;
  if (typeof written !== "string" || ms === undefined)
    return { problem: 'is no interval; write a number and s, m or h: "1s", "1.5m", "0.5h"' };
  // The reference takes it, and its filter then never sleeps.
  if (ms < 1) return { problem: "is shorter than a millisecond" };
  return Number.isSafeInteger(ms) ? { value: written } : { problem: "is longer than can be counted" };
}

export type ThrottleRead = {
  readonly values: ThrottleValues;
  readonly rejected: readonly Rejection[];
};

/**
 * Records come once a tick, and no more than the budget of one window is kept of them: where the window is shorter than
 * the tick, the rate cannot be reached, however even the load is. With both defaults it is longer than any tick.
 */
function shortWindow(
  { throttle_window: window, throttle_interval: interval }: ThrottleValues,
  tickMs: number,
  deciding: ReadonlyMap<ThrottleKey, WrittenValue>,
): readonly Rejection[] {
  const windowMs = window * (intervalMsOf(interval) ?? Number.NaN);
  const key = deciding.has("throttle_window") ? "throttle_window" : "throttle_interval";
  const decision = deciding.get(key);
  if (decision === undefined || !(windowMs < tickMs)) return [];
  const percent = Number(((100 * windowMs) / tickMs).toPrecision(2));
  const message =
    `makes a window of ${printDuration(windowMs)} (${window} x ${interval}), shorter than the tick of ` +
    `${printDuration(tickMs)} in which records come: no more than ${percent}% of throttle_rate is kept; ` +
    "let it span several ticks";
  return [{ ...decision, key, value: shownValue(decision.value), message }];
}

/**
 * The first source that has a value which can be used decides, key by key. The keys beside throttle_enabled are read
 * only while that is true, as the reference does: what is written in them has no effect then, and is not judged.
 */
export function readThrottle(
  written: (key: ThrottleKey) => readonly WrittenValue[],
  tickMs: number,
): ThrottleRead {
  const rejected: Rejection[] = [];
  const deciding = new Map<ThrottleKey, WrittenValue>();
  const resolve = <T>(key: ThrottleKey, read: (value: unknown) => Reading<T>, fallback: T): T => {
    const found = written(key).map((given) => ({ given, ...read(given.value) }));
    const decision = found.find(({ value }) => value !== undefined);
    if (decision !== undefined) deciding.set(key, decision.given);
    const inForce = decision?.value ?? fallback;
    for (const { given, problem } of found) {
      if (problem === undefined) continue;
      const message = `${problem}; ${JSON.stringify(inForce)} is in force`;
      rejected.push({ ...given, key, value: shownValue(given.value), message });
    }
    return inForce;
  };
  const enabled = resolve("throttle_enabled", readFlag, throttleDefaults.throttle_enabled);
  if (!enabled) return { values: { ...throttleDefaults, throttle_enabled: false }, rejected };
  const values = {
    throttle_enabled: enabled,
    throttle_rate: resolve("throttle_rate", readRate, throttleDefaults.throttle_rate),
    throttle_window: resolve("throttle_window", readWindow, throttleDefaults.throttle_window),
    throttle_interval: resolve("throttle_interval", readInterval, throttleDefaults.throttle_interval),
    throttle_print: resolve("throttle_print", readFlag, throttleDefaults.throttle_print),
  };
  return { values, rejected: [...rejected, ...shortWindow(values, tickMs, deciding)] };
}

export function throttleSettings(
  values: ThrottleValues,
  { mode, reserve }: Pick<Config["throttle"], "mode" | "reserve">,
  tickMs: number,
): ThrottleSettings {
  const intervalMs = intervalMsOf(values.throttle_interval);
  if (intervalMs === undefined)
    throw new RangeError(`throttle_interval "${values.throttle_interval}" is no interval`);
  return {
    enabled: values.throttle_enabled,
    mode,
    rate: values.throttle_rate,
    window: values.throttle_window,
    intervalMs,
    reserve,
    print: values.throttle_print,
    tickMs,
  };
}
