// Sends samples by Prometheus Remote-Write: 1.0, or 2.0 where the receiver knows it.

import type { EncoderSpec } from "./encoder.ts";
import { firstLine, outcomeOf } from "./outcome.ts";
import type { RemoteWriteConfig } from "./schema.ts";
import type { Capability, Outcome, Parcel, Sink } from "./sink.ts";
import type { Answer, Web } from "./web-reply.ts";

type Identity = Pick<EncoderSpec, "node" | "cluster" | "version">;
type Format = "remote-write-1" | "remote-write-2";

const versionHeaders: Readonly<Record<Format, Readonly<Record<string, string>>>> = {
  "remote-write-1": {
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
  },
  "remote-write-2": {
    "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "X-Prometheus-Remote-Write-Version": "2.0.0",
  },
};

const minute = 60_000;
const any = Number.POSITIVE_INFINITY;

/**
 * How old, and how far behind the newest. Prometheus and its kin keep an hour and more open for a series that is new
 * to them, and nothing out of order before an operator sets a window; Azure documents 20 minutes
 * (azure-monitor-workspace-monitor-health.md); VictoriaMetrics takes all that is within its retention.
 */
const receivers = {
  prometheus: { ageMaxMs: 60 * minute, outOfOrderMs: 0 },
  thanos: { ageMaxMs: 60 * minute, outOfOrderMs: 0 },
  mimir: { ageMaxMs: 60 * minute, outOfOrderMs: 0 },
  victoriametrics: { ageMaxMs: any, outOfOrderMs: any },
  azure: { ageMaxMs: 20 * minute, outOfOrderMs: 0 },
} as const;

/** What Prometheus itself sends at most in a request. */
const recordsMax = 2000;
const bytesMax = 4 * 1024 * 1024;

export const outOfOrderOf = ({ receiver, limits }: RemoteWriteConfig): number =>
  limits.outOfOrder ?? receivers[receiver].outOfOrderMs;

/** A window for samples out of order lets old ones in as well; Azure's limit of age is another thing. */
function capabilityOf(config: RemoteWriteConfig): Capability {
  const { receiver, limits } = config;
  const usual = receivers[receiver];
  const outOfOrderMs = outOfOrderOf(config);
  return {
    ageMaxMs:
      limits.ageMax || (receiver === "azure" ? usual.ageMaxMs : Math.max(usual.ageMaxMs, outOfOrderMs)),
    outOfOrderMs,
    spanMaxMs: limits.spanMax || any,
    recordsMax: limits.recordsMax || recordsMax,
    bytesMax: limits.bytesMax || bytesMax,
  };
}

/** What a scrape would add: without it the appliance's own series of two nodes would be one. */
function externalLabelsOf(config: RemoteWriteConfig, { node, cluster }: Identity): Record<string, string> {
  const given = new Set(Object.keys(config.externalLabels).map((name) => name.toLowerCase()));
  const usual = Object.entries({ instance: node, cluster });
  return { ...Object.fromEntries(usual.filter(([name]) => !given.has(name))), ...config.externalLabels };
}

const lineMax = 200;

function said({ status, body }: Answer, otherwise = ""): string {
  const line = firstLine(body).slice(0, lineMax) || otherwise;
  return line === "" ? `HTTP ${status}` : `HTTP ${status}: ${line}`;
}

// Prometheus says "out of bounds", "too old sample", "out of order sample" and "duplicate sample for timestamp", Mimir
// "timestamp is too old", err-mimir-sample-out-of-order and err-mimir-sample-duplicate-timestamp.
const tooOld = /out of bounds|too[ -]old|out[ -]of[ -]order|duplicate sample|sample-duplicate/i;

/** What else was in the body the receiver may have kept; its text is for people. */
function refusal(answer: Answer): Outcome {
  const message = said(answer);
  const reason = tooOld.test(message) ? "too_old" : "4xx";
  return { kind: "refused", code: String(answer.status), reason, message };
}

function readAnswer(answer: Answer): Outcome {
  // Of the receiver, not of the records: no part of the body would fare better.
  if (answer.status === 415) {
    const message = `${said(answer, "it does not take Remote-Write 1.0")}; check url of this sink`;
    return { kind: "again", code: "415", reason: "other", message, slow: true };
  }
  // Prometheus 2.42 says so with status 500, of a sample from before its window: it would be sent again for ever.
  if (answer.status === 500 && /^too old sample\b/.test(firstLine(answer.body))) return refusal(answer);
  const outcome = outcomeOf(answer);
  return outcome.kind === "refused" ? refusal(answer) : outcome;
}

const kinds = ["Samples", "Histograms", "Exemplars"] as const;

/** How many samples the receiver says that it wrote; undefined when it says nothing, as one that knows 1.0 alone. */
function writtenOf({ headers }: Answer): number | undefined {
  const [samples, ...others] = kinds.map((kind) => {
    const text = headers.get(`X-Prometheus-Remote-Write-${kind}-Written`);
    return text !== null && /^\d{1,15}$/.test(text.trim()) ? Number(text) : undefined;
  });
  return samples ?? (others.some((count) => count !== undefined) ? 0 : undefined);
}

const reencode = (code: string, message: string): Outcome => ({ kind: "reencode", code, message });

/** To a body of 2.0. */
function readAnswer2(answer: Answer, { records, markers }: Parcel): Outcome {
  const code = String(answer.status);
  if (answer.status === 415)
    return reencode(code, "the receiver does not take Remote-Write 2.0; 1.0 is sent");
  const outcome = readAnswer(answer);
  if (outcome.kind !== "stored") return outcome;
  const written = writtenOf(answer);
  if (written === undefined)
    return reencode(code, "the receiver does not say what it wrote, so knows no 2.0; 1.0 is sent");
  // A receiver counts stale markers as the samples that they are to it.
  const missing = records + markers - written;
  return missing > 0 ? { ...outcome, mismatch: Math.min(missing, records) } : outcome;
}

export function createRemoteWriteSink({
  config,
  web,
  identity,
}: {
  readonly config: RemoteWriteConfig;
  readonly web: Web;
  readonly identity: Identity;
}): Sink {
  const capability = capabilityOf(config);
  const externalLabels = externalLabelsOf(config, identity);
  const options = { azure: config.receiver === "azure" };
  const { origin, pathname } = new URL(config.url);
  let format: Format = config.protocol === "2.0" ? "remote-write-2" : "remote-write-1";
  return {
    signals: ["metrics"],
    capability: () => capability,
    encoder: () => ({ format, ...identity, externalLabels, options }),
    send: async (parcel, abort) => {
      // Encoded before the receiver turned out not to know it.
      if (parcel.format !== format) return reencode("415", "the encoding has changed since; 1.0 is sent");
      const headers = {
        ...config.headers,
        ...versionHeaders[format],
        "Content-Encoding": "snappy",
        "User-Agent": `fovea/${identity.version}`,
      };
      const reply = await web.post({ headers, body: parcel.body, abort });
      if ("kind" in reply) return reply;
      if (parcel.format === "remote-write-1") return readAnswer(reply);
      const outcome = readAnswer2(reply, parcel);
      if (outcome.kind === "reencode") format = "remote-write-1";
      return outcome;
    },
    facts: () => ({ target: origin + pathname, ...web.facts() }),
    [Symbol.asyncDispose]: () => web[Symbol.asyncDispose](),
  };
}
