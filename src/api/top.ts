// GET /api/v1/top: who sent and got most, from the rollups: exact, also for what was throttled or is a row no more.

import { createRoute, type OpenAPIHono } from "@hono/zod-openapi";
import type { Queries } from "../store/queries.ts";
import type { TopOrder, TopQuery } from "../store/top-groups.ts";
import { rangeOf } from "./parameters.ts";
import { type TopAsked, topQuery, topSinceMs, topWithout } from "./query.ts";
import { badParameterAnswer, jsonAnswer, noStoreAnswer, unauthorizedAnswer } from "./requests.ts";
import { topSchema } from "./schemas.ts";

const route = createRoute({
  method: "get",
  path: "/api/v1/top",
  summary: "Who sent and got most",
  description: "Without from, to and since of the last hour.",
  request: { query: topQuery },
  responses: {
    200: jsonAnswer(topSchema, "The top, the total, and what of it is in none of the ranks."),
    400: badParameterAnswer,
    401: unauthorizedAnswer,
    503: noStoreAnswer,
  },
});

function storeQuery(query: TopAsked, now: number): TopQuery & { readonly order: TopOrder } {
  const { by = "address", order = "bytes", limit = topWithout } = query;
  const { address, port, protocol, direction, verdict } = query;
  const timeless = query.from === undefined && query.to === undefined && query.since === undefined;
  return {
    ...rangeOf(timeless ? { since: topSinceMs } : query, now),
    ...{ by, order, limit },
    ...(address === undefined ? {} : { address }),
    ...(port === undefined ? {} : { port }),
    ...(protocol === undefined ? {} : { protocol }),
    ...(direction === undefined ? {} : { direction }),
    ...(verdict === undefined ? {} : { verdict }),
  };
}

export function topRoute(
  app: OpenAPIHono,
  { queries, now }: { readonly queries: Pick<Queries, "top">; readonly now: () => number },
): void {
  app.openapi(route, async (context) => {
    const query = storeQuery(context.req.valid("query"), now());
    const { ranks, total, other, unnamed, fromAt, toAt, complete } = await queries.top(query);
    const { by, order } = query;
    return context.json({ by, order, ranks, total, other, unnamed, fromAt, toAt, complete }, 200);
  });
}
