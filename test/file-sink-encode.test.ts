// The texts of the file sink: lines of flows and of samples, and what no line can hold.

import { afterAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import { EncodeError, type EncoderSpec } from "../src/sinks/encoder.ts";
import { encoders } from "../src/sinks/encoders.ts";
import { ndjson } from "../src/sinks/ndjson-encode.ts";
import { prometheusText } from "../src/sinks/prometheus-text.ts";
import type { Labels } from "../src/store/sample-series.ts";
import { freshDir, removeDirs, samplesIn, specOf, startAt } from "./file-sink.world.ts";
import { anyFlow, flow } from "./store.flows.ts";

afterAll(removeDirs);

const limits = { bytesMax: Number.POSITIVE_INFINITY, now: startAt };

function flowsOf(changes: Partial<EncoderSpec> = {}) {
  return ndjson.flows!({ ...specOf("flows", false), ...changes }, limits);
}

type Points = readonly (readonly [at: number, value: number | null])[];

function textOf(
  encoder: "ndjson" | "prometheus-text",
  labels: Labels,
  points: Points,
  externalLabels: Labels = {},
) {
  const metrics = encoders[encoder]!.metrics!({ ...specOf("metrics", false), externalLabels }, limits);
  const series = { name: "fovea_load", labels };
  for (const [at, value] of points) expect(metrics.add(series, at, value)).toBe(true);
  return Buffer.from(metrics.finish().body).toString();
}

const parsed = (body: Uint8Array): readonly Record<string, unknown>[] =>
  Buffer.from(body)
    .toString()
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line));

describe("flows", () => {
  test("are what they were, one a line, whatever they are", () => {
    fc.assert(
      fc.property(fc.array(anyFlow, { minLength: 1, maxLength: 20 }), fc.boolean(), (records, compress) => {
        const encoder = flowsOf({ options: { compress }, cluster: "" });
        for (const [index, record] of records.entries())
          encoder.add({ ...record, seq: index }, `id-${index}`);
        const { body, rawBytes } = encoder.finish();
        const raw = compress ? gunzipSync(body) : body;
        expect(raw.length).toBe(rawBytes);
        const expected = records.map((record, seq) => ({ id: `id-${seq}`, node: "edge-1", ...record, seq }));
        expect(parsed(raw)).toEqual(JSON.parse(JSON.stringify(expected)));
      }),
      { numRuns: 50 },
    );
  });

  test("name the node that they are of, the cluster, and the labels of the sink", () => {
    const encoder = flowsOf({ externalLabels: { site: "a" } });
    encoder.add({ ...flow(1), seq: 1 }, "a");
    encoder.add({ ...flow(2, { node: "edge-2" }), seq: 2 }, "b");
    expect(parsed(encoder.finish().body).map(({ node, cluster, labels }) => [node, cluster, labels])).toEqual(
      [
        ["edge-1", "plant", { site: "a" }],
        ["edge-2", "plant", { site: "a" }],
      ],
    );
  });

  test("fill a body up to its bytes, but the first always fits", () => {
    const size = flowsOf();
    size.add({ ...flow(1), seq: 1 }, "1");
    const { rawBytes } = size.finish();
    const bodies = [rawBytes * 2, rawBytes * 2 - 1, 1].map((bytesMax) => {
      const encoder = ndjson.flows!(specOf("flows", false), { ...limits, bytesMax });
      const taken = [1, 2, 3].map(() => encoder.add({ ...flow(1), seq: 1 }, "1"));
      return [taken, encoder.finish().rawBytes / rawBytes];
    });
    expect(bodies).toEqual([
      [[true, true, false], 2],
      [[true, false, false], 1],
      [[true, false, false], 1],
    ]);
  });
});

describe("samples as NDJSON", () => {
  test("keep what JSON has no number for, and where a series ended", () => {
    const labels = { Reason: 'a"\n' };
    const values = [1.5, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, null];
    const text = textOf(
      "ndjson",
      labels,
      values.map((value, index) => [index, value]),
      { site: "x", reason: "no" },
    );
    const start = '{"name":"fovea_load","labels":{"Reason":"a\\"\\n","site":"x"},"at":';
    expect(text.trimEnd().split("\n")).toEqual([
      `${start}0,"value":1.5}`,
      `${start}1,"value":"NaN"}`,
      `${start}2,"value":"+Inf"}`,
      `${start}3,"value":"-Inf"}`,
      `${start}4,"value":null}`,
    ]);
  });
});

describe("samples as text", () => {
  test("have labels in order, times in seconds, and no line for the end of a series", () => {
    const points = [
      [1_767_225_600_001, 0.1],
      [1_767_225_615_000, 1e21],
      [1_767_225_616_000, null],
    ] as const;
    const text = textOf("prometheus-text", { b: 'q"\\\n', a: "" }, points, { site: "x", B: "no" });
    expect(text).toBe(
      'fovea_load{a="",b="q\\"\\\\\\n",site="x"} 0.1 1767225600.001\n' +
        'fovea_load{a="",b="q\\"\\\\\\n",site="x"} 1e+21 1767225615.000\n',
    );
    expect(textOf("prometheus-text", {}, [[1000, Number.POSITIVE_INFINITY]])).toBe("fovea_load +Inf 1.000\n");
  });

  test("nothing but ends of series is an empty body, compressed or not", () => {
    for (const compress of [true, false]) {
      const encoder = prometheusText.metrics!(specOf("metrics", compress), limits);
      expect(encoder.add({ name: "a", labels: {} }, 1, null)).toBe(true);
      expect(encoder.finish()).toEqual({ body: new Uint8Array(), rawBytes: 0 });
    }
  });

  test("a name that would cost the whole file is refused, and costs nothing else", () => {
    const encoder = prometheusText.metrics!(specOf("metrics", false), limits);
    for (const [name, label] of [
      ["a b", "x"],
      ["1a", "x"],
      ["", "x"],
      ["a", "x-y"],
      ["a", "x:y"],
    ] as const)
      expect(() => encoder.add({ name, labels: { [label]: "" } }, 1, 1)).toThrow(EncodeError);
    encoder.add({ name: "a:b", labels: {} }, 1000, 1);
    expect(Buffer.from(encoder.finish().body).toString()).toBe("a:b 1 1.000\n");
  });

  test("promtool reads back any value of a label, and any number", () => {
    const dir = freshDir();
    const marks = [...'\0\u0001\t\r\u007f\\"{}=,# é😀', "\n", "# EOF", "\u2028"];
    const numbers = [5e-324, Number.MAX_VALUE, -0.1, 2 ** 53 + 2, 1e21, 1e-7];
    const encoder = prometheusText.metrics!(specOf("metrics", false), limits);
    for (const [index, mark] of marks.entries())
      encoder.add({ name: "marks", labels: { index: `${index}`, mark: `a${mark}b` } }, startAt, index);
    for (const [index, value] of numbers.entries())
      encoder.add({ name: "numbers", labels: { index: `${index}` } }, startAt + 123, value);
    writeFileSync(join(dir, "texts.prom"), `${Buffer.from(encoder.finish().body)}# EOF\n`);
    const found = samplesIn(dir, ["texts.prom"]);
    expect(found.length).toBe(marks.length + numbers.length);
    const readBack = found
      .filter((line) => line.includes('"numbers"'))
      .map((line) => line.split(" ").slice(-2));
    expect(readBack.map(([value]) => Number(value))).toEqual(numbers);
    expect(new Set(readBack.map(([, time]) => time))).toEqual(new Set([String(startAt + 123)]));
    for (const [index, mark] of marks.entries()) {
      const line = found.find((one) => one.includes('"marks"') && one.includes(`index="${index}"`)) ?? "";
      const quoted = /mark="(.*)"\}/.exec(line)?.[1] ?? "";
      // Go's quoting of what it prints: that of JSON, with its own forms for some.
      const json = quoted
        .replaceAll(/\\x([0-9a-f]{2})/g, "\\u00$1")
        .replaceAll(/\\U0*([0-9a-f]+)/g, "\\u{$1}");
      expect([index, JSON.parse(`"${json}"`)]).toEqual([index, `a${mark}b`]);
    }
  });
});
