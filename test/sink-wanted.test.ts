// The filters that go along with what sinks hand over: what they are as text, and the ranges that they are kept with.

import { afterAll, describe, expect, test } from "bun:test";
import { filterRuleSchema } from "../src/filter-rules.ts";
import type { SinkKey } from "../src/store/sink-states.ts";
import { readWanted, wantedBytesMax, wantedText } from "../src/store/sink-wanted.ts";
import {
  append,
  archive,
  declared,
  done,
  expectLaw,
  lake,
  openWorld,
  removeDirs,
  startAt,
  stateOf,
  written,
} from "./sinks.world.ts";

afterAll(removeDirs);

test("a filter as text says what it says of one signal, and reads back", () => {
  const include = [filterRuleSchema.parse({ port: 53, protocol: "UDP", from: { ip: "10.0.0.0/8" } })];
  const filter = { include, exclude: [], metrics: ["kappie_*"] };
  const flows = wantedText(filter, "flows") ?? "";
  expect(readWanted(flows)).toEqual({ include, exclude: [], metrics: [] });
  expect(readWanted(wantedText(filter, "metrics") ?? "")).toEqual({ ...filter, include: [] });
  expect(wantedText({ ...filter, metrics: [] }, "metrics")).toBeUndefined();
  for (const text of ["", "{", "[]", '{"include":[{"prot":1}]}', '{"metrics":[1]}'])
    expect(readWanted(text)).toBeUndefined();
});

describe("a sink", () => {
  test("that is fed keeps apart what came with different filters, also in the file", () => {
    const sinks = [declared(lake), declared(archive, { fed: true }), declared({ ...lake, sink: "pond" })];
    const world = openWorld({ sinks });
    append(world, startAt, { rows: 30 });
    const [tcp, udp] = ["tcp", "udp"].map((name) => JSON.stringify({ include: [{ protocol: [name] }] }));
    const pond = { ...lake, sink: "pond" };
    const give = (of: SinkKey, first: number, last: number, divertWanted?: string) =>
      done(
        world,
        of,
        { first, last },
        { divertTo: "archive", ...(divertWanted === undefined ? {} : { divertWanted }) },
      );
    give(lake, 1, 10, tcp);
    give(pond, 5, 8, udp);
    give(lake, 11, 15, tcp);
    give(lake, 21, 25);
    give(pond, 21, 30, udp);
    const ranges = () =>
      stateOf(world, archive).ranges.map(({ first, last, wanted }) => [first, last, wanted]);
    // What waits without a filter is there for everybody.
    const all = [
      [1, 15, tcp],
      [5, 8, udp],
      [21, 25, undefined],
      [26, 30, udp],
    ];
    expect(ranges()).toEqual(all as never);
    world.store.append({ rows: [], at: startAt });
    expect(written(world.dir, sinks)).toEqual(world.states.all());
    done(world, archive, { first: 5, last: 15 }, { wanted: tcp as string });
    expect(ranges()).toEqual([[1, 4, tcp], ...all.slice(1)] as never);
    done(world, archive, { first: 5, last: 15 });
    expect(stateOf(world, archive)).toMatchObject({ offered: 29, pending: 18, counts: { sent: 11 } });
    expect(world.states.discard(archive, 6)).toBe(5);
    expectLaw(world);
    world.store.close();
  });

  test("counts what comes with too much of filters", () => {
    const world = openWorld({ sinks: [declared(lake), declared(archive, { fed: true })] });
    append(world, startAt, { rows: 30 });
    const long = JSON.stringify({ metrics: [..."ab"].map((name) => name.repeat(wantedBytesMax / 2)) });
    done(world, lake, { first: 1, last: 10 }, { divertTo: "archive", divertWanted: long });
    expect(stateOf(world, archive)).toMatchObject({
      offered: 10,
      pending: 0,
      counts: { "evicted.ranges": 10 },
    });
    expectLaw(world);
    world.store.close();
  });
});
