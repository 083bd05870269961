// An upstream on loopback that does with each request what a script says, down to the bytes.

import { type AddressInfo, createServer, type Socket } from "node:net";

/** What is done with one request. One that is answered with 200 or 204 is stored. */
export type Step =
  | {
      readonly kind: "answer";
      /** A function where it depends on what is in the body. */
      readonly status: number | ((request: UpstreamRequest) => number);
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string;
    }
  /** Takes the body and says nothing, for as long as the client waits. */
  | { readonly kind: "hang" }
  /** Resets the connection as soon as the head of the request is there; the body is not taken. */
  | { readonly kind: "reset-before" }
  /** Stores the body and resets the connection: the acknowledgement is lost. */
  | { readonly kind: "reset-after" }
  /** Stores the body, and closes in the middle of the answer. */
  | { readonly kind: "half" }
  /** Stores the body and sends the answer byte by byte. */
  | { readonly kind: "drip"; readonly everyMs: number };

export type UpstreamRequest = {
  readonly method: string;
  readonly path: string;
  readonly headers: Headers;
  readonly body: Buffer;
};

export type Upstream = AsyncDisposable & {
  readonly url: string;
  /** What is done with the next requests; then all are answered as `usual`. */
  readonly script: Step[];
  usual: Step;
  /** Every request whose body came as a whole. */
  readonly requests: readonly UpstreamRequest[];
  /** Those of them that the upstream stored. */
  readonly stored: readonly UpstreamRequest[];
  /** Requests that were begun, whatever became of them. */
  readonly begun: number;
};

type AnswerStep = Extract<Step, { kind: "answer" }>;
type Head = Omit<UpstreamRequest, "body"> & { readonly length: number; readonly bodyAt: number };

/** Undefined while it is not whole. */
function headOf(data: Buffer): Head | undefined {
  const end = data.indexOf("\r\n\r\n");
  if (end === -1) return undefined;
  const [line = "", ...lines] = data.subarray(0, end).toString("latin1").split("\r\n");
  const [method = "", path = ""] = line.split(" ");
  const headers = new Headers(
    lines.map((text): [string, string] => {
      const colon = text.indexOf(":");
      return [text.slice(0, colon), text.slice(colon + 1).trim()];
    }),
  );
  const length = headers.get("content-length");
  if (length === null) throw new Error("a request without a length");
  return { method, path, headers, length: Number(length), bodyAt: end + 4 };
}

const statusLine = (status: number): string => `HTTP/1.1 ${status} As told\r\n`;

const statusOf = ({ status }: AnswerStep, request: UpstreamRequest): number =>
  typeof status === "number" ? status : status(request);

function answerText(step: AnswerStep, request: UpstreamRequest): string {
  const { headers = {}, body = "" } = step;
  const status = statusOf(step, request);
  const length = status === 204 ? {} : { "Content-Length": String(Buffer.byteLength(body)) };
  const all = Object.entries({ ...length, ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${statusLine(status)}${all.join("")}\r\n${body}`;
}

/** One byte after the other, until the client has enough of it. */
async function drip(socket: Socket, text: string, everyMs: number): Promise<void> {
  for (const byte of text) {
    if (socket.destroyed) return;
    socket.write(byte);
    await Bun.sleep(everyMs);
  }
}

function isStored(step: Step, request: UpstreamRequest): boolean {
  if (step.kind === "answer") return [200, 204].includes(statusOf(step, request));
  return step.kind === "reset-after" || step.kind === "half" || step.kind === "drip";
}

function act(socket: Socket, step: Step, request: UpstreamRequest): void {
  if (step.kind === "answer") socket.write(answerText(step, request));
  else if (step.kind === "reset-after") socket.resetAndDestroy();
  else if (step.kind === "half") socket.end(`${statusLine(200)}Content-Length: 100\r\n\r\n{"half":`);
  else if (step.kind === "drip")
    void drip(socket, `${statusLine(200)}Content-Length: 0\r\n\r\n`, step.everyMs);
}

export async function openUpstream(): Promise<Upstream> {
  const requests: UpstreamRequest[] = [];
  const kept: UpstreamRequest[] = [];
  const sockets = new Set<Socket>();
  let begun = 0;
  const script: Step[] = [];
  const serve = (socket: Socket): void => {
    let data = Buffer.alloc(0);
    let step: Step | undefined;
    socket.on("data", (more) => {
      data = Buffer.concat([data, Buffer.from(more)]);
      const head = headOf(data);
      if (head === undefined) return;
      if (step === undefined) {
        begun += 1;
        step = script.shift() ?? upstream.usual;
        if (step.kind === "reset-before") return void socket.resetAndDestroy();
      }
      const { bodyAt, length, method, path, headers } = head;
      if (data.length < bodyAt + length) return;
      const request = { method, path, headers, body: data.subarray(bodyAt, bodyAt + length) };
      const now = step;
      data = data.subarray(bodyAt + length);
      step = undefined;
      requests.push(request);
      if (isStored(now, request)) kept.push(request);
      act(socket, now, request);
    });
  };
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    // The client hangs up when it has waited long enough; that is part of the script.
    socket.on("error", () => socket.destroy());
    serve(socket);
  });
  server.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  const upstream: Upstream = {
    url: `http://127.0.0.1:${port}`,
    script,
    usual: { kind: "answer", status: 200 },
    requests,
    stored: kept,
    get begun() {
      return begun;
    },
    [Symbol.asyncDispose]: () => {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
  return upstream;
}
