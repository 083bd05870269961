// Sends flows and metrics to a receiver of OTLP/HTTP: a collector, or a service that has one.

import type { EncoderSpec } from "./encoder.ts";
import { type PartialSuccess, readError, readSuccess } from "./otlp-answer.ts";
import type { Notation } from "./otlp-encode.ts";
import { firstLine, outcomeOf } from "./outcome.ts";
import type { OtlpConfig } from "./schema.ts";
import type { Capability, Outcome, Parcel, Signal, Sink } from "./sink.ts";
import type { Answer, Web } from "./web-reply.ts";

const paths: Readonly<Record<Signal, string>> = { flows: "/v1/logs", metrics: "/v1/metrics" };
const contentTypes: Readonly<Record<Notation, string>> = {
  protobuf: "application/x-protobuf",
  json: "application/json",
};
const recordsMax: Readonly<Record<Signal, number>> = { flows: 2000, metrics: 5000 };
/** What the smallest limits in use are (a collector behind gRPC); the specification advises 20 MiB over HTTP. */
const bytesMax = 4 * 1024 * 1024;

/** Any age, order and span: what is too old for what stands behind the receiver is told in its answer. */
const capabilityOf = ({ limits }: OtlpConfig, signal: Signal): Capability => ({
  ageMaxMs: limits.ageMax ?? Number.POSITIVE_INFINITY,
  outOfOrderMs: limits.outOfOrder ?? Number.POSITIVE_INFINITY,
  spanMaxMs: limits.spanMax ?? Number.POSITIVE_INFINITY,
  recordsMax: limits.recordsMax || recordsMax[signal],
  bytesMax: limits.bytesMax || bytesMax,
});

/** The query of the base stays: some receivers want a name there. */
function urlOf(base: string, signal: Signal): string {
  const url = new URL(base);
  url.pathname = url.pathname.replace(/\/+$/, "") + paths[signal];
  return url.href;
}

function targetOf(base: string): string {
  const { origin, pathname } = new URL(base);
  return origin + pathname.replace(/\/+$/, "");
}

const notationOf = ({ format }: Pick<Parcel, "format">): Notation =>
  format === "otlp-json" ? "json" : "protobuf";

/**
 * A data point may be several of our samples (a histogram), so that fewer are counted as rejected than were; more than
 * there are never. A message without rejected records is a warning to the sender, and nothing is lost.
 */
function stored(code: string, partial: PartialSuccess | undefined, records: number): Outcome {
  if (partial === undefined || !(partial.rejected > 0)) return { kind: "stored", code };
  const rejected = Math.min(partial.rejected, records);
  const message = firstLine(new TextEncoder().encode(partial.message)) || "the receiver does not say why";
  return { kind: "stored", code, rejected: { records: rejected, reason: "partial", message } };
}

const failuresMax = 5;

/**
 * Counts how often in a row the receiver failed at the same body. The specification forbids to send it again after a
 * 500, but what stands between us and the receiver answers 500 as well, when it is it that is broken.
 */
function createFailures() {
  const known = new Map<string, { readonly body: string; readonly times: number }>();
  const laneOf = ({ signal, lane }: Parcel): string => `${signal} ${lane}`;
  // The drain may encode it again, but the same records then give the same bytes.
  const bodyOf = ({ firstAt, lastAt, records, body, format }: Parcel): string =>
    `${format} ${firstAt} ${lastAt} ${records} ${body.length} ${Bun.hash(body)}`;
  return {
    /** How often it has failed with this time. */
    add(parcel: Parcel): number {
      const body = bodyOf(parcel);
      const before = known.get(laneOf(parcel));
      const times = before?.body === body ? before.times + 1 : 1;
      known.set(laneOf(parcel), { body, times });
      return times;
    },
    clear: (parcel: Parcel): void => void known.delete(laneOf(parcel)),
  };
}

/** 502, 503 and 504 are of what waits; all others would be the same again. */
const isFailure = (status: number): boolean =>
  status >= 500 && status < 600 && (status < 502 || status > 504);

/** The encoding in use: the other one than configured once the receiver has refused that. */
function createNotation(configured: Notation) {
  let current = configured;
  return {
    current: (): Notation => current,
    refused({ format }: Parcel): Outcome {
      const refused = notationOf({ format });
      const code = "415";
      if (refused === current && current === configured) current = refused === "json" ? "protobuf" : "json";
      if (refused !== current)
        return { kind: "reencode", code, message: `the receiver does not take ${refused}; now ${current}` };
      // Where it takes neither, it is the address or the compression: nothing is wrong with the records.
      const message =
        "the receiver takes neither protobuf nor JSON; check that url is the base of an OTLP/HTTP receiver, or set compression: none";
      return { kind: "again", code, reason: "other", message, slow: true };
    },
  };
}

/** With what the receiver says of it in the place of bytes that nobody can read. */
function otherOutcome(answer: Answer, sent: Notation): Outcome {
  const said = readError(answer, sent);
  return outcomeOf(said === undefined ? answer : { ...answer, body: new TextEncoder().encode(said) });
}

export function createOtlpSink({
  config,
  web,
  identity,
}: {
  readonly config: OtlpConfig;
  readonly web: Web;
  readonly identity: Pick<EncoderSpec, "node" | "cluster" | "version">;
}): Sink {
  const capability = { flows: capabilityOf(config, "flows"), metrics: capabilityOf(config, "metrics") };
  const urls = { flows: urlOf(config.url, "flows"), metrics: urlOf(config.url, "metrics") };
  const target = targetOf(config.url);
  const { compression, externalLabels } = config;
  const notation = createNotation(config.encoding);
  const failures = createFailures();

  const failed = (answer: Answer, parcel: Parcel): Outcome => {
    const before = otherOutcome(answer, notationOf(parcel));
    if (before.kind !== "again" || failures.add(parcel) < failuresMax) return before;
    failures.clear(parcel);
    const message = `${failuresMax} times in a row with this body: ${before.message}`;
    return { kind: "refused", code: before.code, reason: "server", message };
  };
  const outcome = (answer: Answer, parcel: Parcel): Outcome => {
    const { status } = answer;
    if (isFailure(status)) return failed(answer, parcel);
    failures.clear(parcel);
    const sent = notationOf(parcel);
    if (status >= 200 && status < 300)
      return stored(String(status), readSuccess(answer, parcel.signal, sent), parcel.records);
    return status === 415 ? notation.refused(parcel) : otherOutcome(answer, sent);
  };
  return {
    signals: config.signals,
    capability: (signal) => capability[signal],
    encoder: () => ({
      format: `otlp-${notation.current()}`,
      ...identity,
      externalLabels,
      options: { compression },
    }),
    async send(parcel, abort) {
      const headers = {
        "Content-Type": contentTypes[notationOf(parcel)],
        ...(compression === "gzip" ? { "Content-Encoding": "gzip" } : {}),
      };
      const reply = await web.post({ url: urls[parcel.signal], headers, body: parcel.body, abort });
      return "kind" in reply ? reply : outcome(reply, parcel);
    },
    facts: () => ({ target, ...web.facts() }),
    [Symbol.asyncDispose]: () => web[Symbol.asyncDispose](),
  };
}
