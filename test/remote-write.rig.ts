// Encodes samples, and reads bodies of Remote-Write by decoders that are not ours: protoc, and protobuf-es by its types.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FieldDescriptorProto_Type, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { uncompress } from "snappyjs";
import type { EncodedBody, EncodedSeries, EncoderSpec } from "../src/sinks/encoder.ts";
import { encoders } from "../src/sinks/encoders.ts";

export const formats = ["remote-write-1", "remote-write-2"] as const;
export type Format = (typeof formats)[number];

export type Sample = readonly [at: number, value: number | null];
export type SeriesSamples = { readonly series: EncodedSeries; readonly samples: readonly Sample[] };

const protos = join(import.meta.dir, "fixtures/proto");
const requests: Readonly<Record<Format, string>> = {
  "remote-write-1": "prometheus.WriteRequest",
  "remote-write-2": "io.prometheus.write.v2.Request",
};

export const specOf = (format: Format, more: Partial<EncoderSpec> = {}): EncoderSpec => ({
  ...{ format, node: "edge-1", cluster: "site-a", version: "1.2.3", externalLabels: {} },
  ...more,
});

export function encoderOf(spec: EncoderSpec, bytesMax = 4 * 1024 * 1024) {
  const make = encoders[spec.format]?.metrics;
  if (make === undefined) throw new Error(`no encoder of metrics for ${spec.format}`);
  return make(spec, { bytesMax, now: 0 });
}

export function encode(spec: EncoderSpec, all: readonly SeriesSamples[]): EncodedBody {
  const encoder = encoderOf(spec);
  for (const { series, samples } of all)
    for (const [at, value] of samples)
      if (!encoder.add(series, at, value)) throw new Error("does not fit into the body");
  return encoder.finish();
}

export const unpacked = ({ body }: EncodedBody): Uint8Array<ArrayBuffer> => uncompress(body);

function protoc(given: readonly string[], stdin?: Uint8Array<ArrayBuffer>): string {
  const program = Bun.which("protoc");
  if (program === null) throw new Error("protoc is missing: install protobuf-compiler; npm test does it");
  const done = Bun.spawnSync([program, `--proto_path=${protos}`, ...given], {
    stderr: "inherit",
    ...(stdin === undefined ? {} : { stdin }),
  });
  if (done.exitCode !== 0) throw new Error(`failed: protoc ${given.join(" ")}`);
  return done.stdout.toString();
}

/** What protoc says of the body, as its text format. Fields that the definition does not have come as numbers. */
export const protocText = (format: Format, body: EncodedBody): string =>
  protoc([`--decode=${requests[format]}`, `${format}.proto`], unpacked(body));

/** The request by protobuf-es, with the bits of each double, as every NaN is the same number to it. */
function schemaOf(format: Format) {
  const dir = mkdtempSync(join(tmpdir(), "fovea-proto-test-"));
  protoc([`--descriptor_set_out=${join(dir, "set")}`, `${format}.proto`]);
  const files = fromBinary(FileDescriptorSetSchema, readFileSync(join(dir, "set")));
  rmSync(dir, { recursive: true });
  for (const message of files.file.flatMap((file) => file.messageType))
    for (const field of message.field)
      if (field.type === FieldDescriptorProto_Type.DOUBLE) field.type = FieldDescriptorProto_Type.FIXED64;
  const schema = createFileRegistry(files).getMessage(requests[format]);
  if (schema === undefined) throw new Error(`${format}.proto has no ${requests[format]}`);
  return schema;
}

const staleBits = 0x7ff0000000000002n;

function numberOf(bits: bigint): number | null {
  if (bits === staleBits) return null;
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, bits);
  return view.getFloat64(0);
}

type Raw = { value: bigint; timestamp: bigint };
type Request1 = { timeseries: { labels: { name: string; value: string }[]; samples: Raw[] }[] };
type Request2 = {
  symbols: string[];
  timeseries: { labelsRefs: number[]; samples: Raw[]; metadata?: { type: number; helpRef: number } }[];
};

export type Decoded = {
  readonly labels: readonly (readonly [name: string, value: string])[];
  readonly samples: readonly Sample[];
  readonly metadata?: { readonly type: number; readonly help: string };
};

const samplesOf = (samples: readonly Raw[]): readonly Sample[] =>
  samples.map(({ value, timestamp }) => [Number(timestamp), numberOf(value)] as const);

const schemas = new Map<Format, ReturnType<typeof schemaOf>>();

export function decode(format: Format, body: EncodedBody): readonly Decoded[] {
  const schema = schemas.get(format) ?? schemaOf(format);
  schemas.set(format, schema);
  const request = fromBinary(schema, unpacked(body)) as unknown;
  if (format === "remote-write-1")
    return (request as Request1).timeseries.map(({ labels, samples }) => ({
      labels: labels.map(({ name, value }) => [name, value] as const),
      samples: samplesOf(samples),
    }));
  const { symbols, timeseries } = request as Request2;
  const text = (ref: number): string => {
    const found = symbols[ref];
    if (found === undefined) throw new Error(`there is no symbol ${ref}`);
    return found;
  };
  return timeseries.map(({ labelsRefs, samples, metadata }) => ({
    labels: labelsRefs.flatMap((ref, index) =>
      index % 2 === 0 ? [[text(ref), text(labelsRefs[index + 1] ?? Number.NaN)] as const] : [],
    ),
    samples: samplesOf(samples),
    ...(metadata === undefined ? {} : { metadata: { type: metadata.type, help: text(metadata.helpRef) } }),
  }));
}

export function symbolsOf(body: EncodedBody): readonly string[] {
  const schema = schemas.get("remote-write-2") ?? schemaOf("remote-write-2");
  return (fromBinary(schema, unpacked(body)) as unknown as Request2).symbols;
}
