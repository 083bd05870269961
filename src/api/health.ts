// GET /metrics, /healthz and /readyz. They pass parameters over: scrapers and health checks may send some with every
// request, and what they ask for does not depend on any.

import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { jsonAnswer, unauthorizedAnswer } from "./requests.ts";
import { readySchema } from "./schemas.ts";

const metrics = createRoute({
  method: "get",
  path: "/metrics",
  summary: "The scrape, as Prometheus text or OpenMetrics by the Accept header",
  responses: {
    200: {
      description: "All metric families.",
      content: {
        "text/plain": { schema: z.string() },
        "application/openmetrics-text": { schema: z.string() },
      },
    },
    401: unauthorizedAnswer,
  },
});

const alive = createRoute({
  method: "get",
  path: "/healthz",
  summary: "Whether the process lives",
  responses: {
    200: { description: "It does.", content: { "text/plain": { schema: z.literal("ok\n") } } },
    401: unauthorizedAnswer,
  },
});

const ready = createRoute({
  method: "get",
  path: "/readyz",
  summary: "Whether the appliance observes and keeps what it sees",
  responses: {
    200: jsonAnswer(readySchema, "It does."),
    401: unauthorizedAnswer,
    503: jsonAnswer(readySchema, "It does not; the reasons say why."),
  },
});

export function healthRoutes(
  app: OpenAPIHono,
  parts: {
    readonly scrape: (
      accept: string | null,
    ) => Promise<{ readonly contentType: string; readonly body: string }>;
    readonly unready: () => readonly string[];
  },
): void {
  app.openapi(metrics, async (context) => {
    const { contentType, body } = await parts.scrape(context.req.header("accept") ?? null);
    return context.body(body, 200, { "Content-Type": contentType });
  });
  app.openapi(alive, (context) => context.text("ok\n", 200));
  app.openapi(ready, (context) => {
    const reasons = parts.unready();
    const answer = { ready: reasons.length === 0, reasons };
    return answer.ready ? context.json(answer, 200) : context.json(answer, 503);
  });
}
