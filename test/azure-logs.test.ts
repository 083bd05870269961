// Azure Monitor Logs: what a body holds and how large it is, and what an answer means.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import type { FlowRecord } from "../src/flow.ts";
import { azureLogsScope, createAzureLogsSink } from "../src/sinks/azure-logs.ts";
import {
  azureBytesMax,
  azureFieldBytesMax,
  azureLogsEncoders,
  cutText,
  fittingLabels,
  replayAfterMs,
} from "../src/sinks/azure-logs-encode.ts";
import { EncodeError, type EncoderSpec } from "../src/sinks/encoder.ts";
import { encoders } from "../src/sinks/encoders.ts";
import { type AzureLogsConfig, sinkSchema } from "../src/sinks/schema.ts";
import type { Parcel } from "../src/sinks/sink.ts";
import type { Web, WebReply } from "../src/sinks/web-reply.ts";
import type { StoredFlow } from "../src/store/rows.ts";
import { unixTest } from "./platform.ts";
import { flow, startAt } from "./store.flows.ts";

const identity = { node: "node-1", cluster: "north", version: "1.2.3" };
const spec: EncoderSpec = { format: "azure-logs", ...identity, externalLabels: {} };
const limits = { bytesMax: azureBytesMax, now: startAt };

const stored = (number: number, changes: Partial<FlowRecord> = {}): StoredFlow => ({
  seq: number + 1,
  ...flow(number, changes),
});
const unpack = (body: Uint8Array<ArrayBuffer>): string =>
  new TextDecoder("utf8", { fatal: true }).decode(Bun.gunzipSync(body));

type Row = Record<string, unknown>;

const makeFlows = (given: Partial<typeof limits> = {}, changes: Partial<EncoderSpec> = {}) =>
  azureLogsEncoders.flows!({ ...spec, ...changes }, { ...limits, ...given });
const makeSamples = (given: Partial<typeof limits> = {}, changes: Partial<EncoderSpec> = {}) =>
  azureLogsEncoders.metrics!({ ...spec, ...changes }, { ...limits, ...given });

function flowRow(record: StoredFlow, given: Partial<typeof limits> = {}, changes: Partial<EncoderSpec> = {}) {
  const encoder = makeFlows(given, changes);
  expect(encoder.add(record, "id-1")).toBe(true);
  const rows: Row[] = JSON.parse(unpack(encoder.finish().body));
  expect(rows).toHaveLength(1);
  return rows[0]!;
}

const series = { name: "kappie_drop_count", labels: { Reason: "x", Direction: "ingress" } };

function sampleRows(
  values: readonly (number | null)[],
  labels: Record<string, string> = series.labels,
): Row[] {
  const encoder = makeSamples();
  const one = { name: series.name, labels };
  for (const [at, value] of values.entries()) expect(encoder.add(one, startAt + at, value)).toBe(true);
  return JSON.parse(unpack(encoder.finish().body));
}

test("the format has its encoder", () => {
  expect(encoders["azure-logs"]).toBe(azureLogsEncoders);
});

describe("a flow record", () => {
  test("is a row in the shape of ContainerNetworkLogs", () => {
    const record = stored(0, {
      ...{ startAt: startAt - 1500, endAt: startAt, source: "10.0.0.1", destination: "10.0.0.2" },
      ...{
        sourcePort: 40_000,
        destinationPort: 443,
        protocol: 6,
        tcpFlags: 18,
        packets: 3,
        bytes: 2 ** 53 - 1,
      },
      ...{ direction: "egress", verdict: "forwarded", interface: "eth0", rttUs: 0, retransmits: 2 },
    });
    expect(flowRow(record, {}, { externalLabels: { site: "Kiel" } })).toEqual({
      TimeGenerated: "2026-01-01T00:00:00.000Z",
      EventTime: "2026-01-01T00:00:00.000Z",
      RecordId: "id-1",
      ReplayBatch: false,
      Node: "node-1",
      Cluster: "north",
      Verdict: "FORWARDED",
      IP: { source: "10.0.0.1", destination: "10.0.0.2", ipVersion: "IPv4" },
      Layer4: { TCP: { source_port: 40_000, destination_port: 443, flags: { SYN: true, ACK: true } } },
      FlowType: "L3_L4",
      NodeName: "node-1",
      EventType: { type: 4, sub_type: 11 },
      TrafficDirection: "EGRESS",
      TraceObservationPoint: "TO_NETWORK",
      StartTime: "2025-12-31T23:59:58.500Z",
      Protocol: "tcp",
      Interface: "eth0",
      Packets: 3,
      Bytes: 9_007_199_254_740_991,
      RttUs: 0,
      Retransmits: 2,
      EvictReason: "idle",
      ExternalLabels: { site: "Kiel" },
    });
  });

  test("leaves out what it does not know, and says what became of it", () => {
    const drop = stored(0, {
      ...{ verdict: "dropped", dropReason: "NETFILTER_DROP", direction: "ingress", interface: "" },
      ...{ source: "2001:db8::1", protocol: 253, dnsError: "NXDOMAIN", node: "imported" },
    });
    const row = flowRow(drop, {}, { cluster: "" });
    expect(row).toMatchObject({ Verdict: "DROPPED", DropReason: "NETFILTER_DROP", EventType: { type: 1 } });
    expect(row).toMatchObject({ TrafficDirection: "INGRESS", Protocol: "253", DnsError: "NXDOMAIN" });
    expect(row).toMatchObject({ Node: "imported", NodeName: "imported", IP: { ipVersion: "IPv6" } });
    for (const absent of [
      "Cluster",
      "Layer4",
      "Interface",
      "TraceObservationPoint",
      "RttUs",
      "ExternalLabels",
    ])
      expect(row).not.toHaveProperty(absent);
  });

  test("is of a replay when it is sent late", () => {
    const record = stored(0);
    expect(flowRow(record, { now: record.endAt + replayAfterMs })["ReplayBatch"]).toBe(false);
    expect(flowRow(record, { now: record.endAt + replayAfterMs + 1 })["ReplayBatch"]).toBe(true);
  });

  test("with a time that no datetime can have is refused alone", () => {
    const encoder = makeFlows();
    expect(encoder.add(stored(1), "1")).toBe(true);
    for (const endAt of [253_402_300_800_000, -1, Number.NaN])
      expect(() => encoder.add(stored(2, { endAt }), "2")).toThrow(EncodeError);
    expect(encoder.add(stored(3, { endAt: 253_402_300_799_999 }), "3")).toBe(true);
    expect(JSON.parse(unpack(encoder.finish().body))).toMatchObject([{ RecordId: "1" }, { RecordId: "3" }]);
  });
});

describe("a sample", () => {
  test("is a row; what JSON has no number for stands as text", () => {
    const rows = sampleRows([
      1.5,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      null,
      5e-324,
    ]);
    expect(rows[0]).toEqual({
      ...{ TimeGenerated: "2026-01-01T00:00:00.000Z", EventTime: "2026-01-01T00:00:00.000Z" },
      RecordId: expect.stringMatching(new RegExp(`^[0-9a-f]{32}-${startAt}$`)),
      ...{ ReplayBatch: false, Node: "node-1", Cluster: "north", Name: "kappie_drop_count" },
      ...{ Labels: { Reason: "x", Direction: "ingress" }, Value: 1.5, Stale: false },
    });
    expect(rows.map((row) => [row["Value"], row["ValueText"], row["Stale"]])).toEqual([
      [1.5, undefined, false],
      [null, "NaN", false],
      [null, "+Inf", false],
      [null, "-Inf", false],
      [null, undefined, true],
      [5e-324, undefined, false],
    ]);
  });

  test("has one id for ever: of machine, series and time, whatever the order of its labels", () => {
    const idOf = (labels: Record<string, string>) => sampleRows([1], labels)[0]?.["RecordId"];
    const first = idOf({ Reason: "x", Direction: "ingress" });
    expect(idOf({ Direction: "ingress", Reason: "x" })).toBe(first);
    const encoder = makeSamples({}, { node: "node-2" });
    encoder.add(series, startAt, 1);
    const other: Row[] = JSON.parse(unpack(encoder.finish().body));
    expect(new Set([first, other[0]?.["RecordId"], idOf({ Reason: "y" }), idOf({})]).size).toBe(4);
    // As sha256sum has it, of ["north","node-1","kappie_drop_count","{\"Direction\":\"ingress\",\"Reason\":\"x\"}"].
    expect(first).toBe(`8832bbad357f83de99b1981c54bc686a-${startAt}`);
  });
});

describe("the size of a body", () => {
  test.each([2000, 65_536, azureBytesMax])("is at most %p to the byte", (bytesMax) => {
    const encoder = makeFlows({ bytesMax });
    let count = 0;
    while (encoder.add(stored(count), `id-${count}-ü€😀`)) count++;
    const { body, rawBytes } = encoder.finish();
    const text = unpack(body);
    expect(Buffer.byteLength(text)).toBe(rawBytes);
    expect(rawBytes).toBeLessThanOrEqual(bytesMax);
    expect(body.length).toBeLessThanOrEqual(rawBytes);
    expect(JSON.parse(text)).toHaveLength(count);
    // One byte more would not have been too much, nor one less enough.
    const exact = makeFlows({ bytesMax: rawBytes });
    const less = makeFlows({ bytesMax: rawBytes - 1 });
    for (let at = 0; at < count; at++) {
      expect(exact.add(stored(at), `id-${at}-ü€😀`)).toBe(true);
      expect(less.add(stored(at), `id-${at}-ü€😀`)).toBe(at < count - 1);
    }
  });

  test("lets a first record pass, and one that no call can take not at all", () => {
    const encoder = makeFlows({ bytesMax: 10 });
    expect(encoder.add(stored(0), "a")).toBe(true);
    expect(encoder.add(stored(1), "b")).toBe(false);
    // Control characters take six bytes each in JSON: no field is too long, but together they are.
    const node = "\u0001".repeat(azureFieldBytesMax);
    expect(() => makeFlows().add(stored(0, { node, interface: node, dnsError: node }), "a")).toThrow(
      EncodeError,
    );
  });
});

describe("a field", () => {
  test("is cut between characters, and is well-formed", () => {
    expect(cutText("a€b", 3)).toBe("a");
    expect(cutText("a€b", 4)).toBe("a€");
    expect(cutText("😀😀", 7)).toBe("😀");
    expect(cutText("x\ud800y")).toBe("x\ufffdy");
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.nat(40), (text, bytesMax) => {
        const cut = cutText(text, bytesMax);
        expect(Buffer.byteLength(cut)).toBeLessThanOrEqual(bytesMax);
        expect(text.toWellFormed().startsWith(cut)).toBe(true);
        expect(cut.isWellFormed()).toBe(true);
        // Only what did not fit is missing.
        const next = [...text.toWellFormed().slice(cut.length)][0] ?? "";
        if (next !== "") expect(Buffer.byteLength(cut + next)).toBeGreaterThan(bytesMax);
      }),
    );
  });

  test("with labels stays JSON: all names, with shorter values", () => {
    const labels = { a: "x".repeat(70_000), b: '"'.repeat(70_000), c: "kept" };
    const cut = fittingLabels(labels);
    expect(Buffer.byteLength(JSON.stringify(cut))).toBeLessThanOrEqual(azureFieldBytesMax);
    expect(Object.keys(cut)).toEqual(["a", "b", "c"]);
    expect(cut["a"]!.length).toBeGreaterThan(10_000);
    expect(cut["c"]).toBe("kept");
    expect(() => fittingLabels({ ["n".repeat(60_000)]: "", ["m".repeat(60_000)]: "" })).toThrow(EncodeError);
  });

  test("of a record that is too long keeps its beginning", () => {
    const row = flowRow(stored(0, { interface: "€".repeat(30_000) }));
    expect(row["Interface"]).toBe("€".repeat(Math.floor(azureFieldBytesMax / 3)));
  });
});

describe("seen by other programs", () => {
  let directory = "";
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "fovea-azure-"));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  unixTest("gzip unpacks it, and SQLite's JSON reads each row", () => {
    const encoder = makeFlows();
    for (let number = 0; number < 100; number++) encoder.add(stored(number), `\u2028"\\${number}`);
    const file = join(directory, "body.gz");
    writeFileSync(file, encoder.finish().body);
    const json = Bun.spawnSync(["gzip", "-dc", file]).stdout.toString();
    writeFileSync(join(directory, "body.json"), json);
    const sql = `WITH body(text) AS (SELECT CAST(readfile('${join(directory, "body.json")}') AS TEXT))
      SELECT json_valid(text), json_array_length(text), text ->> '$[99].RecordId' = char(8232) || '"\\99',
        (SELECT sum(value ->> '$.Packets') FROM json_each(text)) FROM body`;
    const answer = Bun.spawnSync(["sqlite3", "-noheader", ":memory:", sql]);
    const packets = Array.from({ length: 100 }, (_, number) => flow(number).packets).reduce((a, b) => a + b);
    expect(answer.stdout.toString()).toBe(`1|100|1|${packets}\n`);
  });
});

const configOf = (changes: object = {}): AzureLogsConfig => {
  const url = "https://fovea.westeurope.ingest.monitor.azure.com/";
  const config = sinkSchema.parse({ name: "az", type: "azure-logs", url, ruleId: "dcr-0a1b", ...changes });
  if (config.type !== "azure-logs") throw new Error("of another type");
  return config;
};

type Request = Parameters<Web["post"]>[0];

function rig(replies: readonly WebReply[], changes: object = {}) {
  const requests: Request[] = [];
  let closed = 0;
  const web: Web = {
    post: async (request) => {
      const reply = replies[requests.push(request) - 1];
      if (reply === undefined) throw new Error("no reply is scripted");
      return reply;
    },
    facts: () => ({ tokenErrors: 3, clockSkewMs: 7 }),
    [Symbol.asyncDispose]: async () => void closed++,
  };
  return {
    sink: createAzureLogsSink({ config: configOf(changes), web, identity }),
    requests,
    closed: () => closed,
  };
}

const answer = (status: number, body = "", headers: Record<string, string> = {}): WebReply => ({
  ...{ status, headers: new Headers(headers), body: new TextEncoder().encode(body) },
});

const parcel = (signal: "flows" | "metrics", body = Bun.gzipSync(new Uint8Array(2000))): Parcel => ({
  ...{ signal, lane: "live", body, records: 1, markers: 0, format: "azure-logs" },
  ...{ firstAt: startAt, lastAt: startAt },
});

const { signal: never } = new AbortController();

describe("a call", () => {
  test("goes to the stream of its signal, with the headers of the API", async () => {
    const { sink, requests } = rig([answer(204), answer(200), answer(204)], {
      signals: ["flows", "metrics"],
    });
    const body = Bun.gzipSync(new Uint8Array(2000));
    expect(await sink.send(parcel("flows", body), never)).toEqual({ kind: "stored", code: "204" });
    expect(await sink.send(parcel("metrics"), never)).toEqual({ kind: "stored", code: "200" });
    await sink.send(parcel("flows"), never);
    const rule = "https://fovea.westeurope.ingest.monitor.azure.com/dataCollectionRules/dcr-0a1b";
    const flows = `${rule}/streams/Custom-FoveaContainerNetworkLogs?api-version=2023-01-01`;
    expect(requests.map(({ url }) => url)).toEqual([
      flows,
      `${rule}/streams/Custom-FoveaMetrics?api-version=2023-01-01`,
      flows,
    ]);
    expect(requests[0]).toMatchObject({ body, abort: never });
    const ids = requests.map(({ headers }) => headers["x-ms-client-request-id"]);
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    expect(new Set(ids).size).toBe(3);
    expect(requests.map(({ headers }) => [headers["Content-Type"], headers["Content-Encoding"]])).toEqual([
      ["application/json", "gzip"],
      ["application/json", "gzip"],
      ["application/json", "gzip"],
    ]);
    expect(sink.facts()).toEqual({ target: rule, tokenErrors: 3, clockSkewMs: 7 });
  });

  test.each([
    [answer(413), { kind: "too_large", code: "413" }],
    [
      answer(400, '{"error":{"code":"RecordsTimeRangeIsMoreThan30Minutes"}}'),
      { kind: "too_large", code: "400" },
    ],
    [answer(400, '{"error":{"code":"InvalidStream"}}'), { kind: "refused", code: "400", reason: "4xx" }],
    [answer(403), { kind: "again", code: "403", reason: "forbidden", slow: true }],
    [answer(401), { kind: "again", code: "401", reason: "auth" }],
    [answer(429, "", { "Retry-After": "17" }), { kind: "again", reason: "throttled", afterMs: 17_000 }],
    [answer(503), { kind: "again", code: "503", reason: "server" }],
    [
      { kind: "again", code: "network", reason: "network", message: "no route" },
      { kind: "again", code: "network", reason: "network", message: "no route" },
    ],
  ] as const)("answer %j", async (reply, outcome) => {
    const { sink } = rig([reply]);
    expect(await sink.send(parcel("flows"), never)).toMatchObject(outcome);
  });

  test("keeps the path of the endpoint, and names no query in its facts", async () => {
    const { sink, requests, closed } = rig([answer(204)], { url: "http://127.0.0.1:1/gw//?site=hush" });
    await sink.send(parcel("flows"), never);
    const path = "/gw/dataCollectionRules/dcr-0a1b";
    expect(requests[0]?.url).toBe(
      `http://127.0.0.1:1${path}/streams/Custom-FoveaContainerNetworkLogs?site=hush&api-version=2023-01-01`,
    );
    expect(sink.facts().target).toBe(`http://127.0.0.1:1${path}`);
    await sink[Symbol.asyncDispose]();
    expect(closed()).toBe(1);
  });
});

test("what it takes: any age and order, less than 30 minutes and 1 MB whatever is configured", () => {
  const usual = { ageMaxMs: Number.POSITIVE_INFINITY, outOfOrderMs: Number.POSITIVE_INFINITY };
  const most = { spanMaxMs: 1_799_000, recordsMax: 10_000, bytesMax: 1_000_000 };
  const of = (given: object) => rig([], { limits: given }).sink.capability("flows");
  expect(of({})).toEqual({ ...usual, ...most });
  expect(of({ spanMax: "any", bytesMax: "64MiB", recordsMax: 20_000 })).toMatchObject({
    ...most,
    recordsMax: 20_000,
  });
  expect(of({ spanMax: "5m", bytesMax: "100KB", ageMax: "2d", outOfOrder: "1h" })).toEqual({
    ...{ spanMaxMs: 300_000, bytesMax: 100_000, recordsMax: 10_000 },
    ...{ ageMaxMs: 172_800_000, outOfOrderMs: 3_600_000 },
  });
  const { sink } = rig([], { externalLabels: { site: "Kiel" } });
  expect(sink.encoder("flows")).toEqual({ ...spec, externalLabels: { site: "Kiel" } });
  expect(sink.signals).toEqual(["flows"]);
  expect(azureLogsScope).toBe("https://monitor.azure.com//.default");
});
