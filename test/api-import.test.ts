// Importing through the API: who may, what is refused where, and that nothing is half taken.

import { expect, test } from "bun:test";
import { apiApp } from "../src/api/app.ts";
import { type Imports, readRecords } from "../src/api/import.ts";
import { errorSchema } from "../src/api/schemas.ts";
import { type ImportPart, ImportRefused } from "../src/import-rows.ts";
import { StoreUnreadableError } from "../src/store/failure.ts";
import { apiParts, flow, storeOfRows } from "./api.parts.ts";

const sha256 = "0123456789abcdef".repeat(4);
const right = {
  Host: "node.example",
  Authorization: "Bearer the-right-token-0",
  "Content-Type": "application/x-ndjson",
  "Fovea-Node": "edge-7",
  "Fovea-Sha256": sha256,
  "Fovea-Before": "0",
};
const token = { matches: (given: string) => given === "the-right-token-0", problem: () => undefined };

function opened(changed: Partial<Imports> = {}, access: object = { token }) {
  const taken: ImportPart[] = [];
  const store = storeOfRows();
  const app = apiApp(
    apiParts(store, {
      access: { loopback: false, mutualTls: false, openMetrics: () => false, ...access },
      imports: {
        rowsImported: (file) => (file === sha256 ? 12 : 0),
        importRows: (part) => {
          taken.push(part);
          return { kept: part.rows.length, evicted: 0 };
        },
        ...changed,
      },
    }),
  );
  const post = async (body: string, headers: Record<string, string> = {}) => {
    const response = await app.request("/api/v1/import", {
      method: "POST",
      headers: { ...right, ...headers },
      body,
    });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  };
  return { app, taken, post, [Symbol.dispose]: () => store.close() };
}

const line = (record: object) => `${JSON.stringify(record)}\n`;
const { rttUs: _rtt, ...bare } = flow;

test("records arrive as they were, without the place they had in another store", async () => {
  using api = opened();
  const records = [bare, { ...bare, node: "other", dnsError: "NXDOMAIN" }];
  const body = line(records[0] ?? {}) + line({ seq: 77, ...records[1] });
  expect(await api.post(body, { "Fovea-Before": "12" })).toEqual({
    status: 200,
    body: { kept: 2, evicted: 0 },
  });
  expect(api.taken).toEqual([{ sha256, node: "edge-7", before: 12, rows: records }]);
});

test("how much of a file is there", async () => {
  using api = opened();
  const rowsOf = async (file: string) =>
    await (await api.app.request(`/api/v1/import?sha256=${file}`, { headers: right })).json();
  expect(await rowsOf(sha256)).toEqual({ rows: 12 });
  expect(await rowsOf("f".repeat(64))).toEqual({ rows: 0 });
  expect(await rowsOf("x")).toMatchObject({ error: { parameter: "sha256" } });
});

test("without a token and without mutual TLS nobody imports, and is told what to set", async () => {
  using api = opened({}, {});
  const { status, body } = await api.post(line(bare));
  expect(status).toBe(403);
  expect(errorSchema.parse(body).error.message).toMatch(/api\.tokenFile .*api\.tls\.clientCaFile/);
  expect(api.taken).toEqual([]);
  using mutual = opened({}, { mutualTls: true });
  expect((await mutual.post(line(bare))).status).toBe(200);
});

test("a wrong token is 401 before anything is read", async () => {
  using api = opened();
  expect((await api.post("{", { Authorization: "Bearer no" })).status).toBe(401);
});

test.each([
  ["Fovea-Node", "", "fovea-node", /is no name/],
  ["Fovea-Sha256", "ABC", "fovea-sha256", /is no SHA-256/],
  ["Fovea-Before", "-1", "fovea-before", /is no number of rows/],
])("header %s %p is refused", async (header, value, parameter, message) => {
  using api = opened();
  const { status, body } = await api.post(line(bare), { [header]: value });
  expect(status).toBe(400);
  const { error } = errorSchema.parse(body);
  expect(error.parameter).toBe(parameter);
  expect(error.message).toMatch(message);
  expect(api.taken).toEqual([]);
});

test.each(["text/plain", "application/json", ""])(
  "a body of type %p is 415: a form has such",
  async (type) => {
    using api = opened();
    expect((await api.post(line(bare), { "Content-Type": type })).status).toBe(415);
    expect(api.taken).toEqual([]);
  },
);

test.each([
  ["{", /is no JSON/],
  ["[]", /expected object/i],
  [JSON.stringify({ ...bare, colour: 1 }), /colour/],
  [JSON.stringify({ ...bare, sourcePort: 65_536 }), /sourcePort: /],
  [JSON.stringify({ ...bare, verdict: "lost" }), /verdict: /],
  [JSON.stringify({ ...bare, source: undefined }), /source: /],
])("one wrong line %# is told by its number, and nothing is taken", async (wrong, message) => {
  using api = opened();
  const { status, body } = await api.post(`${line(bare)}\n${wrong}\n${line(bare)}`);
  expect(status).toBe(400);
  const { error } = errorSchema.parse(body);
  expect(error.line).toBe(3);
  expect(error.message).toMatch(message);
  expect(api.taken).toEqual([]);
});

test("no record at all is no mistake", () => {
  expect(readRecords("")).toEqual([]);
  expect(readRecords("\n \n")).toEqual([]);
});

test("what the store refuses is 409 with its reason, what it cannot do is 503 without", async () => {
  const failing = (error: Error) => ({ importRows: () => Promise.reject(error) });
  using refused = opened(failing(new ImportRefused("the store has 5 rows of this file, not 0")));
  expect(await refused.post(line(bare))).toEqual({
    status: 409,
    body: { error: { message: "the store has 5 rows of this file, not 0" } },
  });
  using broken = opened(failing(new StoreUnreadableError("/var/lib/x: disk I/O error")));
  const { status, body } = await broken.post(line(bare));
  expect(status).toBe(503);
  expect(JSON.stringify(body)).not.toContain("/var/lib");
});

test("other methods are told which there are", async () => {
  using api = opened();
  const response = await api.app.request("/api/v1/import", { method: "PUT", headers: right });
  expect(response.status).toBe(405);
  expect(response.headers.get("allow")).toBe("GET, HEAD, POST");
});
