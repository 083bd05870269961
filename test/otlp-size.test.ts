// How large a body of OTLP becomes: never larger than it may be, and not much smaller.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type EncodedBody, EncodeError } from "../src/sinks/encoder.ts";
import { at, logsBody, metricsBody, type OtlpFormat, specOf, type TestSample } from "./otlp.world.ts";
import { anyFlow, flows } from "./store.flows.ts";

const formats: readonly OtlpFormat[] = ["otlp-protobuf", "otlp-json"];
/** Of the room, once so much was taken that the last record does not matter. */
const wasteMax = 0.05;

type Body = EncodedBody & { readonly taken: number };

/** Tries a limit: the body keeps to it, and one more record would have come near to it or over it. */
function check(encode: (bytesMax: number, records: number) => Body, records: number, bytesMax: number): void {
  const { body, rawBytes, taken } = encode(bytesMax, records);
  expect(rawBytes).toBe(body.length);
  expect(taken).toBeGreaterThan(0);
  if (taken > 1) expect(rawBytes).toBeLessThanOrEqual(bytesMax);
  if (taken === records) return;
  const withNext = encode(Number.POSITIVE_INFINITY, taken + 1).rawBytes;
  expect(withNext).toBeGreaterThan(bytesMax * (1 - wasteMax));
}

const label = fc.string({ unit: "grapheme", maxLength: 40 });
const value = fc.oneof(
  fc.double(),
  fc.nat(),
  fc.constantFrom(null, 0, 2 ** 53 - 1, 1e21, Number.NaN, Number.NEGATIVE_INFINITY),
);
const series: fc.Arbitrary<TestSample> = fc.record({
  name: fc.constantFrom("kappie_drop_count", "kappie_tcp_state", "kappie_forward_bytes", "other", "another"),
  labels: fc.dictionary(fc.constantFrom("Reason", "Direction", "x", "Adresse_é"), label),
  points: fc.array(
    fc.tuple(
      fc.nat(1e9).map((ms) => at + ms),
      value,
    ),
    { minLength: 1, maxLength: 5 },
  ),
});

/** The first samples of some series. */
function firstOf(all: readonly TestSample[], samples: number): readonly TestSample[] {
  let left = samples;
  return all.flatMap((one) => {
    const points = one.points.slice(0, left);
    left -= points.length;
    return points.length === 0 ? [] : [{ ...one, points }];
  });
}

describe.each(formats)("%s", (format) => {
  const spec = specOf(format);

  test("keeps to the limit with samples", () => {
    fc.assert(
      fc.property(
        fc.array(series, { minLength: 20, maxLength: 60 }),
        fc.integer({ min: 1, max: 20_000 }),
        (all, bytesMax) => {
          const records = all.reduce((sum, { points }) => sum + points.length, 0);
          const encode = (limit: number, samples: number) =>
            metricsBody(spec, firstOf(all, samples), { bytesMax: limit, now: at });
          check(encode, records, bytesMax);
        },
      ),
      { numRuns: 100 },
    );
  });

  test("keeps to the limit with flows", () => {
    fc.assert(
      fc.property(
        fc.array(anyFlow, { minLength: 5, maxLength: 40 }),
        fc.integer({ min: 1, max: 30_000 }),
        (all, bytesMax) => {
          const rows = all.map((record, index) => ({ ...record, seq: index + 1 }));
          const encode = (limit: number, records: number) =>
            logsBody(spec, rows.slice(0, records), { bytesMax: limit, now: at });
          check(encode, rows.length, bytesMax);
        },
      ),
      { numRuns: 100 },
    );
  });

  test("fills large bodies to within two in a hundred", () => {
    const rows = flows(2000).map((record, index) => ({ ...record, seq: index + 1 }));
    const many = Array.from({ length: 3000 }, (_, index) => ({
      name: ["kappie_drop_count", "kappie_interface_stats", "fovea_rows_total"][index % 3]!,
      labels: { InterfaceName: `eth${index}`, Statistic: "rx_bytes", NodeName: "edge-1", Cluster: "plant" },
      points: [[at, index * 1000]] as const,
    }));
    const bytesMax = 300_000;
    for (const [{ taken, rawBytes }, given] of [
      [logsBody(spec, rows, { bytesMax, now: at }), rows.length],
      [metricsBody(spec, many, { bytesMax, now: at }), many.length],
    ] as const) {
      expect(taken).toBeLessThan(given);
      expect(rawBytes).toBeLessThanOrEqual(bytesMax);
      expect(rawBytes).toBeGreaterThan(bytesMax * 0.98);
    }
  });

  test("keeps to the limit with histograms, whole or not", () => {
    const names = ["fovea_dns_latency_seconds", "fovea_store_write_duration_seconds"];
    const all = names.flatMap((name) => [
      ...["0.01", "0.1", "1", "+Inf"].map((le) => ({
        ...{
          name: `${name}_bucket`,
          labels: { le },
          points: [
            [at, 1],
            [at + 1, 2],
          ] as const,
        },
      })),
      {
        name: `${name}_sum`,
        points: [
          [at, 1],
          [at + 1, 2],
        ] as const,
      },
      {
        name: `${name}_count`,
        points: [
          [at, 1],
          [at + 1, 2],
        ] as const,
      },
    ]);
    for (let bytesMax = 100; bytesMax < 4000; bytesMax += 50) {
      const { taken, rawBytes } = metricsBody(spec, all, { bytesMax, now: at });
      if (taken > 1) expect(rawBytes).toBeLessThanOrEqual(bytesMax);
    }
  });

  test("takes nothing of what does not fit or cannot be said", () => {
    const one = { name: "kappie_tcp_state", labels: { State: "LISTEN" }, points: [[at, 1]] as const };
    const other = { name: "kappie_drop_count", labels: { Reason: "x" }, points: [[at, 1]] as const };
    const alone = metricsBody(spec, [one]);
    const refused = metricsBody(spec, [one, other], { bytesMax: alone.rawBytes + 40, now: at });
    expect(refused).toEqual({ ...alone, taken: 1 });
    expect(() => metricsBody(spec, [{ ...one, points: [[Number.NaN, 1]] }])).toThrow(EncodeError);
  });
});
