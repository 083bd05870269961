// Sends rows to a data collection rule of Azure Monitor: the Logs Ingestion API.

import { azureBytesMax } from "./azure-logs-encode.ts";
import type { EncoderSpec } from "./encoder.ts";
import { outcomeOf } from "./outcome.ts";
import type { AzureLogsConfig } from "./schema.ts";
import type { Capability, Outcome, Sink } from "./sink.ts";
import type { Web, WebReply } from "./web-reply.ts";

/** What a token must be for, in the public cloud. Of the two slashes the first belongs to the name of the audience. */
export const azureLogsScope = "https://monitor.azure.com//.default";

const apiVersion = "2023-01-01";
const recordsMax = 10_000;

/**
 * The service answers 400, RecordsTimeRangeIsMoreThan30Minutes, to more (logs-ingestion-api-overview.md: tables of the
 * Auxiliary plan, "getting removed"). Nobody says whether 30 minutes exactly are too much.
 */
const spanMaxMs = 30 * 60_000 - 1000;
const spanError = "RecordsTimeRangeIsMoreThan30Minutes";

/**
 * Any age is taken, and in any order: what is older than 2 days loses its TimeGenerated but not its EventTime. What
 * the service takes of size and span is never more, whatever the configuration says.
 */
function capabilityOf({ limits }: AzureLogsConfig): Capability {
  return {
    ageMaxMs: limits.ageMax ?? Number.POSITIVE_INFINITY,
    outOfOrderMs: limits.outOfOrder ?? Number.POSITIVE_INFINITY,
    spanMaxMs: Math.min(limits.spanMax ?? spanMaxMs, spanMaxMs),
    recordsMax: limits.recordsMax || recordsMax,
    bytesMax: Math.min(limits.bytesMax || azureBytesMax, azureBytesMax),
  };
}

function streamUrl({ url, ruleId }: AzureLogsConfig, stream: string): string {
  const target = new URL(url);
  const base = target.pathname.replace(/\/+$/, "");
  target.pathname = `${base}/dataCollectionRules/${ruleId}/streams/${encodeURIComponent(stream)}`;
  target.searchParams.set("api-version", apiVersion);
  return target.href;
}

/** A body with the wrong span of times is refused whole: half of it has half of the span. */
function read(reply: WebReply): Outcome {
  if ("kind" in reply) return reply;
  const { status, body } = reply;
  if (status === 400 && new TextDecoder().decode(body).includes(spanError))
    return { kind: "too_large", code: "400", message: `the receiver answers ${spanError}` };
  return outcomeOf(reply);
}

export function createAzureLogsSink({
  config,
  web,
  identity,
}: {
  readonly config: AzureLogsConfig;
  readonly web: Web;
  readonly identity: Pick<EncoderSpec, "node" | "cluster" | "version">;
}): Sink {
  const capability = capabilityOf(config);
  const urls = {
    flows: streamUrl(config, config.stream),
    metrics: streamUrl(config, config.metricsStream),
  };
  const { origin, pathname } = new URL(urls.flows);
  const target = origin + pathname.replace(/\/streams\/[^/]*$/, "");
  const { externalLabels } = config;
  return {
    signals: config.signals,
    capability: () => capability,
    encoder: () => ({ format: "azure-logs", ...identity, externalLabels }),
    send: async ({ signal, body }, abort) => {
      const headers = {
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
        // The service's support finds a call by it.
        "x-ms-client-request-id": crypto.randomUUID(),
      };
      return read(await web.post({ url: urls[signal], headers, body, abort }));
    },
    facts: () => ({ target, ...web.facts() }),
    [Symbol.asyncDispose]: () => web[Symbol.asyncDispose](),
  };
}
