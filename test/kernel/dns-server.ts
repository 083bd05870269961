// A DNS server and client for tests, over UDP and TCP: what is answered follows from the name that is asked for.

import type { TestNamespace } from "./proc-namespace.ts";

const script = `${import.meta.dir}/dns-server.ts`;

export const questionTypes = { A: 1, MX: 15, AAAA: 28, SVCB: 64 } as const;
export type QuestionType = keyof typeof questionTypes;

const codes: Readonly<Record<string, number>> = { "failing.test": 2, "unknown.test": 3, "refused.test": 5 };

/** The first label of names that are answered late, and of names that are never answered. */
const SLOW = "slow";
const SILENT = "silent";
export const slowMs = 40;

export const answerV4 = "203.0.113.80";
export const answerV6 = "2001:db8:77::80";
export const answerTtlSeconds = 300;

export function dnsQuery(id: number, name: string, type: QuestionType): Uint8Array {
  const labels = name.split(".").map((label) => Buffer.concat([Buffer.of(label.length), Buffer.from(label)]));
  const header = Buffer.alloc(12);
  header.writeUInt16BE(id, 0);
  header.writeUInt16BE(0x0100, 2);
  header.writeUInt16BE(1, 4);
  return Buffer.concat([header, ...labels, Buffer.of(0, 0, questionTypes[type], 0, 1)]);
}

export type DnsServer = AsyncDisposable;

export async function serveDns(at: TestNamespace, addresses: readonly string[]): Promise<DnsServer> {
  const words = ["ip", "netns", "exec", at.name, process.execPath, script, "serve", ...addresses];
  const child = Bun.spawn(words, { stdout: "pipe", stderr: "inherit" });
  const { done } = await child.stdout.getReader().read();
  if (done) throw new Error("the DNS server ended");
  return {
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

/** Asks over TCP and waits for the answer. */
export async function askOverTcp(
  at: TestNamespace,
  server: string,
  question: { readonly id: number; readonly name: string; readonly type: QuestionType },
): Promise<void> {
  const { id, name, type } = question;
  const words = [
    "ip",
    "netns",
    "exec",
    at.name,
    process.execPath,
    script,
    "ask",
    server,
    String(id),
    name,
    type,
  ];
  const code = await Bun.spawn(words, { stdout: "ignore", stderr: "inherit" }).exited;
  if (code !== 0) throw new Error(`asking for ${name} over TCP ended with ${code}`);
}

function nameOf(message: Buffer): { name: string; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let size = message[at] ?? 0; size > 0; size = message[at] ?? 0) {
    labels.push(message.toString("latin1", at + 1, at + 1 + size));
    at += 1 + size;
  }
  return { name: labels.join("."), end: at + 5 };
}

const addressAnswers: Readonly<Record<number, Buffer>> = {
  [questionTypes.A]: Buffer.of(203, 0, 113, 80),
  [questionTypes.AAAA]: Buffer.from("20010db8007700000000000000000080", "hex"),
};

function answerTo(query: Buffer): { message: Buffer; label: string } {
  const { name, end } = nameOf(query);
  const code = codes[name] ?? 0;
  const data = code === 0 ? addressAnswers[query.readUInt16BE(end - 4)] : undefined;
  const header = Buffer.from(query.subarray(0, 12));
  header.writeUInt16BE(0x8180 | code, 2);
  header.writeUInt16BE(data === undefined ? 0 : 1, 6);
  const question = query.subarray(12, end);
  const record = Buffer.alloc(12);
  record.writeUInt16BE(0xc00c, 0); // The name of the question.
  record.writeUInt16BE(query.readUInt16BE(end - 4), 2);
  record.writeUInt16BE(1, 4);
  record.writeUInt32BE(answerTtlSeconds, 6);
  record.writeUInt16BE(data?.length ?? 0, 10);
  const answer = data === undefined ? [] : [record, data];
  return { message: Buffer.concat([header, question, ...answer]), label: name.split(".")[0] ?? "" };
}

function reply(query: Buffer, send: (message: Buffer) => void): void {
  const { message, label } = answerTo(query);
  if (label === SILENT) return;
  if (label === SLOW) setTimeout(() => send(message), slowMs);
  else send(message);
}

const framed = (message: Uint8Array): Buffer =>
  Buffer.concat([Buffer.of(message.length >> 8, message.length & 0xff), message]);

async function serve(addresses: readonly string[]): Promise<void> {
  for (const hostname of addresses) {
    await Bun.udpSocket({
      hostname,
      port: 53,
      socket: {
        data: (socket, query, port, address) =>
          reply(query, (message) => void socket.send(message, port, address)),
      },
    });
    Bun.listen({
      hostname,
      port: 53,
      socket: {
        data: (socket, chunk) =>
          reply(Buffer.from(chunk.subarray(2)), (message) => void socket.end(framed(message))),
      },
    });
  }
  console.log("ready");
}

async function ask(hostname: string, query: Uint8Array): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  await Bun.connect({
    hostname,
    port: 53,
    socket: {
      open: (socket) => void socket.write(framed(query)),
      data: () => undefined,
      close: () => resolve(),
      connectError: (_, error) => reject(error),
    },
  });
  await promise;
}

async function main([verb, ...words]: readonly string[]): Promise<void> {
  const [server = "", id = "", name = "", type = ""] = words;
  if (verb === "serve") await serve(words);
  else await ask(server, dnsQuery(Number(id), name, type as QuestionType));
}

if (import.meta.main) await main(process.argv.slice(2));
