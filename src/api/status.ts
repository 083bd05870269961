// GET /api/v1/status: how the appliance and its parts do.

import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { badParameterAnswer, jsonAnswer, unauthorizedAnswer } from "./requests.ts";
import { type StatusAnswer, statusSchema } from "./schemas.ts";

export type ReadStatus = () => StatusAnswer;

const route = createRoute({
  method: "get",
  path: "/api/v1/status",
  summary: "How the appliance and its parts do",
  request: { query: z.strictObject({}) },
  responses: {
    200: jsonAnswer(statusSchema, "The state as of the last tick."),
    400: badParameterAnswer,
    401: unauthorizedAnswer,
  },
});

export function statusRoute(app: OpenAPIHono, { status }: { readonly status: ReadStatus }): void {
  app.openapi(route, (context) => context.json(status(), 200));
}
