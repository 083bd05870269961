// What the messages of OTLP have in common: attributes, times, and the machine and program that they come from.

import { EncodeError, type EncoderSpec } from "./encoder.ts";
import type { AnyValue, KeyValue, Resource, Scope } from "./otlp.gen.ts";

// Literals, as `create` of the library takes longer than the encoding.
export const anyText = (value: string): AnyValue => ({
  $typeName: "fovea.otlp.AnyValue",
  // A lone surrogate is no UTF-8, and would cost the whole body.
  value: { case: "stringValue", value: value.toWellFormed() },
});

export const textAttribute = (key: string, value: string): KeyValue => ({
  $typeName: "fovea.otlp.KeyValue",
  key: key.toWellFormed(),
  value: anyText(value),
});

/** Of a whole number. */
export const countAttribute = (key: string, value: number): KeyValue => ({
  $typeName: "fovea.otlp.KeyValue",
  key,
  value: { $typeName: "fovea.otlp.AnyValue", value: { case: "intValue", value: BigInt(value) } },
});

/** Epoch milliseconds to epoch nanoseconds, for which a number is too small. */
export function nanoseconds(at: number): bigint {
  const ms = Math.trunc(at);
  if (!(ms >= 0 && ms < 1e13))
    throw new EncodeError(`the time ${at} is no epoch milliseconds: OTLP cannot say it`);
  return BigInt(ms) * 1_000_000n;
}

export function resourceOf({ node, cluster, version, externalLabels }: EncoderSpec): Resource {
  const own = {
    "service.name": "fovea",
    "service.version": version,
    "host.name": node,
    ...(cluster === "" ? {} : { "k8s.cluster.name": cluster }),
    "k8s.node.name": node,
  };
  const labels = Object.entries({ ...externalLabels, ...own });
  return {
    $typeName: "fovea.otlp.Resource",
    attributes: labels.map(([name, value]) => textAttribute(name, value)),
  };
}

export const scopeOf = ({ version }: EncoderSpec): Scope => ({
  $typeName: "fovea.otlp.Scope",
  name: "fovea",
  version,
});
