// Serves the API: binds the address, bounds what a client may take, stops in time.

import { lookup } from "node:dns/promises";
import { type Inner, openGate } from "./gate.ts";
import { readTls, type Tls } from "./tls.ts";

export type Listen = { readonly host: string; readonly port: number };

export type Server = AsyncDisposable & {
  /** What a client on this machine can open. */
  readonly url: string;
  readonly connections: () => { readonly open: number; readonly refused: number };
  /** Resolves when no request is being answered, or after the grace time. */
  readonly answered: () => Promise<void>;
};

// Bun closes a connection whose head is not complete after 10 s, and one on which nothing moves after this time (its
// timers tick every 4 s); it answers 431 to a head, URL included, of more than 16 KiB, 413 to a body above the bound,
// 400 to what is no HTTP. For one connection alone the time cannot be set: server.timeout() is without effect on a
// unix socket.
const idleSeconds = 30;
// An object because Bun's types know of no such time for unix sockets; Bun itself keeps to it.
const idle: object = { idleTimeout: idleSeconds };
const graceMsUsual = 500;
// What was answered is on its way to the client this long at the most.
const flushMs = 300;

const code = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";

const reason = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const listenText = ({ host, port }: Listen): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;

/** The literal address that `host` stands for on this machine. */
export async function resolveHost(listen: Listen): Promise<string> {
  try {
    return (await lookup(listen.host)).address;
  } catch (error) {
    throw new Error(`listen ${listenText(listen)}: ${listen.host} is no address of this machine`, {
      cause: error,
    });
  }
}

function bindError(listen: Listen, error: unknown): Error {
  const where = `listen ${listenText(listen)}`;
  const told: Record<string, string> = {
    EADDRINUSE: "another process has this port; stop it, or set another with --listen or the key listen",
    EADDRNOTAVAIL: `${listen.host} is no address of this machine; set --listen or the key listen`,
    EACCES:
      process.platform === "win32"
        ? "Windows keeps this port for others (netsh int ip show excludedportrange tcp); set another with --listen"
        : "not allowed to bind this port; take one above 1023, or give CAP_NET_BIND_SERVICE",
  };
  return new Error(`${where}: ${told[code(error)] ?? reason(error)}`, { cause: error });
}

type Fetch = (request: Request) => Response | Promise<Response>;

/** Without a Host header, which HTTP/1.0 does not ask for, Bun gives a URL that is the path alone. */
const withOrigin = (request: Request): Request =>
  request.url.startsWith("/") ? new Request(`http://localhost${request.url}`, request) : request;

type InnerServer = {
  readonly inner: Inner;
  readonly pendingRequests: number;
  stop(force: boolean): Promise<void>;
};

function serve(fetch: Fetch, options: { readonly bodyBytesMax: number; readonly tls?: Tls }): InnerServer {
  const common = {
    fetch: (request: Request) => fetch(withOrigin(request)),
    ...idle,
    maxRequestBodySize: options.bodyBytesMax,
    development: false,
    ...(options.tls === undefined ? {} : { tls: readTls(options.tls) }),
    error: () => Response.json({ error: { message: "internal error" } }, { status: 500 }),
  };
  // An abstract socket needs no directory and no loopback interface, leaves no file behind, and shows up among
  // no TCP sockets. Other systems have none.
  if (process.platform === "linux") {
    const path = `\0fovea-${crypto.randomUUID()}`;
    const server = Bun.serve({ ...common, unix: path });
    return withInner(server, { path });
  }
  const server = Bun.serve({ ...common, hostname: "127.0.0.1", port: 0 });
  return withInner(server, { host: "127.0.0.1", port: server.port ?? 0 });
}

const withInner = (server: Bun.Server<undefined>, inner: Inner): InnerServer => ({
  inner,
  get pendingRequests() {
    return server.pendingRequests;
  },
  stop: (force) => server.stop(force),
});

async function answered(server: InnerServer, graceMs: number): Promise<void> {
  const until = performance.now() + graceMs;
  while (server.pendingRequests > 0 && performance.now() < until) await Bun.sleep(10);
}

/** The host as a client on this machine reaches it: an unspecified address is every one, so loopback too. */
const reachable = (host: string): string =>
  host === "0.0.0.0" || host === "::" ? host.replace("0.0.0.0", "127.0.0.1").replace(/^::$/, "::1") : host;

/** `address` is what `resolveHost` gave for `listen`, so that what was checked is what is bound. */
export async function openServer(options: {
  readonly listen: Listen;
  readonly address: string;
  readonly fetch: Fetch;
  readonly connectionsMax: number;
  readonly bodyBytesMax: number;
  readonly tls?: Tls;
  /** A request that is being answered at the stop gets this long. */
  readonly graceMs?: number;
}): Promise<Server> {
  const { listen, address, tls, graceMs = graceMsUsual } = options;
  await using undo = new AsyncDisposableStack();
  const inner = serve(options.fetch, options);
  undo.defer(() => inner.stop(true));
  const gate = await openGate({
    host: address,
    port: listen.port,
    inner: inner.inner,
    connectionsMax: options.connectionsMax,
    plain: tls === undefined,
  }).catch((error: unknown) => {
    throw bindError(listen, error);
  });
  undo.use(gate);
  undo.defer(async () => {
    gate.close();
    await answered(inner, graceMs);
    // The server's ends close behind the last bytes that they wrote; the gate still hands these on.
    await inner.stop(true);
    await gate.emptied(flushMs);
  });
  const closing = undo.move();
  const host = tls === undefined ? reachable(address) : listen.host;
  return {
    url: `${tls === undefined ? "http" : "https"}://${listenText({ host, port: gate.port })}`,
    connections: () => ({ open: gate.open(), refused: gate.refused() }),
    answered: () => answered(inner, graceMs),
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}
