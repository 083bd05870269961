// Samples that a batch does not hold: filtered, expired, gone from the file or damaged, each counted.

import { afterAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { Batch, SinkFilter } from "../src/store/sink-batch.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import { copyOf, openWorld, removeDirs, settle, startAt, stepMs } from "./samples.world.ts";
import { allOf, blocksOf, compact, countOf, modelOf, put, stepsOf } from "./sink-batch.steps.ts";
import {
  doneOf,
  drain,
  follow,
  linesOf,
  type Next,
  openFile,
  queryOf,
  type SampleLine,
  sum,
} from "./sink-batch.world.ts";

afterAll(removeDirs);

const filters: readonly SinkFilter[] = [[], ["b", "c*"], ["*_total"], ["none"]].map((metrics) => ({
  include: [],
  exclude: [],
  metrics,
}));

describe("samples that are not sent", () => {
  test("are counted: filtered by name, expired by time", () => {
    const world = openWorld();
    const steps = stepsOf(60, (number) => number % 25 === 24);
    put(world, steps);
    using file = openFile(world.dir);
    for (const filter of filters)
      for (const cutoffAt of [0, startAt + 20 * stepMs, startAt + 1e9])
        for (const spanMaxMs of [0, 4 * stepMs, Number.POSITIVE_INFINITY]) {
          const options = { filter, cutoffAt, spanMaxMs };
          const batches = drain("metrics", file, countOf(steps), (number) => ({
            ...options,
            recordsMax: 1 + ((number * 5) % 23),
          }));
          const globs = filter.metrics.map((glob) => new RegExp(`^${glob.replaceAll("*", ".*")}$`));
          const wants = (name: string) => globs.length === 0 || globs.some((glob) => glob.test(name));
          const wanted = steps.map(({ at, series }) => ({
            at,
            series: [...series].filter(({ name }) => wants(name)),
          }));
          const fresh = wanted.filter(({ at }) => at >= cutoffAt);
          expect(sum(batches, ({ filtered }) => filtered)).toBe(countOf(steps) - countOf(wanted));
          expect(sum(batches, ({ expired }) => expired)).toBe(countOf(wanted) - countOf(fresh));
          const points = Object.entries(modelOf(wanted)).map(
            ([key, all]) => [key, all.filter(([at]) => at >= cutoffAt)] as const,
          );
          expect(allOf(batches)).toEqual(Object.fromEntries(points.filter(([, all]) => all.length > 0)));
          for (const { expired, body } of batches) expect(expired === 0 || body === undefined).toBe(true);
        }
    world.store[Symbol.dispose]();
  });

  test("expire on the way where their unit was begun before", () => {
    const world = openWorld();
    const steps = stepsOf(10);
    put(world, steps);
    using file = openFile(world.dir);
    const last = countOf(steps);
    const cutoffAt = startAt + 4 * stepMs;
    const batches = drain("metrics", file, last, (number) => ({
      recordsMax: 4,
      cutoffAt: number < 2 ? 0 : cutoffAt,
    }));
    expect(sum(batches, doneOf)).toBe(last);
    const late = batches.slice(2).flatMap(linesOf<SampleLine>);
    expect(late.every(({ at }) => at >= cutoffAt)).toBe(true);
    expect(sum(batches, ({ expired }) => expired)).toBeGreaterThan(0);
    world.store[Symbol.dispose]();
  });

  test("are missing where retention took them, in the middle of a unit too", () => {
    const world = openWorld({ ageMaxMs: 1000 * stepMs });
    const steps = stepsOf(30, (number) => number === 10 || number === 20);
    put(world, steps);
    compact(world, 2);
    using file = openFile(world.dir);
    const total = countOf(steps);
    const query = queryOf("metrics", file, { last: total, recordsMax: 5 });
    const begun = file.read(query);
    expect(begun).toMatchObject({ complete: false, last: countOf(steps.slice(0, 10)) });
    settle(world, (steps[9]?.at ?? 0) + 1000 * stepMs + 1);
    const rest = file.read({ ...query, ...(follow(query, begun) as Required<Next>) });
    expect(rest).toMatchObject({ complete: true, missing: begun.last - 5, records: 0, last: begun.last });
    expect(blocksOf(file)).toBe(1);
    const held = countOf(steps.slice(10));
    const batches = drain("metrics", file, total);
    expect(batches[0]).toMatchObject({ first: 1, missing: total - held, records: 0 });
    expect(sum(batches, ({ records }) => records)).toBe(held);
    world.store[Symbol.dispose]();
  });

  test("are missing where they cannot be read, and the others are not", () => {
    const world = openWorld();
    const steps = stepsOf(30, (number) => number === 12 || number === 20);
    put(world, steps);
    const total = countOf(steps);
    const damaged = (sql: string): Batch[] => {
      const dir = copyOf(world.dir);
      const database = openDatabase({ path: join(dir, "fovea.db") });
      expect(database.prepare(sql).run().changes).toBeGreaterThan(0);
      database.close();
      using file = openFile(dir);
      const batches = drain("metrics", file, total, () => ({ recordsMax: 11 }));
      expect(sum(batches, doneOf)).toBe(total);
      return batches;
    };
    const seriesA = "series = (SELECT id FROM series WHERE name = 'a_total')";
    const missing = ({ missing: count }: Batch): number => count;
    // A step that cannot be read takes those behind it along, up to the next block.
    const inLog = damaged("UPDATE sample_steps SET data = x'02ff' WHERE id = 5");
    expect(sum(inLog, missing)).toBe(countOf(steps.slice(4, 12)));
    compact(world, 2);
    const aOf = (batches: readonly Batch[]) => allOf(batches)["a_total{}"];
    for (const [data, lost] of [
      ["x''", 12],
      ["substr(data, 1, length(data) - 1)", 12],
    ] as const) {
      const batches = damaged(`UPDATE sample_chunks SET data = ${data} WHERE block = 12 AND ${seriesA}`);
      expect(sum(batches, missing)).toBe(lost);
      expect(aOf(batches)).toHaveLength(18);
      const { "a_total{}": _, ...others } = modelOf(steps);
      expect(allOf(batches)).toMatchObject(others);
    }
    const times = damaged("UPDATE sample_blocks SET times = x'ffff' WHERE id = 12");
    expect(sum(times, missing)).toBe(countOf(steps.slice(0, 12)));
    const nameless = damaged("DELETE FROM series WHERE name = 'a_total'");
    expect(sum(nameless, missing)).toBe(30);
    world.store[Symbol.dispose]();
  });

  test("that a question cuts within a step are not sent in part", () => {
    const world = openWorld();
    const steps = stepsOf(3);
    put(world, steps);
    using file = openFile(world.dir);
    const first = countOf(steps.slice(0, 1));
    expect(file.read(queryOf("metrics", file, { last: first - 1 }))).toMatchObject({ missing: first - 1 });
    expect(file.read(queryOf("metrics", file, { first: 2, last: countOf(steps) }))).toMatchObject({
      ...{ first: 2, last: first, missing: first - 1, records: 0, complete: true },
    });
    world.store[Symbol.dispose]();
  });
});
