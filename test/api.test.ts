// The routes of the API, on a real store.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { type ApiParts, apiApp } from "../src/api/app.ts";
import { dropsSchema, errorSchema, ledgerSchema } from "../src/api/schemas.ts";
import { openStore } from "../src/store/store.ts";
import { apiParts, flow, historyOf, local, now, rows, storeOfRows } from "./api.parts.ts";

const store = storeOfRows();
afterAll(() => store.close());

const parts = (changed: Partial<ApiParts> = {}) => apiParts(store, changed);
const app = apiApp(parts());
const get = (path: string, headers: Record<string, string> = {}) =>
  app.request(path, { headers: { ...local.headers, ...headers } });

const pageSchema = z.object({
  flows: z.array(z.looseObject({ seq: z.number(), source: z.string() })),
  cursor: z.string().nullable(),
  more: z.boolean(),
  lost: z.record(z.string(), z.number()),
  lostSince: z.number().optional(),
  passed: z.number(),
});
async function page(query: string) {
  const response = await get(`/api/v1/flows${query}`);
  expect(response.status).toBe(200);
  return pageSchema.parse(await response.json());
}
const seqs = async (query: string) => (await page(query)).flows.map(({ seq }) => seq);

test("flows come newest first, as they were appended", async () => {
  const { flows, ...rest } = await page("");
  expect(flows).toEqual(rows.map((row, index) => ({ ...row, seq: index + 1 })).toReversed());
  expect(rest).toEqual({ cursor: null, more: false, lost: { "packets.untracked.not_ip": 1 }, passed: 0 });
});

test.each([
  ["?since=10m", [5, 4, 3, 2]],
  ["?from=-2h&to=-10m", [1]],
  ["?from=2026-01-31T12:00:00Z", [5]],
  [`?from=${now - 1}`, [5]],
  ["?address=192.0.2.1", [5, 2, 1]],
  ["?address=198.51.100.0/24&address=2001:db8::/32", [4, 3]],
  ["?source=10.0.0.0/8", [5, 1]],
  ["?destination=10.0.0.1", [4, 2]],
  ["?source=192.0.2.1&destination=10.0.0.1", [2]],
  ["?source=2001:db8::/48&source=198.51.100.9", [4, 3]],
  ["?address=10.0.0.1&source=192.0.2.0/24", [2]],
  ["?port=443", [2, 1]],
  ["?port=53&port=23", [4, 3]],
  ["?sourcePort=443", [2]],
  ["?destinationPort=443", [1]],
  ["?destinationPort=40000&port=443", [2]],
  ["?protocol=udp", [3]],
  ["?protocol=1", [5]],
  ["?direction=ingress", [4, 2]],
  ["?verdict=dropped", [4]],
  ["?reason=NO_SOCKET", [4]],
  ["?reason=NOTHING", []],
  ["?order=oldest&limit=2", [1, 2]],
  ["?destination=203.0.113.1", []],
])("flows%s are %p", async (query, expected) => {
  expect(await seqs(query)).toEqual(expected);
});

test.each(["newest", "oldest"])("pages by cursor, %s first, give each row once", async (order) => {
  for (const filter of ["", "&address=10.0.0.1", "&source=10.0.0.0/8"]) {
    const whole = await seqs(`?order=${order}${filter}`);
    const found: number[] = [];
    let next = "";
    for (let pages = 0; pages < 10; pages++) {
      const { flows, cursor, more } = await page(`?order=${order}&limit=1${filter}${next}`);
      found.push(...flows.map(({ seq }) => seq));
      if (!more) break;
      expect(cursor).toBeString();
      next = `&cursor=${cursor}`;
    }
    expect(found).toEqual(whole);
  }
});

test("the cursor of the oldest order finds what comes later, and tells what retention took before", async () => {
  const dir = mkdtempSync(join(tmpdir(), "fovea-follow-"));
  let clock = now;
  using later = openStore({ dir, bytesMax: 2 ** 20, ageMaxMs: 60_000, now: () => clock });
  const follow = apiApp(parts({ queries: historyOf(later) }));
  const ask = async (cursor: string | null) => {
    const path = `/api/v1/flows?order=oldest${cursor === null ? "" : `&cursor=${cursor}`}`;
    return pageSchema.parse(await (await follow.request(path, local)).json());
  };
  later.append({ rows: [flow, flow], ledger: { "rows.offered": 2 } });
  const first = await ask(null);
  expect(first.flows).toHaveLength(2);
  expect(first.more).toBe(false);
  expect((await ask(first.cursor)).flows).toEqual([]);
  clock += 1000;
  later.append({ rows: [flow, flow, flow], ledger: { "rows.offered": 3 } });
  expect((await ask(first.cursor)).flows.map(({ seq }) => seq)).toEqual([3, 4, 5]);
  clock += 3_600_000;
  later.append({ rows: [flow], ledger: { "rows.offered": 1 } });
  const after = await ask(first.cursor);
  expect(after.flows.map(({ seq }) => seq)).toEqual([6]);
  expect(after.passed).toBe(3);
  expect(after.lost["rows.evicted"]).toBe(5);
  expect((await ask(after.cursor)).passed).toBe(0);
  rmSync(dir, { recursive: true });
});

test.each([
  ["format=ndjson", {}],
  ["order=newest", { Accept: "application/x-ndjson" }],
])("NDJSON by %s and %p: one flow a line, the cursor in a header", async (query, headers) => {
  const response = await get(`/api/v1/flows?limit=2&${query}`, headers);
  expect(response.headers.get("content-type")).toStartWith("application/x-ndjson");
  const text = await response.text();
  expect(text).toEndWith("\n");
  const lines = text.trimEnd().split("\n");
  expect(lines.map((line) => JSON.parse(line).seq)).toEqual([5, 4]);
  const { cursor, more, lost, passed } = await page("?limit=2");
  expect(response.headers.get("fovea-cursor")).toBe(cursor);
  expect(response.headers.get("fovea-more")).toBe(String(more));
  expect(JSON.parse(response.headers.get("fovea-lost") ?? "")).toEqual(lost);
  expect(response.headers.get("fovea-passed")).toBe(String(passed));
});

test.each([
  ["", [["NO_SOCKET", 3, 180]]],
  ["?by=address", [["198.51.100.9", 3, 180]]],
  ["?by=port&limit=1", [["23", 3, 180]]],
  ["?to=-10m", []],
])("drops%s", async (query, expected) => {
  const { drops } = dropsSchema.parse(await (await get(`/api/v1/drops${query}`)).json());
  expect(drops.map(({ key, packets, bytes }) => [key, packets, bytes])).toEqual(expected);
});

test("the ledger has totals and laws that hold", async () => {
  const body = ledgerSchema.parse(await (await get("/api/v1/ledger")).json());
  expect(body.totals).toMatchObject({ "rows.offered": 5, "rows.kept": 5, "packets.untracked.not_ip": 1 });
  expect(body.laws).toContainEqual({
    law: "packets: seen = aggregated + untracked",
    ok: true,
    left: 20,
    right: 20,
  });
  expect(body.laws.every(({ ok }) => ok)).toBe(true);
});

test("a broken law is told as such", async () => {
  const broken = apiApp(
    parts({ ledger: () => ({ totals: { "packets.seen": 2, "packets.aggregated": 1 }, rows: 0, sinks: [] }) }),
  );
  const body = ledgerSchema.parse(await (await broken.request("/api/v1/ledger", local)).json());
  expect(body.laws[0]).toEqual({
    law: "packets: seen = aggregated + untracked",
    ok: false,
    left: 2,
    right: 1,
  });
});

test("health: alive at once, ready with reasons", async () => {
  expect(await (await get("/healthz")).text()).toBe("ok\n");
  expect(await (await get("/readyz")).json()).toEqual({ ready: true, reasons: [] });
  const waiting = apiApp(parts({ unready: () => ["no tick is done yet"] }));
  const response = await waiting.request("/readyz", local);
  expect(response.status).toBe(503);
  expect(await response.json()).toEqual({ ready: false, reasons: ["no tick is done yet"] });
});

test("the scrape gets the Accept header and sets the content type", async () => {
  const response = await get("/metrics", { Accept: "application/openmetrics-text" });
  expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4");
  expect(await response.text()).toBe("# application/openmetrics-text\n");
});

test.each([
  ["/api/v1/flows?limit=0", "limit"],
  ["/api/v1/flows?adress=10.0.0.1", "adress"],
  ["/api/v1/flows?verdict=lost", "verdict"],
  ["/api/v1/flows?cursor=bm9uZQ", "cursor"],
  ["/api/v1/drops?by=colour", "by"],
  ["/api/v1/drops?port=1", "port"],
  ["/api/v1/status?x=1", "x"],
  ["/api/v1/flows?since=10m&to=-1h", "to"],
  ["/api/v1/flows?from=2026-01-31T12:00:00Z&to=2026-01-31T11:00:00Z", "to"],
  ["/api/v1/drops?since=10m&to=-1h", "to"],
  ["/api/v1/flows?from=2026-02-31T00:00:00Z", "from"],
])("%s is refused for %s", async (path, parameter) => {
  const response = await get(path);
  expect(response.status).toBe(400);
  const { error } = errorSchema.parse(await response.json());
  expect(error.parameter).toBe(parameter);
  expect(error.message.length).toBeGreaterThan(5);
});

test("a cursor of the other order is refused as the cursor", async () => {
  const { cursor } = await page("?order=oldest&limit=1");
  const response = await get(`/api/v1/flows?order=newest&cursor=${cursor}`);
  expect(response.status).toBe(400);
  expect(errorSchema.parse(await response.json()).error.parameter).toBe("cursor");
});
