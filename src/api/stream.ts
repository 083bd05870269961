// GET /api/v1/flows/stream: new flows as they are kept, as server-sent events or lines of JSON.

import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { Context } from "hono";
import { filterOf } from "./flow-filter.ts";
import { cursorForm, type FlowsQuery, type StreamQuery, streamQuery } from "./query.ts";
import { badParameterAnswer, jsonAnswer, unauthorizedAnswer, wantsLines } from "./requests.ts";
import { errorSchema } from "./schemas.ts";
import { streamTexts } from "./stream-text.ts";
import type { Streams } from "./streams.ts";

export type StreamParts = { readonly streams: Streams; readonly now: () => number };

const route = createRoute({
  method: "get",
  path: "/api/v1/flows/stream",
  summary: "New flows as they are kept",
  description:
    "Begins with now, with `from` or `since` in the past, or after a cursor. Server-sent events: `flow`; `lost` with " +
    "what was thrown away meanwhile, and how many rows retention took before they were read; `cut` when the client " +
    "takes too little and is let go. NDJSON: a line with `seq` is a flow, any other is a notice. Each carries the " +
    "cursor to go on from. What the time before the stream lacks, /api/v1/ledger tells. A client that was let in stays " +
    "so when the token changes.",
  request: {
    query: streamQuery,
    headers: z.object({
      "last-event-id": z
        .string()
        .optional()
        .openapi({ description: "The id of the last event that was seen." }),
    }),
  },
  responses: {
    200: {
      description: "Goes on until one of the two sides ends it.",
      content: {
        "text/event-stream": { schema: z.string() },
        "application/x-ndjson": { schema: z.string() },
      },
    },
    400: badParameterAnswer,
    401: unauthorizedAnswer,
    503: jsonAnswer(errorSchema, "Too many streams are open, or the store is not."),
  },
});

/** Opens a stream in the answer; its head alone where only that was asked for. */
export async function answerStream(
  context: Context,
  { streams, now }: StreamParts,
  asked: {
    readonly query: FlowsQuery | StreamQuery;
    readonly cursor: string | undefined;
    readonly format: keyof typeof streamTexts;
  },
): Promise<Response> {
  const text = streamTexts[asked.format];
  const headers = { "Content-Type": text.contentType };
  // Without the coding that the body of GET has, Bun would add a length of 0.
  if (context.req.method === "HEAD")
    return context.body(null, 200, { ...headers, "Transfer-Encoding": "chunked" });
  const stream = await streams.open({
    filter: filterOf(asked.query, now()),
    cursor: asked.cursor,
    text,
    signal: context.req.raw.signal,
  });
  if (stream !== undefined) return context.body(stream, 200, headers);
  const message = `${streams.facts().max} streams are open, which is api.streamsMax; try again later`;
  return context.json({ error: { message } }, 503, { "Retry-After": "10" });
}

export function streamRoute(app: OpenAPIHono, parts: StreamParts): void {
  app.openapi(route, async (context) => {
    const query = context.req.valid("query");
    const last = context.req.header("last-event-id");
    if (last !== undefined && !cursorForm.test(last)) {
      const message = "is no id of an event of this stream";
      return context.json({ error: { parameter: "Last-Event-ID", message } }, 400);
    }
    const lines = query.format === "ndjson" || (query.format === undefined && wantsLines(context));
    const format = lines ? "ndjson" : "sse";
    // hono's types know no answer that is a stream.
    return (await answerStream(context, parts, { query, cursor: last ?? query.cursor, format })) as never;
  });
}
