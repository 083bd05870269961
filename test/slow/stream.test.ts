// Streams of flows over real sockets and through real time: a quiet one stays open, a deaf client costs no memory.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apiApp } from "../../src/api/app.ts";
import { openServer } from "../../src/api/server.ts";
import { openStore } from "../../src/store/store.ts";
import { apiParts, flow, now, streamsOf } from "../api.parts.ts";

const mib = 2 ** 20;

async function openWorld() {
  await using undo = new AsyncDisposableStack();
  const dir = mkdtempSync(join(tmpdir(), "fovea-streams-"));
  undo.defer(() => rmSync(dir, { recursive: true }));
  const store = undo.use(openStore({ dir, bytesMax: 256 * mib, ageMaxMs: 86_400_000, now: () => now }));
  const streams = streamsOf(store);
  const app = apiApp(apiParts(store, { streams }));
  const server = undo.use(
    await openServer({
      listen: { host: "127.0.0.1", port: 0 },
      address: "127.0.0.1",
      fetch: (request) => app.fetch(request),
      connectionsMax: 10,
      bodyBytesMax: 1024,
    }),
  );
  undo.use(streams);
  const append = (count: number) => {
    store.append({ rows: Array.from({ length: count }, () => flow), ledger: { "rows.offered": count } });
    streams.ticked();
  };
  const parts = undo.move();
  return { streams, server, append, [Symbol.asyncDispose]: () => parts.disposeAsync() };
}

function client(url: string, path: string) {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  let [open, received] = [true, ""];
  socket.on("error", () => undefined);
  socket.on("close", () => {
    open = false;
  });
  socket.on("data", (data) => {
    received += data.toString("latin1");
  });
  socket.write(`GET /api/v1/flows${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`);
  return {
    socket,
    open: () => open,
    received: () => received,
    [Symbol.dispose]: () => void socket.destroy(),
  };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await Bun.sleep(20);
}

test.concurrent("a stream without events is open after a minute, and then gives what comes", async () => {
  await using world = await openWorld();
  using quiet = client(world.server.url, "/stream");
  await until(() => quiet.received().split(": heartbeat").length > 4);
  expect(quiet.open()).toBe(true);
  world.append(1);
  await until(() => quiet.received().includes("event: flow"));
  expect(world.streams.facts()).toMatchObject({ open: 1, cutOff: 0 });
}, 120_000);

test("a client that reads nothing is cut off, and memory stays bounded meanwhile", async () => {
  await using world = await openWorld();
  world.append(150_000); // Some 60 MB of JSON.
  const deaf = Array.from({ length: 4 }, () => client(world.server.url, "?follow=true&since=1h"));
  for (const { socket } of deaf) socket.once("data", () => socket.pause());
  await until(() => deaf.every(({ received }) => received() !== ""));
  Bun.gc(true);
  const before = process.memoryUsage().rss;
  let most = 0;
  await until(() => {
    most = Math.max(most, process.memoryUsage().rss);
    return world.streams.facts().open === 0;
  });
  expect(world.streams.facts()).toMatchObject({ served: 4, cutOff: 4 });
  expect(world.streams.facts().rowsUnsent).toBeGreaterThan(4 * 100_000);
  expect((most - before) / mib).toBeLessThan(64);
  for (const { socket } of deaf) socket.destroy();
}, 120_000);

test.concurrent("a client that was cut off and reads on gets what was on its way, and the reason", async () => {
  await using world = await openWorld();
  world.append(50_000);
  using late = client(world.server.url, "?follow=true&since=1h");
  late.socket.once("data", () => late.socket.pause());
  await until(() => late.received() !== "");
  await until(() => world.streams.facts().open === 0);
  late.socket.resume();
  await until(() => late.received().includes('"cut"'));
  const [, sent] = /"cut":\{"reason":"slow","rowsUnsent":(\d+)\}/.exec(late.received()) ?? [];
  const seqs = [...late.received().matchAll(/"seq":(\d+)/g)].map(([, seq]) => Number(seq));
  expect(seqs.length).toBe(50_000 - Number(sent));
  expect(seqs.at(-1)).toBe(seqs.length);
}, 120_000);
