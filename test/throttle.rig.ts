// A throttle on clocks that a test drives, and arbitrary settings and loads for it.

import fc from "fast-check";
import { createThrottle, type ThrottleSettings } from "../src/throttle.ts";
import { flow } from "./store.flows.ts";

export const settings: ThrottleSettings = {
  enabled: true,
  mode: "window",
  rate: 5000,
  window: 300,
  intervalMs: 1000,
  reserve: 0.2,
  print: false,
};

export const plain = flow(0, { verdict: "forwarded", tcpFlags: 0 });
export const drop = flow(0, { verdict: "dropped", dropReason: "NETFILTER_DROP", tcpFlags: 0 });

/** A throttle on clocks that the test drives. */
export function rig(changes: Partial<ThrottleSettings> = {}, start = { ms: 0, at: 1_700_000_000_000 }) {
  const clock = { ...start };
  const throttle = createThrottle({
    settings: { ...settings, ...changes },
    elapsedMs: () => clock.ms,
    now: () => clock.at,
  });
  const offer = (count: number, record = plain): number => {
    let kept = 0;
    for (let index = 0; index < count; index++) if (throttle.admit(record) === undefined) kept++;
    return kept;
  };
  return { throttle, clock, offer };
}

export const anySettings = fc.record({
  enabled: fc.constant(true),
  mode: fc.constantFrom("window" as const, "smooth" as const),
  rate: fc.integer({ min: 1, max: 20 }),
  window: fc.integer({ min: 1, max: 8 }),
  intervalMs: fc.constantFrom(500, 1000, 3000),
  reserve: fc.constantFrom(0, 0.1, 0.2, 1),
  print: fc.constant(false),
  tickMs: fc.constantFrom(100, 1000, 10_000),
});
export const anyStep = fc.record({
  passedMs: fc.oneof(fc.nat(1500), fc.nat(20_000)),
  offered: fc.nat(80),
  record: fc.constantFrom(plain, drop),
});
export const anySteps = fc.array(anyStep, { maxLength: 60 });
