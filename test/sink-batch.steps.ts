// Steps of samples for the tests of batches, and what should arrive of them.

import { expect } from "bun:test";
import type { SampleStep } from "../src/store/sample-pending.ts";
import type { Batch } from "../src/store/sink-batch.ts";
import { always, expected, sample, startAt, stepMs, type World } from "./samples.world.ts";
import { type File, linesOf, openFile, type SampleLine, textOf } from "./sink-batch.world.ts";

/** Points as text by series. */
function pointsOf(lines: readonly SampleLine[]): Record<string, (readonly [number, string])[]> {
  const all: Record<string, (readonly [number, string])[]> = {};
  for (const { key, at, value } of lines) {
    all[key] ??= [];
    all[key].push([at, value]);
  }
  return all;
}

export const modelOf = (steps: readonly SampleStep[]): ReturnType<typeof pointsOf> =>
  Object.fromEntries(
    Object.entries(expected(steps, always)).map(([key, points]) => [
      key,
      points.map(([at, value]) => [at, textOf(value)] as const),
    ]),
  );

export const allOf = (batches: readonly Batch[]) => pointsOf(batches.flatMap(linesOf<SampleLine>));
export const countOf = (steps: readonly SampleStep[]): number =>
  steps.reduce((total, { series }) => total + [...series].length, 0);

/** Writes all of them, in one transaction where a block is not compacted meanwhile. */
export function put(world: World, steps: readonly SampleStep[]): void {
  for (const step of steps) world.samples.add(step);
  world.store.append({ rows: [], at: startAt });
}

/** `count` steps; the series `a` and `b` always, `c<n>` now and then. A step back in time starts a block. */
export const stepsOf = (count: number, back: (number: number) => boolean = () => false): SampleStep[] => {
  let at = startAt;
  return Array.from({ length: count }, (_, number) => {
    at += back(number) ? -5 * stepMs : stepMs;
    const some = [0, 1, 2, 3].filter((index) => ((number + index) * 7) % 5 < 2 + (index % 2));
    return {
      at,
      series: [
        sample("a_total", number * 10),
        sample("b", number % 3 === 0 ? Number.NaN : number / 8, { node: "n" }),
        ...some.map((index) => sample(`c${index}`, index - number)),
      ],
    };
  });
};

export const blocksOf = ({ reader }: File): number =>
  Number(reader.database.prepare("SELECT count(*) FROM sample_blocks").pluck().get());

/** Appends until there are so many blocks. */
export function compact(world: World, blocks: number): void {
  using file = openFile(world.dir);
  for (let calls = 0; blocksOf(file) < blocks; calls++) {
    if (calls > 1000) throw new Error(`there are ${blocksOf(file)} blocks, not ${blocks}`);
    world.store.append({ rows: [], at: startAt });
  }
  expect(blocksOf(file)).toBe(blocks);
}
