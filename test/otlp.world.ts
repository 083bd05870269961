// What the tests of OTLP share: specs, bodies from records, and protoc as the reader that is not ours.

import { join } from "node:path";
import type { EncodedBody, EncoderSpec } from "../src/sinks/encoder.ts";
import { encoders } from "../src/sinks/encoders.ts";
import type { StoredFlow } from "../src/store/rows.ts";
import type { Labels } from "../src/store/sample-series.ts";

export const at = Date.UTC(2026, 0, 2, 3, 4, 5, 678);
export const nanos = `${at}000000`;

export type OtlpFormat = "otlp-protobuf" | "otlp-json";
export type TestSample = {
  readonly name: string;
  readonly labels?: Labels;
  /** Its times and values. */
  readonly points: readonly (readonly [at: number, value: number | null])[];
};

export const specOf = (format: OtlpFormat, changes: Partial<EncoderSpec> = {}): EncoderSpec => ({
  format,
  node: "edge-1",
  cluster: "plant",
  version: "1.2.3",
  externalLabels: {},
  options: { compression: "none" },
  ...changes,
});

const unlimited = { bytesMax: Number.POSITIVE_INFINITY, now: at };

export function metricsBody(
  spec: EncoderSpec,
  series: readonly TestSample[],
  limits = unlimited,
): EncodedBody & { readonly taken: number } {
  const encoder = encoders[spec.format]?.metrics?.(spec, limits);
  if (encoder === undefined) throw new Error(`no encoder for metrics: ${spec.format}`);
  let taken = 0;
  for (const { name, labels = {}, points } of series) {
    const one = { name, labels };
    for (const [time, value] of points) {
      if (!encoder.add(one, time, value)) return { ...encoder.finish(), taken };
      taken += 1;
    }
  }
  return { ...encoder.finish(), taken };
}

export function logsBody(
  spec: EncoderSpec,
  flows: readonly StoredFlow[],
  limits = unlimited,
): EncodedBody & { readonly taken: number } {
  const encoder = encoders[spec.format]?.flows?.(spec, limits);
  if (encoder === undefined) throw new Error(`no encoder for flows: ${spec.format}`);
  let taken = 0;
  for (const flow of flows) {
    if (!encoder.add(flow, `id-${flow.seq}`)) break;
    taken += 1;
  }
  return { ...encoder.finish(), taken };
}

const definitions = join(import.meta.dir, "fixtures/proto/otlp");

function protoc(mode: "decode" | "encode", message: string, input: Uint8Array): Uint8Array<ArrayBuffer> {
  const command = ["protoc", `--${mode}=otlp.${message}`, `-I${definitions}`, "otlp.proto"];
  const done = Bun.spawnSync(command, { stdin: input });
  if (done.exitCode !== 0) throw new Error(`${command.join(" ")}: ${done.stderr}`);
  return new Uint8Array(done.stdout);
}

/** In the text format of protobuf. A field that the published definition does not have shows as its number. */
export const decoded = (message: string, bytes: Uint8Array): string =>
  new TextDecoder().decode(protoc("decode", message, bytes));

/** What a receiver would answer. */
export const encoded = (message: string, text: string): Uint8Array<ArrayBuffer> =>
  protoc("encode", message, new TextEncoder().encode(text));

/** Without what stands around the metrics or log records, and without indentation. */
export function linesOf(text: string, part: "metrics" | "log_records"): readonly string[] {
  const lines = text.split("\n").map((line) => line.trim());
  return lines.slice(lines.indexOf(`${part} {`)).filter((line) => line !== "" && line !== "}");
}

/** An attribute as `linesOf` gives it. */
export const attribute = (key: string, value: string | number): readonly string[] => [
  "attributes {",
  `key: ${JSON.stringify(key)}`,
  "value {",
  typeof value === "number" ? `int_value: ${value}` : `string_value: ${JSON.stringify(value)}`,
];
