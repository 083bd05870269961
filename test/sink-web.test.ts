// The HTTP client of the sinks: what it sends, how it fails, TLS, proxies.

import { describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { copyFileSync, rmSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { outcomeOf } from "../src/sinks/outcome.ts";
import {
  answered,
  body,
  failed,
  fixture,
  httpProxy,
  httpServer,
  openDirectory,
  pem,
  post,
  rawServer,
  serverTls,
  web,
} from "./sink-web.world.ts";

const trust = { caFile: fixture("ca.crt") };

const until = async (condition: () => boolean) => {
  while (!condition()) await Bun.sleep(5);
};

describe("a request", () => {
  test("carries its headers, those of the configuration and the version", async () => {
    await using server = httpServer(
      () => new Response("fine", { status: 202, headers: { "X-Told": "yes" } }),
    );
    await using client = web({
      url: `${server.url}?a=1`,
      headers: { "X-Site": "7", "X-Both": "configured" },
    });
    const reply = answered(await post(client, { headers: { "Content-Type": "text/x", "X-Both": "sink" } }));
    expect(reply.status).toBe(202);
    expect(reply.headers.get("x-told")).toBe("yes");
    expect(new TextDecoder().decode(reply.body)).toBe("fine");
    const [seen] = server.seen;
    expect(seen).toMatchObject({ method: "POST", path: "/push?a=1", body: "some body" });
    const sent = ["user-agent", "x-site", "x-both", "content-type", "authorization"];
    expect(sent.map((name) => seen?.headers.get(name) ?? null)).toEqual([
      "fovea/1.2.3",
      "7",
      "sink",
      "text/x",
      null,
    ]);
  });

  test("may name another URL and another agent", async () => {
    await using server = httpServer();
    await using client = web({ url: "http://127.0.0.1:1/never" });
    const url = `${server.url}/v1/logs`;
    answered(await post(client, { url, headers: { "User-Agent": "other/9" } }));
    expect(server.seen[0]?.path).toBe("/push/v1/logs");
    expect(server.seen[0]?.headers.get("user-agent")).toBe("other/9");
  });

  test("keeps its connection, which the end of the client closes", async () => {
    const reply = "HTTP/1.1 204 No Content\r\n\r\n";
    using server = await rawServer((socket) => socket.write(reply));
    const client = web({ url: server.url });
    for (let count = 0; count < 5; count += 1) expect(answered(await post(client)).status).toBe(204);
    expect(server.connections()).toBe(1);
    await client[Symbol.asyncDispose]();
    await until(() => server.open() === 0);
  });

  test("follows no redirect", async () => {
    await using other = httpServer();
    await using server = httpServer(() => Response.redirect(other.url, 307));
    await using client = web({ url: server.url });
    expect(answered(await post(client)).status).toBe(307);
    expect(other.seen).toEqual([]);
  });

  test("reads 64 KiB of an answer that has no end, and lets go of the connection", async () => {
    const flood = (socket: Socket) => {
      while (!socket.destroyed && socket.write(Buffer.alloc(65_536, 97)));
    };
    using server = await rawServer((socket) => {
      socket.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 100000000000\r\n\r\n");
      socket.on("drain", () => flood(socket));
      flood(socket);
    });
    await using client = web({ url: server.url });
    const reply = answered(await post(client));
    expect(reply.body.byteLength).toBe(65_536);
    expect(reply.body.every((byte) => byte === 97)).toBe(true);
    await until(() => server.open() === 0);
  });

  test("takes packed answers that nobody asked for, and unpacks no more of them than it reads of plain ones", async () => {
    const said = "label too long ".repeat(20);
    const packings = { gzip: gzipSync, deflate: deflateSync, br: brotliCompressSync, zstd: zstdCompressSync };
    let body = Buffer.alloc(0);
    let coding = "";
    await using server = httpServer(
      () => new Response(body, { status: 400, headers: { "Content-Encoding": coding } }),
    );
    await using client = web({ url: server.url });
    const answerTo = async (given: string, bytes: Uint8Array) => {
      coding = given;
      body = Buffer.from(bytes);
      return answered(await post(client));
    };
    for (const [name, pack] of Object.entries(packings))
      expect(new TextDecoder().decode((await answerTo(name, pack(said))).body)).toBe(said);
    const bomb = await answerTo("gzip", gzipSync(Buffer.alloc(50 * 2 ** 20, 97)));
    expect(bomb.body.byteLength).toBe(65_536);
    // Half of it tells what it can.
    const half = await answerTo(
      "gzip",
      gzipSync(said + randomBytes(40_000).toString("hex")).subarray(0, 30_000),
    );
    expect(outcomeOf(half)).toMatchObject({
      kind: "refused",
      message: expect.stringContaining("label too long"),
    });
    for (const [name, bytes] of [
      ["gzip", Buffer.from("this is no gzip")],
      ["compress", Buffer.from("who knows")],
    ] as const)
      expect(outcomeOf(await answerTo(name, bytes))).toMatchObject({
        message: `HTTP 400: (an answer of content-encoding ${name}, which cannot be read)`,
      });
  });

  test("tells how far our clock is ahead, by the last answer that has a date", async () => {
    const headers: Record<string, string> = {};
    await using server = httpServer(() => new Response("", { headers }));
    const at = Date.UTC(2026, 0, 1, 12);
    await using client = web({ url: server.url }, { now: () => at + 90_000 });
    headers["Date"] = "no date";
    answered(await post(client));
    expect(client.facts()).toEqual({ tokenErrors: 0 });
    headers["Date"] = new Date(at).toUTCString();
    answered(await post(client));
    const { clockSkewMs = 0 } = client.facts();
    expect(clockSkewMs).toBeWithin(87_000, 89_501);
  });
});

type Script = (socket: Socket) => void;
const half =
  (head: string): Script =>
  (socket) => {
    socket.end(`HTTP/1.1 200 OK\r\n${head}\r\n\r\nabc`);
  };
const broken: readonly (readonly [string, Script])[] = [
  ["a reset", (socket) => socket.resetAndDestroy()],
  ["a close without an answer", (socket) => socket.end()],
  ["half a head", (socket) => socket.end("HTTP/1.1 200 OK\r\nContent-Le")],
  ["half a body by length", half("Content-Length: 100")],
  ["half a body by chunks", half("Transfer-Encoding: chunked\r\n\r\n64")],
  ["what is no HTTP", (socket) => socket.end("SSH-2.0-OpenSSH_9.2\r\n\r\n")],
];

describe("without an answer", () => {
  test.each(broken)("%s is a fault of the network", async (_, script) => {
    using server = await rawServer((socket) => script(socket));
    await using client = web({ url: server.url }, { timeoutMs: 5000 });
    const { message, ...outcome } = failed(await post(client));
    expect(outcome).toEqual({ kind: "again", code: "network", reason: "network" });
    expect(message).toStartWith(`POST http://127.0.0.1:${server.port}/push: `);
    expect(message).not.toContain("hunter2");
  });

  test("a port where nobody listens is told", async () => {
    await using client = web({ url: "http://127.0.0.1:1/push?site=hunter2" });
    const outcome = failed(await post(client));
    expect(outcome).toMatchObject({ kind: "again", code: "network", reason: "network" });
    expect(outcome.message).toBe(
      "POST http://127.0.0.1:1/push: connection refused: nothing listens there, or a firewall refuses",
    );
  });

  const drip = (socket: Socket) => {
    socket.write("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    const timer = setInterval(() => socket.write("a"), 10);
    socket.on("close", () => clearInterval(timer));
  };
  test.each([
    ["no answer at all", () => undefined],
    ["a body that drips", drip],
  ])("%s ends with the timeout", async (_, script) => {
    using server = await rawServer(script);
    await using client = web({ url: server.url }, { timeoutMs: 200 });
    const outcome = failed(await post(client));
    expect(outcome).toMatchObject({ kind: "again", code: "timeout", reason: "timeout" });
    expect(outcome.message).toContain("no whole answer within 0.2 s");
    await until(() => server.open() === 0);
  });

  test("an abort ends it at once, before and meanwhile, and lets go of the signal", async () => {
    const asked = Promise.withResolvers<void>();
    using server = await rawServer(() => asked.resolve());
    await using client = web({ url: server.url });
    const before = failed(await post(client, { abort: AbortSignal.abort() }));
    expect(before).toMatchObject({ kind: "again", reason: "other" });
    expect(server.connections()).toBe(0);
    const controller = new AbortController();
    const running = post(client, { abort: controller.signal });
    await asked.promise;
    controller.abort();
    expect(failed(await running)).toMatchObject({ kind: "again", reason: "other" });
  });
});

describe("TLS", () => {
  const told: readonly (readonly [string, object, RegExp])[] = [
    ["an unknown authority", {}, /no trusted authority; set tls\.caFile/],
    ["another authority", { caFile: fixture("other-ca.crt") }, /no trusted authority/],
    ["another name", { ...trust, serverName: "example.com" }, /for another name; .* tls\.serverName/],
    [
      "a CA file that is not there",
      { caFile: "/nonexistent/ca.crt" },
      /tls\.caFile \/nonexistent\/ca\.crt is not there/,
    ],
    ["a CA file without a certificate", { caFile: fixture("server.key") }, /holds no certificate in PEM/],
    ["a certificate without its key", { ...trust, certFile: fixture("client.crt") }, /without tls\.keyFile/],
    [
      "the key of another certificate",
      { ...trust, certFile: fixture("client.crt"), keyFile: fixture("stranger.key") },
      /tls\.keyFile .*stranger\.key is not the key of the certificate/,
    ],
  ];
  test.each(told)("%s is told", async (_, tls, message) => {
    await using server = httpServer(undefined, serverTls());
    await using client = web({ url: server.url, tls });
    const outcome = failed(await post(client));
    expect(outcome).toMatchObject({ kind: "again", code: "tls", reason: "tls" });
    expect(outcome.message).toMatch(message);
    expect(server.seen).toEqual([]);
  });

  test("the configured authority and name are taken", async () => {
    await using server = httpServer(undefined, serverTls());
    await using client = web({ url: server.url, tls: { ...trust, serverName: "localhost" } });
    expect(answered(await post(client)).status).toBe(200);
  });

  test("a client certificate is shown; a changed file is read again, a broken one until it is right", async () => {
    using directory = openDirectory();
    const [certFile, keyFile] = [directory.file("c.crt"), directory.file("c.key")];
    const mutual = { ...serverTls(), ca: pem("ca.crt"), requestCert: true, rejectUnauthorized: true };
    await using server = httpServer(undefined, mutual);
    await using client = web({ url: server.url, tls: { ...trust, certFile, keyFile } });
    const use = (name: string) => {
      copyFileSync(fixture(`${name}.crt`), certFile);
      copyFileSync(fixture(`${name}.key`), keyFile);
    };
    expect(failed(await post(client)).message).toContain(`${certFile} is not there`);
    use("client");
    expect(answered(await post(client)).status).toBe(200);
    use("stranger");
    expect(failed(await post(client)).kind).toBe("again"); // No connection of the old certificate is used.
    writeFileSync(keyFile, "rubbish");
    expect(failed(await post(client)).message).toContain(`${keyFile} holds no private key in PEM`);
    use("client");
    expect(answered(await post(client)).status).toBe(200);
    expect(server.seen.length).toBe(2);
    rmSync(certFile);
    expect(failed(await post(client)).reason).toBe("tls");
  });
});

describe("a proxy", () => {
  test("by its URL tunnels https and forwards http", async () => {
    using proxy = await httpProxy();
    await using secure = httpServer(undefined, serverTls());
    await using plain = httpServer();
    for (const { url } of [secure, plain]) {
      // An exemption of the environment is none from what the configuration says.
      await using client = web({ url, tls: trust, proxy: proxy.url }, { env: { NO_PROXY: "*" } });
      expect(answered(await post(client)).status).toBe(200);
    }
    expect(proxy.heads.map((head) => head.split("\r\n")[0])).toEqual([
      `CONNECT 127.0.0.1:${secure.port} HTTP/1.1`,
      `POST ${plain.url} HTTP/1.1`,
    ]);
    expect(plain.seen[0]?.body).toBe("some body");
  });

  test("of the environment is used with its password, and not for what NO_PROXY names", async () => {
    using proxy = await httpProxy();
    await using server = httpServer();
    const env = { http_proxy: proxy.url.replace("//", "//user:p%40ss@"), HTTPS_PROXY: "http://127.0.0.1:1" };
    await using client = web({ url: server.url, proxy: "env" }, { env });
    expect(answered(await post(client)).status).toBe(200);
    expect(proxy.heads[0]).toContain(`Proxy-Authorization: Basic ${btoa("user:p@ss")}`);
    await using exempt = web({ url: server.url, proxy: "env" }, { env: { ...env, NO_PROXY: "127.0.0.0/8" } });
    expect(answered(await post(exempt)).status).toBe(200);
    expect(proxy.heads.length).toBe(1);
    expect(server.seen.length).toBe(2);
  });

  test("that refuses, is gone or cannot be used is named, its password is not", async () => {
    using refusing = await rawServer((socket) =>
      socket.end("HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n"),
    );
    const messageWith = async (proxy: string) => {
      const env = { HTTPS_PROXY: proxy };
      await using client = web({ url: "https://127.0.0.1:9/push", tls: trust, proxy: "env" }, { env });
      return failed(await post(client)).message;
    };
    const place = `127.0.0.1:${refusing.port}`;
    expect(await messageWith(`http://user:hunter2@${place}`)).toBe(
      `POST https://127.0.0.1:9/push through the proxy ${place}: the proxy opens no tunnel (status 407): it wants a user and a password`,
    );
    expect(await messageWith("127.0.0.1:1")).toContain("through the proxy 127.0.0.1:1: connection refused");
    const socks = await messageWith("socks5://user:hunter2@127.0.0.1:1");
    expect(socks).toContain("HTTPS_PROXY or ALL_PROXY of the environment is no http:// or https:// URL");
    expect(socks).not.toContain("hunter2");
  });

  test("of the process's own environment is passed by when the configuration says none", async () => {
    using proxy = await httpProxy();
    await using server = httpServer();
    const script = `
      import { post, web } from ${JSON.stringify(join(import.meta.dir, "sink-web.world.ts"))};
      for (const proxy of ["none", "env"]) {
        await using client = web({ url: process.argv[1], proxy }, { env: process.env });
        console.log((await post(client)).status);
      }`;
    const child = Bun.spawn([process.execPath, "-e", script, server.url], {
      env: { PATH: process.env["PATH"], HTTP_PROXY: proxy.url },
      stderr: "inherit",
    });
    expect(await new Response(child.stdout).text()).toBe("200\n200\n");
    expect(proxy.heads.length).toBe(1);
    expect(server.seen.map((seen) => seen.body)).toEqual(Array(2).fill(new TextDecoder().decode(body)));
  });
});
