// Bodies of Remote-Write as protoc and protobuf-es read them: labels, values to the bit, stale markers, bounds.

import { describe, expect, test } from "bun:test";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { familyOf } from "../src/metric-family.ts";
import { metricTable } from "../src/metrics.ts";
import { type EncodedSeries, EncodeError } from "../src/sinks/encoder.ts";
import { createProtoWriter, varintLength } from "../src/sinks/protobuf.ts";
import {
  decode,
  encode,
  encoderOf,
  formats,
  protocText,
  type SeriesSamples,
  specOf,
  symbolsOf,
  unpacked,
} from "./remote-write.rig.ts";

const at = 1_760_000_000_123;
const series = (name: string, labels: Record<string, string> = {}): EncodedSeries => ({ name, labels });
const drops = series("kappie_drop_count", { Reason: "NO_SOCKET", Direction: "ingress", Zone: "" });

test("1.0 as protoc reads it", () => {
  const body = encode(specOf("remote-write-1"), [
    {
      series: drops,
      samples: [
        [at, 1.5],
        [at + 15_000, 0],
      ],
    },
    { series: series("up"), samples: [[0, -0]] },
  ]);
  expect(protocText("remote-write-1", body)).toBe(`timeseries {
  labels {
    name: "Direction"
    value: "ingress"
  }
  labels {
    name: "Reason"
    value: "NO_SOCKET"
  }
  labels {
    name: "__name__"
    value: "kappie_drop_count"
  }
  samples {
    value: 1.5
    timestamp: 1760000000123
  }
  samples {
    timestamp: 1760000015123
  }
}
timeseries {
  labels {
    name: "__name__"
    value: "up"
  }
  samples {
    value: -0
  }
}
`);
});

test("2.0 as protoc reads it: each text once, the help of the family with it", () => {
  const egress = series("kappie_drop_count", { Reason: "NO_SOCKET", Direction: "egress" });
  const body = encode(specOf("remote-write-2"), [
    { series: drops, samples: [[at, 1.5]] },
    { series: egress, samples: [[at, 2]] },
    { series: series("of_no_family"), samples: [[at, 3]] },
  ]);
  const help = familyOf("kappie_drop_count")?.help ?? "";
  expect(help).not.toBe("");
  const symbols = ["", "Direction", "ingress", "Reason", "NO_SOCKET", "__name__", "kappie_drop_count", help];
  symbols.push("egress", "of_no_family");
  const refs = (...given: number[]) => given.map((ref) => `  labels_refs: ${ref}\n`).join("");
  const sample = (value: number) => `  samples {\n    value: ${value}\n    timestamp: ${at}\n  }\n`;
  const metadata = "  metadata {\n    type: METRIC_TYPE_COUNTER\n    help_ref: 7\n  }\n";
  expect(protocText("remote-write-2", body)).toBe(
    [
      ...symbols.map((text) => `symbols: ${JSON.stringify(text)}\n`),
      `timeseries {\n${refs(1, 2, 3, 4, 5, 6)}${sample(1.5)}${metadata}}\n`,
      `timeseries {\n${refs(1, 8, 3, 4, 5, 6)}${sample(2)}${metadata}}\n`,
      `timeseries {\n${refs(5, 9)}${sample(3)}}\n`,
    ].join(""),
  );
});

test("the type of each kind of family", () => {
  const types = ["counter", "gauge", "histogram"] as const;
  const names = types.map((type) => metricTable([]).find((row) => row.type === type)?.name ?? "");
  const body = encode(
    specOf("remote-write-2"),
    [...names.slice(0, 2), `${names[2]}_bucket`].map((name) => ({
      series: series(name),
      samples: [[at, 1]],
    })),
  );
  expect(decode("remote-write-2", body).map(({ metadata }) => metadata?.type)).toEqual([1, 2, 3]);
});

test("a stale marker is the NaN of the specification, to the byte, and another NaN is another", () => {
  const request = encode(specOf("remote-write-1"), [
    {
      series: series("up"),
      samples: [
        [1, null],
        [2, Number.NaN],
      ],
    },
  ]);
  const stale = "09020000000000f07f1001";
  const nan = "09000000000000f87f1002";
  const label = "0a0e" + "0a085f5f6e616d655f5f" + "12027570";
  expect(Buffer.from(unpacked(request)).toString("hex")).toBe(`0a2a${label}120b${stale}120b${nan}`);
  const other = Buffer.from(
    unpacked(encode(specOf("remote-write-2"), [{ series: series("up"), samples: [[1, null]] }])),
  );
  expect(other.toString("hex")).toEndWith(`120b${stale}`);
});

const values = fc.oneof(
  fc.constant(null),
  fc.double(),
  fc.constantFrom(0, -0, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 2 ** 53, 5e-324),
);
const samples = fc.array(fc.tuple(fc.nat({ max: 2 ** 52 }), values), { minLength: 1, maxLength: 8 });
const labels = fc.dictionary(
  fc.stringMatching(/^[a-zA-Z_][a-zA-Z0-9_]{0,12}$/).filter((name) => name !== "__name__"),
  fc.oneof(fc.string({ unit: "binary", maxLength: 200 }), fc.string({ unit: "grapheme-ascii" })),
  { noNullPrototype: true, maxKeys: 10 },
);
const anySeries = fc.record({
  series: fc.record({ name: fc.stringMatching(/^[a-zA-Z_:][a-zA-Z0-9_:]{0,20}$/), labels }),
  samples,
});

/** What must arrive: labels with a value and the external ones that are not there, in the order of their names. */
function expected(
  { series: { name, labels: own }, samples: all }: SeriesSamples,
  external: Record<string, string>,
) {
  const present = Object.entries(own).filter(([, value]) => value !== "");
  const has = (label: string) => present.some(([other]) => other.toLowerCase() === label.toLowerCase());
  const added = Object.entries(external).filter(([label, value]) => value !== "" && !has(label));
  const pairs = [...present, ...added, ["__name__", name] as const];
  const order = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b));
  return { labels: pairs.toSorted(([a], [b]) => order(a, b)).map((pair) => [...pair]), samples: all };
}

for (const format of formats)
  test(`${format}: any series and samples come back as they were`, () => {
    const external = { site: "Ålesund", Empty: "", a: "1", "": "" };
    fc.assert(
      fc.property(fc.array(anySeries, { minLength: 1, maxLength: 12 }), (all) => {
        const body = encode(specOf(format, { externalLabels: external }), all);
        const decoded = decode(format, body);
        expect(decoded.map(({ labels: pairs, samples: got }) => ({ labels: pairs, samples: got }))).toEqual(
          all.map((one) => expected(one, external)) as never,
        );
        for (const [index, { samples: got }] of decoded.entries())
          for (const [nth, [, value]] of got.entries())
            expect(Object.is(value, all[index]?.samples[nth]?.[1])).toBe(true);
        expect(body.rawBytes).toBe(unpacked(body).length);
      }),
      { numRuns: 200 },
    );
  });

test("a lone surrogate does not make the body invalid", () => {
  for (const format of formats) {
    const body = encode(specOf(format), [
      { series: series("up", { a: "x\ud800y", b: "é" }), samples: [[at, 1]] },
    ]);
    expect(decode(format, body)[0]?.labels).toEqual([
      ["__name__", "up"],
      ["a", "x\ufffdy"],
      ["b", "é"],
    ]);
  }
});

test("the writer agrees with another one on every integer", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.nat({ max: 60 }), (value, bits) => {
      const given = Math.floor(value / 2 ** bits);
      const writer = createProtoWriter();
      writer.varintField(3, given);
      expect([...writer.view()]).toEqual([...new BinaryWriter().uint32(24).uint64(given).finish()]);
      expect(varintLength(given)).toBe(writer.length - 1);
    }),
  );
});

test("external labels do not replace what a series has in another case, nor each other", () => {
  const kappie = series("kappie_drop_count", { NodeName: "edge-1", Cluster: "", Reason: "x" });
  for (const format of formats) {
    const externalLabels = { cluster: "site-a", nodename: "no", REASON: "no", Site: "1", site: "2" };
    const body = encode(specOf(format, { externalLabels }), [{ series: kappie, samples: [[at, 1]] }]);
    expect(decode(format, body)[0]?.labels).toEqual([
      ["NodeName", "edge-1"],
      ["Reason", "x"],
      ["Site", "1"],
      ["__name__", "kappie_drop_count"],
      ["cluster", "site-a"],
    ]);
  }
});

test("one series object goes to two sinks with the labels of each", () => {
  for (const format of formats)
    for (const site of ["a", "b", "a"]) {
      const spec = specOf(format, { externalLabels: { site } });
      const body = encode(spec, [{ series: drops, samples: [[at, 1]] }]);
      expect(decode(format, body)[0]?.labels).toContainEqual(["site", site]);
    }
});

describe("what Prometheus cannot take is an error", () => {
  const broken: readonly [EncodedSeries, number][] = [
    [series("with-dash"), at],
    [series(""), at],
    [series("9x"), at],
    [series("up\n"), at],
    [series("up", { "a-b": "1" }), at],
    [series("up", { "": "1" }), at],
    [series("up", { "a:b": "1" }), at],
    [series("up", { __name__: "down" }), at],
    [series("up", { "a\u0000b": "1" }), at],
    [series("up"), -1],
    [series("up"), 1.5],
    [series("up"), Number.NaN],
    [series("up"), 2 ** 53],
  ];
  for (const format of formats)
    test(`${format}: and leaves the body as it was`, () => {
      const encoder = encoderOf(specOf(format));
      const good = series("up", { a: "1", b: "2" });
      encoder.add(good, at, 1);
      for (const [one, time] of broken) expect(() => encoder.add(one, time, 1)).toThrow(EncodeError);
      encoder.add(good, at + 1, 2);
      const alone = encode(specOf(format), [
        {
          series: good,
          samples: [
            [at, 1],
            [at + 1, 2],
          ],
        },
      ]);
      expect(encoder.finish()).toEqual(alone);
    });
});

describe("Azure", () => {
  const azure = (one: EncodedSeries, more = {}) =>
    decode(
      "remote-write-1",
      encode(specOf("remote-write-1", { options: { azure: true }, ...more }), [
        { series: one, samples: [[at, 1]] },
      ]),
    )[0]?.labels ?? [];
  const many = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`label_${index}`, "x"]));

  test("values are cut at 1023 bytes, between characters", () => {
    expect(azure(series("up", { a: "x".repeat(1023), b: "x".repeat(1024) }))).toEqual([
      ["__name__", "up"],
      ["a", "x".repeat(1023)],
      ["b", "x".repeat(1023)],
    ]);
    expect(azure(series("up", { a: `${"x".repeat(1021)}日本` }))[1]).toEqual(["a", "x".repeat(1021)]);
    const external = azure(series("up"), { externalLabels: { site: "s".repeat(2000) } });
    expect(external[1]?.[1].length).toBe(1023);
    const elsewhere = encode(specOf("remote-write-1"), [
      { series: series("up", { a: "x".repeat(5000) }), samples: [[at, 1]] },
    ]);
    expect(decode("remote-write-1", elsewhere)[0]?.labels[1]?.[1].length).toBe(5000);
  });

  test("at most 63 labels, names of at most 511, none twice but for case", () => {
    expect(azure(series("up", many(62))).length).toBe(63);
    expect(azure(series("u".repeat(511), { ["l".repeat(511)]: "1" })).length).toBe(2);
    expect(() => azure(series("up", many(63)))).toThrow("64 labels, more than Azure Monitor takes");
    expect(() => azure(series("up", many(62)), { externalLabels: { site: "1" } })).toThrow(EncodeError);
    expect(() => azure(series("up", { ["l".repeat(512)]: "1" }))).toThrow(EncodeError);
    expect(() => azure(series("u".repeat(512)))).toThrow(EncodeError);
    expect(() => azure(series("up", { Reason: "1", reason: "2" }))).toThrow(EncodeError);
  });
});

describe("a body has at most as many bytes as asked for", () => {
  const all = fc.array(anySeries, { minLength: 1, maxLength: 20 });
  for (const format of formats)
    test(`${format}: what does not fit is not in it, and the next body begins with it`, () => {
      fc.assert(
        fc.property(all, fc.integer({ min: 1, max: 3000 }), (given, bytesMax) => {
          const records = given.flatMap(({ series: one, samples: some }) =>
            some.map(([time, value]) => ({ one, time, value })),
          );
          const bodies: { rawBytes: number; count: number; body: Uint8Array<ArrayBuffer> }[] = [];
          for (let next = 0; next < records.length; ) {
            const encoder = encoderOf(specOf(format), bytesMax);
            const first = next;
            for (; next < records.length; next++) {
              const { one, time, value } = records[next]!;
              if (!encoder.add(one, time, value)) break;
            }
            bodies.push({ ...encoder.finish(), count: next - first });
          }
          for (const { rawBytes, count } of bodies) expect(count > 1 && rawBytes > bytesMax).toBe(false);
          const got = bodies.flatMap((body) => decode(format, body).flatMap(({ samples: some }) => some));
          expect(got).toEqual(records.map(({ time, value }) => [time, value] as const));
          if (format === "remote-write-2")
            for (const body of bodies) expect(new Set(symbolsOf(body)).size).toBe(symbolsOf(body).length);
        }),
        { numRuns: 100 },
      );
    });

  test("it is filled to the byte", () => {
    for (const format of formats) {
      const whole = encode(specOf(format), [
        {
          series: drops,
          samples: [
            [at, 1],
            [at + 1, 2],
          ],
        },
      ]);
      const fits = (bytesMax: number) => {
        const encoder = encoderOf(specOf(format), bytesMax);
        return encoder.add(drops, at, 1) && encoder.add(drops, at + 1, 2);
      };
      expect([fits(whole.rawBytes), fits(whole.rawBytes - 1)]).toEqual([true, false]);
    }
  });
});
