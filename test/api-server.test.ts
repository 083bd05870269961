// The server on real sockets: bounds, slow and rude clients, TLS, the stop.

import { expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { openServer, resolveHost } from "../src/api/server.ts";

const fixture = (name: string) => join(import.meta.dir, "fixtures/tls", name);
const pem = (name: string) => Bun.file(fixture(name));

type Options = Parameters<typeof openServer>[0];

const open = (options: Partial<Options> = {}) =>
  openServer({
    listen: { host: "127.0.0.1", port: 0 },
    address: "127.0.0.1",
    fetch: () => new Response("fine\n"),
    connectionsMax: 100,
    bodyBytesMax: 1024,
    ...options,
  });

const portOf = ({ url }: { readonly url: string }) => Number(new URL(url).port);

/** A client that sends what it is told and keeps what it gets. */
function client(port: number) {
  const socket: Socket = connect(port, "127.0.0.1");
  const closed = Promise.withResolvers<void>();
  let received = "";
  socket.on("data", (data) => {
    received += data.toString("latin1");
  });
  socket.on("error", () => undefined);
  socket.on("close", () => closed.resolve());
  return {
    socket,
    send: (text: string) => void socket.write(text),
    received: () => received,
    closed: closed.promise,
    [Symbol.dispose]: () => void socket.destroy(),
  };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await Bun.sleep(5);
}

const request = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

test("a request is answered, and the connection kept for the next", async () => {
  await using server = await open();
  using one = client(portOf(server));
  one.send(request);
  await until(() => one.received().includes("fine"));
  one.send(request);
  await until(() => one.received().split("fine").length === 3);
  expect(server.connections()).toEqual({ open: 1, refused: 0 });
});

test("connections above the bound are told why and counted; room comes back when one leaves", async () => {
  await using server = await open({ connectionsMax: 3 });
  const port = portOf(server);
  using first = client(port);
  using second = client(port);
  using third = client(port);
  await until(() => server.connections().open === 3);
  using fourth = client(port);
  fourth.send(request);
  await fourth.closed;
  expect(fourth.received()).toStartWith("HTTP/1.1 503 ");
  expect(fourth.received()).toContain("Retry-After: 1");
  const [, body = ""] = fourth.received().split("\r\n\r\n");
  expect(JSON.parse(body)).toEqual({ error: { message: "too many connections; try again later" } });
  expect(server.connections()).toEqual({ open: 3, refused: 1 });
  for (const held of [first, third]) {
    held.send(request);
    await until(() => held.received().includes("fine"));
  }
  second.socket.end();
  await until(() => server.connections().open === 2);
  using fifth = client(port);
  fifth.send(request);
  await until(() => fifth.received().includes("fine"));
});

test("a thousand connections at once take no more than the bound", async () => {
  await using server = await open({ connectionsMax: 20 });
  const port = portOf(server);
  const clients = Array.from({ length: 1000 }, () => client(port));
  await until(() => server.connections().open + server.connections().refused === 1000);
  expect(server.connections()).toEqual({ open: 20, refused: 980 });
  for (const { socket } of clients) socket.destroy();
  await until(() => server.connections().open === 0);
  using after = client(port);
  after.send(request);
  await until(() => after.received().includes("fine"));
});

test("an answer larger than any buffer arrives whole", async () => {
  const large = `${"0123456789".repeat(1_000_000)}end`;
  await using server = await open({ fetch: () => new Response(large) });
  const text = await (await fetch(server.url)).text();
  expect(text.length).toBe(large.length);
  expect(text === large).toBe(true);
});

test("a body above the bound is 413, one within it passes", async () => {
  const echo = async (given: Request) => new Response(String((await given.text()).length));
  await using server = await open({ fetch: echo, bodyBytesMax: 1000 });
  expect((await fetch(server.url, { method: "POST", body: "x".repeat(1001) })).status).toBe(413);
  expect(await (await fetch(server.url, { method: "POST", body: "x".repeat(1000) })).text()).toBe("1000");
  using chunked = client(portOf(server));
  chunked.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (let sent = 0; sent < 4; sent++) chunked.send(`1f4\r\n${"x".repeat(500)}\r\n`);
  await chunked.closed;
  expect(chunked.received()).not.toContain("200 OK");
});

test.each([
  ["a head of more than 16 KiB", `GET / HTTP/1.1\r\nHost: x\r\nA: ${"a".repeat(20_000)}\r\n\r\n`, "431"],
  ["a URL of more than 16 KiB", `GET /${"a".repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, "431"],
  ["what is no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", "400"],
  ["a request without Host", "GET / HTTP/1.1\r\n\r\n", "400"],
])("%s is refused and the connection closed", async (_, sent, code) => {
  await using server = await open();
  using rude = client(portOf(server));
  rude.send(sent);
  await rude.closed;
  expect(rude.received()).toStartWith(`HTTP/1.1 ${code} `);
  expect((await fetch(server.url)).status).toBe(200);
});

test("stop ends with clients that hang on", async () => {
  const server = await open({ fetch: () => new Promise<Response>(() => undefined) });
  using idle = client(portOf(server));
  using waiting = client(portOf(server));
  waiting.send(request);
  using partial = client(portOf(server));
  partial.send("GET / HTTP/1.1\r\n");
  await until(() => server.connections().open === 3);
  await server[Symbol.asyncDispose](); // Sooner than the time of the test.
  await Promise.all([idle.closed, waiting.closed, partial.closed]);
  expect(fetch(server.url)).rejects.toThrow();
});

test("stop lets answers that are under way finish, whatever their size", async () => {
  const late = "late ".repeat(50_000);
  const asked = Array.from({ length: 20 }, () => Promise.withResolvers<void>());
  const go = Promise.withResolvers<void>();
  const server = await open({
    fetch: async (request) => {
      asked[Number(new URL(request.url).pathname.slice(1))]?.resolve();
      await go.promise;
      return new Response(late);
    },
  });
  const answers = asked.map((_, number) => fetch(`${server.url}/${number}`).then((given) => given.text()));
  await Promise.all(asked.map(({ promise }) => promise));
  const stopped = server[Symbol.asyncDispose]();
  go.resolve();
  await stopped;
  for (const answer of answers) expect((await answer) === late).toBe(true);
});

test("a port in use is told with its address and key", async () => {
  await using server = await open();
  const listen = { host: "127.0.0.1", port: portOf(server) };
  const second = open({ listen });
  expect(second).rejects.toThrow(/^listen 127\.0\.0\.1:\d+: another process has this port.*--listen/);
  await second.catch(() => undefined);
  expect((await fetch(server.url)).status).toBe(200);
});

test("an address that this machine does not have is told", async () => {
  const listen = { host: "203.0.113.1", port: 0 };
  expect(open({ listen, address: listen.host })).rejects.toThrow(
    /203\.0\.113\.1.*no address of this machine/,
  );
  expect(resolveHost({ host: "no-such-name.invalid", port: 1 })).rejects.toThrow(
    /no address of this machine/,
  );
  expect(await resolveHost({ host: "127.0.0.1", port: 1 })).toBe("127.0.0.1");
});

test("IPv6 is served and written with brackets", async () => {
  await using server = await open({ listen: { host: "::1", port: 0 }, address: "::1" });
  expect(server.url).toMatch(/^http:\/\/\[::1\]:\d+$/);
  expect((await fetch(server.url)).status).toBe(200);
});

const tls = { certFile: fixture("server.crt"), keyFile: fixture("server.key") };
const mutual = { ...tls, clientCaFile: fixture("ca.crt") };
const trust = { ca: pem("ca.crt") };

test("TLS: a client that trusts the authority is served, plain HTTP is not", async () => {
  await using server = await open({ tls });
  expect(server.url).toStartWith("https://");
  expect(await (await fetch(server.url, { tls: trust })).text()).toBe("fine\n");
  expect(fetch(server.url)).rejects.toThrow();
  const plain = await fetch(server.url.replace("https", "http")).catch(() => undefined);
  expect(plain?.ok ?? false).toBe(false);
});

test("mutual TLS: only a certificate of the authority gets in", async () => {
  const seen: string[] = [];
  const note = (given: Request) => {
    seen.push(new URL(given.url).pathname);
    return new Response("fine\n");
  };
  await using server = await open({ tls: mutual, fetch: note });
  const as = (name: string) => ({ tls: { ...trust, cert: pem(`${name}.crt`), key: pem(`${name}.key`) } });
  expect(await (await fetch(`${server.url}/known`, as("client"))).text()).toBe("fine\n");
  await expect(fetch(`${server.url}/none`, { tls: trust })).rejects.toThrow();
  await expect(fetch(`${server.url}/stranger`, as("stranger"))).rejects.toThrow();
  expect(seen).toEqual(["/known"]);
});

test("a certificate that cannot be read is told by its key", async () => {
  const missing = { ...tls, certFile: "/nonexistent.crt" };
  expect(open({ tls: missing })).rejects.toThrow(/api\.tls\.certFile \/nonexistent\.crt is not there/);
});
