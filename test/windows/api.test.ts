// The API on Windows, where the server behind the gate has a port on loopback: all that holds elsewhere.

import "./remove-trees.ts";
import "../api-guard.test.ts";
import "../api-history.test.ts";
import "../api-import.test.ts";
import "../api-openapi.test.ts";
import "../api-query.test.ts";
import "../api-sinks.test.ts";
import "../stream.test.ts";
import { expect, test } from "bun:test";
import { connect } from "node:net";
import { openServer } from "../../src/api/server.ts";

const open = (host: string, port = 0) =>
  openServer({
    ...{ listen: { host, port }, address: host, fetch: () => new Response("fine\n") },
    ...{ connectionsMax: 2, bodyBytesMax: 1024 },
  });

test("a port that another has is told so, and not shared with it", async () => {
  await using server = await open("127.0.0.1");
  const port = Number(new URL(server.url).port);
  await expect(open("127.0.0.1", port)).rejects.toThrow("another process has this port");
  await using _other = await open("127.0.0.1"); // Any other is free.
});

test("a server on :: takes clients of IPv4 and of IPv6", async () => {
  await using server = await open("::");
  const { port } = new URL(server.url);
  for (const host of ["127.0.0.1", "[::1]"])
    expect(await (await fetch(`http://${host}:${port}/`)).text()).toBe("fine\n");
});

test("connections beyond the bound are turned away; the stop lets nobody wait", async () => {
  const server = await open("127.0.0.1");
  const port = Number(new URL(server.url).port);
  const clients = Array.from({ length: 3 }, () => connect(port, "127.0.0.1"));
  const closed = clients.map((client) => new Promise<void>((resolve) => client.on("close", () => resolve())));
  for (const client of clients) client.on("error", () => undefined).resume();
  while (server.connections().refused === 0) await Bun.sleep(5);
  expect(server.connections()).toEqual({ open: 2, refused: 1 });
  await server[Symbol.asyncDispose]();
  await Promise.all(closed);
});
