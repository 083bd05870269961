// The door of the API: bounds the connections that are open at once, in front of the HTTP server.

import { createServer, connect as openConnection, type Server, type Socket } from "node:net";

/** Where the HTTP server behind the gate listens; never reachable from another machine. */
export type Inner = { readonly path: string } | { readonly host: string; readonly port: number };

export type Gate = AsyncDisposable & {
  readonly port: number;
  readonly open: () => number;
  /** Connections turned away because `connectionsMax` were open, since the start. */
  readonly refused: () => number;
  /** Takes no new connection; those that are open go on. */
  close(): void;
  /** Resolves when all connections that were let in have ended, or the time is over. */
  emptied(waitMs: number): Promise<void>;
};

const refusalBody = `${JSON.stringify({ error: { message: "too many connections; try again later" } })}\n`;
const refusal = [
  "HTTP/1.1 503 Service Unavailable",
  "Content-Type: application/json",
  `Content-Length: ${refusalBody.length}`,
  "Retry-After: 1",
  "Connection: close",
  "",
  refusalBody,
].join("\r\n");

// A refused client has this long to read why.
const refusalMs = 1000;

// A client that takes nothing of its answer for so long is let go.
const stalledMs = 30_000;

// Bun.serve neither bounds nor counts its connections: one client that opens many and sends nothing would take
// every file descriptor of the process. So connections end here, and their bytes go on as they are, TLS included.
function join(outside: Socket, inside: Socket): void {
  outside.on("error", () => inside.destroy());
  inside.on("error", () => outside.destroy());
  outside.on("close", () => inside.destroy());
  // pipe pauses one side while the other takes nothing, and a paused socket sees no end: so the time runs here.
  let stalled: ReturnType<typeof setTimeout> | undefined;
  const wait = () => {
    stalled ??= setTimeout(() => outside.destroy(), stalledMs);
  };
  const moved = () => {
    clearTimeout(stalled);
    stalled = undefined;
  };
  inside.on("pause", wait);
  inside.on("end", wait);
  outside.on("drain", moved);
  outside.on("close", moved);
  outside.pipe(inside);
  inside.pipe(outside);
}

function turnAway(outside: Socket, explain: boolean): void {
  outside.on("error", () => outside.destroy());
  if (!explain) {
    outside.destroy();
    return;
  }
  outside.resume(); // Unread bytes at the close would make a reset of it, and the answer would be lost.
  outside.end(refusal);
  outside.setTimeout(refusalMs, () => outside.destroy());
}

function listening(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port, backlog: 128 }, () => {
      server.off("error", reject);
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : port);
    });
  });
}

/** `host` is a literal address. `plain`: clients speak no TLS and can be told why they are turned away. */
export async function openGate(options: {
  readonly host: string;
  readonly port: number;
  readonly inner: Inner;
  readonly connectionsMax: number;
  readonly plain: boolean;
}): Promise<Gate> {
  const { host, inner, connectionsMax, plain } = options;
  const passed = new Set<Socket>();
  const turnedAway = new Set<Socket>();
  let refused = 0;
  const server = createServer({ noDelay: true }, (outside) => {
    const full = passed.size >= connectionsMax;
    const among = full ? turnedAway : passed;
    among.add(outside);
    outside.on("close", () => among.delete(outside));
    if (!full) join(outside, openConnection({ ...inner }));
    else {
      refused += 1;
      turnAway(outside, plain && turnedAway.size <= connectionsMax);
    }
  });
  const port = await listening(server, host, options.port);
  const close = () => void server.close();
  const emptied = async (waitMs: number): Promise<void> => {
    const closed = [...passed].map((socket) => new Promise((resolve) => socket.once("close", resolve)));
    const { promise: over, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, waitMs);
    await Promise.race([Promise.all(closed), over]);
    clearTimeout(timer);
  };
  return {
    port,
    open: () => passed.size,
    refused: () => refused,
    ...{ close, emptied },
    [Symbol.asyncDispose]: () => {
      close();
      for (const socket of [...passed, ...turnedAway]) socket.destroy();
      return Promise.resolve();
    },
  };
}
