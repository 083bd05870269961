// Batches of samples: every value once and in order, as steps and as blocks, with the places where series ended.

import { afterAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { StoreQueryError } from "../src/store/failure.ts";
import { openQueries } from "../src/store/queries.ts";
import type { SampleStep } from "../src/store/sample-pending.ts";
import type { Batch, BatchQuery } from "../src/store/sink-batch.ts";
import { openWorld, removeDirs, sample, settle, startAt, stepMs } from "./samples.world.ts";
import { allOf, blocksOf, compact, countOf, modelOf, put, stepsOf } from "./sink-batch.steps.ts";
import {
  drain,
  type File,
  follow,
  linesOf,
  type Next,
  openFile,
  queryOf,
  type SampleLine,
  sum,
} from "./sink-batch.world.ts";

afterAll(removeDirs);

describe("samples of a sink", () => {
  test("are the same bytes as steps and as blocks", () => {
    const world = openWorld();
    const steps = stepsOf(40, (number) => number % 12 === 11);
    put(world, steps);
    const total = countOf(steps);
    const sizes = [1000, 17, 1];
    const read = (): readonly (readonly Batch[])[] => {
      using file = openFile(world.dir);
      expect(file.state("samples")).toBe(total);
      return sizes.map((recordsMax) => drain("metrics", file, total, () => ({ recordsMax })));
    };
    using before = openFile(world.dir);
    expect(blocksOf(before)).toBe(0);
    const logged = read();
    compact(world, 3);
    const compacted = read();
    expect(compacted).toEqual(logged);
    for (const batches of logged) {
      expect(allOf(batches)).toEqual(modelOf(steps));
      expect(sum(batches, ({ records }) => records)).toBe(total);
    }
    expect(logged[0]).toHaveLength(4);
    expect(logged[2]).toHaveLength(total);
    world.store[Symbol.dispose]();
  });

  test("go on in the middle of a unit that was compacted meanwhile", () => {
    const world = openWorld();
    const steps = stepsOf(20, (number) => number === 12);
    put(world, steps);
    const last = countOf(steps.slice(0, 12));
    using kept = openFile(world.dir);
    const query = queryOf("metrics", kept, { last, recordsMax: 7 });
    const batches = [kept.read(query)];
    const next = follow(query, batches[0] as Batch);
    compact(world, 1);
    for (const again of [true, false]) {
      using file = again ? kept : openFile(world.dir);
      const rest = { ...queryOf("metrics", file, { last, recordsMax: 1000 }), ...next, last };
      const all = [...batches, file.read(rest)];
      expect(all.at(-1)?.complete).toBe(true);
      const model = modelOf(steps.slice(0, 12));
      expect(allOf(all)).toEqual(model);
    }
    world.store[Symbol.dispose]();
  });

  test("end where the series ended, across blocks too", () => {
    const world = openWorld();
    const at = (number: number) => startAt + (number < 3 ? number : number - 5) * stepMs;
    const step = (number: number, ...names: string[]): SampleStep => ({
      at: at(number),
      series: names.map((name) => sample(name, number)),
    });
    // The fourth starts a block; `z` ended with the one before, `m` with its first step.
    const steps = [
      step(0, "a", "m", "z"),
      step(1, "a", "z"),
      step(2, "a", "m", "z"),
      step(3, "a", "m"),
      step(4, "a"),
    ];
    put(world, steps);
    compact(world, 1);
    using file = openFile(world.dir);
    for (const recordsMax of [1, 2, 100]) {
      const batches = drain("metrics", file, countOf(steps), () => ({ recordsMax }));
      expect(allOf(batches)).toEqual(modelOf(steps));
      expect(sum(batches, ({ markers }) => markers)).toBe(3);
    }
    world.store[Symbol.dispose]();
  });

  test("go on where a body has no room for a marker beside a sample", () => {
    const world = openWorld();
    const steps = ["gone", "new"].map((name, number) => ({
      at: startAt + number * stepMs,
      series: [sample(name, number), sample("stays", number)],
    }));
    put(world, steps);
    using file = openFile(world.dir);
    const read = (bytesMax: number) => drain("metrics", file, 4, () => ({ spanMaxMs: 0, bytesMax }));
    const roomy = read(1000);
    expect(roomy.map(({ records, markers }) => [records, markers])).toEqual([
      [2, 0],
      [2, 1],
    ]);
    // The marker stands before all samples of its body.
    expect(roomy[1] === undefined ? [] : linesOf<SampleLine>(roomy[1])[0]?.key).toBe("gone{}");
    const tight = read(1);
    expect(tight.map(({ records, markers }) => [records, markers])).toEqual([
      [1, 0],
      [1, 0],
      [1, 0],
      [1, 0],
    ]);
    world.store[Symbol.dispose]();
  });

  test("are read from the file of the worker", async () => {
    const world = openWorld();
    put(world, stepsOf(2));
    await using queries = openQueries({ store: world.store });
    using file = openFile(world.dir);
    const query = queryOf("metrics", file, { last: countOf(stepsOf(2)) });
    const encoder = { ...query.encoder, format: "loki" as const };
    const refused = await queries.batch({ ...query, encoder }).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(StoreQueryError);
    expect(await queries.batch({ ...query, generation: 1 })).toMatchObject({ stale: true, records: 0 });
    await queries[Symbol.asyncDispose]();
    world.store[Symbol.dispose]();
  });

  test("come with their text where one is alone", () => {
    const world = openWorld();
    put(world, [{ at: startAt, series: [sample("x", 1.5, { le: 'a"b', node: "n" })] }]);
    using file = openFile(world.dir);
    expect(file.read(queryOf("metrics", file, { last: 1 }))).toMatchObject({
      text: `x{le="a\\"b",node="n"} 1.5 @${startAt}`,
      ...{ records: 1, complete: true, firstAt: startAt, lastAt: startAt },
    });
    world.store[Symbol.dispose]();
  });

  test("of one series alone come where a question wants no other, and say which it is", () => {
    const world = openWorld();
    const steps = stepsOf(12);
    put(world, steps);
    using file = openFile(world.dir);
    const last = countOf(steps);
    const read = (one: boolean): readonly Batch[] => {
      const batches: Batch[] = [];
      for (let next: Next = { first: 1, done: 0 }; next.first <= last; ) {
        const query = queryOf("metrics", file, { last, ...next, ...(one ? { oneSeries: true } : {}) });
        const batch = file.read(query);
        batches.push(batch);
        next = follow(query, batch);
      }
      return batches;
    };
    const [all, ones] = [read(false), read(true)];
    expect(all.map(({ series }) => series)).toEqual([undefined]);
    expect(allOf(ones)).toEqual(allOf(all));
    const numbers = ones.map(({ series }) => series);
    expect(new Set(numbers.filter((one) => one !== undefined)).size).toBe(ones.length);
    expect(ones.map((batch) => Object.keys(allOf([batch])).length)).toEqual(ones.map(() => 1));
    expect(ones).toHaveLength(Object.keys(modelOf(steps)).length);
    world.store[Symbol.dispose]();
  });

  test("that no body can hold are rejected alone", () => {
    const world = openWorld();
    const steps = [0, 1, 2].map((number) => ({
      at: startAt + number * stepMs,
      series: [sample("a", number), sample("a", number, { poison: "1" }), sample("b", number)],
    }));
    put(world, steps);
    using file = openFile(world.dir);
    for (const recordsMax of [1, 100]) {
      const batches = drain("metrics", file, 9, () => ({ recordsMax }));
      expect(sum(batches, ({ records }) => records)).toBe(6);
      expect(sum(batches, ({ rejected }) => rejected)).toBe(3);
      expect(batches.find(({ rejected }) => rejected > 0)?.rejectedMessage).toBe("poison cannot be encoded");
    }
    world.store[Symbol.dispose]();
  });
});

const arbitraryStep = fc.record({
  back: fc.boolean(),
  values: fc.array(
    fc.option(fc.oneof(fc.nat(9), fc.constantFrom(-0, Number.NaN, 0.1, Infinity)), { nil: undefined }),
    {
      minLength: 6,
      maxLength: 6,
    },
  ),
});

const arbitraryAct = fc.oneof(
  { weight: 3, arbitrary: arbitraryStep.map((step) => ({ kind: "step" as const, ...step })) },
  { weight: 2, arbitrary: fc.constant({ kind: "settle" as const }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("read" as const),
      recordsMax: fc.integer({ min: 1, max: 12 }),
      spanMaxMs: fc.constantFrom(0, 3 * stepMs, Number.POSITIVE_INFINITY),
      fresh: fc.boolean(),
    }),
  },
);

test("whatever comes, goes, is compacted and is read when, all of it arrives in order", () => {
  fc.assert(
    fc.property(fc.array(arbitraryAct, { maxLength: 60 }), (acts) => {
      const world = openWorld();
      using kept = openFile(world.dir);
      const steps: SampleStep[] = [];
      const batches: Batch[] = [];
      let next: Next = { first: 1, done: 0 };
      const read = (file: File, changes: Partial<BatchQuery>): boolean => {
        const last = next.last ?? file.state("samples");
        if (last < next.first) return false;
        const query = { ...queryOf("metrics", file, { last, ...changes }), ...next, last };
        const batch = file.read(query);
        next = follow(query, batch);
        batches.push(batch);
        return true;
      };
      for (const act of acts) {
        if (act.kind === "settle") settle(world, startAt);
        else if (act.kind === "step") {
          const before = steps.at(-1)?.at ?? startAt;
          const series = act.values.flatMap((value, index) =>
            value === undefined ? [] : [sample("s", value, { index: `${(index * 5) % 6}` })],
          );
          steps.push({
            at: before + (act.back ? -stepMs : stepMs),
            series: [...series, sample("always", 1)],
          });
          world.samples.add(steps.at(-1) as SampleStep);
          world.store.append({ rows: [], at: startAt });
        } else {
          using fresh = openFile(world.dir);
          const { recordsMax, spanMaxMs } = act;
          read(act.fresh ? fresh : kept, { recordsMax, spanMaxMs });
        }
      }
      settle(world, startAt);
      while (read(kept, { recordsMax: 50 }));
      expect(sum(batches, ({ records }) => records)).toBe(countOf(steps));
      expect(allOf(batches)).toEqual(modelOf(steps));
      world.store[Symbol.dispose]();
    }),
    { numRuns: 60 },
  );
});
