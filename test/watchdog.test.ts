// The watchdog is fed while ticks come in time, however far apart they are.

import { afterEach, expect, jest, test } from "bun:test";
import { feedWatchdog } from "../src/watchdog.ts";

function counting(watchdogMs?: number) {
  let fed = 0;
  const watchdog = (): void => {
    fed += 1;
  };
  return {
    notifier: { watchdog, ...(watchdogMs === undefined ? {} : { watchdogMs }) },
    take: (): number => {
      const taken = fed;
      fed = 0;
      return taken;
    },
  };
}

afterEach(() => void jest.useRealTimers());

test("it is fed between ticks, until the next one is overdue", () => {
  jest.useFakeTimers();
  let elapsedMs = 0;
  const pass = (ms: number): void => {
    for (let left = ms; left > 0; left -= 1000) {
      elapsedMs += 1000;
      jest.advanceTimersByTime(1000);
    }
  };
  const { notifier, take } = counting(30_000);
  using watchdog = feedWatchdog({ notifier, elapsedMs: () => elapsedMs });
  pass(60_000);
  expect(take()).toBe(0); // A start that hangs is noticed.
  watchdog.ticked(60_000);
  expect(take()).toBe(1);
  for (let tick = 0; tick < 3; tick++) {
    pass(60_000);
    expect(take()).toBe(6);
    watchdog.ticked(60_000);
    expect(take()).toBe(1);
  }
  pass(600_000);
  expect(take()).toBe(11); // Twice the time of a tick, and then no more.
});

test("without a watchdog a tick alone is told", () => {
  const { notifier, take } = counting();
  using watchdog = feedWatchdog({ notifier, elapsedMs: () => 0 });
  watchdog.ticked(1000);
  expect(take()).toBe(1);
});
