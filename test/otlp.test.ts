// The sink of OTLP: where it sends and how, and what it makes of each answer.

import { describe, expect, test } from "bun:test";
import { createOtlpSink } from "../src/sinks/otlp.ts";
import { type OtlpConfig, sinkSchema } from "../src/sinks/schema.ts";
import type { Outcome, Parcel, Sink } from "../src/sinks/sink.ts";
import type { Web, WebReply } from "../src/sinks/web-reply.ts";
import { at, encoded } from "./otlp.world.ts";

type Request = Parameters<Web["post"]>[0];
const identity = { node: "edge-1", cluster: "plant", version: "1.2.3" };
const { signal: abort } = new AbortController();

function configOf(changes: object): OtlpConfig {
  const config = sinkSchema.parse({ name: "up", type: "otlp", url: "http://127.0.0.1:4318", ...changes });
  if (config.type !== "otlp") throw new Error(`parsed as ${config.type}`);
  return config;
}

/** Answers with what the test says last; keeps the requests. */
function worldOf(changes: object = {}) {
  const requests: Request[] = [];
  let reply: WebReply = { status: 200, headers: new Headers(), body: new Uint8Array() };
  let disposed = 0;
  const web: Web = {
    post: (request) => {
      requests.push(request);
      return Promise.resolve(reply);
    },
    facts: () => ({ tokenErrors: 3, clockSkewMs: -5 }),
    [Symbol.asyncDispose]: () => {
      disposed += 1;
      return Promise.resolve();
    },
  };
  const sink = createOtlpSink({ config: configOf(changes), web, identity });
  const answers = (
    status: number,
    options: {
      type?: string;
      body?: string | Uint8Array<ArrayBuffer>;
      headers?: Record<string, string>;
    } = {},
  ): void => {
    const { type, body = "", headers = {} } = options;
    reply = {
      status,
      headers: new Headers({ ...headers, ...(type === undefined ? {} : { "content-type": type }) }),
      body: typeof body === "string" ? new TextEncoder().encode(body) : body,
    };
  };
  return {
    sink,
    requests,
    answers,
    fails: (outcome: WebReply): void => {
      reply = outcome;
    },
    disposals: () => disposed,
  };
}

const parcel = (changes: Partial<Parcel> = {}): Parcel => ({
  ...{ signal: "flows", lane: "live", format: "otlp-protobuf", body: new Uint8Array([1, 2, 3]) },
  ...{ records: 10, markers: 0, firstAt: at, lastAt: at },
  ...changes,
});
const send = (sink: Sink, changes?: Partial<Parcel>): Promise<Outcome> => sink.send(parcel(changes), abort);

const json = "application/json; charset=utf-8";
const protobuf = "application/x-protobuf";

describe("a request", () => {
  test.each([
    ["http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/logs", "http://127.0.0.1:4318/v1/metrics"],
    ["http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/logs", "http://127.0.0.1:4318/v1/metrics"],
    ["https://h/otlp", "https://h/otlp/v1/logs", "https://h/otlp/v1/metrics"],
    ["https://h/a/b//", "https://h/a/b/v1/logs", "https://h/a/b/v1/metrics"],
    ["https://h/a?tenant=x", "https://h/a/v1/logs?tenant=x", "https://h/a/v1/metrics?tenant=x"],
  ])("to %s goes to the path of its signal", async (url, logs, metrics) => {
    const { sink, requests } = worldOf({ url });
    await send(sink);
    await send(sink, { signal: "metrics" });
    expect(requests.map((request) => request.url)).toEqual([logs, metrics]);
    expect(sink.facts().target).not.toContain("?");
  });

  test("has the body as it is, and says what is in it", async () => {
    const { sink, requests } = worldOf();
    const body = new Uint8Array([9, 8]);
    await send(sink, { body });
    await send(sink, { body, format: "otlp-json" });
    expect(requests.map((request) => request.headers)).toEqual([
      { "Content-Type": protobuf, "Content-Encoding": "gzip" },
      { "Content-Type": "application/json", "Content-Encoding": "gzip" },
    ]);
    expect(requests.map((request) => request.body)).toEqual([body, body]);
    expect(requests[0]?.abort).toBe(abort);
  });

  test("is not said to be compressed when it is not", async () => {
    const { sink, requests } = worldOf({ compression: "none", encoding: "json" });
    await send(sink, { format: "otlp-json" });
    expect(requests[0]?.headers).toEqual({ "Content-Type": "application/json" });
    expect(sink.encoder("flows").options).toEqual({ compression: "none" });
  });
});

describe("the sink", () => {
  test("tells how bodies are encoded, and what it is", () => {
    const { sink } = worldOf({ url: "https://h/otlp/?k=v", externalLabels: { site: "north" } });
    const spec = {
      ...{ format: "otlp-protobuf", node: "edge-1", cluster: "plant", version: "1.2.3" },
      ...{ externalLabels: { site: "north" }, options: { compression: "gzip" } },
    };
    expect([sink.encoder("flows"), sink.encoder("metrics")]).toEqual([spec, spec] as never);
    expect(sink.facts()).toEqual({ target: "https://h/otlp", tokenErrors: 3, clockSkewMs: -5 });
    expect(sink.signals).toEqual(["flows", "metrics"]);
    expect(worldOf({ signals: ["metrics"] }).sink.signals).toEqual(["metrics"]);
  });

  test("takes any age, order and span, unless the configuration says otherwise", () => {
    const any = Number.POSITIVE_INFINITY;
    const { sink } = worldOf();
    const unbounded = { ageMaxMs: any, outOfOrderMs: any, spanMaxMs: any, bytesMax: 4_194_304 };
    expect(sink.capability("flows")).toEqual({ ...unbounded, recordsMax: 2000 });
    expect(sink.capability("metrics")).toEqual({ ...unbounded, recordsMax: 5000 });
    const limits = { ageMax: "2h", outOfOrder: "0s", spanMax: "1m", recordsMax: 7, bytesMax: "1MiB" };
    const limited = {
      ageMaxMs: 7_200_000,
      outOfOrderMs: 0,
      spanMaxMs: 60_000,
      recordsMax: 7,
      bytesMax: 1_048_576,
    };
    expect(worldOf({ limits }).sink.capability("metrics")).toEqual(limited);
  });

  test("ends with its connection", async () => {
    const { sink, disposals } = worldOf();
    await sink[Symbol.asyncDispose]();
    expect(disposals()).toBe(1);
  });
});

describe("a success", () => {
  const stored = { kind: "stored", code: "200" } as const;
  const partial = (records: number, message: string): Outcome => ({
    ...stored,
    rejected: { records, reason: "partial", message },
  });
  const logs = (text: string) => ({ type: protobuf, body: encoded("ExportLogsServiceResponse", text) });
  const metrics = (text: string) => ({ type: protobuf, body: encoded("ExportMetricsServiceResponse", text) });

  test("without a body stores all", async () => {
    const { sink, answers } = worldOf();
    expect(await send(sink)).toEqual(stored);
    answers(200, { type: protobuf });
    expect(await send(sink)).toEqual(stored);
    answers(202, { type: "text/plain", body: "accepted" });
    expect(await send(sink)).toEqual({ kind: "stored", code: "202" });
  });

  test("in protobuf tells what was rejected", async () => {
    const { sink, answers } = worldOf();
    answers(200, logs('partial_success { rejected_log_records: 3 error_message: "too\\nold" }'));
    expect(await send(sink)).toMatchObject(partial(3, "too"));
    answers(200, metrics('partial_success { rejected_data_points: 2 error_message: "no room" }'));
    expect(await send(sink, { signal: "metrics" })).toEqual(partial(2, "no room"));
    answers(200, logs("partial_success { rejected_log_records: 1 }"));
    expect(await send(sink)).toEqual(partial(1, "the receiver does not say why"));
    answers(200, logs("partial_success { rejected_log_records: 99 }"));
    expect(await send(sink)).toMatchObject({ rejected: { records: 10 } });
  });

  test("in JSON tells what was rejected, whichever encoding was sent", async () => {
    const { sink, answers } = worldOf();
    const body = (rejected: object) => JSON.stringify({ partialSuccess: rejected, unknown: 1 });
    answers(200, { type: json, body: body({ rejectedLogRecords: "3", errorMessage: "old" }) });
    expect(await send(sink)).toEqual(partial(3, "old"));
    answers(200, { type: json, body: body({ rejectedDataPoints: 2, errorMessage: "old" }) });
    expect(await send(sink, { signal: "metrics" })).toEqual(partial(2, "old"));
  });

  test("of no type is in the encoding that was sent", async () => {
    const { sink, answers } = worldOf();
    answers(200, { body: logs("partial_success { rejected_log_records: 4 }").body });
    expect(await send(sink)).toMatchObject({ rejected: { records: 4 } });
    answers(200, { body: '{"partialSuccess":{"rejectedLogRecords":"5"}}' });
    expect(await send(sink, { format: "otlp-json" })).toMatchObject({ rejected: { records: 5 } });
  });

  test("with a warning, or of nonsense, stores all", async () => {
    const { sink, answers } = worldOf();
    answers(200, logs('partial_success { error_message: "use a newer version" }'));
    expect(await send(sink)).toEqual(stored);
    answers(200, logs("partial_success { rejected_log_records: -3 }"));
    expect(await send(sink)).toEqual(stored);
    answers(200, { type: protobuf, body: "<html>fine</html>" });
    expect(await send(sink)).toEqual(stored);
    answers(200, { type: json, body: "{" });
    expect(await send(sink)).toEqual(stored);
    answers(200, { type: "text/html", body: '{"partialSuccess":{"rejectedLogRecords":"5"}}' });
    expect(await send(sink)).toEqual(stored);
  });
});

describe("an error", () => {
  test("of the network is the outcome that it is", async () => {
    const { sink, fails } = worldOf();
    const outcome = { kind: "again", code: "timeout", reason: "timeout", message: "no answer" } as const;
    fails(outcome);
    expect(await send(sink)).toEqual(outcome);
  });

  test.each([429, 502, 503, 504])("%i is sent again, when the receiver says", async (status) => {
    const { sink, answers } = worldOf();
    answers(status, { headers: { "Retry-After": "7" } });
    for (let times = 0; times < 20; times += 1)
      expect(await send(sink)).toMatchObject({ kind: "again", code: String(status), afterMs: 7000 });
  });

  test.each([401, 403, 404])("%i is sent again, as nothing is wrong with the records", async (status) => {
    const { sink, answers } = worldOf();
    answers(status);
    expect(await send(sink)).toMatchObject({ kind: "again", code: String(status) });
  });

  test("400 is refused, in the words of the receiver", async () => {
    const { sink, answers } = worldOf();
    answers(400, { type: protobuf, body: encoded("Status", 'code: 3 message: "bad data point"') });
    expect(await send(sink)).toEqual({
      ...{ kind: "refused", code: "400", reason: "4xx", message: "HTTP 400: bad data point" },
    });
    answers(400, { type: json, body: '{"code":3,"message":"bad record","details":[{}]}' });
    expect(await send(sink)).toMatchObject({ kind: "refused", message: "HTTP 400: bad record" });
    answers(400, { type: "text/plain", body: "a proxy's words" });
    expect(await send(sink)).toMatchObject({ kind: "refused", message: "HTTP 400: a proxy's words" });
  });

  test("413 is too large", async () => {
    const { sink, answers } = worldOf();
    answers(413);
    expect(await send(sink)).toMatchObject({ kind: "too_large", code: "413" });
  });
});

describe("a failure of the receiver", () => {
  const kinds = async (sink: Sink, times: number, changes?: Partial<Parcel>): Promise<readonly string[]> => {
    const seen: string[] = [];
    for (let count = 0; count < times; count += 1) seen.push((await send(sink, changes)).kind);
    return seen;
  };

  test("is tried five times with the same body, then that is refused", async () => {
    const { sink, answers } = worldOf();
    answers(500, { type: "text/plain", body: "oops" });
    expect(await send(sink)).toMatchObject({ kind: "again", code: "500", reason: "server" });
    expect(await kinds(sink, 3)).toEqual(["again", "again", "again"]);
    expect(await send(sink, { body: new Uint8Array([1, 2, 3]) })).toEqual({
      ...{ kind: "refused", code: "500", reason: "server" },
      message: "5 times in a row with this body: HTTP 500: oops",
    });
    expect(await kinds(sink, 5)).toEqual(["again", "again", "again", "again", "refused"]);
  });

  test("counts each body, and each lane and signal for itself", async () => {
    const { sink, answers } = worldOf();
    answers(501);
    const body = new Uint8Array([4]);
    expect(await kinds(sink, 4)).not.toContain("refused");
    expect(await kinds(sink, 4, { lane: "backlog", body })).not.toContain("refused");
    expect(await kinds(sink, 4, { signal: "metrics", body })).not.toContain("refused");
    expect(await kinds(sink, 1, { lane: "backlog", body })).toEqual(["refused"]);
    expect(await kinds(sink, 4, { body })).not.toContain("refused");
    expect(await kinds(sink, 4)).not.toContain("refused");
  });

  test("is forgotten when the receiver answers otherwise", async () => {
    const { sink, answers } = worldOf();
    for (const between of [200, 503]) {
      answers(500);
      expect(await kinds(sink, 4)).not.toContain("refused");
      answers(between);
      await send(sink);
    }
    answers(500);
    expect(await kinds(sink, 5)).toEqual(["again", "again", "again", "again", "refused"]);
  });
});

describe("an encoding that the receiver does not take", () => {
  test.each([
    ["protobuf", "otlp-protobuf", "json", "otlp-json"],
    ["json", "otlp-json", "protobuf", "otlp-protobuf"],
  ] as const)("%s gives way to the other for good", async (encoding, format, other, otherFormat) => {
    const { sink, answers } = worldOf({ encoding });
    answers(415);
    expect(await send(sink, { format })).toEqual({
      ...{ kind: "reencode", code: "415" },
      message: `the receiver does not take ${encoding}; now ${other}`,
    });
    expect(sink.encoder("metrics").format).toBe(otherFormat);
    // One that was encoded before.
    expect(await send(sink, { format, lane: "backlog" })).toMatchObject({ kind: "reencode" });
    expect(sink.encoder("metrics").format).toBe(otherFormat);
    answers(200);
    expect(await send(sink, { format: otherFormat })).toEqual({ kind: "stored", code: "200" });
    expect(sink.encoder("flows").format).toBe(otherFormat);
  });

  test("in both encodings waits for somebody to look", async () => {
    const { sink, answers } = worldOf();
    answers(415);
    await send(sink);
    for (let times = 0; times < 3; times += 1)
      expect(await send(sink, { format: "otlp-json" })).toMatchObject({
        kind: "again",
        code: "415",
        slow: true,
      });
    expect(sink.encoder("flows").format).toBe("otlp-json");
  });
});
