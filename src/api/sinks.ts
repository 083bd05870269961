// /api/v1/sinks: how forwarding does, and what an operator may do about it.

import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { parseDuration } from "../config-units.ts";
import { UnknownSinkError } from "../forward/errors.ts";
import type { ForwardFacts } from "../forward/facts.ts";
import { makeTokenFile } from "../private-file.ts";
import type { DeadLetter } from "../store/sink-states.ts";
import { limit, needed, parameter } from "./parameters.ts";
import { badParameterAnswer, jsonAnswer, unauthorizedAnswer } from "./requests.ts";
import { errorSchema } from "./schemas.ts";
import {
  deadLettersSchema,
  discardedSchema,
  pausedSchema,
  type SinkAnswer,
  sinksSchema,
} from "./sink-schemas.ts";

/** What the API needs of forwarding. Those with a name throw UnknownSinkError. */
export type SinkControl = {
  facts(): readonly ForwardFacts[];
  pause(name: string): void;
  resume(name: string): void;
  /** Gives up what was stored before `before`, epoch milliseconds; returns how many records. */
  discard(name: string, before: number): number;
  deadLetters(options: { readonly sink?: string; readonly limit: number }): readonly DeadLetter[];
  deadLettersEvicted(): number;
};

function sinkAnswer(facts: ForwardFacts, now: number): SinkAnswer {
  const { sink, phase, pending, pendingBytes, oldestAt, lanes } = facts;
  // Distributions go to the scrape alone.
  const { signal, type, target, bufferHoursLeft, offered, counts, sentBytes, requests, retries } = facts;
  const { partialSuccesses, writtenMismatches, staleMarkers, backoffSeconds, tokenErrors } = facts;
  const { connected, lastSentAt, lastError, tokenExpiresAt, clockSkewMs, files } = facts;
  const age =
    oldestAt === undefined ? {} : { oldestAt, oldestAgeSeconds: Math.max(0, now - oldestAt) / 1000 };
  return {
    ...{ name: sink, signal, type, target, state: phase },
    ...(connected === undefined ? {} : { connected }),
    pending: { records: pending, bytes: Math.round(pendingBytes), ...age, ...lanes },
    ...(bufferHoursLeft === undefined ? {} : { bufferHoursLeft }),
    ...{ offered, counts, sentBytes, requests, retries, partialSuccesses, writtenMismatches, staleMarkers },
    backoffSeconds,
    ...(lastSentAt === undefined ? {} : { lastSentAt }),
    ...(lastError === undefined ? {} : { lastError }),
    ...(tokenExpiresAt === undefined ? {} : { tokenExpiresAt }),
    tokenErrors,
    ...(clockSkewMs === undefined ? {} : { clockSkewMs }),
    ...(files === undefined ? {} : { files }),
  };
}

/** Whether there is such a sink, forwarding tells. */
const sinkName = (text: string) => (text.length >= 1 && text.length <= 63 ? text : undefined);
const nameFacts = {
  told: "is no name of a sink, which has 1 to 63 characters",
  missing: "is missing: which sink?",
  description: "Of the sink.",
};
const nameLengths = { minLength: 1, maxLength: 63 };
const params = z.object({ name: needed(sinkName, nameFacts).openapi(nameLengths) });

const listRoute = createRoute({
  method: "get",
  path: "/api/v1/sinks",
  summary: "What each sink has sent, what waits, and how its upstream does",
  request: { query: z.strictObject({}) },
  responses: {
    200: jsonAnswer(sinksSchema, "One entry a sink and signal; none without sinks."),
    400: badParameterAnswer,
    401: unauthorizedAnswer,
  },
});

const lettersWithout = 100;

const lettersRoute = createRoute({
  method: "get",
  path: "/api/v1/sinks/dead-letters",
  summary: "Records that an upstream will never take, and why",
  request: {
    query: z.strictObject({
      sink: parameter(sinkName, nameFacts.told, nameFacts.description).openapi(nameLengths),
      limit: limit({ max: 1000, without: lettersWithout }),
    }),
  },
  responses: {
    200: jsonAnswer(deadLettersSchema, "Newest first. What gave way to newer ones is counted."),
    400: badParameterAnswer,
    401: unauthorizedAnswer,
  },
});

const unknownAnswer = jsonAnswer(errorSchema, "There is no sink of that name.");
const forbiddenAnswer = jsonAnswer(errorSchema, "Neither a token nor mutual TLS is set.");
const mediaAnswer = jsonAnswer(errorSchema, "Content-Type is not application/json.");
const refusals = {
  400: jsonAnswer(errorSchema, "A parameter is unknown or wrong."),
  401: unauthorizedAnswer,
  403: forbiddenAnswer,
  404: unknownAnswer,
  415: mediaAnswer,
};
const done = { 200: jsonAnswer(pausedSchema, "Done."), ...refusals };

const pauseRoute = createRoute({
  method: "post",
  path: "/api/v1/sinks/{name}/pause",
  summary: "Sends nothing more to a sink, also after a restart; its records wait in the store",
  request: { params, query: z.strictObject({}) },
  responses: done,
});

const resumeRoute = createRoute({
  method: "post",
  path: "/api/v1/sinks/{name}/resume",
  summary: "Goes on with what a paused sink has not sent",
  request: { params, query: z.strictObject({}) },
  responses: done,
});

const olderThan = needed(parseDuration, {
  told: "is no duration; write 90s, 2h or 7d",
  missing: "is missing: how old records are that are given up, such as 2h; 0s gives up all",
  description: "Records that were stored longer ago: 2h, 7d; 0s for all.",
});

const dropRoute = createRoute({
  method: "post",
  path: "/api/v1/sinks/{name}/drop",
  summary: "Gives up the backlog of a sink that is older than so much",
  description: "The records stay in the store; they are counted as discarded, and not sent to this sink.",
  request: { params, query: z.strictObject({ olderThan }) },
  responses: {
    200: jsonAnswer(discardedSchema, "How many records were given up."),
    ...refusals,
  },
});

const forbidden =
  "sinks are paused, resumed and emptied with a token or mutual TLS only, as anybody on this machine could do it otherwise: " +
  `set api.tokenFile to a file with a token (${makeTokenFile}), or api.tls.clientCaFile`;

type Parts = {
  readonly sinks: SinkControl;
  readonly now: () => number;
  readonly access: { readonly token?: unknown; readonly mutualTls: boolean };
};

/** What `work` gives, or why there is nothing to work on. */
function named<Given>(work: () => Given): { readonly given: Given } | { readonly unknown: string } {
  try {
    return { given: work() };
  } catch (error) {
    if (!(error instanceof UnknownSinkError)) throw error; // The edge knows the others.
    return { unknown: error.message };
  }
}

export function sinksRoutes(app: OpenAPIHono, { sinks, now, access }: Parts): void {
  // For these paths alone: what is no path is 404, and a path of GET is 405, whether or not a token is set.
  const acting = [pauseRoute, resumeRoute, dropRoute].map((route) => route.getRoutingPath());
  app.on("POST", acting, async (context, next) => {
    if (access.token === undefined && !access.mutualTls)
      return context.json({ error: { message: forbidden } }, 403);
    // A form of a foreign page cannot have this type: a browser asks first, and gets no leave.
    if (!/^application\/json *(;|$)/i.test(context.req.header("content-type") ?? ""))
      return context.json({ error: { message: "Content-Type is not application/json" } }, 415);
    return await next();
  });
  app.openapi(listRoute, (context) => {
    const at = now();
    const answers = sinks.facts().map((facts) => sinkAnswer(facts, at));
    return context.json({ sinks: answers, deadLettersEvicted: sinks.deadLettersEvicted() }, 200);
  });
  app.openapi(lettersRoute, (context) => {
    const { sink, limit: most = lettersWithout } = context.req.valid("query");
    const deadLetters = sinks.deadLetters({ limit: most, ...(sink === undefined ? {} : { sink }) });
    return context.json({ deadLetters }, 200);
  });
  app.openapi(pauseRoute, (context) => {
    const { name: sink } = context.req.valid("param");
    const result = named(() => sinks.pause(sink));
    if ("unknown" in result) return context.json({ error: { message: result.unknown } }, 404);
    return context.json({ sink, paused: true }, 200);
  });
  app.openapi(resumeRoute, (context) => {
    const { name: sink } = context.req.valid("param");
    const result = named(() => sinks.resume(sink));
    if ("unknown" in result) return context.json({ error: { message: result.unknown } }, 404);
    return context.json({ sink, paused: false }, 200);
  });
  app.openapi(dropRoute, (context) => {
    const before = now() - context.req.valid("query").olderThan;
    const result = named(() => sinks.discard(context.req.valid("param").name, before));
    if ("unknown" in result) return context.json({ error: { message: result.unknown } }, 404);
    return context.json({ records: result.given }, 200);
  });
}
