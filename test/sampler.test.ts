// The sampler: whole steps, under a clock that goes on, stops, jumps and trembles.

import { expect, test } from "bun:test";
import { createSampler } from "../src/sampler.ts";

function clocks(start: number) {
  const time = { wall: start, elapsed: 0 };
  const sampler = createSampler({
    stepMs: () => 15_000,
    now: () => time.wall,
    elapsedMs: () => time.elapsed,
  });
  const pass = (wallMs: number, elapsedMs = wallMs) => {
    time.wall += wallMs;
    time.elapsed += elapsedMs;
    return sampler.due();
  };
  return { pass };
}

test("one sample a step, at the time of the step", () => {
  const { pass } = clocks(1_000_000_000_000 + 4000);
  const given = Array.from({ length: 60 }, () => pass(1000)).filter((at) => at !== undefined);
  expect(given).toEqual([1, 2, 3, 4].map((step) => 999_999_990_000 + 15_000 * step));
});

test("a step that was under way at the start is left to whoever took it before", () => {
  const { pass } = clocks(1_500_000);
  expect([0, 7000, 7999, 1].map((ms) => pass(ms))).toEqual([undefined, undefined, undefined, 1_515_000]);
});

test("a clock that is set back or forward goes on with its own steps", () => {
  const { pass } = clocks(1_499_999);
  expect(pass(1)).toBe(1_500_000);
  expect(pass(-3_600_000, 15_000)).toBe(-2_100_000);
  expect(pass(15_000)).toBe(-2_085_000);
  expect(pass(86_400_000, 15_000)).toBe(84_315_000);
});

test("a clock that trembles between two steps gives none twice", () => {
  const { pass } = clocks(1_499_999);
  expect(pass(1)).toBe(1_500_000);
  expect(pass(15_000)).toBe(1_515_000);
  expect(pass(-1, 1)).toBeUndefined();
  expect(pass(2)).toBeUndefined();
});
