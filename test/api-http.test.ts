// The API behind its server, as bytes on a socket: the heads of answers, and clients that speak HTTP/1.0.

import { afterAll, expect, test } from "bun:test";
import { connect } from "node:net";
import { apiApp } from "../src/api/app.ts";
import { openServer } from "../src/api/server.ts";
import { apiParts, storeOfRows } from "./api.parts.ts";

const store = storeOfRows();
const app = apiApp(apiParts(store));
const server = await openServer({
  listen: { host: "127.0.0.1", port: 0 },
  address: "127.0.0.1",
  fetch: (request) => app.fetch(request),
  connectionsMax: 20,
  bodyBytesMax: 1024,
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  store.close();
});

/** All that comes until the server closes the connection. */
function exchange(sent: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let received = "";
  const socket = connect(Number(new URL(server.url).port), "127.0.0.1", () => void socket.write(sent));
  socket.on("data", (data) => {
    received += data.toString("latin1");
  });
  socket.on("error", reject);
  socket.on("close", () => resolve(received));
  return promise;
}

async function headOf(method: string, path: string) {
  const sent = `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`;
  const [head = "", body] = (await exchange(sent)).split("\r\n\r\n");
  const [status = "", ...lines] = head.split("\r\n");
  const headers = Object.fromEntries(lines.map((line) => line.toLowerCase().split(": ", 2)));
  return { status, body, length: headers["content-length"], coding: headers["transfer-encoding"] };
}

test.each([
  "/metrics",
  "/healthz",
  "/api/v1/status",
  "/api/v1/flows?limit=1",
  "/api/v1/flows?limit=0",
  "/nothing",
])("HEAD %s tells the length of what GET answers, and sends nothing of it", async (path) => {
  const whole = await headOf("GET", path);
  expect(Number(whole.length)).toBeGreaterThan(0);
  expect(await headOf("HEAD", path)).toEqual({ ...whole, body: "" });
});

test.each(["/api/v1/flows/stream", "/api/v1/flows?follow=true"])("HEAD %s tells no length", async (path) => {
  const { length, coding, body } = await headOf("HEAD", path);
  expect([length, coding, body]).toEqual([undefined, "chunked", ""]);
});

test.each([
  ["/healthz", "200", "ok"],
  ["/metrics", "200", "# "],
  ["/api/v1/flows?limit=1", "200", '"flows":['],
  ["/api/v1/flows?limit=0", "400", "limit"],
  ["/nothing", "404", "no such path"],
])("HTTP/1.0 without Host: %s is %s", async (path, status, text) => {
  const received = await exchange(`GET ${path} HTTP/1.0\r\n\r\n`);
  expect(received).toStartWith(`HTTP/1.1 ${status} `);
  expect(received).toContain(text);
});

test.each(["rebound.example", "", "127.0.0.1.example"])(
  "a Host %p that is there and not ours is refused in HTTP/1.0 too",
  async (host) => {
    const received = await exchange(`GET /healthz HTTP/1.0\r\nHost: ${host}\r\n\r\n`);
    expect(received).toStartWith("HTTP/1.1 421 ");
  },
);
