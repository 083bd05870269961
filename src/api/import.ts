// POST /api/v1/import: takes flow records of another node, which keep their times and its name.

import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { FlowRecord } from "../flow.ts";
import { type ImportPart, ImportRefused } from "../import-rows.ts";
import { makeTokenFile } from "../private-file.ts";
import { needed } from "./parameters.ts";
import { badParameterAnswer, jsonAnswer, noStoreAnswer, unauthorizedAnswer } from "./requests.ts";
import { errorSchema, importedSchema, importFileSchema, importLineSchema } from "./schemas.ts";

type Kept = { readonly kept: number; readonly evicted: number };

export type Imports = {
  /** Rows of the file that were imported so far. */
  rowsImported(sha256: string): number | Promise<number>;
  /** Throws ImportRefused. */
  importRows(part: ImportPart): Kept | Promise<Kept>;
};

const sha256 = (description: string) =>
  needed((text) => (/^[0-9a-f]{64}$/.test(text) ? text : undefined), {
    told: "is no SHA-256 in small hexadecimal digits",
    missing: "is missing: it is the SHA-256 of the whole file in small hexadecimal digits",
    description,
  }).openapi({ pattern: "^[0-9a-f]{64}$" });
const conflictAnswer = jsonAnswer(errorSchema, "The store has other rows of the file, or is not on disk.");

const known = createRoute({
  method: "get",
  path: "/api/v1/import",
  summary: "How much of a file was imported",
  request: { query: z.strictObject({ sha256: sha256("Of the whole file.") }) },
  responses: {
    200: jsonAnswer(importFileSchema, "0 for a file that is not known."),
    400: badParameterAnswer,
    401: unauthorizedAnswer,
    503: noStoreAnswer,
  },
});

const route = createRoute({
  method: "post",
  path: "/api/v1/import",
  summary: "Takes flow records of another node",
  description: "One record a line. A request is taken whole or not at all; a larger file comes in several.",
  request: {
    headers: z.object({
      "fovea-node": z
        .string("is missing: it is the node that the records are of")
        .regex(/^\P{Cc}{1,253}$/u, "is no name of a node"),
      "fovea-sha256": sha256("Of the whole file, the same for all its parts."),
      "fovea-before": z
        .string("is missing: it is how many rows of the file were sent before")
        .regex(/^\d{1,15}$/, "is no number of rows")
        .transform(Number)
        .openapi({ type: "integer", description: "Rows of the file that were sent before." }),
    }),
    body: { required: true, content: { "application/x-ndjson": { schema: z.string() } } },
  },
  responses: {
    200: jsonAnswer(importedSchema, "What became of the records."),
    400: jsonAnswer(errorSchema, "A header or a line is wrong; nothing of this request was taken."),
    401: unauthorizedAnswer,
    403: jsonAnswer(errorSchema, "Neither a token nor mutual TLS is set: anybody here could write history."),
    409: conflictAnswer,
    415: jsonAnswer(errorSchema, "The body is not said to be application/x-ndjson."),
    503: noStoreAnswer,
  },
});

type Line = { readonly line: number; readonly message: string };

function readLine(text: string, line: number): FlowRecord | Line {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { line, message: "is no JSON" }; // The parser's own words name an offset in this line, of little use.
  }
  const { data, error } = importLineSchema.safeParse(value);
  if (data !== undefined) {
    const { seq: _, ...record } = data; // Its place in the store that it comes from.
    // JSON has no undefined: what zod takes for undefined is absent.
    return record as FlowRecord;
  }
  const [issue] = error.issues;
  const message = [issue?.path.join("."), issue?.message].filter((part) => part !== "").join(": ");
  return { line, message };
}

/** The records of all lines, or the first line that is wrong. */
export function readRecords(body: string): readonly FlowRecord[] | Line {
  const records: FlowRecord[] = [];
  for (const [index, text] of body.split("\n").entries()) {
    if (text.trim() === "") continue;
    const read = readLine(text, index + 1);
    if ("line" in read) return read;
    records.push(read);
  }
  return records;
}

const forbidden =
  "import needs a token or mutual TLS, as anybody on this machine could write history otherwise: " +
  `set api.tokenFile to a file with a token (${makeTokenFile}), or api.tls.clientCaFile`;

export function importRoutes(
  app: OpenAPIHono,
  parts: {
    readonly imports: Imports;
    readonly access: { readonly token?: unknown; readonly mutualTls: boolean };
  },
): void {
  const { imports, access } = parts;
  app.openapi(known, async (context) => {
    const rows = await imports.rowsImported(context.req.valid("query").sha256);
    return context.json({ rows }, 200);
  });
  app.use(route.path, async (context, next) => {
    if (context.req.method !== "POST") return await next();
    if (access.token === undefined && !access.mutualTls)
      return context.json({ error: { message: forbidden } }, 403);
    // A form of a foreign page cannot have this type: a browser asks first, and gets no leave.
    if (!/^application\/x-ndjson *(;|$)/i.test(context.req.header("content-type") ?? ""))
      return context.json({ error: { message: "Content-Type is not application/x-ndjson" } }, 415);
    return await next();
  });
  app.openapi(route, async (context) => {
    const headers = context.req.valid("header");
    const rows = readRecords(await context.req.text());
    if ("line" in rows) return context.json({ error: rows }, 400);
    const part: ImportPart = {
      sha256: headers["fovea-sha256"],
      node: headers["fovea-node"],
      before: headers["fovea-before"],
      rows,
    };
    try {
      const { kept, evicted } = await imports.importRows(part);
      return context.json({ kept, evicted }, 200);
    } catch (error) {
      if (!(error instanceof ImportRefused)) throw error; // The edge knows the errors of the store.
      return context.json({ error: { message: error.message } }, 409);
    }
  });
}
