// What the API refuses: paths, methods, hosts, tokens; and what it tells of its own failures.

import { afterAll, expect, test } from "bun:test";
import { type ApiParts, apiApp } from "../src/api/app.ts";
import type { Token } from "../src/api/auth.ts";
import { createRequestCounts } from "../src/api/requests.ts";
import { errorSchema } from "../src/api/schemas.ts";
import { StoreUnreadableError } from "../src/store/failure.ts";
import { apiParts, local, storeOfRows } from "./api.parts.ts";

const store = storeOfRows();
afterAll(() => store.close());

const parts = (changed: Partial<ApiParts> = {}) => apiParts(store, changed);
const app = apiApp(parts());
const get = (path: string, headers: Record<string, string> = {}) =>
  app.request(path, { headers: { ...local.headers, ...headers } });

test("an unknown path is 404, another method 405, both JSON", async () => {
  const missing = await get("/api/v2/flows");
  expect(missing.status).toBe(404);
  expect(errorSchema.parse(await missing.json()).error.message).toContain("/openapi.json");
  for (const method of ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"]) {
    const response = await app.request("/api/v1/flows", { method, ...local });
    expect(response.status).toBe(405);
    expect(response.headers.get("allow")).toBe("GET, HEAD");
    expect(errorSchema.parse(await response.json()).error.message).toContain("GET");
  }
});

test.each([
  ["GET", "/api/v1/sinks/x/pause", 405, "POST"],
  ["PUT", "/api/v1/sinks/x/resume", 405, "POST"],
  ["DELETE", "/api/v1/sinks/x/drop", 405, "POST"],
  ["POST", "/api/v1/sinks", 405, "GET, HEAD"],
  ["POST", "/api/v1/sinks/dead-letters", 405, "GET, HEAD"],
  ["POST", "/api/v1/sinks/x/pause", 403, null],
  ["POST", "/api/v1/sinks/x/foo", 404, null],
  ["GET", "/api/v1/sinks/x/foo", 404, null],
  ["PUT", "/api/v1/sinks//pause", 404, null],
  ["POST", "/api/v1/sinks/x/pause/now", 404, null],
])("%s %s is %p, Allow %p", async (method, path, status, allow) => {
  const counts = createRequestCounts();
  const response = await apiApp(parts({ counts })).request(path, { method, ...local });
  expect([response.status, response.headers.get("allow")]).toEqual([status, allow]);
  expect(counts.all().map(({ route }) => route === "other")).toEqual([status !== 403]);
});

test("HEAD answers like GET, without the body", async () => {
  const response = await app.request("/api/v1/status", { method: "HEAD", ...local });
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toContain("application/json");
  expect(await response.text()).toBe("");
});

test("an error of ours is 500, told to the log and not to the client", async () => {
  const seen: unknown[] = [];
  const secret = new Error("secret detail");
  const failing = apiApp(
    parts({
      status: () => {
        throw secret;
      },
      failed: (error, path) => seen.push([error, path]),
    }),
  );
  const response = await failing.request("/api/v1/status", local);
  expect(response.status).toBe(500);
  expect(await response.json()).toEqual({ error: { message: "internal error" } });
  expect(seen).toEqual([[secret, "/api/v1/status"]]);
});

test("a store that cannot be read is 503; the rest goes on", async () => {
  const unreadable = () =>
    Promise.reject(new StoreUnreadableError("/var/lib/fovea/fovea.db: disk I/O error"));
  const queries = {
    flows: unreadable,
    drops: unreadable,
    lost: unreadable,
    summaries: unreadable,
    top: unreadable,
    series: unreadable,
    samples: unreadable,
  };
  const failing = apiApp(parts({ queries }));
  const paths = [
    "/flows",
    "/drops",
    "/flows?source=10.0.0.1",
    "/top",
    "/ledger?since=1h",
    "/series",
    "/samples?name=up",
    "/flows?format=ndjson",
  ];
  for (const path of paths.map((name) => `/api/v1${name}`)) {
    const response = await failing.request(path, local);
    expect(response.status).toBe(503);
    expect(await response.text()).not.toContain("fovea.db");
  }
  expect((await failing.request("/metrics", local)).status).toBe(200);
});

test("a URL that is too long is 414", async () => {
  const response = await get(`/api/v1/flows?reason=${"x".repeat(9000)}`);
  expect(response.status).toBe(414);
});

test("every answer carries the security headers, refusals too", async () => {
  for (const path of ["/metrics", "/healthz", "/api/v1/status", "/nothing", "/api/v1/flows?limit=0"]) {
    const { headers } = await get(path);
    expect(headers.get("x-content-type-options")).toBe("nosniff");
    expect(headers.get("content-security-policy")).toContain("default-src 'none'");
    expect(headers.get("cache-control")).toBe("no-store");
    expect(headers.get("access-control-allow-origin")).toBeNull();
  }
});

test("on loopback a foreign Host is refused on every route", async () => {
  for (const path of ["/metrics", "/healthz", "/api/v1/flows", "/openapi.json"]) {
    const response = await app.request(path, { headers: { Host: "rebound.example" } });
    expect(response.status).toBe(421);
    expect(response.headers.get("x-frame-options")).toBe("DENY");
  }
});

const token: Token = { matches: (given) => given === "the-right-token-0", problem: () => undefined };
const guarded = (openMetrics: boolean) =>
  apiApp(parts({ access: { loopback: false, mutualTls: false, token, openMetrics: () => openMetrics } }));
const bearer = (given: string) => ({ headers: { Host: "node.example", Authorization: `Bearer ${given}` } });

test("with a token every route needs it", async () => {
  const closed = guarded(false);
  const sink = "/api/v1/sinks/x";
  for (const method of ["GET", "POST", "PUT"])
    for (const path of [`${sink}/pause`, `${sink}/foo`, sink])
      expect((await closed.request(path, { method, headers: { Host: "node.example" } })).status).toBe(401);
  for (const path of ["/metrics", "/healthz", "/readyz", "/api/v1/flows", "/openapi.json", "/nothing"]) {
    const without = await closed.request(path, { headers: { Host: "node.example" } });
    expect(without.status).toBe(401);
    expect(without.headers.get("www-authenticate")).toBe('Bearer realm="fovea"');
    const wrong = await closed.request(path, bearer("the-wrong-token-0"));
    expect(wrong.status).toBe(401);
    expect(wrong.headers.get("www-authenticate")).toContain('error="invalid_token"');
    const right = await closed.request(path, bearer("the-right-token-0"));
    expect(right.status).toBe(path === "/nothing" ? 404 : 200);
  }
});

test("api.openMetrics opens the scrape and health, nothing else", async () => {
  const open = guarded(true);
  const request = async (path: string) =>
    (await open.request(path, { headers: { Host: "node.example" } })).status;
  for (const path of ["/metrics", "/healthz", "/readyz"]) expect(await request(path)).toBe(200);
  for (const path of ["/api/v1/flows", "/openapi.json", "/metrics/", "//metrics", "/healthz/../api/v1/flows"])
    expect(await request(path)).toBe(401);
});

test("requests are counted by route, unknown paths and methods as other", async () => {
  const counts = createRequestCounts();
  const counted = apiApp(parts({ counts }));
  await counted.request("/api/v1/flows?limit=1", local);
  await counted.request("/api/v1/flows?limit=0", local);
  for (const path of ["/a", "/b", "/c"]) await counted.request(path, local);
  await counted.request("/healthz", { method: "PUT", ...local });
  await counted.request("/healthz", { headers: { Host: "rebound.example" } });
  expect(counts.all()).toEqual([
    { route: "/api/v1/flows", method: "GET", code: "200", count: 1 },
    { route: "/api/v1/flows", method: "GET", code: "400", count: 1 },
    { route: "other", method: "GET", code: "404", count: 3 },
    { route: "other", method: "PUT", code: "405", count: 1 },
    { route: "other", method: "GET", code: "421", count: 1 },
  ]);
});

test("counts stay bounded when clients make methods up", () => {
  const counts = createRequestCounts();
  for (let index = 0; index < 1000; index++) counts.add("other", `BREW${index}`, 405);
  expect(counts.all()).toEqual([{ route: "other", method: "other", code: "405", count: 1000 }]);
});
