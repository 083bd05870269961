// Every series that a scrape shows is of a family whose type and help are known.

import { expect, test } from "bun:test";
import { metricNames } from "../src/config-schema.ts";
import { createExposition } from "../src/exposition.ts";
import { familyOf } from "../src/metric-family.ts";
import { metricTable } from "../src/metrics.ts";
import { gauge } from "../src/metrics-row.ts";
import type { MetricView } from "../src/metrics-view.ts";

test("every family of the table, and those about the scrape", () => {
  for (const { name, type, help } of metricTable(metricNames)) {
    const series =
      type === "histogram" ? ["_bucket", "_sum", "_count"].map((ending) => name + ending) : [name];
    for (const one of series) expect(familyOf(one)).toEqual({ name, type, help });
  }
  const row = gauge({ name: "fovea_broken", help: "Fails.", labels: [], read: () => [[{}, Number.NaN]] });
  const exposition = createExposition({ names: [], seriesMax: 10, table: [row] });
  const shown = exposition.series({} as MetricView).map(({ name }) => name);
  expect(shown.length).toBeGreaterThan(1);
  for (const name of shown) expect(familyOf(name)).toBeDefined();
});

test("a histogram is known by its series, not by its own name", () => {
  const histogram = metricTable([]).find(({ type }) => type === "histogram");
  expect(histogram).toBeDefined();
  expect(familyOf(histogram?.name ?? "")).toBeUndefined();
  expect(familyOf(`${histogram?.name}_bucket`)?.name).toBe(histogram?.name ?? "");
});

test("nothing is said of a series that the table does not have", () => {
  for (const name of ["", "up", "fovea_", "constructor", "__proto__"]) expect(familyOf(name)).toBeUndefined();
});
