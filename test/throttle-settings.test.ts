// The documented keys of the throttle: what the reference agent takes is in force, and all else is told.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  type Rejection,
  readThrottle,
  rejectionText,
  type ThrottleKey,
  type ThrottleValues,
  throttleDefaults,
  throttleKeys,
  throttleSettings,
} from "../src/throttle-settings.ts";

type Written = Partial<Record<ThrottleKey, unknown>>;

/** Sources from the one that goes first; a source's file is its number, and a key's line its place. */
const readAt = (tickMs: number, ...sources: readonly Written[]) =>
  readThrottle(
    (key) =>
      sources.flatMap((source, at) =>
        key in source ? [{ value: source[key], file: `${at}`, line: throttleKeys.indexOf(key) + 1 }] : [],
      ),
    tickMs,
  );
const read = (...sources: readonly Written[]) => readAt(0, ...sources);

const keysOf = (rejected: readonly Rejection[]) => rejected.map(({ key }) => key);
const plain = { mode: "window", reserve: 0.2 } as const;

test("nothing written: the documented defaults", () => {
  expect(read()).toEqual({ values: throttleDefaults, rejected: [] });
  expect(throttleSettings(throttleDefaults, plain, 1000)).toEqual({
    enabled: true,
    mode: "window",
    rate: 5000,
    window: 300,
    intervalMs: 1000,
    reserve: 0.2,
    print: false,
    tickMs: 1000,
  });
});

describe("one value", () => {
  test.each([
    ["throttle_enabled", "TRUE", true],
    ["throttle_enabled", "false", false],
    ["throttle_enabled", false, false],
    ["throttle_print", "True", true],
    ["throttle_rate", 1n, 1],
    ["throttle_rate", 25_000n, 25_000],
    ["throttle_rate", "1200", 1200],
    ["throttle_rate", "+0007", 7],
    ["throttle_window", 2n, 2],
    ["throttle_window", 1_000_000n, 1_000_000],
    ["throttle_window", "60", 60],
    ["throttle_interval", "3s", "3s"],
    ["throttle_interval", "1.5m", "1.5m"],
    ["throttle_interval", "0.5h", "0.5h"],
    ["throttle_interval", "0.001s", "0.001s"],
  ] as const)("%s %p is taken as %p", (key, value, taken) => {
    expect(read({ [key]: value })).toEqual({ values: { ...throttleDefaults, [key]: taken }, rejected: [] });
  });

  test.each([
    ["throttle_enabled", "yes", false],
    ["throttle_enabled", 1n, false],
    ["throttle_enabled", " true", false],
    ["throttle_enabled", [true], false],
    ["throttle_print", 1n, false],
    ["throttle_rate", 25_001n, 5000],
    ["throttle_rate", 0n, 5000],
    ["throttle_rate", -5n, 5000],
    ["throttle_rate", 100.5, 5000],
    ["throttle_rate", 100, 5000], // 100.0 in TOML
    ["throttle_rate", "100.0", 5000],
    ["throttle_rate", " 100", 5000],
    ["throttle_rate", "1_000", 5000],
    ["throttle_rate", "", 5000],
    ["throttle_rate", "9223372036854775808", 5000],
    ["throttle_rate", true, 5000],
    ["throttle_rate", {}, 5000],
    ["throttle_window", 1n, 5],
    ["throttle_window", "1", 5],
    ["throttle_window", 0n, 300],
    ["throttle_window", 1_000_001n, 300],
    ["throttle_interval", "1", "1s"],
    ["throttle_interval", "1d", "1s"],
    ["throttle_interval", "1h30m", "1s"],
    ["throttle_interval", "+1s", "1s"],
    ["throttle_interval", ".5s", "1s"],
    ["throttle_interval", "1S", "1s"],
    ["throttle_interval", "1s\n", "1s"],
    ["throttle_interval", 3n, "1s"],
    ["throttle_interval", "0s", "1s"],
    ["throttle_interval", "0.0m", "1s"],
    ["throttle_interval", "0.0004s", "1s"],
    ["throttle_interval", "99999999999999999999h", "1s"],
  ] as const)("%s %p leaves %p in force, and is told", (key, value, inForce) => {
    const { values, rejected } = read({ [key]: value });
    expect(values[key]).toBe(inForce as never);
    expect(keysOf(rejected)).toEqual([key]);
    expect(rejected[0]).toMatchObject({ file: "0", line: throttleKeys.indexOf(key) + 1 });
    expect(rejected[0]?.message).toEndWith(`; ${JSON.stringify(inForce)} is in force`);
  });

  test.each([
    ["1d", "is no interval; write"],
    ["0s", "is shorter than a millisecond"],
  ])("an interval of %s %s", (value, message) => {
    expect(read({ throttle_interval: value }).rejected[0]?.message).toStartWith(message);
  });

  test("its rejection is a line for people, and short", () => {
    const [rate] = read({ throttle_rate: 99_999n }).rejected;
    expect(rate && rejectionText(rate)).toBe(
      "0:2: throttle_rate 99999 is not from 1 to 25000; 5000 is in force",
    );
    const [interval] = read({ throttle_interval: `${"x".repeat(500)}\n` }).rejected;
    expect(interval?.value).toMatch(/^"x{79}…$/);
    const [flag] = read({ throttle_print: { a: [1n, "b"] } }).rejected;
    expect(flag?.value).toBe('{"a":[1,"b"]}');
    expect(rejectionText({ file: "f", key: "k", value: "", message: "m" })).toBe("f: k m");
  });
});

describe("several sources", () => {
  test("decide key by key, the first one that has a value", () => {
    const { values, rejected } = read(
      { throttle_rate: 10n },
      { throttle_rate: 20n, throttle_window: 30n },
      { throttle_rate: 40n, throttle_window: 50n, throttle_interval: "2s" },
    );
    expect(values).toMatchObject({ throttle_rate: 10, throttle_window: 30, throttle_interval: "2s" });
    expect(rejected).toEqual([]);
  });

  test("a value that cannot be used counts as not written, and is told where it stands", () => {
    const { values, rejected } = read({ throttle_rate: 99_999n }, { throttle_rate: 20n });
    expect(values.throttle_rate).toBe(20);
    expect(rejected.map(({ file, message }) => [file, message])).toEqual([
      ["0", "is not from 1 to 25000; 20 is in force"],
    ]);
    const both = read({ throttle_rate: 30n }, { throttle_rate: "fast" });
    expect(both.values.throttle_rate).toBe(30);
    expect(both.rejected.map(({ file, message }) => [file, message])).toEqual([
      ["1", "is no whole number; 30 is in force"],
    ]);
  });

  test("the other keys are read only while the throttle is on, by whoever says so", () => {
    const off = read({ throttle_enabled: false }, { throttle_enabled: true, throttle_rate: "x" });
    expect(off).toEqual({ values: { ...throttleDefaults, throttle_enabled: false }, rejected: [] });
    const on = read({ throttle_enabled: "true" }, { throttle_enabled: false, throttle_rate: 7n });
    expect(on.values).toMatchObject({ throttle_enabled: true, throttle_rate: 7 });
  });
});

describe("any values", () => {
  // As the reference's parser takes them: int64 is a bigint here, float64 a number.
  const isValidNumber = (v: unknown): boolean =>
    typeof v === "bigint" ? v > 0n : typeof v === "string" && atoi(v) !== undefined && (atoi(v) ?? 0n) > 0n;
  const atoi = (text: string): bigint | undefined => {
    if (!/^[+-]?[0-9]+$/.test(text)) return undefined;
    const value = BigInt(text.replace(/^[+-]/, "")) * (text.startsWith("-") ? -1n : 1n);
    return value >= -(2n ** 63n) && value < 2n ** 63n ? value : undefined;
  };
  const getIntValue = (v: unknown): number => Number(typeof v === "string" ? atoi(v) : v);
  const getBoolValue = (v: unknown): boolean =>
    v === true || (typeof v === "string" && v.toLowerCase() === "true");

  /** The reference's parser, and after it what its filter makes of the values. */
  function model(written: Written): ThrottleValues {
    const values = { ...throttleDefaults } as { -readonly [K in keyof ThrottleValues]: ThrottleValues[K] };
    if ("throttle_enabled" in written) values.throttle_enabled = getBoolValue(written.throttle_enabled);
    if (!values.throttle_enabled) return values;
    const { throttle_rate, throttle_window, throttle_interval, throttle_print } = written;
    if (isValidNumber(throttle_rate)) {
      const rate = getIntValue(throttle_rate);
      if (rate >= 1 && rate <= 25_000) values.throttle_rate = rate;
    }
    if (isValidNumber(throttle_window)) {
      const window = getIntValue(throttle_window);
      if (window <= 1_000_000) values.throttle_window = window <= 1 ? 5 : window; // Ours: a bound.
    }
    if (typeof throttle_interval === "string" && /^\d+(\.\d+)?[smh]$/.test(throttle_interval)) {
      const unit = { s: 1000, m: 60_000, h: 3_600_000 }[throttle_interval.at(-1) ?? ""] ?? 0;
      const ms = Number.parseFloat(throttle_interval) * unit;
      if (ms >= 0.5 && ms < 2 ** 53 - 1) values.throttle_interval = throttle_interval; // Ours: bounds.
    }
    if ("throttle_print" in written) values.throttle_print = getBoolValue(throttle_print);
    return values;
  }

  const number = fc.oneof(
    fc.bigInt({ min: -3n, max: 30_000n }),
    fc.bigInt(),
    fc.integer({ min: -3, max: 30_000 }).map(String),
    fc.bigInt().map(String),
    fc.stringMatching(/^[+-]?0{0,3}\d{0,22}$/),
    fc.double(),
  );
  const interval = fc.oneof(
    fc.stringMatching(/^\d{1,3}(\.\d{1,5})?[smhd]?$/),
    fc.stringMatching(/^\d{10,30}[smh]$/),
    fc.stringMatching(/^0(\.0{1,4}\d)?[smh]$/),
  );
  const word = fc.constantFrom("true", "TRUE", "True", "false", "FALSE", "yes", "1", "", " true");
  const anything = fc.oneof(fc.anything({ withBigInt: true, withDate: true }), fc.string());
  const value = fc.oneof(number, interval, word, fc.boolean(), anything);
  const flag = fc.oneof(word, fc.boolean(), value);
  const written = fc.record<Written>(
    {
      throttle_enabled: fc.oneof({ arbitrary: fc.constant(true), weight: 3 }, flag),
      throttle_rate: fc.oneof(number, value),
      throttle_window: fc.oneof(number, value),
      throttle_interval: fc.oneof(interval, value),
      throttle_print: flag,
    },
    { requiredKeys: [] },
  );

  test("are taken as the reference takes them, stay in range, and are told when they do not count", () => {
    const same = (value: unknown, taken: unknown): boolean =>
      typeof value === "string" && typeof taken !== "string"
        ? value.replace(/^\+?0*(?=\d)/, "").toLowerCase() === String(taken)
        : typeof value === "bigint"
          ? String(value) === String(taken)
          : typeof value === typeof taken && typeof value !== "number" && value === taken;
    fc.assert(
      fc.property(written, (source) => {
        const { values, rejected } = read(source);
        expect(values).toEqual(model(source));
        const changed = throttleKeys.filter(
          (key) =>
            key in source &&
            (values.throttle_enabled || key === "throttle_enabled") &&
            !same(source[key], values[key]),
        );
        expect(keysOf(rejected)).toEqual(changed);
        for (const { value } of rejected) expect(value.length).toBeLessThan(100);
      }),
      { numRuns: 2000 },
    );
  });

  test("of several sources never make it throw or leave the range, and the settings fit the throttle", () => {
    fc.assert(
      fc.property(fc.array(written, { maxLength: 4 }), (sources) => {
        const { values } = read(...sources);
        const { enabled, rate, window, intervalMs, print } = throttleSettings(values, plain, 1000);
        expect([typeof enabled, typeof print]).toEqual(["boolean", "boolean"]);
        expect(Number.isInteger(rate) && rate >= 1 && rate <= 25_000).toBe(true);
        expect(Number.isInteger(window) && window >= 2 && window <= 1_000_000).toBe(true);
        expect(Number.isSafeInteger(intervalMs) && intervalMs >= 1).toBe(true);
        // What is in force may be written, and is then in force again.
        const again = read({
          ...values,
          throttle_rate: BigInt(values.throttle_rate),
          throttle_window: BigInt(values.throttle_window),
        });
        expect(again).toEqual({ values, rejected: [] });
      }),
      { numRuns: 500 },
    );
  });
});

describe("a window that is shorter than the tick", () => {
  test.each([
    [
      1000,
      { throttle_interval: "0.001s" },
      ["0", 4, "throttle_interval", '"0.001s"'],
      "300ms (300 x 0.001s)",
      "30%",
    ],
    [10_000, { throttle_window: 3n }, ["0", 3, "throttle_window", "3"], "3s (3 x 1s)", "30%"],
    [
      60_000,
      { throttle_window: 2n, throttle_interval: "7s" },
      ["0", 3, "throttle_window", "2"],
      "14s (2 x 7s)",
      "23%",
    ],
  ] as const)("of %d ms is told where it is written: %p", (tickMs, written, place, makes, share) => {
    const { values, rejected } = readAt(tickMs, written);
    expect(values).toEqual(read(written).values);
    expect(rejected.map(({ file, line, key, value }) => [file, line, key, value])).toEqual([[...place]]);
    expect(rejected[0]?.message).toContain(makes);
    expect(rejected[0]?.message).toContain(`${share} of throttle_rate`);
  });

  test("is told beside a value that does not count, and of the source that decides", () => {
    const { rejected } = readAt(60_000, { throttle_window: "x" }, { throttle_window: 1n });
    expect(rejected.map(({ file, key }) => [file, key])).toEqual([
      ["0", "throttle_window"],
      ["1", "throttle_window"],
      ["1", "throttle_window"],
    ]);
  });

  test("is none with the defaults, as long as the tick, or while nothing is throttled", () => {
    expect(readAt(60_000).rejected).toEqual([]);
    expect(readAt(60_000, { throttle_window: 60n }).rejected).toEqual([]);
    expect(readAt(60_000, { throttle_enabled: false, throttle_window: 2n }).rejected).toEqual([]);
  });
});
