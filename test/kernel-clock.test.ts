// Jiffies of records as monotonic time, at any HZ and with ticks as long as they may be.

import { describe, expect, test } from "bun:test";
import { createKernelClock, shortJiffiesBefore } from "../bpf/clock.ts";

describe("16 bits of a time", () => {
  test.each([
    ["now", 0],
    ["a tick of 60 s at 1000 Hz ago", 60_000],
    ["the same, late by two seconds", 62_000],
    ["just after the reading", -1],
    ["two seconds after the reading", -2000],
  ])("%s", (_, age) => {
    for (const now of [0, 1, 40_000, 0xffff, 0x1_0000, 0xffff_ffff])
      expect(shortJiffiesBefore(now, (now - age) & 0xffff)).toBe(age);
  });
});

/** A kernel whose clocks go on as told. */
function openKernel(hz: number) {
  const words = new BigUint64Array(2);
  const start = { jiffies: 0xffff_f000, ns: 5e9 };
  let passedMs = 0;
  const clock = createKernelClock({
    libbpf: {
      testRun() {
        words[0] = BigInt(start.jiffies) + BigInt(Math.floor((passedMs * hz) / 1000));
        words[1] = BigInt(start.ns) + BigInt(passedMs) * 1_000_000n;
        return 0;
      },
    },
    object: { programFd: () => 3, mapArray: () => ({ buffer: words.buffer, [Symbol.dispose]() {} }) },
    now: () => 1_000_000 + passedMs,
  });
  return {
    clock,
    pass(ms: number): void {
      passedMs += ms;
      clock.refresh();
    },
    /** Jiffies of so many milliseconds ago. */
    jiffies: (agoMs: number): number =>
      (start.jiffies + Math.floor(((passedMs - agoMs) * hz) / 1000)) % 2 ** 32,
  };
}

test.each([100, 250, 1000])("a tick of 60 s at %d Hz", (hz) => {
  const { clock, pass, jiffies } = openKernel(hz);
  pass(60_200); // Nothing was measured before it.
  for (const agoMs of [0, 1000, 33_000, 60_000]) {
    expect(clock.nowNs() - clock.shortJiffiesToNs(jiffies(agoMs) & 0xffff)).toBe(agoMs * 1e6);
    expect(clock.nowNs() - clock.jiffiesToNs(jiffies(agoMs))).toBe(agoMs * 1e6);
  }
  expect(clock.toEpochMs(clock.nowNs())).toBe(1_060_200);
});
