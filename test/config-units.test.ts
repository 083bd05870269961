// Text forms of durations, sizes, shares and listen addresses: all that is printed reads back, all else is refused.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  parseDuration,
  parseListen,
  parseShare,
  parseSize,
  printDuration,
  printListen,
  printShare,
  printSize,
} from "../src/config-units.ts";

describe("text forms", () => {
  test("every number of milliseconds and bytes reads back as printed", () => {
    fc.assert(
      fc.property(fc.nat({ max: Number.MAX_SAFE_INTEGER }), (value) => {
        expect(parseDuration(printDuration(value))).toBe(value);
        expect(parseSize(printSize(value))).toBe(value);
      }),
    );
  });

  test("every share of a few decimals reads back as printed", () => {
    fc.assert(
      fc.property(fc.nat({ max: 100_000_000 }), (millionths) => {
        const text = `${millionths / 1_000_000}%`;
        const share = parseShare(text);
        expect(share).toBeDefined();
        expect(parseShare(printShare(share ?? 0))).toBe(share);
        expect(printShare(share ?? 0)).toBe(text);
      }),
    );
  });

  test.each(["", "%", "20", "0.2", "-1%", "100.1%", "1e1%", "20 percent", "1.%", "٢%"])(
    "%j is no share",
    (text) => {
      expect(parseShare(text)).toBeUndefined();
    },
  );

  test("every address and port reads back as printed", () => {
    const host = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain());
    fc.assert(
      fc.property(host, fc.nat({ max: 65_535 }), (name, port) => {
        expect(parseListen(printListen({ host: name, port }))).toEqual({ host: name, port });
      }),
    );
  });

  test.each(["", "1", "s", "-1s", "1 y", "1.2.3s", "0x1s", "1e3s", "0.0001ms", "١s"])(
    "%j is no duration",
    (text) => {
      expect(parseDuration(text)).toBeUndefined();
    },
  );
  test.each(["", "1XB", "-1", "1.5B", "MiB", "1e3", "9007199254740993"])("%j is no size", (text) => {
    expect(parseSize(text)).toBeUndefined();
  });
  test.each(["", ":1", "1", "::1:1", "host", "host:", "host:65536", "[host]:1", "a b:1", "[::1]", "h:-1"])(
    "%j is no address to listen on",
    (text) => {
      expect(parseListen(text)).toBeUndefined();
    },
  );
  test.each([
    ["1.5m", 90_000],
    ["1.1s", 1100],
    ["7d", 604_800_000],
    [" 2 h ", 7_200_000],
  ] as const)("%s is %d ms", (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });
  test.each([
    ["1.5KiB", 1536],
    ["64KB", 64_000],
    ["7", 7],
    ["2 gib", 2_147_483_648],
  ] as const)("%s is %d bytes", (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });
});
