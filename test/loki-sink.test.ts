// The sink for Loki: what it sends, and what each answer means.

import { describe, expect, test } from "bun:test";
import { createLokiSink } from "../src/sinks/loki.ts";
import { type LokiConfig, sinkSchema } from "../src/sinks/schema.ts";
import type { Outcome, Parcel } from "../src/sinks/sink.ts";
import type { Web, WebReply } from "../src/sinks/web-reply.ts";

const never = new AbortController().signal;
const parcel: Parcel = {
  ...{
    signal: "flows",
    lane: "live",
    body: new Uint8Array([1, 2, 3]),
    records: 1,
    markers: 0,
    format: "loki",
  },
  ...{ firstAt: 0, lastAt: 0 },
};

type Sent = Parameters<Web["post"]>[0];

function rig(config: Record<string, unknown> = {}, reply: WebReply = answer(204)) {
  const sent: Sent[] = [];
  let closed = 0;
  const web: Web = {
    post: (request) => {
      sent.push(request);
      return Promise.resolve(reply);
    },
    facts: () => ({ tokenErrors: 3, clockSkewMs: 5 }),
    [Symbol.asyncDispose]: () => Promise.resolve(void closed++),
  };
  const given = { name: "logs", type: "loki", url: "https://loki.example:3100/loki/api/v1/push", ...config };
  const sink = createLokiSink({
    config: sinkSchema.parse(given) as LokiConfig,
    web,
    identity: { node: "edge-1", cluster: "plant", version: "1.2.3" },
  });
  return { sink, sent, closed: () => closed };
}

const answer = (status: number, text = "", headers: Record<string, string> = {}): WebReply => ({
  ...{ status, headers: new Headers(headers), body: new TextEncoder().encode(text) },
});

const outcome = (reply: WebReply): Promise<Outcome> => rig({}, reply).sink.send(parcel, never);

test("posts the body as it is", async () => {
  const { sink, sent } = rig();
  expect(await sink.send(parcel, never)).toEqual({ kind: "stored", code: "204" });
  expect(sent).toEqual([
    {
      url: "https://loki.example:3100/loki/api/v1/push",
      headers: { "Content-Type": "application/x-protobuf" },
      body: parcel.body,
      abort: never,
    },
  ]);
});

test("names its tenant, and finds the path of a bare server", async () => {
  const { sink, sent } = rig({ tenant: "site-7", url: "https://loki.example?org=1" });
  await sink.send(parcel, never);
  expect(sent[0]!.headers["X-Scope-OrgID"]).toBe("site-7");
  expect(sent[0]!.url).toBe("https://loki.example/loki/api/v1/push?org=1");
  expect(sink.facts()).toEqual({
    ...{ target: "https://loki.example/loki/api/v1/push", tokenErrors: 3, clockSkewMs: 5 },
  });
});

test("says what it takes, unless the configuration says otherwise", () => {
  expect(rig().sink.capability("flows")).toEqual({
    ...{ ageMaxMs: 7 * 86_400_000, outOfOrderMs: Number.POSITIVE_INFINITY, spanMaxMs: 1_800_000 },
    ...{ recordsMax: 5000, bytesMax: 2 ** 20 },
  });
  const limits = { ageMax: "1h", outOfOrder: "2h", spanMax: "any", recordsMax: 10, bytesMax: "2MiB" };
  expect(rig({ limits }).sink.capability("flows")).toEqual({
    ...{ ageMaxMs: 3_600_000, outOfOrderMs: 7_200_000, spanMaxMs: Number.POSITIVE_INFINITY },
    ...{ recordsMax: 10, bytesMax: 2 ** 21 },
  });
  expect(rig().sink.signals).toEqual(["flows"]);
  expect(rig({ externalLabels: { site: "a" } }).sink.encoder("flows")).toEqual({
    ...{ format: "loki", node: "edge-1", cluster: "plant", version: "1.2.3", externalLabels: { site: "a" } },
  });
});

describe("an answer", () => {
  test("200 and 204 alone say that it is stored", async () => {
    expect(await outcome(answer(200))).toEqual({ kind: "stored", code: "200" });
    for (const status of [201, 202, 260, 299])
      expect(await outcome(answer(status))).toMatchObject({
        ...{ kind: "again", code: String(status), reason: "blocked", slow: true },
      });
  });

  test("429 is waited out", async () => {
    const reply = answer(429, "ingestion rate limit exceeded", { "Retry-After": "7" });
    expect(await outcome(reply)).toMatchObject({ kind: "again", reason: "throttled", afterMs: 7000 });
  });

  test("400 is a refusal, too_old where Loki says so", async () => {
    const texts = [
      "entry for stream '{a=\"b\"}' has timestamp too old: 2026-01-01T00:00:00Z, oldest acceptable timestamp is: x",
      "entry with timestamp 2026-01-01 ignored, reason: 'entry too far behind, entry timestamp is: x'",
      "greater_than_max_sample_age",
    ];
    for (const text of texts)
      expect(await outcome(answer(400, text))).toMatchObject({
        ...{ kind: "refused", code: "400", reason: "too_old" },
      });
    const wrong = "error parsing labels: 1:2: parse error";
    expect(await outcome(answer(400, wrong))).toMatchObject({ kind: "refused", code: "400", reason: "4xx" });
    expect(((await outcome(answer(400, wrong))) as { message: string }).message).toContain(wrong);
  });

  test("413 asks for less, 500 and no answer for another try", async () => {
    expect(await outcome(answer(413))).toMatchObject({ kind: "too_large", code: "413" });
    expect(await outcome(answer(500))).toMatchObject({ kind: "again", reason: "server" });
    const lost = { kind: "again", code: "network", reason: "network", message: "no route" } as const;
    expect(await outcome(lost)).toEqual(lost);
  });
});

test("closes its connections", async () => {
  const { sink, closed } = rig();
  await sink[Symbol.asyncDispose]();
  expect(closed()).toBe(1);
});
