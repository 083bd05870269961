// Starts Prometheus and VictoriaMetrics on loopback, sends to them by the Remote-Write sink, and asks them back.

import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRemoteWriteSink } from "../src/sinks/remote-write.ts";
import { type RemoteWriteConfig, sinkSchema } from "../src/sinks/schema.ts";
import type { Outcome, Sink } from "../src/sinks/sink.ts";
import type { Web } from "../src/sinks/web-reply.ts";
import { encode, type SeriesSamples } from "./remote-write.rig.ts";

export const programs = ["prometheus", "victoria-metrics"] as const;
export type Program = (typeof programs)[number];

export type Receiver = AsyncDisposable & {
  readonly url: string;
  /** A sink with an external label `site`, and what becomes of samples that it sends. */
  sink(config?: object): Sender;
  /** The result of a query at that time: each series with its points. */
  query(expression: string, at: number): Promise<readonly Found[]>;
  /** Ends it as a loss of power would; its data stays. */
  kill(): Promise<void>;
  /** Starts it again on the same port, with the data that it had. */
  restart(): Promise<void>;
};

export type Sender = {
  readonly sink: Sink;
  send(all: readonly SeriesSamples[]): Promise<Outcome>;
};

export type Found = {
  readonly labels: Readonly<Record<string, string>>;
  readonly points: readonly (readonly [at: number, value: number])[];
};

const startMsMax = 20_000;

function program(name: Program): string {
  const found = Bun.which(name);
  if (found === null)
    throw new Error(`${name} is missing: install the package of that name; npm test does it`);
  return found;
}

/** The port on which a process listens; undefined while it does not. */
function listeningPort(pid: number): number | undefined {
  const open = new Set(
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
      } catch {
        return []; // Closed since.
      }
    }),
  );
  for (const line of readFileSync(`/proc/${pid}/net/tcp`, "utf8").split("\n").slice(1)) {
    const [, local = "", , state, , , , , , inode = ""] = line.trim().split(/\s+/);
    if (state === "0A" && open.has(inode)) return Number.parseInt(local.split(":")[1] ?? "", 16);
  }
  return undefined;
}

async function until<T>(what: string, find: () => Promise<T | undefined> | T | undefined): Promise<T> {
  for (const deadline = performance.now() + startMsMax; performance.now() < deadline; await Bun.sleep(20)) {
    const found = await find();
    if (found !== undefined) return found;
  }
  throw new Error(`waited ${startMsMax} ms in vain: ${what}`);
}

/** Fovea's own client has its tests; what counts here is what the program answers. */
function plainWeb(url: string): Web {
  return {
    post: async ({ headers, body, abort }) => {
      const response = await fetch(url, { method: "POST", headers, body, signal: abort });
      return {
        status: response.status,
        headers: response.headers,
        body: new Uint8Array(await response.arrayBuffer()),
      };
    },
    facts: () => ({ tokenErrors: 0 }),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

function senderTo(url: string, config: object): Sender {
  const write = `${url}/api/v1/write`;
  const given = { name: "test", type: "remote-write", url: write, externalLabels: { site: "Ålesund" } };
  const sink = createRemoteWriteSink({
    config: sinkSchema.parse({ ...given, ...config }) as RemoteWriteConfig,
    web: plainWeb(write),
    identity: { node: "edge-1", cluster: "site-a", version: "1.2.3" },
  });
  return {
    sink,
    send: (all) => {
      const spec = sink.encoder("metrics");
      const values = all.flatMap(({ samples }) => samples.map(([, value]) => value));
      const parcel = {
        ...({ signal: "metrics", lane: "live", body: encode(spec, all).body, format: spec.format } as const),
        ...{ records: values.filter((value) => value !== null).length, firstAt: 0, lastAt: 0 },
        markers: values.filter((value) => value === null).length,
      };
      return sink.send(parcel, AbortSignal.timeout(startMsMax));
    },
  };
}

type Answer = {
  readonly data: {
    readonly result: readonly {
      readonly metric: Record<string, string>;
      readonly value?: readonly [number, string];
      readonly values?: readonly (readonly [number, string])[];
    }[];
  };
};

// What both programs write for numbers that JSON does not have.
const numberOf = (text: string): number => Number(text.replace(/^([+-]?)Inf$/, "$1Infinity"));

async function query(url: string, expression: string, at: number): Promise<readonly Found[]> {
  const asked = new URLSearchParams({ query: expression, time: (at / 1000).toFixed(3), nocache: "1" });
  const response = await fetch(`${url}/api/v1/query?${asked}`);
  if (!response.ok) throw new Error(`${expression}: ${response.status} ${await response.text()}`);
  const { data } = (await response.json()) as Answer;
  return data.result.map(({ metric, value, values }) => ({
    labels: metric,
    points: (values ?? (value === undefined ? [] : [value])).map(
      ([seconds, text]) => [Math.round(seconds * 1000), numberOf(text)] as const,
    ),
  }));
}

type Start = { readonly dir: string; readonly outOfOrder: string; readonly port: number };

/** What each program is started with; `outOfOrder` is a window of Prometheus, as `2h`. */
function argumentsOf(name: Program, { dir, outOfOrder, port }: Start): readonly string[] {
  const listen = `127.0.0.1:${port}`;
  if (name === "victoria-metrics")
    return [`-storageDataPath=${dir}/data`, `-httpListenAddr=${listen}`, "-search.latencyOffset=0s"];
  writeFileSync(join(dir, "prometheus.yml"), `storage: {tsdb: {out_of_order_time_window: ${outOfOrder}}}\n`);
  return [
    `--config.file=${dir}/prometheus.yml`,
    `--storage.tsdb.path=${dir}/data`,
    `--web.listen-address=${listen}`,
    "--web.enable-remote-write-receiver",
  ];
}

type Running = { readonly port: number; kill(): Promise<void> };

/** Answers as soon as it does. Port 0: any. */
async function startProgram(name: Program, start: Start): Promise<Running> {
  const errors = join(start.dir, "errors");
  const child = Bun.spawn([program(name), ...argumentsOf(name, start)], {
    stdout: Bun.file(join(start.dir, "log")),
    stderr: Bun.file(errors),
  });
  const kill = async (): Promise<void> => {
    child.kill("SIGKILL");
    await child.exited;
  };
  try {
    const port = await until(`${name} listens`, () => {
      if (child.exitCode !== null) throw new Error(`${name}: ${readFileSync(errors, "utf8")}`);
      return listeningPort(child.pid);
    });
    const ready = name === "prometheus" ? "/-/ready" : "/health";
    await until(`${name} is ready`, async () => {
      const response = await fetch(`http://127.0.0.1:${port}${ready}`).catch(() => undefined); // Not yet.
      return response?.ok === true ? true : undefined;
    });
    return { port, kill };
  } catch (error) {
    await kill();
    throw error;
  }
}

export async function startReceiver(name: Program, options: { outOfOrder?: string } = {}): Promise<Receiver> {
  const dir = mkdtempSync(join(tmpdir(), "fovea-receiver-test-"));
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rmSync(dir, { recursive: true }));
  const start = { dir, outOfOrder: options.outOfOrder ?? "0s" };
  let running = await startProgram(name, { ...start, port: 0 });
  undo.defer(() => running.kill());
  const { port } = running;
  const url = `http://127.0.0.1:${port}`;
  const parts = undo.move();
  return {
    url,
    sink: (config = {}) => senderTo(url, config),
    query: async (expression, at) => {
      // What it took would be found some seconds later.
      if (name === "victoria-metrics") await fetch(`${url}/internal/force_flush`);
      return query(url, expression, at);
    },
    kill: () => running.kill(),
    restart: async () => {
      running = await startProgram(name, { ...start, port });
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

/** Waits until a query finds something. */
export const foundBy = (receiver: Receiver, expression: string, at: number): Promise<readonly Found[]> =>
  until(`${expression} finds a series`, async () => {
    const found = await receiver.query(expression, at);
    return found.length > 0 ? found : undefined;
  });
