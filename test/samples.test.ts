// Samples of series in the store: against a plain model, through restarts, crashes, clock steps and damage.

import { afterAll, describe, expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import type { SampleStep } from "../src/store/sample-pending.ts";
import { createSamples } from "../src/store/samples.ts";
import { createFile } from "../src/store/schema.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import { openStore } from "../src/store/store.ts";
import { createRecording } from "./samples.recording.ts";
import {
  always,
  answered,
  copyOf,
  expected,
  leftovers,
  mib,
  newDir,
  openWorld,
  removeDirs,
  sample,
  settle,
  startAt,
  stepMs,
  tableCount,
  values,
  type World,
} from "./samples.world.ts";

afterAll(removeDirs);

const anyValue = fc.oneof(
  { weight: 5, arbitrary: fc.integer({ min: 0, max: 1000 }) },
  fc.double(),
  fc.maxSafeInteger(),
  fc.constantFrom(-0, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 2 ** 53 - 1, 0.1 + 0.2),
);

const anyLabels = fc.constantFrom<Record<string, string>>(
  {},
  { a: "1" },
  { a: "1", b: "2" },
  { a: 'x"y\\', le: "+Inf" },
  { a: 'b":"2' },
);

const anySeries = fc
  .uniqueArray(fc.tuple(fc.constantFrom("m_a", "m_b", "n_total"), anyLabels), {
    selector: ([name, labels]) => name + JSON.stringify(labels),
  })
  .chain((series) => fc.tuple(fc.constant(series), fc.array(anyValue, { minLength: 15, maxLength: 15 })))
  .map(([series, values]) => series.map(([name, labels], index) => sample(name, values[index] ?? 0, labels)));

/** What happens between two steps: nothing, a few appends, a new start, a crash, a clock that is set. */
const anyAct = fc.record({
  series: anySeries,
  repeats: fc.oneof({ weight: 3, arbitrary: fc.constant(1) }, fc.integer({ min: 1, max: 150 })),
  jumpMs: fc.oneof(
    { weight: 6, arbitrary: fc.constant(stepMs) },
    fc.constantFrom(0, 1, -stepMs, -3_600_000, 86_400_000, 600_000),
  ),
  after: fc.constantFrom("nothing", "nothing", "append", "settle", "restart", "crash"),
});

describe("samples", () => {
  test("are what was handed over, whatever happens between the steps", () => {
    fc.assert(
      fc.property(fc.array(anyAct, { minLength: 1, maxLength: 12 }), fc.nat(), (acts, cut) => {
        let world = openWorld();
        let at = startAt;
        const steps: SampleStep[] = [];
        for (const { series, repeats, jumpMs, after } of acts) {
          for (let repeat = 0; repeat < repeats; repeat += 1) {
            at += repeat === 0 ? jumpMs : stepMs;
            const value = (old: number) => (repeat % 3 === 0 ? old : old + repeat);
            const step = { at, series: series.map((one) => ({ ...one, value: value(one.value) })) };
            steps.push(step);
            world.samples.add(step);
            if (repeat % 2 === 0) world.store.append({ rows: [], at });
          }
          if (after !== "nothing" && after !== "crash") world.store.append({ rows: [], at });
          if (after === "settle") settle(world, at);
          if (after !== "restart" && after !== "crash") continue;
          steps.length -= world.samples.facts().pendingSteps; // No file has these.
          const dir = after === "crash" ? copyOf(world.dir) : world.dir;
          world.store.close();
          world = openWorld({}, dir);
        }
        while (world.samples.facts().pendingSteps > 0) world.store.append({ rows: [], at });
        expect(answered(world.dir, always)).toEqual(expected(steps, always));
        settle(world, at);
        expect(answered(world.dir, always)).toEqual(expected(steps, always));
        const some = steps.map((step) => step.at).sort((a, b) => a - b);
        const fromAt = some[cut % some.length] ?? 0;
        const range = { fromAt, toAt: fromAt + 1 + (cut % (3 * 3_600_000)) };
        expect(answered(world.dir, range)).toEqual(expected(steps, range));
        expect(world.samples.facts()).toMatchObject({
          lost: [],
          evicted: [],
          samples: steps.reduce((sum, step) => sum + [...step.series].length, 0),
        });
        expect(world.store.stats().errors).toEqual({});
        world.store.close();
      }),
      { numRuns: 25 },
    );
  }, 120_000);

  test("in the midst of a compaction are told from their steps, and are compacted after a crash", () => {
    const world = openWorld();
    const steps = Array.from({ length: 125 }, (_, number) => ({
      at: startAt + number * stepMs,
      series: Array.from({ length: 1000 }, (_one, index) =>
        sample("m", number * index, { i: String(index) }),
      ),
    }));
    for (const step of steps) {
      world.samples.add(step);
      world.store.append({ rows: [], at: step.at });
    }
    const crashes: string[] = [];
    for (let call = 0; call < 12; call += 1) {
      if (leftovers(world.dir) > 0) crashes.push(copyOf(world.dir));
      world.store.append({ rows: [], at: startAt });
    }
    world.store.close();
    expect(crashes.length).toBeGreaterThan(1);
    const all = expected(steps, always);
    for (const dir of crashes) {
      const again = openWorld({}, dir);
      expect(answered(dir, always)).toEqual(all);
      settle(again, startAt);
      expect(tableCount(dir, "SELECT count(*) FROM sample_chunks")).toBe(1000);
      expect(tableCount(dir, "SELECT count(*) FROM sample_steps")).toBe(5);
      expect(answered(dir, always)).toEqual(all);
      again.store.close();
    }
  });

  test("take at most three bytes each in the file, keys and indexes and series included", () => {
    const world = openWorld();
    const recording = createRecording({ interfaces: 120 });
    let changed = 0;
    let before = new Map<string, number>();
    for (let number = 0; number < 2 * 240 + 120; number += 1) {
      const step = recording.step();
      world.samples.add(step);
      for (let call = 0; call < 4; call += 1) world.store.append({ rows: [], at: step.at });
      const now = new Map(
        step.series.map(({ name, labels, value }) => [name + JSON.stringify(labels), value]),
      );
      for (const [key, value] of now) if (before.get(key) !== value) changed += 1;
      before = now;
    }
    const { samples, lost, bytes } = world.samples.facts();
    expect(lost).toEqual([]);
    expect(changed / samples).toBeGreaterThan(0.5);
    world.store.close();
    const inFile = tableCount(
      world.dir,
      "SELECT sum(pgsize) FROM dbstat WHERE name GLOB 'sample_*' OR name GLOB '*series*'",
    );
    expect(inFile / samples).toBeLessThanOrEqual(3);
    expect(Math.abs(bytes / inFile - 1)).toBeLessThan(0.15); // What the bound goes by.
  }, 60_000);
});

describe("a transaction that is undone", () => {
  test("is followed by one that writes the same, and nothing is told as written before", () => {
    const path = join(newDir(), "undone.db");
    createFile({ path, generation: 1 });
    const database = openDatabase({ path });
    database.pragma("synchronous = OFF");
    const samples = createSamples({ ageMaxMs: 1e12, seriesMax: 100 });
    const part = samples.open({ database, budget: { pagesMax: 10_000 } });
    const write = (end: "COMMIT" | "ROLLBACK", at: number) => {
      part.pages(at);
      database.exec("BEGIN");
      part.write(at);
      database.exec(end);
      if (end === "COMMIT") part.settle();
    };
    for (let number = 0; number < 300; number += 1) {
      const at = startAt + number * stepMs;
      samples.add({ at, series: [sample("m", number), sample(`m_${number % 7}`, -number)] });
      expect(part.due(at)).toBe(true);
      write("ROLLBACK", at);
      expect(samples.facts().pendingSteps).toBe(1);
      write("ROLLBACK", at);
      while (part.due(at)) write("COMMIT", at);
    }
    const count = (table: string) => database.prepare(`SELECT count(*) FROM ${table}`).pluck().get();
    expect([count("sample_blocks"), count("sample_steps"), count("series")]).toEqual([2, 60, 8]);
    expect(samples.facts()).toMatchObject({ samples: 600, pendingSteps: 0, lost: [] });

    // The disk is full for more than an hour: what was about to be written then is, the oldest of the rest is lost.
    for (let number = 300; number < 600; number += 1) {
      samples.add({ at: startAt + number * stepMs, series: [sample("m", number)] });
      if (number === 301) write("ROLLBACK", startAt);
    }
    while (part.due(startAt)) write("COMMIT", startAt);
    expect(samples.facts().lost).toEqual([{ reason: "queue", samples: 60 }]);
    const times = database.prepare("SELECT at FROM sample_steps").pluck().all().map(Number);
    const ends = database.prepare("SELECT end_at FROM sample_blocks ORDER BY id").pluck().all().map(Number);
    const held = [...Array(300).keys(), 300, 301, ...Array.from({ length: 238 }, (_, index) => 362 + index)];
    const numbers = held.map((number) => startAt + number * stepMs);
    expect(ends).toEqual([119, 239, 359, 479].map((place) => numbers[place] ?? 0));
    expect(times).toEqual(numbers.slice(480));
    database.close();
  });
});

describe("a series that is gone", () => {
  test("ends at the first step without it, although that one begins a block and the question", () => {
    const world = openWorld();
    const add = (number: number, names: readonly string[]) => {
      const at = startAt + number * stepMs;
      world.samples.add({ at, series: names.map((name) => sample(name, number)) });
      world.store.append({ rows: [], at });
    };
    for (let number = 0; number < 120; number += 1) add(number, number < 119 ? ["a", "b", "c"] : ["a", "b"]);
    add(120, ["a"]);
    const range = { fromAt: startAt + 120 * stepMs, toAt: startAt + 122 * stepMs };
    const ends: Record<string, [number, number | null][]> = {
      "a{}": [[range.fromAt, 120]],
      "b{}": [[range.fromAt, null]],
    };
    expect(tableCount(world.dir, "SELECT count(*) FROM sample_blocks")).toBe(0);
    expect(answered(world.dir, range)).toEqual(ends);
    settle(world, startAt);
    expect(tableCount(world.dir, "SELECT count(*) FROM sample_blocks")).toBe(1);
    expect(answered(world.dir, range)).toEqual(ends);
    world.store.close();
  });
});

describe("what has no place", () => {
  test("waits while there is no disk: the newest steps, in a bound", () => {
    const samples = createSamples({ ageMaxMs: 1e9, seriesMax: 10 });
    for (let number = 0; number < 300; number += 1)
      samples.add({ at: startAt + number, series: [sample("m", number), sample("n", 1)] });
    expect(samples.facts()).toMatchObject({ pendingSteps: 240, lost: [{ reason: "queue", samples: 120 }] });
  });

  test("goes to the disk once there is one", () => {
    const dir = join(newDir(), "late");
    writeFileSync(dir, "no directory");
    const samples = createSamples({ ageMaxMs: 1e12, seriesMax: 10 });
    let at = startAt;
    const options = { dir, bytesMax: 64 * mib, ageMaxMs: 1e12, retryMs: 1000, now: () => at };
    using store = openStore({ ...options, parts: [samples] });
    expect(store.stats().mode).toBe("memory");
    const steps = Array.from({ length: 130 }, (_, number) => {
      at += stepMs;
      const step = { at, series: [sample("m", number)] };
      samples.add(step);
      if (number === 100) rmSync(dir);
      store.append({ rows: [], at });
      return step;
    });
    expect(store.stats().mode).toBe("disk");
    expect(samples.facts()).toMatchObject({ pendingSteps: 0, lost: [] });
    expect(answered(dir, always)).toEqual(expected(steps, always));
  });

  test("is counted: series past the bound, of which those that were first stay", () => {
    const world = openWorld({ seriesMax: 3 });
    const step = { at: startAt, series: ["a", "b", "c", "d", "e"].map((name) => sample(name, 1)) };
    world.samples.add(step);
    world.store.append({ rows: [], at: startAt });
    expect(world.samples.facts()).toMatchObject({
      series: 3,
      samples: 3,
      lost: [{ reason: "series_limit", samples: 2 }],
    });
    expect(Object.keys(answered(world.dir, always))).toEqual(["a{}", "b{}", "c{}"]);
    world.store.close();
  });

  test("makes room without a disk too: series that no waiting step has", () => {
    const samples = createSamples({ ageMaxMs: 1e9, seriesMax: 500 });
    for (let number = 0; number < 1000; number += 1)
      samples.add({ at: startAt + number, series: [sample(`m_${number}`, number)] });
    expect(samples.facts().lost).toEqual([{ reason: "queue", samples: 760 }]);
  });

  test("is no step without a time", () => {
    const samples = createSamples({ ageMaxMs: 1e9, seriesMax: 3 });
    expect(() => samples.add({ at: Number.NaN, series: [] })).toThrow(RangeError);
  });

  test("is damaged: steps that cannot be read go, the others stay, and the loss is counted", () => {
    const world = openWorld();
    const add = ({ samples, store }: World, number: number) => {
      const at = startAt + number * stepMs;
      samples.add({ at, series: [sample("m", number), sample("n", 1)] });
      store.append({ rows: [], at });
    };
    for (let number = 0; number < 130; number += 1) add(world, number);
    settle(world, startAt);
    world.store.close();
    const database = openDatabase({ path: join(world.dir, "fovea.db") });
    database.prepare("UPDATE sample_steps SET data = x'02ffff' WHERE id = 125").run();
    database.close();
    const again = openWorld({}, world.dir);
    for (let number = 130; number < 135; number += 1) add(again, number);
    settle(again, startAt);
    const found = values(answered(world.dir, always)["m{}"]);
    expect(found).toEqual([...Array(120).keys(), 130, 131, 132, 133, 134]);
    expect(again.samples.facts()).toMatchObject({ samples: 250, lost: [{ reason: "damaged", samples: 20 }] });
    expect(again.store.stats()).toMatchObject({ mode: "disk", errors: {}, recoveries: [] });
    again.store.close();
  });
});
