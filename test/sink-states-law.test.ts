// The law of the sinks' states against a model, whatever happens in whatever order; and what their writes take.

import { afterAll, describe, expect, test } from "bun:test";
import { statSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { createSinkStates, type SinkKey, type SinkState } from "../src/store/sink-states.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import {
  append,
  archive,
  declared,
  done,
  expectLaw,
  gauge,
  lake,
  newDir,
  openWorld,
  removeDirs,
  second,
  startAt,
  stateOf,
  type World,
  written,
} from "./sinks.world.ts";

afterAll(removeDirs);

const minute = 60 * second;
const sinks = [declared(lake), declared(archive, { fed: true }), declared(gauge)];

const part = fc.record({ from: fc.integer({ min: -5, max: 30 }), length: fc.integer({ min: 1, max: 40 }) });
const key = fc.constantFrom<SinkKey>(lake, archive, gauge);
const command = fc.oneof(
  fc.record({ append: fc.record({ rows: fc.nat(300), series: fc.nat(5), laterMs: fc.nat(20_000) }) }),
  fc.record({ progress: fc.record({ key, part, complete: fc.boolean(), excess: fc.nat(3) }) }),
  fc.record({ divert: part }),
  fc.record({ split: fc.record({ key, back: fc.nat(100) }) }),
  fc.record({ discard: fc.record({ key, ahead: fc.nat(30) }) }),
  fc.record({ pause: key }),
  fc.record({ undo: fc.nat(100) }),
  fc.record({ replace: fc.constant(true) }),
  fc.record({ kill: fc.boolean() }),
);
type Command = typeof command extends fc.Arbitrary<infer T> ? T : never;

const pendingOrdinals = ({ ranges }: SinkState): number[] =>
  ranges.flatMap(({ first, last }) =>
    Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index),
  );

/** Which rows wait, one by one. Rows are sent whole, so that there is nothing that is done in part. */
type Model = { lake: Set<number>; archive: Set<number>; newest: number };

function createRun() {
  let at = startAt;
  const bounds = { sinks, ageMaxMs: minute, now: () => at };
  let world = openWorld(bounds);
  const model: Model = { lake: new Set(), archive: new Set(), newest: 0 };

  /** What was appended is there, and what is older than the file is not. */
  const follow = (): void => {
    const { oldest, newest } = world.states.bounds("flows");
    for (let ordinal = model.newest + 1; ordinal <= newest; ordinal++) model.lake.add(ordinal);
    model.newest = newest;
    for (const set of [model.lake, model.archive])
      for (const ordinal of set) if (ordinal < oldest) set.delete(ordinal);
  };

  const spanOf = (of: SinkKey, { from, length }: { from: number; length: number }) => {
    const first = Math.max(1, (stateOf(world, of).ranges[0]?.first ?? 1) + from);
    return { first, last: first + length - 1 };
  };

  const take = (of: SinkKey, { first, last }: { first: number; last: number }): number[] => {
    if (of.signal === "metrics") return [];
    const set = of.sink === "lake" ? model.lake : model.archive;
    return [...set].filter((ordinal) => ordinal >= first && ordinal <= last && set.delete(ordinal));
  };

  const run = (step: Command): void => {
    if ("append" in step) {
      at += step.append.laterMs;
      append(world, at, step.append);
    } else if ("progress" in step) {
      const { complete, excess } = step.progress;
      const whole = complete || step.progress.key.signal === "flows";
      const span = spanOf(step.progress.key, step.progress.part);
      // Of a unit that was begun no other end can be told.
      const { unitLast = span.last } = stateOf(world, step.progress.key).ranges[0] ?? {};
      const last = whole || unitLast < span.first ? span.last : unitLast;
      const sent = whole ? span.last - span.first + 1 : Math.ceil((last - span.first + 1) / 3);
      done(
        world,
        step.progress.key,
        { ...span, last },
        { complete: whole, counts: { sent, filtered: excess } },
      );
      take(step.progress.key, span);
    } else if ("divert" in step) {
      const span = spanOf(lake, step.divert);
      done(world, lake, span, { divertTo: "archive" });
      for (const ordinal of take(lake, span)) model.archive.add(ordinal);
    } else if ("split" in step) {
      const { newest } = world.states.bounds(step.split.key.signal);
      world.states.split(step.split.key, newest - step.split.back);
    } else if ("discard" in step) {
      const { last } = spanOf(step.discard.key, { from: 0, length: step.discard.ahead });
      world.states.discard(step.discard.key, last + 1);
      take(step.discard.key, { first: 0, last });
    } else if ("pause" in step) world.states.setPaused(step.pause, !stateOf(world, step.pause).paused);
    else if ("undo" in step) {
      world.undoing.undo = true;
      expect(append(world, at, { rows: step.undo, series: 2 })).toBe(0);
      world.undoing.undo = false;
    } else if ("replace" in step) replace();
    else reopen(step.kill);
  };

  const replace = (): void => {
    const { generation } = world.states.bounds("flows");
    world.store.readFailed({ code: "SQLITE_CORRUPT", message: "for the test", generation });
    append(world, at, { rows: 1 });
    model.lake.clear();
    model.archive.clear();
    expect(world.states.bounds("flows").generation).not.toBe(generation);
  };

  const reopen = (kill: boolean): void => {
    world.store.append({ rows: [], at });
    const before = world.states.all();
    if (kill) expect(written(world.dir, sinks)).toEqual(before);
    world.store.close();
    world = openWorld(bounds, world.dir);
    // Closing writes steps that wait.
    const flows = (all: readonly SinkState[]) => all.filter(({ signal }) => signal === "flows");
    expect(flows(world.states.all())).toEqual(flows(before));
  };

  return {
    run,
    follow,
    check: (): void => {
      expectLaw(world);
      expect(pendingOrdinals(stateOf(world, lake))).toEqual([...model.lake].sort((a, b) => a - b));
      expect(pendingOrdinals(stateOf(world, archive))).toEqual([...model.archive].sort((a, b) => a - b));
      const { oldest, newest } = world.states.bounds("metrics");
      const { samples, pendingSteps } = world.samples.facts();
      if (pendingSteps === 0) expect(newest - oldest + 1).toBe(samples);
      const { ranges } = stateOf(world, gauge);
      expect([oldest, newest]).toEqual([Math.min(oldest, ranges[0]?.first ?? 0), ranges.at(-1)?.last ?? 0]);
    },
    close: () => world.store.close(),
  };
}

describe("the law of the states", () => {
  test("holds after each step, and nothing is lost or pending twice", () => {
    fc.assert(
      fc.property(fc.array(command, { minLength: 5, maxLength: 40 }), (commands) => {
        const run = createRun();
        try {
          for (const step of [{ append: { rows: 50, series: 3, laterMs: 0 } }, ...commands]) {
            run.run(step);
            run.follow();
            run.check();
          }
        } finally {
          run.close();
        }
      }),
      { numRuns: 60 },
    );
  }, 60_000);
});

describe("dead letters", () => {
  test("of records that were refused for their time alone are one until it is written", () => {
    const world = openWorld({ sinks: [declared(lake)] });
    append(world, startAt, { rows: 10 });
    const refused = (first: number, message: string, reason = "too_old") =>
      done(
        world,
        lake,
        { first, last: first },
        {
          counts: { [`rejected.${reason}`]: 1 },
          deadLetters: [{ at: startAt, reason, code: "400", message, records: 1, text: `record ${first}` }],
        },
      );
    for (const first of [1, 2, 3]) refused(first, "out of order sample");
    refused(4, "out of bounds");
    for (const first of [5, 6]) refused(first, "bad labels", "4xx");
    const told = () => world.states.deadLetters({ limit: 10 }).map(({ text, records }) => [text, records]);
    const all = [
      ["record 6", 1],
      ["record 5", 1],
      ["record 4", 1],
      ["record 1", 3],
    ];
    expect(told()).toEqual(all);
    append(world, startAt + second, {});
    expect(told()).toEqual(all);
    refused(7, "out of order sample");
    append(world, startAt + 2 * second, {});
    expect(told()).toEqual([["record 7", 1], ...all]);
    world.store.close();
  });

  const letter = (text: string) => ({
    ...{ at: startAt, reason: "4xx", code: "400", message: "no", records: 1, text },
  });
  const refuse = (world: World, ordinal: number, text: string): void =>
    done(
      world,
      lake,
      { first: ordinal, last: ordinal },
      { counts: { "rejected.4xx": 1 }, deadLetters: [letter(text)] },
    );

  test("are written with what was refused, newest first, and the oldest give way", () => {
    const world = openWorld({ sinks, bytesMax: 64 * 2 ** 20 });
    append(world, startAt, { rows: 1200 });
    for (let ordinal = 1; ordinal <= 1005; ordinal++) refuse(world, ordinal, `row ${ordinal}`);
    refuse(world, 1, "was refused before");
    const newest = world.states.deadLetters({ limit: 2 });
    expect(newest.map(({ text }) => text)).toEqual(["row 1005", "row 1004"]);
    expect(world.states.deadLettersEvicted).toBe(5);
    for (let calls = 0; calls < 200; calls++) world.store.append({ rows: [], at: startAt });
    refuse(world, 1006, "ä".repeat(4000));
    world.store.append({ rows: [], at: startAt });
    const all = world.states.deadLetters({ sink: "lake", limit: 2000 });
    expect(all.length).toBe(1000);
    expect(all[0]?.text).toBe("ä".repeat(2048));
    expect([all[1]?.text, all.at(-1)?.text]).toEqual(["row 1005", "row 7"]);
    expect(all[1]).toEqual({ ...lake, ...letter("row 1005"), id: all[1]?.id ?? 0 });
    expect(world.states.deadLetters({ sink: "archive", limit: 10 })).toEqual([]);
    expect(world.states.deadLettersEvicted).toBe(6);
    world.store.close();
    const again = openWorld({ sinks }, world.dir); // In a small file there is less room for them.
    for (let calls = 0; calls < 100; calls++) again.store.append({ rows: [], at: startAt });
    const left = again.states.deadLetters({ limit: 2000 });
    expect(left.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0)).toBeLessThanOrEqual(
      2 ** 20 / 64,
    );
    expect(left[0]).toEqual(all[0]);
    expect(again.states.deadLettersEvicted).toBe(1006 - left.length);
    again.store.close();
  });

  test("that never came into a file are told of as given way", () => {
    const world = openWorld({ sinks });
    append(world, startAt, { rows: 5 });
    refuse(world, 1, "one");
    world.store.append({ rows: [], at: startAt });
    const { generation } = world.states.bounds("flows");
    world.store.readFailed({ code: "SQLITE_CORRUPT", message: "for the test", generation });
    append(world, startAt, { rows: 1 });
    expect(world.states.deadLetters({ limit: 5 })).toEqual([]);
    expect(world.states.deadLettersEvicted).toBe(1);
    refuse(world, 6, "two");
    world.store.append({ rows: [], at: startAt });
    world.store.close();
    const again = openWorld({ sinks }, world.dir);
    expect(again.states.deadLetters({ limit: 5 })).toMatchObject([{ id: 2, text: "two" }]);
    expect(again.states.deadLettersEvicted).toBe(1);
    again.store.close();
  });
});

test("a write never changes more pages than it says, however much there is of everything", () => {
  const many = Array.from({ length: 16 }, (_, index) =>
    (["flows", "metrics"] as const).map((signal) => declared({ sink: `sink-${index}`, signal })),
  ).flat();
  const dir = newDir();
  const world = openWorld({ sinks: [] }, dir);
  append(world, startAt, { rows: 2000, series: 90 });
  world.store.close();
  const path = join(dir, "fovea.db");
  const database = openDatabase({ path });
  const states = createSinkStates();
  states.declare(many);
  const open = states.open({ database, budget: { pagesMax: 192 } });
  const frames: [frames: number, pages: number][] = [];
  const write = (): void => {
    database.pragma("wal_checkpoint(TRUNCATE)");
    database.exec("BEGIN IMMEDIATE");
    const pages = open.pages(startAt);
    open.write(startAt);
    database.exec("COMMIT");
    open.settle();
    frames.push([Math.max(0, statSync(`${path}-wal`).size - 32) / 4120, pages]);
  };
  write();
  for (let round = 1; round <= 70; round++) {
    for (const one of many) {
      const first = 10 * round;
      states.split(one, first + 1);
      const deadLetters = Array.from({ length: round % 3 }, () => ({
        ...{
          at: startAt,
          reason: "4xx",
          code: "400",
          message: "no",
          records: 1,
          text: "x".repeat(100 * round),
        },
      }));
      const counts = { [`rejected.${round % 40}`]: 1 };
      done({ states }, one, { first, last: first }, { counts, deadLetters });
    }
    write();
  }
  expectLaw({ states });
  expect(states.state({ sink: "sink-3", signal: "flows" })?.ranges.length).toBe(64);
  expect(frames.filter(([used, pages]) => used > pages)).toEqual([]);
  expect(Math.max(...frames.map(([, pages]) => pages))).toBeGreaterThan(20);
  database.close();
});
