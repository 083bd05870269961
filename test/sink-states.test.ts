// The states of sinks: each record that is offered to one is counted once, whatever happens to the file.

import { afterAll, describe, expect, test } from "bun:test";
import { createSinkStates, type SinkKey } from "../src/store/sink-states.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import {
  append,
  archive,
  declared,
  done,
  expectLaw,
  gauge,
  lake,
  openWorld,
  pending,
  removeDirs,
  second,
  sql,
  startAt,
  stateOf,
  written,
} from "./sinks.world.ts";

afterAll(removeDirs);

const minute = 60 * second;

describe("a sink", () => {
  test("begins with the oldest record in the file, or after the newest", () => {
    const world = openWorld({ sinks: [] });
    append(world, startAt, { rows: 5, series: 3 });
    const late = { sink: "late", signal: "flows" } as const;
    world.states.declare([declared(lake), declared(gauge), declared(late, { start: "newest" })]);
    append(world, startAt + second, { rows: 2 });
    expect(world.states.all().map((state) => [state.sink, pending(state), state.offered])).toEqual([
      ["lake", "1-7+", 7],
      ["lake", "1-3+", 3],
      ["late", "6-7+", 2],
    ]);
    expect(world.states.bounds("flows")).toMatchObject({ oldest: 1, newest: 7 });
    world.store.close();
    expect(world.states).toMatchObject({ ready: false });
    expect(world.states.bounds("flows")).toEqual({ generation: 0, oldest: 1, newest: 0 });
  });

  test("goes on where it was after a stop, and after a kill", () => {
    const sinks = [declared(lake), declared(archive, { fed: true }), declared(gauge)];
    const world = openWorld({ sinks });
    append(world, startAt, { rows: 10, series: 4 });
    done(world, lake, { first: 1, last: 4 });
    world.states.split(lake, 9);
    done(world, lake, { first: 5, last: 6 }, { divertTo: "archive" });
    done(world, gauge, { first: 1, last: 4 }, { complete: false, counts: { sent: 2, filtered: 1 } });
    world.states.setPaused(gauge, true);
    world.store.append({ rows: [], at: startAt + second });
    const all = world.states.all();
    expect(all.map(pending)).toEqual(["7-8 9-10+", "5-6", "1-4+"]);
    expect(written(world.dir, sinks)).toEqual(all);
    done(world, lake, { first: 7, last: 7 });
    world.store.close();
    const again = openWorld({ sinks }, world.dir);
    expect(pending(stateOf(again, lake))).toBe("8-8 9-10+");
    expect(again.states.all().slice(1)).toEqual(all.slice(1));
    expect(stateOf(again, gauge)).toMatchObject({ paused: true, pending: 1 });
    again.store.close();
  });

  test("is told of again when a transaction is undone", () => {
    const sinks = [declared(lake)];
    const world = openWorld({ sinks });
    append(world, startAt, { rows: 10 });
    done(world, lake, { first: 1, last: 4 });
    world.undoing.undo = true;
    expect(append(world, startAt + second, { rows: 3 })).toBe(0);
    expect(stateOf(world, lake)).toMatchObject({ offered: 10, pending: 6, counts: { sent: 4 } });
    expect(written(world.dir, sinks)[0]).toMatchObject({ offered: 10, pending: 10 });
    world.undoing.undo = false;
    append(world, startAt + second, { rows: 3 });
    expect(written(world.dir, sinks)).toEqual(world.states.all());
    expect(stateOf(world, lake)).toMatchObject({ offered: 13, pending: 9 });
    world.store.close();
  });

  test("that is fed gets what others hand over, in any order, and only once", () => {
    const sinks = [declared(lake), declared(archive, { fed: true })];
    const world = openWorld({ sinks });
    append(world, startAt, { rows: 20 });
    world.states.split(lake, 11);
    done(world, lake, { first: 11, last: 15 }, { divertTo: "archive" });
    done(world, lake, { first: 1, last: 3 }, { divertTo: "archive", counts: { diverted: 1, filtered: 2 } });
    done(world, lake, { first: 1, last: 10 }, { divertTo: "archive" });
    expect(pending(stateOf(world, archive))).toBe("1-15");
    expect(stateOf(world, archive)).toMatchObject({ offered: 15, pending: 15 });
    expect(stateOf(world, lake)).toMatchObject({ counts: { filtered: 2, diverted: 13 }, pending: 5 });
    expectLaw(world);
    world.states.declare([declared(lake, { fed: true }), declared(archive)]);
    append(world, startAt, { rows: 1 });
    expect(world.states.all().map(pending)).toEqual(["16-20", "1-15 21-21+"]);
    expectLaw(world);
    world.store.close();
  });

  test("is not told of what was pending no more", () => {
    const world = openWorld({ sinks: [declared(lake)] });
    append(world, startAt, { rows: 20 });
    expect(world.states.discard(lake, 6)).toBe(5);
    done(world, lake, { first: 1, last: 10 }, { counts: { "rejected.4xx": 3, sent: 7 } });
    expect(stateOf(world, lake).counts).toEqual({ discarded: 5, "rejected.4xx": 3, sent: 2 });
    const before = stateOf(world, lake);
    done(world, lake, { first: 1, last: 10 });
    done(world, lake, { first: 11, last: 20 }, { generation: before.generation + 1 });
    done(world, { sink: "nobody", signal: "flows" }, { first: 11, last: 20 });
    expect(stateOf(world, lake)).toEqual(before);
    done(world, lake, { first: 11, last: 14 }, { counts: { filtered: 9 } });
    done(world, lake, { first: 15, last: 20 }, { counts: { sent: 1 } });
    expect(stateOf(world, lake).counts).toMatchObject({ filtered: 4, sent: 3, "evicted.damaged": 5 });
    expectLaw(world);
    world.store.close();
  });
});

describe("retention", () => {
  test("takes what is pending, by reason, and tells of the rows that were sent", () => {
    const world = openWorld({ sinks: [declared(lake)], ageMaxMs: minute });
    append(world, startAt, { rows: 10 });
    done(world, lake, { first: 1, last: 4 });
    append(world, startAt + minute - 1, { rows: 10 });
    append(world, startAt + minute, { rows: 5 });
    expect(stateOf(world, lake)).toMatchObject({ counts: { sent: 4, "evicted.age": 6 }, pending: 15 });
    expect(world.states.evictedSent()).toEqual({ age: 4 });
    const sinks = [declared(lake)];
    expect(written(world.dir, sinks)).toEqual(world.states.all());
    done(world, lake, { first: 11, last: 2000 });
    for (let index = 0; index < 30; index++) append(world, startAt + minute, { rows: 1000 });
    expectLaw(world);
    const { counts } = stateOf(world, lake);
    expect(counts["evicted.size"]).toBeGreaterThan(1000);
    expect(world.states.evictedSent()).toEqual({ age: 4, size: 15 });
    expect(world.store.ledger()).toMatchObject({
      "rows.evicted.age": 10,
      "rows.evicted.size": 15 + Number(counts["evicted.size"]),
    });
    world.store.close();
  });

  test("sent nothing where there was no sink", () => {
    const world = openWorld({ sinks: [], ageMaxMs: minute });
    append(world, startAt, { rows: 10 });
    append(world, startAt + minute, { rows: 10 });
    world.states.declare([declared(lake)]);
    append(world, startAt + minute, { rows: 1 });
    expect(stateOf(world, lake)).toMatchObject({ offered: 11, counts: {} });
    expect(world.states.evictedSent()).toEqual({});
    world.store.close();
  });

  test("tells nothing twice after a stop", () => {
    const bounds = { sinks: [declared(lake)], ageMaxMs: minute };
    const world = openWorld(bounds);
    append(world, startAt, { rows: 10 });
    append(world, startAt + minute, { rows: 5 });
    const before = world.states.all();
    expect(stateOf(world, lake).counts).toEqual({ "evicted.age": 10 });
    world.store.close();
    const again = openWorld(bounds, world.dir);
    again.store.append({ rows: [], at: startAt + minute });
    append(again, startAt + minute, { rows: 5 });
    expect(again.states.evictedSent()).toEqual({});
    expect(stateOf(again, lake)).toMatchObject({ counts: before[0]?.counts, pending: 10 });
    again.store.close();
  });

  test("is counted when a sink comes back", () => {
    const sinks = [declared(lake)];
    const world = openWorld({ sinks, ageMaxMs: minute });
    append(world, startAt, { rows: 10 });
    done(world, lake, { first: 1, last: 2 });
    world.states.declare([]);
    append(world, startAt + second, { rows: 10 });
    expect(world.states.all()).toEqual([]);
    append(world, startAt + minute, { rows: 7 });
    world.store.close();
    const again = openWorld({ sinks, ageMaxMs: minute }, world.dir);
    expect(stateOf(again, lake)).toMatchObject({
      ...{ offered: 27, pending: 17, counts: { sent: 2, "evicted.age": 8 } },
    });
    expect(again.states.evictedSent()).toEqual({ age: 2 });
    again.store.close();
  });

  test("of samples leaves their ordinals, and goes on counting when all are gone", () => {
    const sinks = [declared(gauge)];
    const world = openWorld({ sinks, ageMaxMs: minute });
    for (let step = 0; step < 125; step++) append(world, startAt + step, { series: 4 });
    done(world, gauge, { first: 1, last: 100 });
    for (let calls = 0; calls < 20; calls++) world.store.append({ rows: [], at: startAt + 2 * minute });
    expect(world.states.bounds("metrics")).toMatchObject({ oldest: 481, newest: 500 });
    expect(stateOf(world, gauge).counts).toEqual({ sent: 100, "evicted.age": 380 });
    expect(world.states.ordinalAt("metrics", startAt + 121)).toBe(485);
    expect(world.states.ordinalAt("metrics", startAt)).toBe(481);
    expect(world.samples.facts().samples).toBe(20);
    world.store.close();
    const again = openWorld({ sinks, ageMaxMs: minute }, world.dir);
    append(again, startAt + 2 * minute, { series: 4 });
    expect(again.states.bounds("metrics")).toMatchObject({ oldest: 481, newest: 504 });
    expectLaw(again);
    again.store.close();
  });
});

describe("a file", () => {
  test("that was replaced takes what was pending in it", () => {
    const sinks = [declared(lake), declared(archive, { fed: true }), declared(gauge)];
    const world = openWorld({ sinks });
    append(world, startAt, { rows: 10, series: 5 });
    done(world, lake, { first: 1, last: 4 });
    done(world, lake, { first: 5, last: 6 }, { divertTo: "archive" });
    const { generation } = world.states.bounds("flows");
    world.store.readFailed({ code: "SQLITE_CORRUPT", message: "for the test", generation });
    append(world, startAt, { rows: 3, series: 5 });
    expectLaw(world);
    expect(stateOf(world, lake).generation).not.toBe(generation);
    expect(world.states.all().map((state) => [pending(state), state.counts])).toEqual([
      ["11-13+", { sent: 4, diverted: 2, "evicted.corrupt": 4 }],
      ["", { "evicted.corrupt": 2 }],
      ["1-5+", { "evicted.corrupt": 5 }],
    ]);
    expect(world.states.evictedSent()).toEqual({ corrupt: 4 });
    done(world, lake, { first: 11, last: 11 }, { generation });
    expect(stateOf(world, lake).pending).toBe(3);
    world.store.append({ rows: [], at: startAt });
    expect(written(world.dir, sinks)).toEqual(world.states.all());
    world.store.close();
  });

  test("that comes back after a time in memory goes on where it was", () => {
    const world = openWorld({ sinks: [declared(lake)] });
    append(world, startAt, { rows: 10 });
    const { states, dir } = world;
    const { generation } = states.bounds("flows");
    states.detach?.();
    expect(states).toMatchObject({ ready: false });
    expect(states.ordinalAt("flows", 0)).toBe(1);
    expect(states.storedAt("flows", 1)).toBeUndefined();
    done(world, lake, { first: 1, last: 4 }); // It was under way.
    world.store.close();
    const sinks = [declared(lake)];
    expect(written(dir, sinks)[0]).toMatchObject({ pending: 10 });
    const database = openDatabase({ path: `${dir}/fovea.db` });
    const open = states.open({ database, budget: { pagesMax: 200 } });
    expect(states.bounds("flows")).toEqual({ generation, oldest: 1, newest: 10 });
    expect([open.due(startAt), stateOf(world, lake).pending]).toEqual([true, 6]);
    database.exec("BEGIN");
    expect(open.pages(startAt)).toBeGreaterThan(0);
    open.write(startAt);
    database.exec("COMMIT");
    open.settle();
    expect(open.due(startAt)).toBe(false);
    database.close();
    expect(written(dir, sinks)[0]).toMatchObject({ pending: 6, counts: { sent: 4 } });
  });

  test("with a state that cannot be read begins that one anew, and tells of it", () => {
    const sinks = [declared(lake), declared(gauge, { start: "newest" })];
    const world = openWorld({ sinks });
    append(world, startAt, { rows: 10, series: 3 });
    done(world, lake, { first: 1, last: 4 });
    world.store.close();
    sql(
      world.dir,
      "UPDATE sink_states SET state = replace(state, '\"sent\":4', '\"sent\":5') WHERE sink = 'lake'",
    );
    sql(world.dir, "UPDATE sink_states SET state = '{' WHERE signal = 'metrics'");
    const again = openWorld({ sinks }, world.dir);
    expect(again.states.all().map((state) => [pending(state), state.offered, state.counts])).toEqual([
      ["1-10+", 10, {}],
      ["1-3+", 3, {}],
    ]);
    expect(again.states.unreadable).toBe(2);
    again.store.append({ rows: [], at: startAt });
    again.store.close();
    const last = openWorld({ sinks }, world.dir);
    expect([last.states.unreadable, last.states.all().length]).toEqual([2, 2]);
    last.store.close();
  });

  test("keeps the states of some sinks that are gone, those that were used last", () => {
    const key = (number: number): SinkKey => ({ sink: `s${number}`, signal: "flows" });
    const world = openWorld({ sinks: [declared(key(0)), declared(key(1))] });
    for (let number = 2; number < 72; number++) {
      world.store.append({ rows: [], at: startAt + number });
      world.states.declare([declared(key(number)), declared(lake)]);
    }
    append(world, startAt + 100, { rows: 1 });
    append(world, startAt + 101, { rows: 1 });
    const kept = sql(world.dir, "SELECT sink FROM sink_states WHERE sink LIKE 's%'").flat();
    expect(kept.length).toBe(64 + 1);
    expect(kept).toContain("s71");
    expect(kept).toContain("s70");
    expect(kept).not.toContain("s0");
    world.store.close();
  });
});

describe("times", () => {
  test("of rows and samples lead to ordinals, and back", () => {
    const world = openWorld({ sinks: [declared(lake), declared(gauge)] });
    const { states } = world;
    expect([states.ordinalAt("flows", 0), states.ordinalAt("metrics", 0)]).toEqual([1, 1]);
    for (let index = 0; index < 250; index++) append(world, startAt + index * minute, { rows: 3, series: 2 });
    for (let calls = 0; calls < 20; calls++) world.store.append({ rows: [], at: startAt + 250 * minute });
    for (const index of [0, 1, 7, 100, 249]) {
      const at = startAt + index * minute;
      expect(states.ordinalAt("flows", at)).toBe(3 * index + 1);
      expect(states.ordinalAt("flows", at - 1)).toBe(3 * index + 1);
      expect(states.storedAt("flows", 3 * index + 3)).toBe(at);
    }
    expect(states.ordinalAt("flows", startAt + 250 * minute)).toBe(751);
    expect(states.storedAt("flows", 751)).toBeUndefined();
    expect(states.storedAt("flows", 0)).toBeUndefined();
    // Two blocks of 120 steps, and ten steps.
    for (const [index, ordinal] of [
      [0, 1],
      [50, 1],
      [120, 241],
      [239, 241],
      [240, 481],
      [243, 487],
      [250, 501],
    ] as const)
      expect([index, states.ordinalAt("metrics", startAt + index * minute)]).toEqual([index, ordinal]);
    for (const index of [0, 60, 119, 120, 200, 245]) {
      const at = states.storedAt("metrics", 2 * index + 1) ?? 0;
      expect(Math.abs(at - startAt - index * minute)).toBeLessThanOrEqual(minute);
    }
    expect(states.storedAt("metrics", 501)).toBeUndefined();
    world.store.close();
  });

  test("that cannot be looked up are reported", () => {
    const failures: string[] = [];
    const states = createSinkStates({ readFailed: ({ message }) => failures.push(message) });
    const world = openWorld({ sinks: [] });
    append(world, startAt, { rows: 3 });
    world.store.close();
    const database = openDatabase({ path: `${world.dir}/fovea.db` });
    states.open({ database, budget: { pagesMax: 200 } });
    database.close();
    expect(states.storedAt("flows", 2)).toBeUndefined();
    expect(failures).toEqual([expect.stringContaining("not open")]);
  });
});
