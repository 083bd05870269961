// Questions about samples: which series, which points, within which bounds.

import { afterAll, describe, expect, test } from "bun:test";
import { StoreQueryError } from "../src/store/failure.ts";
import { querySamples, querySeries } from "../src/store/sample-query.ts";
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

afterAll(removeDirs);

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
