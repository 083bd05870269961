// Whether the OpenAPI document tells the truth.

import { afterAll, expect, test } from "bun:test";
import { z } from "zod";
import { type ApiParts, apiApp } from "../src/api/app.ts";
import { apiParts, local, storeOfRows } from "./api.parts.ts";

const store = storeOfRows();
afterAll(() => store.close());

const parts = (changed: Partial<ApiParts> = {}) => apiParts(store, changed);
const app = apiApp(parts());
const get = (path: string) => app.request(path, local);

const anyObject = z.record(z.string(), z.unknown());
const bodyOf = async (response: Response) => anyObject.parse(await response.json());

type Content = Record<string, { schema: Record<string, unknown> }>;
type Operation = {
  parameters?: { name: string; in: string }[];
  responses: Record<string, { content?: Content }>;
};
type Document = {
  openapi: string;
  paths: Record<string, Record<string, Operation | undefined> | undefined>;
  components: { schemas: Record<string, unknown> };
};

const readDocument = async () => (await (await get("/openapi.json")).json()) as Document;

/** The schema of an answer as zod reads it back from the document. */
function schemaOf(document: Document, path: string, code: string, media: string) {
  const schema = document.paths[path]?.["get"]?.responses[code]?.content?.[media]?.schema;
  if (schema === undefined) throw new Error(`${path} has no ${code} as ${media}`);
  const text = JSON.stringify({ ...schema, $defs: document.components.schemas });
  return z.fromJSONSchema(JSON.parse(text.replaceAll("#/components/schemas/", "#/$defs/")));
}

test("the document names every route and no other", async () => {
  const document = await readDocument();
  expect(document.openapi).toBe("3.1.0");
  const routed = new Set(
    app.routes
      .filter(({ method }) => method !== "ALL")
      .map(({ path, method }) => `${method} ${path.replace(/:(\w+)/g, "{$1}")}`),
  );
  routed.delete("GET /openapi.json");
  const documented = Object.entries(document.paths).flatMap(([path, operations]) =>
    Object.keys(operations ?? {}).map((method) => `${method.toUpperCase()} ${path}`),
  );
  expect(new Set(documented)).toEqual(routed);
});

test.each([
  ["/api/v1/status", "/api/v1/status", "200"],
  ["/api/v1/flows", "/api/v1/flows", "200"],
  ["/api/v1/flows", "/api/v1/flows?order=oldest&limit=1", "200"],
  ["/api/v1/flows", "/api/v1/flows?limit=0", "400"],
  ["/api/v1/drops", "/api/v1/drops?by=port", "200"],
  ["/api/v1/drops", "/api/v1/drops?x=1", "400"],
  ["/api/v1/ledger", "/api/v1/ledger", "200"],
  ["/api/v1/ledger", "/api/v1/ledger?since=1h", "200"],
  ["/api/v1/top", "/api/v1/top?by=port", "200"],
  ["/api/v1/top", "/api/v1/top?by=colour", "400"],
  ["/api/v1/flows/stream", "/api/v1/flows/stream?limit=1", "400"],
  ["/api/v1/series", "/api/v1/series?name=fovea_*", "200"],
  ["/api/v1/samples", "/api/v1/samples?name=kappie_forward_count", "200"],
  ["/api/v1/samples", "/api/v1/samples", "400"],
  ["/api/v1/import", `/api/v1/import?sha256=${"0".repeat(64)}`, "200"],
  ["/api/v1/sinks", "/api/v1/sinks", "200"],
  ["/api/v1/sinks", "/api/v1/sinks?x=1", "400"],
  ["/api/v1/sinks/dead-letters", "/api/v1/sinks/dead-letters", "200"],
  ["/readyz", "/readyz", "200"],
])("the document's schema of %s holds for %s (%s)", async (path, asked, code) => {
  const schema = schemaOf(await readDocument(), path, code, "application/json");
  const response = await get(asked);
  expect(String(response.status)).toBe(code);
  const body = await bodyOf(response);
  expect(schema.safeParse(body).error).toBeUndefined();
  expect(schema.safeParse({ ...body, unknown: 1 }).success).toBe(false);
});

const values: Record<string, string> = {
  from: "-1m",
  to: "now",
  since: "1m",
  protocol: "tcp",
  direction: "egress",
  verdict: "dropped",
  reason: "NO_SOCKET",
  limit: "1",
  by: "port",
  follow: "false",
};

test.each([
  ["/api/v1/flows", { order: "newest", format: "json", cursor: store.cursorAt({ seq: 3, order: "newest" }) }],
  ["/api/v1/flows/stream", { format: "ndjson", cursor: store.cursorAt({ seq: 3, order: "oldest" }) }],
  ["/api/v1/top", { order: "packets" }],
  ["/api/v1/drops", {}],
  ["/api/v1/ledger", {}],
  ["/api/v1/series", { name: "fovea_*", label: "Direction=egress" }],
  ["/api/v1/samples", { name: "kappie_drop_count", label: "Direction=egress", step: "1m" }],
])("the document lists the parameters that %s takes", async (path, own: Record<string, string>) => {
  const { paths } = await readDocument();
  const parameters = (paths[path]?.["get"]?.parameters ?? []).filter(({ in: place }) => place === "query");
  expect(parameters.length).toBeGreaterThan(2);
  for (const { name } of parameters) {
    const fallback = /port/i.test(name) ? "1" : "10.0.0.1";
    const needed = path.endsWith("samples") && name !== "name" ? "name=kappie_drop_count&" : "";
    const response = await get(`${path}?${needed}${name}=${own[name] ?? values[name] ?? fallback}`);
    expect([name, response.status]).toEqual([name, 200]);
    await response.body?.cancel();
  }
});
