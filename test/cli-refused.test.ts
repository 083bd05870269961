// What a verb says of a server that it cannot speak to, and of a question that makes no sense.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apiApp } from "../src/api/app.ts";
import { openServer } from "../src/api/server.ts";
import { apiParts, storeOfRows } from "./api.parts.ts";
import { runFovea } from "./cli.world.ts";

const directory = mkdtempSync(join(tmpdir(), "fovea-refused-"));
const store = storeOfRows();
const app = apiApp(apiParts(store));
const server = await openServer({
  listen: { host: "127.0.0.1", port: 0 },
  address: "127.0.0.1",
  fetch: (request) => app.fetch(request),
  connectionsMax: 10,
  bodyBytesMax: 1024,
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  store.close();
  rmSync(directory, { recursive: true });
});

test.each(["flows", "top --once", `export --file ${join(directory, "flows.json")}`])(
  "%s: a range that ends before it begins is a wrong call",
  async (verb) => {
    const ask = async (...range: readonly string[]) =>
      await runFovea([...verb.split(" "), "--server", server.url, ...range]);
    expect(await ask("--since", "10m", "--to", "-1h")).toEqual({
      code: 2,
      out: "",
      err: "fovea: --to is longer ago than since\n",
    });
    const { code, err } = await ask("--from", "2026-01-31T12:00:00Z", "--to", "2026-01-31T11:00:00Z");
    expect([code, err]).toEqual([2, "fovea: --to is before from\n"]);
    expect(readdirSync(directory)).toEqual([]);
  },
);

test.each([
  ["ftp://x", /--server "ftp:\/\/x" begins with ftp:\/\/; it takes http:\/\/ or https:\/\//],
  ["WS://127.0.0.1:1", /begins with ws:\/\//],
])("--server %p is a wrong call", async (given, err) => {
  const ran = await runFovea(["flows", "--server", given]);
  expect(ran).toMatchObject({ code: 2, out: "" });
  expect(ran.err).toMatch(err);
});

test("--server takes a scheme in capitals, or none", async () => {
  const bare = server.url.replace("http://", "");
  for (const given of [bare, `HTTP://${bare}`])
    expect((await runFovea(["flows", "--server", given])).code).toBe(0);
});

test("a server that speaks TLS and is asked in the clear is told by what to type", async () => {
  const fixture = (name: string) => join(import.meta.dir, "fixtures/tls", name);
  await using secure = await openServer({
    listen: { host: "127.0.0.1", port: 0 },
    address: "127.0.0.1",
    fetch: () => new Response(),
    connectionsMax: 10,
    bodyBytesMax: 1024,
    tls: { certFile: fixture("server.crt"), keyFile: fixture("server.key") },
  });
  const ran = await runFovea(["flows", "--server", secure.url.replace("https", "http")]);
  expect(ran).toMatchObject({ code: 1, out: "" });
  expect(ran.err).toMatch(/^fovea: http:\S+ does not answer: [^\n]*want https:\/\/[^\n]*\n$/);
});

test("what Bun advises the author of a program is told to nobody", async () => {
  const { promise: listening, resolve } = Promise.withResolvers<void>();
  const rude = createServer((socket) => void socket.on("data", () => socket.resetAndDestroy()));
  rude.listen(0, "127.0.0.1", resolve);
  await listening;
  const address = rude.address();
  const port = typeof address === "object" ? address?.port : undefined;
  for (const scheme of ["http", "https"]) {
    const { code, err } = await runFovea(["flows", "--server", `${scheme}://127.0.0.1:${port}`]);
    expect(code).toBe(1);
    expect(err).not.toMatch(/verbose|second argument|fetch/);
  }
  rude.close();
});
