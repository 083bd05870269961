// Whether each route answers with the statuses that the OpenAPI document names for it, all of them and no other; and
// whether what it says of a wrong parameter is for whoever wrote it.

import { afterAll, expect, test } from "bun:test";
import { type ApiParts, apiApp } from "../src/api/app.ts";
import { errorSchema } from "../src/api/schemas.ts";
import { UnknownSinkError } from "../src/forward/errors.ts";
import { ImportRefused } from "../src/import-rows.ts";
import { StoreUnreadableError } from "../src/store/failure.ts";
import { apiParts, local, storeOfRows, streamsOf } from "./api.parts.ts";

const store = storeOfRows();
afterAll(() => store.close());

const appOf = (changed: Partial<ApiParts> = {}) => apiApp(apiParts(store, changed));
const access = { loopback: true, mutualTls: false, openMetrics: () => false };
const token = { matches: () => false, problem: () => undefined };
const trusted = { access: { ...access, mutualTls: true } };

const unreadable = () => Promise.reject(new StoreUnreadableError("disk I/O error"));
const imports = { rowsImported: () => 0, importRows: () => ({ kept: 0, evicted: 0 }) };
const { sinks } = apiParts(store);
const nowhere = () => {
  throw new UnknownSinkError("central", []);
};

/** What may become of a request before or behind the routes. */
const apps = {
  plain: appOf(),
  guarded: appOf({ access: { ...access, token } }),
  trusted: appOf({ ...trusted, imports }),
  broken: appOf({
    ...trusted,
    queries: {
      ...{ flows: unreadable, drops: unreadable, lost: unreadable, summaries: unreadable },
      ...{ top: unreadable, series: unreadable, samples: unreadable },
    },
    imports: { rowsImported: unreadable, importRows: unreadable },
    streams: streamsOf(store, { streamsMax: 0 }),
    unready: () => ["no tick is done yet"],
    sinks: { ...sinks, pause: nowhere, resume: nowhere, discard: nowhere },
  }),
  refusing: appOf({
    ...trusted,
    imports: { ...imports, importRows: () => Promise.reject(new ImportRefused("has 5 rows")) },
  }),
};

type Parameter = { name: string; in: string; required?: boolean };
type Operation = { parameters?: Parameter[]; responses: Record<string, unknown> };
const document = (await (await apps.plain.request("/openapi.json", local)).json()) as {
  paths: Record<string, Record<string, Operation>>;
};
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
);

const rightQuery: Record<string, string> = {
  "/api/v1/ledger": "since=1h",
  "/api/v1/samples": "name=kappie_drop_count",
  "/api/v1/import": `sha256=${"0".repeat(64)}`,
  "/api/v1/sinks/{name}/drop": "olderThan=2h",
};

type Asked = { readonly path: string; readonly method: string };

/** The right query in front of what is to be wrong. */
const urlOf = ({ path, method }: Asked, name: string, wrong = "") => {
  const right = method === "POST" && path === "/api/v1/import" ? undefined : rightQuery[path];
  const query = [right, wrong].filter((part) => part !== undefined && part !== "").join("&");
  return `${path.replace("{name}", name)}${query === "" ? "" : `?${query}`}`;
};

const headersOf = ({ path, method }: Asked): Record<string, string> => {
  if (method === "GET") return local.headers;
  if (path !== "/api/v1/import") return { ...local.headers, "Content-Type": "application/json" };
  const own = { "Fovea-Node": "n", "Fovea-Sha256": "0".repeat(64), "Fovea-Before": "0" };
  return { ...local.headers, ...own, "Content-Type": "application/x-ndjson" };
};

async function statusesOf(asked: Asked): Promise<Set<string>> {
  const { method } = asked;
  const headers = headersOf(asked);
  const long = "x".repeat(64);
  const requests = [
    ...Object.values(apps).map((app) => ({ app, url: urlOf(asked, "central"), headers })),
    { app: apps.trusted, url: urlOf(asked, "central", "unknown=1"), headers },
    { app: apps.trusted, url: urlOf(asked, long), headers },
    { app: apps.trusted, url: urlOf(asked, "central"), headers: { ...headers, "Fovea-Before": "x" } },
    {
      app: apps.trusted,
      url: urlOf(asked, "central"),
      headers: { ...headers, "Content-Type": "text/plain" },
    },
  ];
  const statuses = new Set<string>();
  for (const { app, url, headers: given } of requests) {
    const response = await app.request(url, { method, headers: given });
    await response.body?.cancel();
    statuses.add(String(response.status));
  }
  return statuses;
}

test.each(operations.map(({ path, method, operation }) => [method, path, operation] as const))(
  "%s %s answers with the statuses that are documented",
  async (method, path, operation) => {
    expect(await statusesOf({ method, path })).toEqual(new Set(Object.keys(operation.responses)));
  },
);

test.each([
  ["GET", "/api/v1/samples", "name"],
  ["GET", "/api/v1/import", "sha256"],
  ["POST", "/api/v1/sinks/{name}/drop", "olderThan"],
])("%s %s cannot do without %s, and the document says so", async (method, path, name) => {
  const { operation } = operations.find((one) => one.path === path && one.method === method) ?? {};
  const required = operation?.parameters?.filter((one) => one.in === "query" && one.required === true);
  expect(required?.map((one) => one.name)).toEqual([name]);
  const headers = headersOf({ path, method });
  const response = await apps.trusted.request(path.replace("{name}", "central"), { method, headers });
  expect(response.status).toBe(400);
  const { error } = errorSchema.parse(await response.json());
  expect(error.parameter).toBe(name);
  expect(error.message).toMatch(/^is missing: /);
});

// As the validators word it of themselves.
const rawText = /invalid|expected|received|too (big|small)/i;

const wrongValues = ["", "0s", "x".repeat(300), "\u0000", "-", "="];

test.each(
  operations.flatMap(({ path, method, operation }) =>
    (operation.parameters ?? [])
      .filter((one) => one.in === "query")
      .map(({ name }) => [method, path, name] as const),
  ),
)("%s %s says by its name what is wrong with %s", async (method, path, name) => {
  const own = (text: string) => `${name}=${encodeURIComponent(text)}`;
  const repeated = (times: number) => Array.from({ length: times }, () => own("1")).join("&");
  let refused = 0;
  for (const query of [...wrongValues.map(own), repeated(2), repeated(65)]) {
    const needed = rightQuery[path]?.startsWith(`${name}=`) === false ? `${rightQuery[path]}&` : "";
    const url = `${path.replace("{name}", "central")}?${needed}${query}`.replace("since=1h&", "");
    const response = await apps.trusted.request(url, { method, headers: headersOf({ path, method }) });
    if (response.status !== 400) {
      expect(response.status).toBe(200);
      await response.body?.cancel();
      continue;
    }
    refused += 1;
    const { error } = errorSchema.parse(await response.json());
    expect([query, error.parameter]).toEqual([query, name]);
    expect(error.message).not.toMatch(rawText);
  }
  expect(refused).toBeGreaterThan(2);
});

test("a name of a sink that is too long is told as such", async () => {
  const url = `/api/v1/sinks/${"x".repeat(64)}/pause`;
  const headers = headersOf({ path: url, method: "POST" });
  const response = await apps.trusted.request(url, { method: "POST", headers });
  expect(errorSchema.parse(await response.json()).error).toEqual({
    parameter: "name",
    message: `"${"x".repeat(64)}" is no name of a sink, which has 1 to 63 characters`,
  });
});

test.each(["/metrics?x=1", "/healthz?x=1", "/readyz?x=1"])(
  "%s: a scraper may send parameters",
  async (url) => {
    expect((await apps.plain.request(url, local)).status).toBe(200);
  },
);
