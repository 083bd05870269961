// Flows and samples as NDJSON: one JSON object a line, with the names of the API.

import type { StoredFlow } from "../store/rows.ts";
import type { Labels } from "../store/sample-series.ts";
import type { EncodedBody, EncodedSeries, EncoderLimits, EncoderSpec, Encoders } from "./encoder.ts";
import { gzipMember } from "./gzip-members.ts";

/**
 * The flow as one line of JSON without its end: who sent it first, then the keys of the API in its order. Control
 * characters and lone surrogates come out escaped, so a line is always one line and always UTF-8.
 */
export function flowLine(
  flow: StoredFlow,
  { id, node, ...more }: { readonly id: string; readonly node: string; readonly [name: string]: unknown },
): string {
  return JSON.stringify({
    id,
    node: flow.node ?? node,
    ...more,
    seq: flow.seq,
    startAt: flow.startAt,
    endAt: flow.endAt,
    source: flow.source,
    destination: flow.destination,
    sourcePort: flow.sourcePort,
    destinationPort: flow.destinationPort,
    protocol: flow.protocol,
    icmpType: flow.icmpType,
    icmpCode: flow.icmpCode,
    direction: flow.direction,
    verdict: flow.verdict,
    dropReason: flow.dropReason,
    packets: flow.packets,
    bytes: flow.bytes,
    tcpFlags: flow.tcpFlags,
    interface: flow.interface,
    rttUs: flow.rttUs,
    retransmits: flow.retransmits,
    dnsError: flow.dnsError,
    evictReason: flow.evictReason,
  });
}

/** Labels with those of the sink beside them: what a series has itself, in whatever case, stays. */
export function withExternalLabels(labels: Labels, external: Labels): Labels {
  const taken = new Set(Object.keys(labels).map((name) => name.toLowerCase()));
  const added = Object.entries(external).filter(([name]) => !taken.has(name.toLowerCase()));
  return { ...labels, ...Object.fromEntries(added) };
}

/** A body of lines that grows up to a number of bytes, and is compressed at the end where the options say so. */
export type TextBody = {
  /** False, and nothing taken, when it does not fit; the first text always does. */
  add(text: string): boolean;
  finish(): EncodedBody;
};

export function createTextBody(spec: EncoderSpec, { bytesMax }: Pick<EncoderLimits, "bytesMax">): TextBody {
  const texts: string[] = [];
  let bytes = 0;
  return {
    add(text) {
      const size = Buffer.byteLength(text);
      if (texts.length > 0 && bytes + size > bytesMax) return false;
      texts.push(text);
      bytes += size;
      return true;
    },
    finish() {
      const raw = new TextEncoder().encode(texts.join(""));
      const packed = spec.options?.["compress"] === true && raw.length > 0;
      return { body: packed ? gzipMember(raw) : raw, rawBytes: bytes };
    },
  };
}

// JSON has no such numbers; the texts are those of the exposition format.
function jsonValue(value: number | null): number | string | null {
  if (value === null || Number.isFinite(value)) return value;
  return Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
}

export const ndjson: Encoders = {
  flows: (spec, limits) => {
    const body = createTextBody(spec, limits);
    const { node, cluster, externalLabels } = spec;
    const more = {
      ...(cluster === "" ? {} : { cluster }),
      ...(Object.keys(externalLabels).length === 0 ? {} : { labels: externalLabels }),
    };
    return {
      add: (flow, id) => body.add(`${flowLine(flow, { id, node, ...more })}\n`),
      finish: body.finish,
    };
  },
  metrics: (spec, limits) => {
    const body = createTextBody(spec, limits);
    let last: EncodedSeries | undefined;
    let start = "";
    return {
      add(series, at, value) {
        if (series !== last) {
          const labels = withExternalLabels(series.labels, spec.externalLabels);
          start = `${JSON.stringify({ name: series.name, labels }).slice(0, -1)},"at":`;
          last = series;
        }
        return body.add(`${start}${at},"value":${JSON.stringify(jsonValue(value))}}\n`);
      },
      finish: body.finish,
    };
  },
};
