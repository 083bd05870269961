// What the Remote-Write sink sends, and how it reads what comes back.

import { describe, expect, test } from "bun:test";
import { createRemoteWriteSink } from "../src/sinks/remote-write.ts";
import { type RemoteWriteConfig, sinkSchema } from "../src/sinks/schema.ts";
import type { Outcome, Parcel } from "../src/sinks/sink.ts";
import type { Web, WebReply } from "../src/sinks/web-reply.ts";

type Post = Parameters<Web["post"]>[0];

const configOf = (more: object = {}): RemoteWriteConfig =>
  sinkSchema.parse({
    name: "upstream",
    type: "remote-write",
    url: "https://prometheus.example/api/v1/write?tenant=7",
    ...more,
  }) as RemoteWriteConfig;

const answer = (status: number, text = "", headers: Record<string, string> = {}): WebReply => ({
  status,
  headers: new Headers(headers),
  body: new TextEncoder().encode(text),
});

const wrote = (samples: number | string, kind = "Samples"): Record<string, string> => ({
  [`X-Prometheus-Remote-Write-${kind}-Written`]: String(samples),
});

/** A web that answers with `replies` in turn, the last one again and again. */
function rig(more: object, ...replies: readonly WebReply[]) {
  const posts: Post[] = [];
  let disposed = 0;
  const web: Web = {
    post: (request) => {
      posts.push(request);
      const reply = replies[Math.min(posts.length, replies.length) - 1];
      return reply === undefined ? Promise.reject(new Error("no reply")) : Promise.resolve(reply);
    },
    facts: () => ({ tokenErrors: 3, clockSkewMs: -5 }),
    [Symbol.asyncDispose]: () => {
      disposed += 1;
      return Promise.resolve();
    },
  };
  const identity = { node: "edge-1", cluster: "site-a", version: "1.2.3" };
  const sink = createRemoteWriteSink({ config: configOf(more), web, identity });
  const send = (parcel: Partial<Parcel> = {}): Promise<Outcome> =>
    sink.send(
      {
        ...{ signal: "metrics", lane: "live", body: Uint8Array.of(1, 2, 3), records: 10, markers: 2 },
        ...{ format: sink.encoder("metrics").format, firstAt: 1, lastAt: 2 },
        ...parcel,
      },
      new AbortController().signal,
    );
  const format = () => sink.encoder("metrics").format;
  return { sink, posts, send, format, disposed: () => disposed };
}

describe("a request", () => {
  test("of 1.0 has its headers, the configured ones, and the body as it is", async () => {
    const { posts, send, sink } = rig({ headers: { "X-Scope-OrgID": "site-a" } }, answer(204));
    expect(await send()).toEqual({ kind: "stored", code: "204" });
    expect(posts[0]?.headers).toEqual({
      "X-Scope-OrgID": "site-a",
      "Content-Type": "application/x-protobuf",
      "Content-Encoding": "snappy",
      "User-Agent": "fovea/1.2.3",
      "X-Prometheus-Remote-Write-Version": "0.1.0",
    });
    expect(posts[0]?.url).toBeUndefined();
    expect(posts[0]?.body).toEqual(Uint8Array.of(1, 2, 3));
    expect(sink.signals).toEqual(["metrics"]);
    expect(sink.facts()).toEqual({
      target: "https://prometheus.example/api/v1/write",
      tokenErrors: 3,
      clockSkewMs: -5,
    });
  });

  test("of 2.0 says so", async () => {
    const { posts, send } = rig({ protocol: "2.0" }, answer(204, "", wrote(12)));
    expect(await send()).toEqual({ kind: "stored", code: "204" });
    expect(posts[0]?.headers).toMatchObject({
      "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
      "Content-Encoding": "snappy",
      "X-Prometheus-Remote-Write-Version": "2.0.0",
    });
  });

  test("ends with the web", async () => {
    const { sink, disposed } = rig({}, answer(204));
    await sink[Symbol.asyncDispose]();
    expect(disposed()).toBe(1);
  });
});

describe("the encoder", () => {
  test("tells nodes apart, as a scrape would, unless the configuration does", () => {
    const labels = (externalLabels: object) =>
      rig({ externalLabels }, answer(204)).sink.encoder("metrics").externalLabels;
    expect(labels({})).toEqual({ instance: "edge-1", cluster: "site-a" });
    expect(labels({ Cluster: "x", site: "y" })).toEqual({ instance: "edge-1", Cluster: "x", site: "y" });
  });

  test("knows Azure, and survives a structured clone", () => {
    for (const receiver of ["azure", "prometheus"]) {
      const spec = rig({ receiver }, answer(204)).sink.encoder("metrics");
      expect(spec.options).toEqual({ azure: receiver === "azure" });
      expect(structuredClone(spec)).toEqual(spec);
    }
  });
});

describe("2.0 falls back to 1.0", () => {
  const deaf: readonly [string, WebReply][] = [
    ["415", answer(415, "unsupported proto message")],
    ["200", answer(200)],
    ["204", answer(204, "", { "X-Prometheus-Remote-Write-Samples-Written": "some" })],
  ];
  for (const [code, reply] of deaf)
    test(`after ${code}, and remembers it`, async () => {
      const { send, format, posts } = rig({ protocol: "2.0" }, reply, answer(204));
      expect(format()).toBe("remote-write-2");
      expect(await send()).toMatchObject({ kind: "reencode", code });
      expect(format()).toBe("remote-write-1");
      // Encoded before: it is not sent to a receiver that would swallow it.
      expect(await send({ format: "remote-write-2" })).toMatchObject({ kind: "reencode" });
      expect(posts.length).toBe(1);
      expect(await send()).toEqual({ kind: "stored", code: "204" });
      expect(posts[1]?.headers["X-Prometheus-Remote-Write-Version"]).toBe("0.1.0");
      expect(format()).toBe("remote-write-1");
    });

  test("only then", async () => {
    for (const reply of [
      answer(500),
      answer(400, "x"),
      answer(429),
      answer(404),
      answer(204, "", wrote(0)),
    ]) {
      const { send, format } = rig({ protocol: "2.0" }, reply);
      expect((await send()).kind).not.toBe("reencode");
      expect(format()).toBe("remote-write-2");
    }
  });

  test("two in flight fall back together", async () => {
    const { send, format, posts } = rig({ protocol: "2.0" }, answer(415));
    const outcomes = await Promise.all([send(), send()]);
    expect(outcomes.map(({ kind }) => kind)).toEqual(["reencode", "reencode"]);
    expect([posts.length, format()]).toEqual([2, "remote-write-1"]);
  });
});

describe("what 2.0 says that it wrote", () => {
  const cases: readonly [Record<string, string>, number | undefined][] = [
    [wrote(12), undefined],
    [wrote(13), undefined],
    [wrote(11), 1],
    [wrote(2), 10],
    [wrote(0), 10],
    [wrote(0, "Histograms"), 10],
    [{ ...wrote(12), ...wrote(0, "Exemplars") }, undefined],
  ];
  for (const [headers, mismatch] of cases)
    test(JSON.stringify(headers), async () => {
      const { send } = rig({ protocol: "2.0" }, answer(200, "", headers));
      expect(await send()).toEqual({
        kind: "stored",
        code: "200",
        ...(mismatch === undefined ? {} : { mismatch }),
      });
    });

  test("1.0 does not ask", async () => {
    expect(await rig({}, answer(200, "", wrote(0))).send()).toEqual({ kind: "stored", code: "200" });
  });
});

describe("a refusal", () => {
  const texts: readonly [number, string, "4xx" | "too_old"][] = [
    [400, "out of order sample", "too_old"],
    [400, "duplicate sample for timestamp", "too_old"],
    [400, "invalid labels", "4xx"],
    [400, "out of bounds", "too_old"],
    [400, "too old sample", "too_old"],
    [500, "too old sample", "too_old"],
    [
      400,
      "failed pushing: the sample's timestamp is too old (err-mimir-sample-timestamp-too-old)",
      "too_old",
    ],
    [409, "store locally for endpoint: conflict", "4xx"],
    [422, "", "4xx"],
  ];
  for (const protocol of ["1.0", "2.0"])
    for (const [status, text, reason] of texts)
      test(`${protocol}: ${status} ${text}`, async () => {
        expect(await rig({ protocol }, answer(status, `${text}\nsecond line`)).send()).toEqual({
          ...{ kind: "refused", code: String(status), reason },
          message: text === "" ? `HTTP ${status}: second line` : `HTTP ${status}: ${text}`,
        });
      });

  test("is told in one short line", async () => {
    const outcome = await rig({}, answer(400, `a\u0007b${"x".repeat(5000)}`)).send();
    expect(outcome).toMatchObject({ kind: "refused", message: `HTTP 400: a b${"x".repeat(197)}` });
    expect(await rig({}, answer(400)).send()).toMatchObject({ message: "HTTP 400" });
  });
});

describe("everything else", () => {
  test("is read as any answer is", async () => {
    const network: WebReply = { kind: "again", code: "network", reason: "network", message: "refused" };
    expect(await rig({}, network).send()).toBe(network);
    expect(await rig({ protocol: "2.0" }, network).send()).toBe(network);
    expect(await rig({}, answer(413)).send()).toMatchObject({ kind: "too_large" });
    expect(await rig({}, answer(503, "", { "Retry-After": "7" })).send()).toMatchObject({
      ...{ kind: "again", reason: "server", afterMs: 7000 },
    });
    expect(await rig({}, answer(500, "TLS is too old sample")).send()).toMatchObject({ kind: "again" });
    expect(await rig({}, answer(403)).send()).toMatchObject({
      kind: "again",
      reason: "forbidden",
      slow: true,
    });
  });

  test("415 to 1.0 is of the receiver: nothing is lost for it", async () => {
    expect(await rig({}, answer(415)).send()).toEqual({
      ...{ kind: "again", code: "415", reason: "other", slow: true },
      message: "HTTP 415: it does not take Remote-Write 1.0; check url of this sink",
    });
  });
});

describe("what a receiver takes", () => {
  const minute = 60_000;
  const any = Number.POSITIVE_INFINITY;
  const of = (more: object) => rig(more, answer(204)).sink.capability("metrics");
  const usual = { spanMaxMs: any, recordsMax: 2000, bytesMax: 4 * 1024 * 1024 };

  test("by its kind", () => {
    for (const receiver of ["prometheus", "thanos", "mimir"])
      expect(of({ receiver })).toEqual({ ...usual, ageMaxMs: 60 * minute, outOfOrderMs: 0 });
    expect(of({ receiver: "victoriametrics" })).toEqual({ ...usual, ageMaxMs: any, outOfOrderMs: any });
    expect(of({ receiver: "azure" })).toEqual({ ...usual, ageMaxMs: 20 * minute, outOfOrderMs: 0 });
  });

  test("as the configuration says", () => {
    const limits = { ageMax: "2h", outOfOrder: "30m", spanMax: "10m", recordsMax: 500, bytesMax: "1MiB" };
    expect(of({ limits })).toEqual({
      ...{ ageMaxMs: 120 * minute, outOfOrderMs: 30 * minute, spanMaxMs: 10 * minute },
      ...{ recordsMax: 500, bytesMax: 1024 * 1024 },
    });
    expect(of({ receiver: "victoriametrics", limits: { outOfOrder: "0s", ageMax: "1h" } })).toMatchObject({
      ...{ outOfOrderMs: 0, ageMaxMs: 60 * minute },
    });
    expect(of({ limits: { recordsMax: 0, bytesMax: "0B" } })).toEqual(of({}));
  });

  test("out of order means old as well, but not to Azure", () => {
    expect(of({ limits: { outOfOrder: "1d" } }).ageMaxMs).toBe(24 * 60 * minute);
    expect(of({ limits: { outOfOrder: "10m" } }).ageMaxMs).toBe(60 * minute);
    expect(of({ limits: { outOfOrder: "any" } }).ageMaxMs).toBe(any);
    expect(of({ limits: { outOfOrder: "1d", ageMax: "2h" } }).ageMaxMs).toBe(120 * minute);
    expect(of({ receiver: "azure", limits: { outOfOrder: "1d" } }).ageMaxMs).toBe(20 * minute);
  });
});
