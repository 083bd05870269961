// GET /api/v1/drops: what was dropped most, by reason, address or port.

import { createRoute, type OpenAPIHono } from "@hono/zod-openapi";
import type { Queries } from "../store/queries.ts";
import { rangeOf } from "./parameters.ts";
import { dropsQuery, dropsWithout } from "./query.ts";
import { badParameterAnswer, jsonAnswer, noStoreAnswer, unauthorizedAnswer } from "./requests.ts";
import { dropsSchema } from "./schemas.ts";

const route = createRoute({
  method: "get",
  path: "/api/v1/drops",
  summary: "What was dropped most, of the rows that were kept",
  request: { query: dropsQuery },
  responses: {
    200: jsonAnswer(dropsSchema, "Most packets first."),
    400: badParameterAnswer,
    401: unauthorizedAnswer,
    503: noStoreAnswer,
  },
});

export function dropsRoute(
  app: OpenAPIHono,
  { queries, now }: { readonly queries: Pick<Queries, "drops">; readonly now: () => number },
): void {
  app.openapi(route, async (context) => {
    const query = context.req.valid("query");
    const { by = "reason", limit = dropsWithout } = query;
    const { drops, complete } = await queries.drops({ ...rangeOf(query, now()), by, limit });
    return context.json({ by, drops, complete }, 200);
  });
}
