// TCP connections between namespaces: each end a process of its own.

import type { TestNamespace } from "./proc-namespace.ts";

export type TcpEnd = { readonly at: TestNamespace; readonly address: string; readonly port: number };

const script = `${import.meta.dir}/tcp.ts`;

const spawn = (at: TestNamespace, ...words: readonly string[]) =>
  Bun.spawn(["ip", "netns", "exec", at.name, process.execPath, script, ...words], {
    stdout: "pipe",
    stderr: "inherit",
  });

export type TcpServer = AsyncDisposable & {
  /** Bytes of each connection in the order in which they ended; waits until as many have ended as were expected. */
  ended(): Promise<readonly number[]>;
};

/** Listens, reads every connection to its end, and ends after so many. */
export async function serveTcp({ at, address, port }: TcpEnd, connections = 1): Promise<TcpServer> {
  const child = spawn(at, "serve", address, String(port), String(connections));
  const reader = child.stdout.getReader();
  let text = "";
  const more = async (): Promise<boolean> => {
    const { value, done } = await reader.read();
    text += value === undefined ? "" : new TextDecoder().decode(value);
    return !done;
  };
  while (!text.includes("\n")) if (!(await more())) throw new Error(`no TCP server on ${address} ${port}`);
  return {
    async ended() {
      while (await more());
      return text.trim().split("\n").slice(1).map(Number);
    },
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

/** Connects, sends so many bytes, and ends the connection. */
export async function sendTcp(from: TestNamespace, to: TcpEnd, bytes: number): Promise<void> {
  const child = spawn(from, "send", to.address, String(to.port), String(bytes));
  const code = await child.exited;
  if (code !== 0) throw new Error(`sending ${bytes} bytes to ${to.address} ${to.port} ended with ${code}`);
}

export type Statistics = (name: string) => number;

/** The kernel's counters of a namespace, by nstat's names. */
export function readStatistics(at: TestNamespace): Statistics {
  const report = JSON.parse(at.run("nstat", "-asjz")) as { kernel: Readonly<Record<string, number>> };
  return (name) => {
    const value = report.kernel[name];
    if (value === undefined) throw new Error(`nstat has no ${name}`);
    return value;
  };
}

export type Segments = { readonly out: number; readonly back: number; readonly again: number };

/** Segments that left and reached a namespace since the call; asked again and again, as the last of them come late. */
export function countSegments(at: TestNamespace): () => Segments {
  const read = (): Segments => {
    const value = readStatistics(at);
    const again = value("TcpRetransSegs");
    return { out: value("TcpOutSegs") + again, back: value("TcpInSegs"), again };
  };
  const before = read();
  return () => {
    const now = read();
    return { out: now.out - before.out, back: now.back - before.back, again: now.again - before.again };
  };
}

function serve(hostname: string, port: number, connections: number): void {
  let left = connections;
  const listener = Bun.listen<{ bytes: number }>({
    hostname,
    port,
    socket: {
      open(socket) {
        socket.data = { bytes: 0 };
      },
      data(socket, chunk) {
        socket.data.bytes += chunk.length;
      },
      close(socket) {
        console.log(socket.data.bytes);
        left -= 1;
        if (left === 0) listener.stop();
      },
    },
  });
  console.log("ready");
}

async function send(hostname: string, port: number, bytes: number): Promise<void> {
  const chunk = new Uint8Array(Math.min(bytes, 1 << 20));
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let left = bytes;
  await Bun.connect({
    hostname,
    port,
    socket: {
      open: write,
      drain: write,
      data: () => undefined,
      close: () => resolve(),
      error: (_, error) => reject(error),
      connectError: (_, error) => reject(error),
    },
  });
  function write(socket: Bun.Socket): void {
    while (left > 0) {
      const written = socket.write(chunk.subarray(0, Math.min(left, chunk.length)));
      if (written <= 0) return;
      left -= written;
    }
    socket.end();
  }
  await promise;
}

async function main([verb, address = "", port = "", amount = ""]: readonly string[]): Promise<void> {
  if (verb === "serve") serve(address, Number(port), Number(amount));
  else await send(address, Number(port), Number(amount));
}

if (import.meta.main) await main(process.argv.slice(2));
