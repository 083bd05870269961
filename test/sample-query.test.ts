// Questions about samples: which series, which points, within which bounds.

import { afterAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { StoreQueryError } from "../src/store/failure.ts";
import { querySamples, querySeries } from "../src/store/sample-query.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import {
  always,
  ask,
  openWorld,
  removeDirs,
  sample,
  settle,
  startAt,
  stepMs,
  values,
} from "./samples.world.ts";
import { flows } from "./store.flows.ts";

afterAll(removeDirs);

describe("bytes that cannot be read", () => {
  const steps = 250; // Two blocks that are whole, and steps behind them.
  const both = [sample("fovea_a", 1), sample("fovea_b", 2)];

  function filled() {
    const world = openWorld();
    for (let number = 0; number < steps; number += 1) {
      world.samples.add({ at: startAt + number * stepMs, series: both });
      world.store.append({ rows: flows(2), at: startAt });
    }
    settle(world, startAt);
    return world;
  }

  function change(dir: string, sql: string): void {
    const database = openDatabase({ path: join(dir, "fovea.db") });
    expect(database.prepare(sql).run().changes).toBeGreaterThan(0);
    database.close();
  }

  const firstBlock = "(SELECT min(id) FROM sample_blocks)";
  const lastStep = "(SELECT max(id) FROM sample_steps)";
  test.each([
    ["a chunk", `UPDATE sample_chunks SET data = x'00' WHERE block = ${firstBlock} AND series = 1`, 130, 250],
    ["the times of a block", `UPDATE sample_blocks SET times = x'00' WHERE id = ${firstBlock}`, 130, 130],
    ["a step", `UPDATE sample_steps SET data = x'00ff' WHERE id = ${lastStep}`, 249, 249],
  ])("%s: the others are told, it is not complete, and the history stays", (_what, sql, ofA, ofB) => {
    const { dir, store } = filled();
    using _ = store;
    change(dir, sql);
    const query = { name: "fovea_*", ...always };
    const answer = store.ask("samples", query);
    expect(answer.complete).toBe(false);
    const told = answer.series.map(({ name, points }) => [name, values(points)]);
    const valuesOf = (value: number, count: number) => new Array<number>(count).fill(value);
    expect(told).toEqual([
      ["fovea_a", valuesOf(1, ofA)],
      ["fovea_b", valuesOf(2, ofB)],
    ]);
    expect(store.append({ rows: flows(1), at: startAt })).toMatchObject({ kept: 1, lost: 0 });
    expect(store.stats()).toMatchObject({ rows: 2 * steps + 1, recovered: 0, errors: {} });
  });
});

describe("queries", () => {
  const world = openWorld();
  const series = [
    sample("kappie_tcp_state", 0, { State: "LISTEN", NodeName: "n" }),
    sample("kappie_tcp_state", 0, { State: "TIME_WAIT", NodeName: "n" }),
    sample("kappie_tcp_state", 0, { State: 'x","NodeName":"n', NodeName: "other" }),
    sample("kappie_udp_active_sockets", 0),
    sample("fovea_ticks_total", 0),
  ];
  for (let number = 0; number < 300; number += 1) {
    world.samples.add({
      at: startAt + number * stepMs,
      series: series.map((one, index) => ({ ...one, value: number * (index + 1) })),
    });
    world.store.append({ rows: [], at: startAt });
  }
  settle(world, startAt);
  const names = (query: Parameters<typeof querySeries>[1]) =>
    ask(world.dir, (reader) => querySeries(reader, query)).series.map(
      ({ name, labels }) => `${name} ${labels["State"] ?? ""}`,
    );
  const points = (query: Partial<Parameters<typeof querySamples>[1]>) =>
    ask(world.dir, (reader) => querySamples(reader, { name: "fovea_ticks_total", ...always, ...query }));

  test("find series by name, by the beginning of a name and by labels", () => {
    expect(names({})).toHaveLength(5);
    expect(names({ name: "*" })).toHaveLength(5);
    expect(names({ name: "kappie_*" })).toHaveLength(4);
    expect(names({ name: "kappie_tcp_state" })).toHaveLength(3);
    expect(names({ name: "kappie_tcp" })).toEqual([]);
    expect(names({ labels: { NodeName: "n" } })).toEqual([
      "kappie_tcp_state LISTEN",
      "kappie_tcp_state TIME_WAIT",
    ]);
    expect(names({ name: "kappie_*", labels: { NodeName: "n", State: "LISTEN" } })).toEqual([
      "kappie_tcp_state LISTEN",
    ]);
    expect(names({ labels: { State: "" } })).toEqual([]);
    expect(ask(world.dir, (reader) => querySeries(reader, { limit: 4 }))).toMatchObject({ complete: false });
    expect(ask(world.dir, (reader) => querySeries(reader, { limit: 5 }))).toMatchObject({ complete: true });
  });

  test("give the last point of each step of theirs", () => {
    const [hourly] = points({ stepMs: 3_600_000 }).series;
    expect(hourly?.points).toEqual([
      [startAt + 239 * stepMs, 239 * 5],
      [startAt + 299 * stepMs, 299 * 5],
    ]);
  });

  test("keep to their bounds and say so", () => {
    expect(points({ pointsMax: 10 })).toMatchObject({ complete: false });
    expect(values(points({ pointsMax: 3 }).series[0]?.points)).toEqual([0, 5, 10]);
    expect(points({ pointsMax: 300 })).toMatchObject({ complete: true });
    expect(points({ name: "*", seriesMax: 4 })).toMatchObject({ complete: false });
    expect(points({ name: "*", seriesMax: 4 }).series).toHaveLength(4);
    expect(points({ name: "none" })).toEqual({ series: [], complete: true });
    expect(points({ fromAt: startAt + 5 * stepMs, toAt: startAt + 6 * stepMs }).series[0]?.points).toEqual([
      [startAt + 5 * stepMs, 25],
    ]);
  });

  test.each([
    ["name", { name: "" }],
    ["name", { name: "a*b" }],
    ["name", { name: "**" }],
    ["toAt", { fromAt: 5, toAt: 5 }],
    ["fromAt", { fromAt: Number.NaN }],
    ["stepMs", { stepMs: 0 }],
    ["stepMs", { stepMs: 1.5 }],
    ["seriesMax", { seriesMax: 1001 }],
    ["pointsMax", { pointsMax: 0 }],
  ] as const)("refuse a wrong %s: %j", (parameter, query) => {
    expect(() => points(query)).toThrow(expect.objectContaining({ parameter }));
    expect(() => points(query)).toThrow(StoreQueryError);
  });
});
