// The throttle: the documented vectors to the record, the smooth mode, the reserve, the clocks.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { matters, statusLine } from "../src/throttle.ts";
import { anySettings, anySteps, drop, plain, rig, settings } from "./throttle.rig.ts";

const times = (count: number, value: number): number[] => Array.from({ length: count }, () => value);

// Measured with the code of the reference: kept records of each interval.
const vectors = [
  {
    name: "5 / 5, 100 offered",
    rate: 5,
    window: 5,
    offered: times(20, 100),
    kept: [25, 0, 0, 0, 0, 25, 0, 0, 0, 0, 25, 0, 0, 0, 0, 25, 0, 0, 0, 0],
  },
  {
    name: "1 / 300, 500 offered",
    rate: 1,
    window: 300,
    offered: times(900, 500),
    kept: times(3, 0).flatMap(() => [300, ...times(299, 0)]),
  },
  {
    name: "50 / 300, twice as many offered",
    rate: 50,
    window: 300,
    offered: times(900, 100),
    kept: times(3, 0).flatMap(() => [...times(150, 100), ...times(150, 0)]),
  },
  {
    name: "50 / 300, four times as many offered",
    rate: 50,
    window: 300,
    offered: times(900, 200),
    kept: times(3, 0).flatMap(() => [...times(75, 200), ...times(225, 0)]),
  },
  {
    name: "50 / 300, a burst on little traffic",
    rate: 50,
    window: 300,
    offered: [...times(300, 1), 10_000, 10_000, ...times(400, 3)],
    kept: [...times(300, 1), 10_000, 4702, ...times(298, 1), ...times(102, 3)],
  },
  {
    name: "9 / 3 of three seconds each, 100 offered",
    rate: 9,
    window: 3,
    intervalMs: 3000,
    offered: times(9, 100),
    kept: [27, 0, 0, 27, 0, 0, 27, 0, 0],
  },
];

describe("mode window keeps to the record what the reference keeps:", () => {
  // With a reserve that nobody may take from, without one, and blind to what matters.
  const runs = [
    { reserve: 0.2, record: plain, of: "with the reserve" },
    { reserve: 0, record: plain, of: "without a reserve" },
    { reserve: 0, record: drop, of: "without a reserve, drops" },
  ];
  for (const { name, rate, window, intervalMs = 1000, offered, kept } of vectors)
    for (const { reserve, record, of } of runs)
      test(`${name}, ${of}`, () => {
        // Neither starts with a whole interval.
        const { clock, offer } = rig({ rate, window, intervalMs, reserve }, { ms: 12_345.678, at: 0 });
        const found = offered.map((count) => {
          const admitted = offer(count, record);
          clock.ms += intervalMs;
          return admitted;
        });
        expect(found).toEqual(kept);
      });

  test("10,000 on 5000 / 300 is 150 seconds on, 150 seconds off", () => {
    const { clock, offer } = rig();
    for (let second = 0; second < 600; second++, clock.ms += 1000)
      expect(offer(10_000)).toBe(second % 300 < 150 ? 10_000 : 0);
  });

  /** As the reference does it: panes by time stamp, the oldest overwritten, the sum over all of them. */
  function reference(rate: number, size: number) {
    const panes = Array.from({ length: size }, () => ({ stamp: -1, count: 0 }));
    let last = -1;
    let stamp = -1;
    const add = (at: number, count: number) => {
      stamp = at;
      const known = panes.find((pane) => pane.stamp === at);
      if (known !== undefined) known.count += count;
      else {
        last = (last + 1) % size;
        panes[last] = { stamp: at, count };
      }
    };
    return {
      tick: (at: number) => add(at, 0),
      admit: () => {
        const total = panes.reduce((sum, { count }) => sum + count, 0);
        if (total / size >= rate) return false;
        add(stamp, 1);
        return true;
      },
    };
  }

  test("any load on any rate and window, with intervals that saw nothing", () => {
    const load = fc.array(fc.record({ skipped: fc.nat(12), offered: fc.nat(60) }), { maxLength: 40 });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 2, max: 9 }),
        load,
        (rate, window, ticks) => {
          const { clock, offer } = rig({ rate, window });
          const other = reference(rate, window);
          other.tick(0);
          for (const { skipped, offered } of ticks) {
            for (let passed = 0; passed < skipped; passed++) {
              clock.ms += 1000;
              other.tick(clock.ms);
            }
            const kept = times(offered, 0).filter(() => other.admit()).length;
            expect(offer(offered)).toBe(kept);
          }
        },
      ),
    );
  });

  test("more intervals skipped than the window has leave nothing of it", () => {
    const { clock, offer } = rig({ rate: 2, window: 3 });
    expect(offer(10)).toBe(6);
    clock.ms += 3000 * 1e9;
    expect(offer(10)).toBe(6);
    clock.ms += 2999; // Still within the last of the three.
    expect(offer(10)).toBe(0);
  });
});

describe("mode smooth", () => {
  test("admits the burst, then the rate, without a blind spot", () => {
    const { clock, offer } = rig({ mode: "smooth", rate: 50 });
    expect(offer(10_000)).toBe(100);
    for (let second = 0; second < 600; second++) {
      clock.ms += 1000;
      expect(offer(10_000)).toBe(50);
    }
    clock.ms += 3_600_000;
    expect(offer(10_000)).toBe(100);
  });

  test("refills within the interval", () => {
    const { clock, offer } = rig({ mode: "smooth", rate: 50, intervalMs: 5000 });
    offer(1000);
    clock.ms += 1000;
    expect(offer(1000)).toBe(10);
  });

  const grid = [100, 1000, 7000, 10_000, 60_000].flatMap((tickMs) =>
    [100, 300, 1000, 3000, 60_000].map((intervalMs) => ({ tickMs, intervalMs })),
  );
  // A window as long as half an hour, so that it bounds none of the bursts.
  test.each(grid)("keeps all of a load that is the rate: %p", ({ tickMs, intervalMs }) => {
    const window = Math.ceil(1_800_000 / intervalMs);
    const { clock, offer } = rig({ mode: "smooth", rate: 90, window, intervalMs, tickMs });
    let [offered, kept] = [0, 0];
    for (let at = tickMs; at <= 300_000; at += tickMs) {
      clock.ms += tickMs;
      const due = Math.floor((90 * at) / intervalMs) - offered;
      offered += due;
      kept += offer(due);
    }
    expect(offered).toBeGreaterThan(400);
    expect(kept).toBe(offered);
  });

  test("keeps all also of a tick that comes late, and the rate of a flood", () => {
    const { throttle, clock, offer } = rig({ mode: "smooth", rate: 50, tickMs: 10_000 });
    expect(throttle.facts().limit).toBe(1000);
    expect(throttle.facts()).not.toHaveProperty("tickMs");
    clock.ms += 19_000;
    expect(offer(950)).toBe(950);
    clock.ms += 1000;
    expect(offer(50)).toBe(50);
    for (let tick = 0; tick < 60; tick++) {
      clock.ms += 10_000;
      expect(offer(10_000)).toBe(tick === 0 ? 550 : 500);
    }
  });

  test("goes on with another tick from the next record on", () => {
    const { throttle, clock, offer } = rig({ mode: "smooth", rate: 50, tickMs: 1000 });
    expect(offer(10_000)).toBe(100);
    throttle.apply({ ...settings, mode: "smooth", rate: 50, tickMs: 10_000 });
    expect(offer(10_000)).toBe(0);
    clock.ms += 10_000;
    expect(offer(10_000)).toBe(500);
    clock.ms += 60_000;
    throttle.apply({ ...settings, mode: "smooth", rate: 50, tickMs: 1000 });
    expect(offer(10_000)).toBe(100);
  });

  test("has no larger burst than the window has a budget", () => {
    expect(rig({ mode: "smooth", rate: 50, window: 1 }).offer(1000)).toBe(50);
    expect(rig({ mode: "smooth", rate: 1, window: 300 }).offer(1000)).toBe(2);
  });

  test("keeps a record now and then on a rate that is less than one", () => {
    const { clock, offer } = rig({ mode: "smooth", rate: 1, window: 1, reserve: 0.25 });
    expect(offer(10, drop)).toBe(2); // One by the rate, one by the reserve.
    clock.ms += 4000;
    expect(offer(10, drop)).toBe(2);
  });
});

describe("the reserve", () => {
  test("is for drops, resets and DNS errors", () => {
    expect(matters(plain)).toBe(false);
    expect(matters({ ...plain, tcpFlags: 0xff & ~4 })).toBe(false);
    expect(matters(drop)).toBe(true);
    expect(matters({ ...plain, tcpFlags: 4 | 16 })).toBe(true);
    expect(matters({ ...plain, dnsError: "NXDOMAIN" })).toBe(true);
  });

  test("in mode window keeps every record that matters under a flood, up to its own budget", () => {
    const { throttle, clock, offer } = rig();
    expect(offer(2_000_000)).toBe(1_500_000);
    const reset = { ...plain, tcpFlags: 4 };
    const failed = { ...plain, dnsError: "SERVFAIL" };
    for (let second = 0; second < 100; second++) {
      for (const record of [drop, reset, failed]) expect(offer(1000, record)).toBe(1000);
      expect(offer(1000)).toBe(0);
      clock.ms += 1000;
    }
    expect(throttle.facts()).toMatchObject({ windowUse: 1, reserveUse: 1, active: true });
    expect(throttle.admit(drop)).toBe("reserve");
    expect(throttle.admit(plain)).toBe("window");
  });

  test("in mode smooth likewise, by its own rate", () => {
    const { throttle, clock, offer } = rig({ mode: "smooth" });
    expect(offer(20_000)).toBe(10_000);
    expect(offer(5000, drop)).toBe(2000);
    for (let second = 0; second < 100; second++) {
      clock.ms += 1000;
      expect(offer(20_000)).toBe(5000);
      expect(offer(1000, drop)).toBe(1000);
    }
    expect(throttle.admit(drop)).toBe("reserve");
    expect(throttle.admit(plain)).toBe("smooth");
  });

  test("is left alone until the documented budget is spent", () => {
    const { throttle, offer } = rig({ rate: 10, window: 10 });
    expect(offer(100, drop)).toBe(100);
    expect(throttle.facts()).toMatchObject({ windowUse: 1, reserveUse: 0 });
    expect(offer(100, drop)).toBe(20);
    expect(throttle.facts().reserveUse).toBe(1);
  });

  test("of 0 is none: what matters is cut like the rest", () => {
    const { throttle, offer } = rig({ rate: 1, window: 1, reserve: 0 });
    expect(offer(10, drop)).toBe(1);
    expect(throttle.admit(drop)).toBe("window");
    expect(throttle.facts()).not.toHaveProperty("reserveUse");
  });

  test("has the share that was asked for, whatever floating point makes of it", () => {
    const { offer } = rig({ rate: 3, window: 10, reserve: 0.1 });
    expect(offer(100, drop)).toBe(30 + 3);
  });
});

describe("the wall clock", () => {
  test("decides nothing, wherever it goes", () => {
    const wall = fc.array(fc.integer({ min: -1e15, max: 1e15 }), { minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(anySettings, anySteps, wall, (given, steps, jumps) => {
        const [steady, jumping] = [rig(given), rig(given)];
        for (const [index, { passedMs, offered, record }] of steps.entries()) {
          for (const { clock } of [steady, jumping]) clock.ms += passedMs;
          steady.clock.at += passedMs;
          jumping.clock.at = jumps[index % jumps.length]!;
          for (let count = 0; count < offered; count++)
            expect(jumping.throttle.admit(record)).toBe(steady.throttle.admit(record));
        }
      }),
    );
  });

  test("gives the times of a summary", () => {
    const { throttle, clock, offer } = rig(
      { rate: 1, window: 1, intervalMs: 2000 },
      { ms: 700, at: 1_000_000 },
    );
    offer(2);
    clock.ms += 2500; // The next interval is first used 1200 ms after its start.
    clock.at += 2500 - 60_000;
    offer(2);
    clock.ms += 2000;
    expect(throttle.takeSummaries().map(({ startAt, endAt }) => [startAt, endAt])).toEqual([
      [999_300, 1_001_300],
      [941_300, 943_300],
    ]);
  });
});

describe("facts", () => {
  test("of mode window say the limit, its use and the rate", () => {
    const { throttle, clock, offer } = rig({ rate: 10, window: 4 });
    offer(10);
    expect(throttle.facts()).toMatchObject({
      ...{ mode: "window", enabled: true, limit: 40, rate: 10, rateNow: 2.5 },
      ...{ windowUse: 0.25, reserveUse: 0, active: false, interval: 0 },
    });
    offer(31);
    clock.ms += 1000;
    expect(throttle.facts()).toMatchObject({ windowUse: 1, active: true, interval: 1 });
    clock.ms += 1000;
    expect(throttle.facts()).toMatchObject({ windowUse: 1, active: false });
    clock.ms += 2000;
    expect(throttle.facts()).toMatchObject({ windowUse: 0, rateNow: 0 });
  });

  test("of mode smooth say the burst and how much of it is spent", () => {
    const { throttle, clock, offer } = rig({ mode: "smooth", rate: 10, window: 4 });
    offer(15);
    expect(throttle.facts()).toMatchObject({ mode: "smooth", limit: 20, windowUse: 0.75, rateNow: 3.75 });
    clock.ms += 500;
    expect(throttle.facts().windowUse).toBe(0.5);
  });

  test("tell of a lossy interval also after another interval length, and of none once it is over", () => {
    const { throttle, clock, offer } = rig({ rate: 1, window: 1, intervalMs: 10 }, { ms: 5000, at: 0 });
    const active = () => throttle.facts().active;
    offer(2);
    throttle.apply({ ...settings, intervalMs: 1000 });
    expect(active()).toBe(true);
    throttle.apply({ ...settings, intervalMs: 10 });
    expect(active()).toBe(true);
    clock.ms += 20;
    expect(active()).toBe(false);
    throttle.apply({ ...settings, intervalMs: 1000 });
    expect(active()).toBe(false);
    expect(throttle.takeSummaries().map(({ rows }) => rows)).toEqual([1]);
  });

  test("make the status line of the reference", () => {
    const { throttle, offer } = rig({ intervalMs: 90_000 });
    offer(1000);
    expect(statusLine(throttle.facts())).toBe(
      "limit is 5000.00 per 90s with window size of 300, current rate is: 3 per interval",
    );
    throttle.apply({ ...settings, mode: "smooth" });
    expect(statusLine(throttle.facts())).toBe(
      "limit is 5000.00 per 1s with burst of 10000, current rate is: 3 per interval",
    );
  });
});
