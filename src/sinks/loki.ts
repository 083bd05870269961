// Sends flows to Loki: its push API, with protobuf in snappy.

import type { EncoderSpec } from "./encoder.ts";
import { outcomeOf } from "./outcome.ts";
import type { LokiConfig } from "./schema.ts";
import type { Capability, Outcome, Sink } from "./sink.ts";
import type { Web, WebReply } from "./web-reply.ts";

const pushPath = "/loki/api/v1/push";

/**
 * Loki refuses what is older than a week (reject_old_samples_max_age). Any order will do, as what is old has streams
 * of its own, oldest first; within a body the span stays well below the hour that a stream may go back.
 */
function capabilityOf({ limits }: LokiConfig): Capability {
  return {
    ageMaxMs: limits.ageMax ?? 7 * 86_400_000,
    outOfOrderMs: limits.outOfOrder ?? Number.POSITIVE_INFINITY,
    spanMaxMs: limits.spanMax ?? 30 * 60_000,
    recordsMax: limits.recordsMax || 5000,
    bytesMax: limits.bytesMax || 2 ** 20,
  };
}

/** A URL without a path is that of the server. */
function urlOf({ url }: LokiConfig): URL {
  const target = new URL(url);
  if (target.pathname === "/") target.pathname = pushPath;
  return target;
}

const isTooOld = /greater_than_max_sample_age|too far behind|too_far_behind|timestamp too old|out of order/i;

/** What Loki says otherwise than most: it has taken nothing unless it answers 200 or 204, whatever else begins with 2. */
function read(reply: WebReply): Outcome {
  if ("kind" in reply) return reply;
  const { status, body } = reply;
  const code = String(status);
  if (status === 200 || status === 204) return { kind: "stored", code };
  if (status > 200 && status < 300) {
    // 260 unless the operator of Loki chose another.
    const message = `Loki answers ${status}: it is set to take nothing from this tenant at present`;
    return { kind: "again", code, reason: "blocked", message, slow: true };
  }
  const outcome = outcomeOf(reply);
  const tooOld = status === 400 && isTooOld.test(new TextDecoder().decode(body));
  return outcome.kind === "refused" && tooOld ? { ...outcome, reason: "too_old" } : outcome;
}

export function createLokiSink({
  config,
  web,
  identity,
}: {
  readonly config: LokiConfig;
  readonly web: Web;
  readonly identity: Pick<EncoderSpec, "node" | "cluster" | "version">;
}): Sink {
  const capability = capabilityOf(config);
  const { href, origin, pathname } = urlOf(config);
  const { externalLabels, tenant } = config;
  const headers = {
    "Content-Type": "application/x-protobuf",
    ...(tenant === undefined ? {} : { "X-Scope-OrgID": tenant }),
  };
  return {
    signals: ["flows"],
    capability: () => capability,
    encoder: () => ({ format: "loki", ...identity, externalLabels }),
    send: async ({ body }, abort) => read(await web.post({ url: href, headers, body, abort })),
    facts: () => ({ target: origin + pathname, ...web.facts() }),
    [Symbol.asyncDispose]: () => web[Symbol.asyncDispose](),
  };
}
