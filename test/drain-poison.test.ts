// Laws of the drain where a receiver refuses some records for ever: all others arrive, in a bounded number of requests.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ofSeriesMax } from "../src/forward/refusals.ts";
import type { Outcome } from "../src/sinks/sink.ts";
import { poison, stored } from "./drain.rig.ts";
import { ordinalsIn } from "./drain.store.ts";
import { createWorld, type World } from "./drain.world.ts";

/** Requests until one of so many records is alone, and until bodies are full again. */
const searchOf = (recordsMax: number): number => 3 * (Math.ceil(Math.log2(recordsMax)) + 1);

const tooOld: Outcome = { kind: "refused", code: "400", reason: "too_old", message: "out of order sample" };

function refuses(world: World, bad: (ordinal: number) => boolean): void {
  world.upstream.answer = ({ body }) => (ordinalsIn(body).some(bad) ? poison : stored());
}

const upTo = (last: number): readonly number[] => Array.from({ length: last }, (_, index) => index + 1);

/** Sends what is there; every good record arrives, and every other one is counted. */
async function arrives(
  world: World,
  all: number,
  bad: (ordinal: number) => boolean,
  reason = "4xx",
  signal: "flows" | "metrics" = "metrics",
): Promise<void> {
  world.forwarder.ticked();
  await world.clock.pass(0);
  world.store.check();
  const good = upTo(all).filter((ordinal) => !bad(ordinal));
  const { counts, pending } = world.facts();
  const rejected = all - good.length;
  expect(pending).toBe(0);
  expect({ sent: 0, [`rejected.${reason}`]: 0, ...counts }).toEqual({
    sent: good.length,
    [`rejected.${reason}`]: rejected,
  });
  expect(world.upstream.taken(signal)).toEqual(new Set(good));
}

describe("rows", () => {
  const given = fc.record({
    recordsMax: fc.integer({ min: 1, max: 300 }),
    rows: fc.integer({ min: 1, max: 1000 }),
    bad: fc.oneof(
      fc.uniqueArray(fc.integer({ min: 1, max: 1000 }), { maxLength: 60 }),
      // In a row, as long as no slice is given up.
      fc
        .record({ from: fc.integer({ min: 1, max: 1000 }), count: fc.integer({ min: 1, max: 255 }) })
        .map(({ from, count }) => upTo(count).map((at) => at + from)),
    ),
  });

  test("arrive, whichever of them are refused", async () => {
    await fc.assert(
      fc.asyncProperty(given, async ({ recordsMax, rows, bad }) => {
        await using world = await createWorld({ capability: { recordsMax } });
        const set = new Set(bad.filter((ordinal) => ordinal <= rows));
        refuses(world, (ordinal) => set.has(ordinal));
        world.store.append("flows", rows, world.clock.now());
        await arrives(world, rows, (ordinal) => set.has(ordinal), "4xx", "flows");
        const bodies = Math.ceil(rows / recordsMax) + 1;
        expect(world.upstream.requests.length).toBeLessThanOrEqual(
          bodies + set.size * (1 + searchOf(recordsMax)),
        );
      }),
      { numRuns: 300 },
    );
  }, 120_000);
});

const metrics = { signals: ["metrics"] };

type Load = { readonly series: number; readonly steps: number; readonly unitSteps: number };
const load = {
  series: fc.integer({ min: 2, max: 30 }),
  steps: fc.integer({ min: 1, max: 60 }),
  unitSteps: fc.integer({ min: 1, max: 30 }),
};

/** All steps are there at once; ordinals go step by step. */
function fill({ store, clock }: World, { series, steps, unitSteps }: Load): void {
  store.unitSteps = unitSteps;
  for (let step = 0; step < steps; step += 1) store.append("metrics", series, clock.now() + step);
}

const seriesOf = (ordinal: number, { series }: Load): number => (ordinal - 1) % series;
const stepOf = (ordinal: number, { series }: Load): number => Math.floor((ordinal - 1) / series);

describe("samples", () => {
  const given = fc.record({
    ...load,
    recordsMax: fc.integer({ min: 1, max: 300 }),
    badSeries: fc.uniqueArray(fc.nat({ max: 29 }), { maxLength: 29 }),
    badSamples: fc.uniqueArray(fc.integer({ min: 1, max: 1800 }), { maxLength: ofSeriesMax - 1 }),
  });

  test("arrive, whichever series and samples are refused beside them", async () => {
    await fc.assert(
      fc.asyncProperty(given, async ({ recordsMax, badSeries, badSamples, ...held }) => {
        const all = held.series * held.steps;
        const series = new Set(badSeries.filter((one) => one < held.series).slice(0, held.series - 1));
        const samples = new Set(badSamples.filter((one) => one <= all));
        const bad = (ordinal: number) => samples.has(ordinal) || series.has(seriesOf(ordinal, held));
        await using world = await createWorld({ config: metrics, capability: { recordsMax } });
        refuses(world, bad);
        fill(world, held);
        await arrives(world, all, bad);
        const units = Math.ceil(held.steps / held.unitSteps);
        const alone = units * series.size * (ofSeriesMax + searchOf(recordsMax));
        const bodies = Math.ceil(all / recordsMax) + units;
        expect(world.upstream.requests.length).toBeLessThanOrEqual(
          bodies + alone + samples.size * (1 + searchOf(recordsMax)),
        );
      }),
      { numRuns: 300 },
    );
  }, 120_000);

  test("of a poison series are told of by one dead letter a unit, but the first ones", async () => {
    await using world = await createWorld({ config: metrics, capability: { recordsMax: 2000 } });
    const held = { series: 40, steps: 240, unitSteps: 120 };
    const bad = (ordinal: number) => seriesOf(ordinal, held) === 17;
    refuses(world, bad);
    fill(world, held);
    await arrives(world, held.series * held.steps, bad);
    const unit = [...Array(ofSeriesMax).fill(1), 120 - ofSeriesMax];
    expect(world.store.letters.map(({ records }) => records)).toEqual([...unit, ...unit]);
  });
});

describe("a receiver in order alone", () => {
  const inOrder = { config: metrics, capability: { recordsMax: 50, outOfOrderMs: 0 } };

  /** Keeps the newest step of each series; nothing of a body with an older one. */
  function keepsOrder(world: World, held: Load, known: readonly number[]): void {
    const newest = [...known];
    world.upstream.answer = ({ body }) => {
      const all = ordinalsIn(body).map((one) => [seriesOf(one, held), stepOf(one, held)] as const);
      if (all.some(([series, step]) => step <= (newest[series] ?? -1))) return tooOld;
      for (const [series, step] of all) newest[series] = step;
      return stored();
    };
  }

  test("that has some of the first steps of each series gets all the others", async () => {
    const given = fc.record({
      ...load,
      known: fc.array(fc.integer({ min: -1, max: 60 }), { minLength: 30, maxLength: 30 }),
    });
    await fc.assert(
      fc.asyncProperty(given, async ({ known, ...held }) => {
        await using world = await createWorld(inOrder);
        keepsOrder(world, held, known);
        fill(world, held);
        const has = (ordinal: number) => stepOf(ordinal, held) <= (known[seriesOf(ordinal, held)] ?? -1);
        await arrives(world, held.series * held.steps, has, "too_old");
      }),
      { numRuns: 300 },
    );
  }, 120_000);

  test("has each acknowledgement written down before the next body", async () => {
    await using world = await createWorld(inOrder);
    fill(world, { series: 30, steps: 50, unitSteps: 25 });
    world.forwarder.ticked();
    await world.clock.pass(0);
    expect(world.facts().counts).toEqual({ sent: 1500 });
    expect(world.store.uncommittedMax).toBe(1);
  });

  test("alone costs that: where order is all one, a tick writes them", async () => {
    await using world = await createWorld({ config: metrics, capability: { recordsMax: 50 } });
    fill(world, { series: 30, steps: 50, unitSteps: 25 });
    world.forwarder.ticked();
    await world.clock.pass(0);
    expect(world.store.uncommittedMax).toBe(30);
  });
});
