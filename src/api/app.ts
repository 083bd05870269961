// The API as one application: guard, routes, errors and the OpenAPI document.

import { OpenAPIHono } from "@hono/zod-openapi";
import type { Context, Next } from "hono";
import { routePath } from "hono/route";
import { StoreQueryError, StoreUnreadableError } from "../store/failure.ts";
import type { Queries } from "../store/queries.ts";
import { bearerOf, isLoopbackHost, type Token } from "./auth.ts";
import { dropsRoute } from "./drops.ts";
import { flowsRoute } from "./flows.ts";
import { healthRoutes } from "./health.ts";
import { type Imports, importRoutes } from "./import.ts";
import { ledgerRoute, type ReadLedger } from "./ledger.ts";
import { ParameterError } from "./parameter-error.ts";
import { type RequestCounts, urlCharsMax } from "./requests.ts";
import { samplesRoutes } from "./samples.ts";
import { type SinkControl, sinksRoutes } from "./sinks.ts";
import { type ReadStatus, statusRoute } from "./status.ts";
import { streamRoute } from "./stream.ts";
import type { Streams } from "./streams.ts";
import { topRoute } from "./top.ts";

/** Who may ask what. */
export type Access = {
  /** Bound to loopback: a Host header that names another machine is refused. */
  readonly loopback: boolean;
  /** Without it, every client that reaches the API may read it. */
  readonly token?: Token;
  /** Every client showed a certificate of our authority. */
  readonly mutualTls: boolean;
  /** `/metrics`, `/healthz` and `/readyz` need no token. */
  readonly openMetrics: () => boolean;
};

export type ApiParts = {
  readonly version: string;
  readonly access: Access;
  /** The scrape, in the format that the Accept header asks for. */
  readonly scrape: (
    accept: string | null,
  ) => Promise<{ readonly contentType: string; readonly body: string }>;
  /** Why the appliance is not ready; empty when it is. */
  readonly unready: () => readonly string[];
  readonly status: ReadStatus;
  readonly queries: Pick<Queries, "flows" | "drops" | "lost" | "top" | "series" | "samples" | "summaries">;
  readonly ledger: ReadLedger;
  readonly streams: Streams;
  readonly imports: Imports;
  readonly sinks: SinkControl;
  /** Epoch milliseconds. */
  readonly now: () => number;
  readonly counts: RequestCounts;
  /** An answer that failed for a reason of ours. */
  readonly failed: (error: unknown, path: string) => void;
};

const openPaths = new Set(["/metrics", "/healthz", "/readyz"]);

const securityHeaders: Readonly<Record<string, string>> = {
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
  "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "Cache-Control": "no-store",
};

const failure = (context: Context, status: 401 | 404 | 405 | 414 | 421 | 500 | 503, message: string) =>
  context.json({ error: { message } }, status);

/** The answer to a request that may not pass; undefined when it may. */
function refusal(context: Context, access: Access): Response | undefined {
  if (context.req.url.length > urlCharsMax)
    return failure(context, 414, `the URL has more than ${urlCharsMax} characters`);
  // A browser always sends Host; a simple health check that speaks HTTP/1.0 may not.
  const host = context.req.header("host");
  if (access.loopback && host !== undefined && !isLoopbackHost(host))
    return failure(context, 421, "the Host header does not name this machine's loopback address");
  if (access.token === undefined || (openPaths.has(context.req.path) && access.openMetrics()))
    return undefined;
  const given = bearerOf(context.req.header("authorization"));
  if (given !== undefined && access.token.matches(given)) return undefined;
  const invalid = given === undefined ? "" : ', error="invalid_token"';
  context.header("WWW-Authenticate", `Bearer realm="fovea"${invalid}`);
  return failure(
    context,
    401,
    given === undefined ? "a bearer token is needed" : "the bearer token is wrong",
  );
}

/** To HEAD the length that GET would tell: hono leaves the body out, and Bun would call that a length of 0. */
async function tellLength({ req, res }: Context): Promise<void> {
  if (req.method !== "HEAD" || res.body === null) return;
  const { byteLength } = await res.arrayBuffer();
  res.headers.set("Content-Length", String(byteLength));
}

function guard({ access, counts }: ApiParts) {
  return async (context: Context, next: Next): Promise<void> => {
    const refused = refusal(context, access);
    if (refused === undefined) await next();
    else context.res = refused;
    await tellLength(context);
    for (const [name, value] of Object.entries(securityHeaders)) context.res.headers.set(name, value);
    const path = refused === undefined ? routePath(context, -1) : "*";
    counts.add(path.includes("*") ? "other" : path, context.req.method, context.res.status);
  };
}

/** Whether a route's path, where `:name` is any one part, is this one. */
function isPathOf(pattern: string, path: string): boolean {
  const given = path.split("/");
  const parts = pattern.split("/");
  return (
    parts.length === given.length &&
    parts.every((part, index) => (part.startsWith(":") ? given[index] !== "" : part === given[index]))
  );
}

function notFound(app: OpenAPIHono, context: Context): Response {
  const here = app.routes.filter(({ path, method }) => method !== "ALL" && isPathOf(path, context.req.path));
  const known = [...new Set(here.map(({ method }) => method))];
  if (known.length === 0) return failure(context, 404, "no such path; /openapi.json lists them");
  const methods = known.flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method]));
  context.header("Allow", methods.join(", "));
  return failure(context, 405, `${context.req.path} takes ${known.join(" and ")} alone`);
}

/** What a validator refused, as the parameter's name and one sentence. */
type Issue = {
  readonly code?: string | undefined;
  readonly keys?: readonly string[];
  readonly path: readonly PropertyKey[];
  readonly message: string;
};

function badParameter(issue: Issue | undefined): { parameter: string; message: string } {
  const unknown = issue?.code === "unrecognized_keys" ? issue.keys?.[0] : undefined;
  if (unknown !== undefined) return { parameter: unknown, message: "is no parameter of this path" };
  return { parameter: String(issue?.path[0] ?? ""), message: issue?.message ?? "is wrong" };
}

// Names of the store's filter that differ from those of the API.
const parameterNames: Readonly<Record<string, string>> = {
  fromAt: "from",
  toAt: "to",
  addresses: "address",
  sources: "source",
  destinations: "destination",
  ports: "port",
  sourcePorts: "sourcePort",
  destinationPorts: "destinationPort",
  dropReason: "reason",
  labels: "label",
  stepMs: "step",
  seriesMax: "limit",
};

/** The store's messages begin with its name of the parameter, as in "stepMs: 0 is not positive". */
function storeRefusal({ parameter: own, message }: StoreQueryError): { parameter: string; message: string } {
  const told = message.startsWith(own) ? message.slice(own.length).replace(/^:? /, "") : message;
  return { parameter: parameterNames[own] ?? own, message: told };
}

function failed(parts: ApiParts, error: Error, context: Context): Response {
  if (error instanceof StoreQueryError) return context.json({ error: storeRefusal(error) }, 400);
  if (error instanceof ParameterError) {
    const { parameter, message } = error;
    return context.json({ error: { parameter, message } }, 400);
  }
  parts.failed(error, context.req.path);
  if (error instanceof StoreUnreadableError) return failure(context, 503, "the store cannot be read now");
  return failure(context, 500, "internal error");
}

export function apiApp(parts: ApiParts): OpenAPIHono {
  const app = new OpenAPIHono({
    defaultHook: (result, context) =>
      result.success ? undefined : context.json({ error: badParameter(result.error.issues[0]) }, 400),
  });
  app.use(guard(parts));
  healthRoutes(app, parts);
  statusRoute(app, parts);
  flowsRoute(app, parts);
  streamRoute(app, parts);
  topRoute(app, parts);
  dropsRoute(app, parts);
  ledgerRoute(app, parts);
  samplesRoutes(app, parts);
  importRoutes(app, parts);
  sinksRoutes(app, parts);
  app.openAPIRegistry.registerComponent("securitySchemes", "token", { type: "http", scheme: "bearer" });
  app.doc31("/openapi.json", {
    openapi: "3.1.0",
    info: {
      title: "Fovea",
      version: parts.version,
      description:
        "Network observability of one node. Before a route is asked, a request may be refused: 413 for a body or 431 for a " +
        `head that is too large, 414 for a URL of more than ${urlCharsMax} characters, 421 for a Host header of another ` +
        "machine where the API listens on loopback, 503 while too many connections are open. 500 is a fault of ours, which the log tells.",
      license: { name: "Apache-2.0", url: "https://www.apache.org/licenses/LICENSE-2.0" },
    },
    security: [{}, { token: [] }],
  });
  app.notFound((context) => notFound(app, context));
  app.onError((error, context) => failed(parts, error, context));
  return app;
}
