// Clients of the API that are slow on purpose. What is shown takes Bun's own time-outs, 12 s, and our 30 s.

import { expect, test } from "bun:test";
import { connect } from "node:net";
import { openServer } from "../../src/api/server.ts";

const open = (body: string) =>
  openServer({
    listen: { host: "127.0.0.1", port: 0 },
    address: "127.0.0.1",
    fetch: () => new Response(body),
    connectionsMax: 10,
    bodyBytesMax: 1024,
  });

function client(url: string, sent: string) {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  let open = true;
  socket.on("error", () => undefined);
  socket.on("close", () => {
    open = false;
  });
  socket.write(sent);
  return { socket, open: () => open };
}

test.concurrent("a client that sends a byte now and then, but no request, is let go", async () => {
  await using server = await open("fine");
  const silent = client(server.url, "");
  const dripping = client(server.url, "GET / HTTP/1.1\r\nHost: x\r\nA: ");
  silent.socket.resume();
  dripping.socket.resume();
  while (silent.open() || dripping.open()) {
    if (dripping.open()) dripping.socket.write("a");
    await Bun.sleep(200);
  }
  expect(server.connections().open).toBe(0);
}, 60_000);

test.concurrent("a client that asks and does not read is let go, one that reads slowly gets all", async () => {
  const body = "x".repeat(20_000_000); // More than the kernel's buffers take.
  await using server = await open(body);
  const request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  const deaf = client(server.url, request);
  deaf.socket.pause();
  const slow = client(server.url, request);
  let got = 0;
  slow.socket.on("data", (data) => {
    got += data.length;
    slow.socket.pause();
    setTimeout(() => slow.socket.resume(), data.length / 1000); // About 1 MB a second.
  });
  while (slow.open()) await Bun.sleep(100);
  expect(got).toBeGreaterThan(body.length);
  while (server.connections().open > 0) await Bun.sleep(100);
  deaf.socket.destroy();
}, 120_000);
