// What the HTTP client of the sinks meets in its tests: servers, proxies and token endpoints on loopback.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sinkSchema, type WebSinkConfig } from "../src/sinks/schema.ts";
import { openWeb } from "../src/sinks/web.ts";
import type { Answer, Web, WebReply } from "../src/sinks/web-reply.ts";

export const fixture = (name: string) => join(import.meta.dir, "fixtures/tls", name);
export const pem = (name: string) => readFileSync(fixture(name), "utf8");

export function openDirectory() {
  const path = mkdtempSync(join(tmpdir(), "fovea-web-"));
  return {
    file: (name: string) => join(path, name),
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  };
}

type Given = Readonly<Record<string, unknown>>;

export function webConfig(given: Given): WebSinkConfig {
  const config = sinkSchema.parse({ name: "up", type: "loki", proxy: "none", ...given });
  if (config.type === "file") throw new Error("no sink of the web");
  return config;
}

/** `timeoutMs` as short as a test wants it; the schema would not allow that. */
export function web(
  given: Given,
  more: { timeoutMs?: number; env?: Record<string, string>; now?: () => number; scope?: string } = {},
): Web {
  const { timeoutMs, env = {}, now = Date.now, scope } = more;
  const config = webConfig(given);
  return openWeb({
    config: timeoutMs === undefined ? config : { ...config, timeout: timeoutMs },
    version: "1.2.3",
    now,
    env,
    ...(scope === undefined ? {} : { scope }),
  });
}

export const body = new TextEncoder().encode("some body");
export const never = new AbortController().signal;

export const post = (client: Web, given: Partial<Parameters<Web["post"]>[0]> = {}): Promise<WebReply> =>
  client.post({ headers: {}, body, abort: never, ...given });

export function answered(reply: WebReply): Answer {
  if ("kind" in reply) throw new Error(`no answer: ${reply.message}`);
  return reply;
}

export function failed(reply: WebReply) {
  if (!("kind" in reply)) throw new Error(`an answer: ${reply.status}`);
  return reply;
}

/** Bytes for bytes: what a server of HTTP would never send. */
export async function rawServer(onData: (socket: Socket, data: Buffer) => void) {
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer((socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
    socket.on("data", (data) => onData(socket, Buffer.from(data)));
  });
  server.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `http://127.0.0.1:${port}/push?site=hunter2`,
    connections: () => connections,
    open: () => sockets.size,
    [Symbol.dispose]: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

export type Seen = { method: string; path: string; headers: Headers; body: string };

export function httpServer(
  reply: (seen: Seen) => Response | Promise<Response> = () => new Response("stored"),
  tls?: Bun.TLSOptions,
) {
  const seen: Seen[] = [];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    ...(tls === undefined ? {} : { tls }),
    fetch: async (request) => {
      const { pathname, search } = new URL(request.url);
      const entry = {
        method: request.method,
        path: pathname + search,
        headers: request.headers,
        body: await request.text(),
      };
      seen.push(entry);
      return reply(entry);
    },
  });
  return {
    seen,
    port: server.port ?? 0,
    url: `${tls === undefined ? "http" : "https"}://127.0.0.1:${server.port}/push`,
    [Symbol.asyncDispose]: () => server.stop(true),
  };
}

export const serverTls = () => ({ cert: pem("server.crt"), key: pem("server.key") });

/** Tunnels on CONNECT and forwards absolute URLs, to loopback alone. Notes the heads that it gets. */
export async function httpProxy() {
  const heads: string[] = [];
  const started = new WeakSet<Socket>();
  const server = await rawServer((socket, data) => {
    if (started.has(socket)) return;
    started.add(socket);
    const head = data.toString("latin1").split("\r\n\r\n", 1)[0] ?? "";
    heads.push(head);
    const [method, target = ""] = head.split(" ");
    const url = new URL(method === "CONNECT" ? `http://${target}` : target);
    const up = connect(Number(url.port), "127.0.0.1", () => {
      if (method === "CONNECT") socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      else up.write(data);
      up.pipe(socket);
      socket.pipe(up);
    });
    up.on("error", () => socket.destroy());
    socket.on("close", () => up.destroy());
  });
  return { ...server, heads, url: `http://127.0.0.1:${server.port}` };
}

export type Grant = Readonly<Record<string, string>>;

/** A token endpoint as Entra's: its document and its tokens t1, t2, ..., over TLS of the test authority. */
export function tokenEndpoint(refuse: (grant: Grant) => Response | undefined = () => undefined) {
  const grants: Grant[] = [];
  const server = httpServer((seen) => {
    const base = `https://${seen.headers.get("host")}`;
    const tenant = seen.path.split("/")[1];
    if (seen.path.includes("/.well-known/openid-configuration"))
      return Response.json({
        issuer: `${base}/${tenant}/v2.0`,
        authorization_endpoint: `${base}/${tenant}/oauth2/v2.0/authorize`,
        token_endpoint: `${base}/${tenant}/oauth2/v2.0/token`,
        jwks_uri: `${base}/${tenant}/keys`,
      });
    const grant = Object.fromEntries(new URLSearchParams(seen.body));
    const refused = refuse(grant);
    if (refused !== undefined) return refused;
    grants.push(grant);
    return Response.json({ token_type: "Bearer", expires_in: 3600, access_token: `t${grants.length}` });
  }, serverTls());
  return {
    ...server,
    grants,
    host: `https://127.0.0.1:${server.port}`,
    paths: () => server.seen.map(({ method, path }) => `${method} ${path.split("?")[0]}`),
  };
}
