// GET /api/v1/series and /api/v1/samples: which metric series there were, and their values over time.

import { createRoute, type OpenAPIHono } from "@hono/zod-openapi";
import type { Queries } from "../store/queries.ts";
import { ParameterError } from "./parameter-error.ts";
import { rangeOf } from "./parameters.ts";
import { samplesQuery, samplesSinceMs, samplesWithout, seriesQuery, seriesWithout } from "./query.ts";
import { badParameterAnswer, jsonAnswer, noStoreAnswer, unauthorizedAnswer } from "./requests.ts";
import { type SampleValue, samplesSchema, seriesSchema } from "./schemas.ts";

const answers = { 400: badParameterAnswer, 401: unauthorizedAnswer, 503: noStoreAnswer };

const seriesOf = createRoute({
  method: "get",
  path: "/api/v1/series",
  summary: "Which metric series there are samples of",
  request: { query: seriesQuery },
  responses: { 200: jsonAnswer(seriesSchema, "By name, then labels."), ...answers },
});

const samplesOf = createRoute({
  method: "get",
  path: "/api/v1/samples",
  summary: "Values of metric series over time",
  description: "Without from, to and since of the last hour.",
  request: { query: samplesQuery },
  responses: { 200: jsonAnswer(samplesSchema, "Each series with its points, oldest first."), ...answers },
});

/** JSON has no such numbers; these are the words of Prometheus for them. */
function shownValue(value: number | null): SampleValue {
  if (value === null || Number.isFinite(value)) return value;
  return Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
}

/** Without any time of the last hour; a range has at least a millisecond. */
function spanOf(times: Parameters<typeof rangeOf>[0], now: number) {
  const { fromAt, toAt = now } = rangeOf(times, now);
  const span = { fromAt: fromAt ?? toAt - samplesSinceMs, toAt };
  if (span.fromAt < toAt) return span;
  const start = times.since === undefined ? "from" : "since";
  throw new ParameterError(
    times.to === undefined ? start : "to",
    `leaves no time between ${start} and to, which is now where it is not given`,
  );
}

export function samplesRoutes(
  app: OpenAPIHono,
  { queries, now }: { readonly queries: Pick<Queries, "series" | "samples">; readonly now: () => number },
): void {
  app.openapi(seriesOf, async (context) => {
    const { name, label = [], limit = seriesWithout } = context.req.valid("query");
    const labels = Object.fromEntries(label);
    const named = name === undefined ? {} : { name };
    const { series, complete } = await queries.series({ ...named, labels, limit });
    return context.json({ series, complete }, 200);
  });
  app.openapi(samplesOf, async (context) => {
    const { name, label = [], step, limit = samplesWithout, ...times } = context.req.valid("query");
    const range = spanOf(times, now());
    const { series, complete } = await queries.samples({
      ...{ ...range, name, labels: Object.fromEntries(label), seriesMax: limit },
      ...(step === undefined ? {} : { stepMs: step }),
    });
    const shown = series.map(({ points, ...of }) => ({
      ...of,
      points: points.map(([pointAt, value]): [number, SampleValue] => [pointAt, shownValue(value)]),
    }));
    return context.json({ ...range, series: shown, complete }, 200);
  });
}
