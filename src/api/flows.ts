// GET /api/v1/flows: rows of the store by time, ends, protocol and verdict, page by page, and what is missing there.

import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { Context } from "hono";
import type { Queries } from "../store/queries.ts";
import { filterOf } from "./flow-filter.ts";
import { rangeOf } from "./parameters.ts";
import { type FlowsQuery, flowsQuery, flowsWithout } from "./query.ts";
import { badParameterAnswer, noStoreAnswer, unauthorizedAnswer, wantsLines } from "./requests.ts";
import { type FlowsAnswer, flowsSchema } from "./schemas.ts";
import { answerStream, type StreamParts } from "./stream.ts";

const header = (name: string) =>
  z
    .string()
    .optional()
    .openapi({ description: `With NDJSON: \`${name}\` of the JSON answer.` });

const headers = z.object({
  "Fovea-Cursor": header("cursor"),
  "Fovea-More": header("more"),
  "Fovea-Lost": z
    .string()
    .optional()
    .openapi({ description: "With NDJSON: `lost` of the JSON answer, as JSON." }),
  "Fovea-Lost-Since": header("lostSince"),
  "Fovea-Passed": header("passed"),
});

const route = createRoute({
  method: "get",
  path: "/api/v1/flows",
  summary: "Flows that were kept, and what was not kept of that time",
  request: { query: flowsQuery },
  responses: {
    200: {
      description: "One page; as NDJSON, by Accept or format=ndjson, one flow a line.",
      headers,
      content: {
        "application/json": { schema: flowsSchema },
        "application/x-ndjson": { schema: z.string() },
      },
    },
    400: badParameterAnswer,
    401: unauthorizedAnswer,
    503: noStoreAnswer,
  },
});

export type FlowParts = StreamParts & { readonly queries: Pick<Queries, "flows" | "lost"> };

/** Told only where the ledger by minute does not reach back to the beginning of the range. */
export const lostSince = (sinceAt: number | undefined, fromAt = Number.NEGATIVE_INFINITY) =>
  sinceAt === undefined || sinceAt <= fromAt ? {} : { lostSince: sinceAt };

async function answerOf({ queries, now }: FlowParts, query: FlowsQuery): Promise<FlowsAnswer> {
  const { limit = flowsWithout, order, cursor } = query;
  const at = now();
  const range = rangeOf(query, at);
  const [page, { lost, sinceAt }] = await Promise.all([
    queries.flows({
      ...filterOf(query, at),
      limit,
      ...(order === undefined ? {} : { order }),
      ...(cursor === undefined ? {} : { cursor }),
    }),
    queries.lost(range),
  ]);
  return {
    flows: page.flows,
    cursor: order === "oldest" || page.more ? page.cursor : null,
    more: page.more,
    lost,
    ...lostSince(sinceAt, range.fromAt),
    passed: page.lost,
  };
}

function linesOf(context: Context, answer: FlowsAnswer): Response {
  const body = answer.flows.map((flow) => `${JSON.stringify(flow)}\n`).join("");
  return context.body(body, 200, {
    "Content-Type": "application/x-ndjson",
    ...(answer.cursor === null ? {} : { "Fovea-Cursor": answer.cursor }),
    "Fovea-More": String(answer.more),
    "Fovea-Lost": JSON.stringify(answer.lost),
    ...(answer.lostSince === undefined ? {} : { "Fovea-Lost-Since": String(answer.lostSince) }),
    "Fovea-Passed": String(answer.passed),
  });
}

export function flowsRoute(app: OpenAPIHono, parts: FlowParts): void {
  app.openapi(route, async (context) => {
    const query = context.req.valid("query");
    // hono's types know no answer that is a stream, and take each media type with "json" in its name for one that is
    // a single JSON value.
    if (query.follow === "true")
      return (await answerStream(context, parts, { query, cursor: query.cursor, format: "ndjson" })) as never;
    const answer = await answerOf(parts, query);
    const lines = query.format === undefined ? wantsLines(context) : query.format === "ndjson";
    return lines ? (linesOf(context, answer) as never) : context.json(answer, 200);
  });
}
