// A node whose wall clock is set: no record, row, rollup or sample is worse off for it.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { FlowRecord } from "../../src/flow.ts";
import { totalOf } from "../../src/store/ledger.ts";
import { minuteOf } from "../../src/store/minutes.ts";
import { day, hour, minute, second, sumsOf } from "../rollups.parts.ts";
import {
  countOf,
  expectExact,
  expectWhole,
  freshDir,
  newClocks,
  newModel,
  openWorld,
  removeWorlds,
  rowsOf,
  samplesOf,
  settingsOf,
  topOf,
  valuesOf,
  type World,
} from "./faults.world.ts";

setDefaultTimeout(60_000);
afterAll(removeWorlds);

type Epoch = { readonly fromAt: number; readonly toAt: number; readonly records: readonly FlowRecord[] };

/** A stretch of load between two steps of the clock, with room for its late records. */
async function epochOf(world: World, ticks: number, stepMs = 5 * second): Promise<Epoch> {
  const first = world.offered.length;
  const fromAt = minuteOf(world.clocks.at - 10 * second);
  await world.pass(ticks, { stepMs });
  return { fromAt, toAt: minuteOf(world.clocks.at) + minute, records: world.offered.slice(first) };
}

/** Everything that a user may ask of the time of each epoch. */
async function expectEpochs(world: World, epochs: readonly Epoch[]): Promise<void> {
  const { history } = world.node;
  for (const { fromAt, toAt } of epochs) {
    const isInside = ({ endAt }: FlowRecord): boolean => endAt >= fromAt && endAt < toAt;
    const inside = world.offered.filter(isInside);
    expect(await rowsOf(world, { fromAt, toAt })).toEqual(world.kept.filter(isInside));
    const top = topOf(world, { fromAt, toAt });
    const summed = world.offered.filter(({ endAt }) => endAt >= top.fromAt && endAt < top.toAt);
    expect(top.fromAt <= fromAt && top.toAt >= toAt).toBe(true);
    expect(top.total).toEqual(sumsOf(summed));
    const unkept = inside.length - world.kept.filter(isInside).length;
    const { lost } = await history.queries.lost({ fromAt, toAt });
    const told = totalOf(lost, "rows.throttled") + totalOf(lost, "rows.filtered");
    expect(told).toBeGreaterThanOrEqual(unkept);
    expect(valuesOf(samplesOf(world, fromAt, toAt))).toEqual(
      world.steps.filter(([at]) => at >= fromAt && at < toAt),
    );
  }
}

describe("a wall clock that is set", () => {
  test.each([
    ["under a running node", false],
    ["while the node is stopped", true],
  ])(
    "an hour back, a day forward and back %s: nothing is wrong, and nothing goes",
    async (_when, stopped) => {
      const dir = freshDir();
      const model = newModel();
      const clocks = newClocks();
      const epochs: Epoch[] = [];
      let world = await openWorld({ dir }, { model, clocks });
      epochs.push(await epochOf(world, 60));
      for (const ms of [-hour, day, -day, hour]) {
        if (stopped) await world[Symbol.asyncDispose]();
        clocks.at += ms;
        if (stopped) world = await openWorld({ dir }, { model, clocks });
        epochs.push(await epochOf(world, 60));
        expect(countOf(world, "rows.evicted")).toBe(0);
        expectExact(world);
        expect(await rowsOf(world)).toEqual(model.kept);
        expect(valuesOf(samplesOf(world))).toEqual(model.steps);
      }
      await expectEpochs(world, epochs);
      // Until the hours of all of them are folded, and minutes of a day ahead had to make room.
      await world.pass(400, { records: 20, stepMs: 30 * second });
      expectExact(world);
      expect(world.node.history.rollups.facts().hourRows).toBeGreaterThan(0);
      await expectEpochs(world, epochs);
      await world[Symbol.asyncDispose]();
      expectWhole(dir, model);
      await using again = await openWorld({ dir }, { model, clocks });
      expectExact(again);
      await expectEpochs(again, epochs);
      expect(await rowsOf(again)).toEqual(model.kept);
    },
  );

  test("a day forward takes what is too old by that clock; what it wrote there goes with what is older", async () => {
    const dir = freshDir();
    const model = newModel();
    const clocks = newClocks();
    const ageMaxMs = 6 * hour;
    {
      await using world = await openWorld({ dir, settings: settingsOf({ ageMax: "6h" }) }, { model, clocks });
      await world.pass(60);
      const before = countOf(world, "rows.kept");
      expect(countOf(world, "rows.evicted")).toBe(0);
      clocks.at += day;
      await world.pass(20);
      // No store can tell such a clock from a node that was off for a day.
      expect(world.node.history.store.ledger()["rows.evicted.age"]).toBe(before);
      clocks.at -= day;
      await world.pass(20);
      expect(countOf(world, "rows.evicted")).toBe(before);
      expect(await rowsOf(world)).toEqual(model.kept.slice(before));
      const dayAhead = countOf(world, "rows.kept");
      await world.pass(800, { records: 10, stepMs: 30 * second });
      // A day before the clock gets there, they are gone: they are no younger than what came after them.
      expect(countOf(world, "rows.evicted")).toBeGreaterThan(dayAhead);
      const [oldest] = await rowsOf(world, { limit: 1 });
      expect(oldest?.endAt).toBeGreaterThan(clocks.at - ageMaxMs - minute);
      expect(oldest?.endAt).toBeLessThan(clocks.at - ageMaxMs + 10 * minute);
      expectExact(world);
    }
    expectWhole(dir, model);
  });
});
