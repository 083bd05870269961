// Histograms put together from their series: whole ones, and what a body that was cut leaves of them.

import { describe, expect, test } from "bun:test";
import { at, decoded, linesOf, metricsBody, specOf, type TestSample } from "./otlp.world.ts";

const spec = specOf("otlp-protobuf");
const name = "fovea_upstream_request_duration_seconds";
type Points = TestSample["points"];

const bucket = (le: string, points: Points, sink = "a"): TestSample => ({
  name: `${name}_bucket`,
  labels: { sink, signal: "flows", le },
  points,
});
const rest = (ending: "sum" | "count", points: Points, sink = "a"): TestSample => ({
  name: `${name}_${ending}`,
  labels: { sink, signal: "flows" },
  points,
});

/** One histogram, its counts below the bounds 0.5 and 5 and at all. */
const whole = (
  [half, five, all]: readonly [number, number, number],
  options: { sink?: string; time?: number } = {},
): readonly TestSample[] => {
  const { sink = "a", time = at } = options;
  return [
    bucket("0.5", [[time, half]], sink),
    bucket("5", [[time, five]], sink),
    bucket("+Inf", [[time, all]], sink),
    rest("sum", [[time, 12.5]], sink),
    rest("count", [[time, all]], sink),
  ];
};

/** The metrics as text: names, and of each point what tells it from others. */
function metricsOf(series: readonly TestSample[]): readonly string[] {
  const lines = linesOf(decoded("ExportMetricsServiceRequest", metricsBody(spec, series).body), "metrics");
  return lines.filter((line) =>
    /^(name|count|sum|bucket_counts|explicit_bounds|as_|flags|histogram|gauge|aggregation|is_m)/.test(line),
  );
}

const cumulative = "aggregation_temporality: AGGREGATION_TEMPORALITY_CUMULATIVE";
const numbers = (ending: string, ...points: string[]): readonly string[] => [
  `name: "${name}_${ending}"`,
  "sum {",
  ...points,
  cumulative,
  "is_monotonic: true",
];

describe("a whole histogram", () => {
  const joined = [
    ...[`name: "${name}"`, "histogram {", "count: 7", "sum: 12.5"],
    ...["bucket_counts: 2", "bucket_counts: 5", "bucket_counts: 0"],
    ...["explicit_bounds: 0.5", "explicit_bounds: 5", cumulative],
  ];

  test("is one point, each bucket without those below it", () => {
    expect(metricsOf(whole([2, 7, 7]))).toEqual(joined);
  });

  test("is the same in whatever order its series come", () => {
    expect(metricsOf(whole([2, 7, 7]).toReversed())).toEqual(joined);
  });

  test("keeps the labels but for the bound", () => {
    const text = decoded("ExportMetricsServiceRequest", metricsBody(spec, whole([2, 7, 7])).body);
    const point = text.slice(text.indexOf("histogram {"));
    expect([...point.matchAll(/key: "(\w+)"/g)].map(([, key]) => key)).toEqual(["sink", "signal"]);
    expect([...point.matchAll(/string_value: "(\w+)"/g)].map(([, value]) => value)).toEqual(["a", "flows"]);
  });

  test("is a point a label set and time, in one metric", () => {
    const later = at + 15_000;
    const both = (a: number, b: number): Points => [
      [at, a],
      [later, b],
    ];
    const series = [
      ...[bucket("0.5", both(1, 2)), bucket("5", both(1, 3)), bucket("+Inf", both(1, 4))],
      ...[rest("sum", both(0.25, 9)), rest("count", both(1, 4)), ...whole([0, 0, 1], { sink: "b" })],
    ];
    const lines = metricsOf(series);
    expect(lines.filter((line) => line.startsWith("name"))).toEqual([`name: "${name}"`]);
    expect(lines.filter((line) => line.startsWith("count"))).toEqual(["count: 1", "count: 4", "count: 1"]);
    expect(lines.filter((line) => line.startsWith("sum"))).toEqual(["sum: 0.25", "sum: 9", "sum: 12.5"]);
    expect(lines.filter((line) => line.startsWith("bucket_counts"))).toEqual(
      [1, 0, 0, 2, 1, 1, 0, 0, 1].map((value) => `bucket_counts: ${value}`),
    );
  });

  test("that ended is one point without a value", () => {
    const ended = whole([2, 7, 7]).map((series) => ({ ...series, points: [[at, null]] as const }));
    expect(metricsOf(ended)).toEqual([`name: "${name}"`, "histogram {", "flags: 1", cumulative]);
  });
});

describe("a histogram of which pieces lack", () => {
  test("is the series that it is kept as", () => {
    for (const ending of ["sum", "count"]) {
      const some = whole([2, 7, 7]).filter((series) => series.name !== `${name}_${ending}`);
      const other = ending === "sum" ? numbers("count", "as_int: 7") : numbers("sum", "as_double: 12.5");
      expect(metricsOf(some)).toEqual([
        ...numbers("bucket", "as_int: 2", "as_int: 7", "as_int: 7"),
        ...other,
      ]);
    }
    const endless = whole([2, 7, 7]).toSpliced(2, 1);
    expect(metricsOf(endless)).toEqual([
      ...numbers("bucket", "as_int: 2", "as_int: 7"),
      ...numbers("sum", "as_double: 12.5"),
      ...numbers("count", "as_int: 7"),
    ]);
  });

  test("has fewer bounds than others of its family, which stay whole", () => {
    const cut = whole([1, 1, 1], { sink: "b" }).slice(1);
    expect(metricsOf([...cut, ...whole([2, 7, 7])])).toEqual([
      ...numbers("bucket", "as_int: 1", "as_int: 1"),
      ...numbers("sum", "as_double: 12.5"),
      ...numbers("count", "as_int: 1"),
      ...[`name: "${name}"`, "histogram {", "count: 7", "sum: 12.5"],
      ...["bucket_counts: 2", "bucket_counts: 5", "bucket_counts: 0"],
      ...["explicit_bounds: 0.5", "explicit_bounds: 5", cumulative],
    ]);
  });
});

describe("pieces that do not agree", () => {
  const split = (series: readonly TestSample[]): boolean =>
    !metricsOf(series).includes("histogram {") && metricsOf(series).includes(`name: "${name}_bucket"`);

  test("stay what they are", () => {
    expect(split(whole([2, 7, 7]))).toBe(false);
    expect(split(whole([8, 7, 7]))).toBe(true); // Falls.
    expect(split(whole([0.5, 7, 7]))).toBe(true);
    expect(split([...whole([2, 7, 7]).slice(0, 4), rest("count", [[at, 8]])])).toBe(true);
    expect(split([...whole([2, 7, 7]).slice(0, 4), rest("count", [[at, null]])])).toBe(true);
    expect(split([...whole([2, 7, 7]), bucket("0.50", [[at, 2]])])).toBe(true); // The same bound twice.
    expect(split([...whole([2, 7, 7]), rest("sum", [[at, 2]])])).toBe(true);
  });

  test("with a bound that is no number are sums as well", () => {
    expect(metricsOf([bucket("wide", [[at, 2]]), bucket("", [[at, 3]])])).toEqual(
      numbers("bucket", "as_int: 2", "as_int: 3"),
    );
  });

  test("of another time are not of this histogram", () => {
    const [first, ...others] = whole([2, 7, 7]);
    const series = [{ ...first!, points: [[at + 1, 2]] as const }, ...others];
    const lines = metricsOf(series);
    expect(lines.filter((line) => line.startsWith("bucket_counts"))).toEqual([
      "bucket_counts: 7",
      "bucket_counts: 0",
    ]);
    expect(lines.filter((line) => line.startsWith("as_"))).toEqual(["as_int: 2"]);
  });
});
