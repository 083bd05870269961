// The bodies for Loki, read back by protoc and by the other half of snappy.

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import fc from "fast-check";
import { uncompress } from "snappyjs";
import { EncodeError, type EncoderSpec } from "../src/sinks/encoder.ts";
import { encoders } from "../src/sinks/encoders.ts";
import type { StoredFlow } from "../src/store/rows.ts";
import { anyFlow, flow } from "./store.flows.ts";

const now = Date.UTC(2026, 0, 1, 12, 0, 0, 0);
const spec: EncoderSpec = {
  ...{ format: "loki", node: "edge-1", cluster: "plant", version: "1.2.3", externalLabels: {} },
};

const stored = (seq: number, changes: Partial<StoredFlow> = {}): StoredFlow => ({
  ...flow(seq, { endAt: now - 1000 }),
  seq,
  ...changes,
});

type Entry = {
  readonly seconds: number;
  readonly nanos: number;
  readonly line: Record<string, unknown>;
  readonly metadata: Readonly<Record<string, string>>;
};
type Stream = { readonly labels: string; readonly entries: readonly Entry[] };

const fixtures = join(import.meta.dir, "fixtures/proto");

/** The text format of protobuf: what protoc understood of the bytes. */
function protoc(raw: Uint8Array): string {
  const message = "fovea.test.loki.PushRequest";
  const command = ["protoc", `--decode=${message}`, `--proto_path=${fixtures}`, "loki-push.proto"];
  const done = Bun.spawnSync(command, { stdin: raw });
  if (done.exitCode !== 0) throw new Error(`protoc: ${done.stderr}`);
  return done.stdout.toString();
}

/** protoc's quoting: bytes in octal. */
function unquote(text: string): string {
  const bytes = text
    .slice(1, -1)
    .replaceAll(/\\([0-7]{3}|.)/g, (_, mark: string) =>
      mark.length === 3
        ? String.fromCharCode(Number.parseInt(mark, 8))
        : ({ n: "\n", r: "\r", t: "\t" }[mark] ?? mark),
    );
  return Buffer.from(bytes, "latin1").toString("utf8");
}

function read(text: string): readonly Stream[] {
  const streams: {
    labels: string;
    entries: {
      seconds: number;
      nanos: number;
      line: Record<string, unknown>;
      metadata: Record<string, string>;
    }[];
  }[] = [];
  let name = "";
  for (const [, key = "", value = ""] of text.matchAll(/^ *(\w+)(?:: (.*)| \{)$/gm)) {
    const entry = streams.at(-1)?.entries.at(-1);
    if (key === "streams") streams.push({ labels: "", entries: [] });
    else if (key === "labels") streams.at(-1)!.labels = unquote(value);
    else if (key === "entries")
      streams.at(-1)!.entries.push({ seconds: 0, nanos: 0, line: {}, metadata: {} });
    else if (key === "seconds" || key === "nanos") entry![key] = Number(value);
    else if (key === "line") entry!.line = JSON.parse(unquote(value));
    else if (key === "name") name = unquote(value);
    else if (key === "value") entry!.metadata[name] = unquote(value);
    else if (key !== "timestamp" && key !== "structuredMetadata") throw new Error(`protoc says ${key}`);
  }
  return streams;
}

const idOf = ({ seq }: StoredFlow): string => `edge-1/1/${seq}`;

function encode(flows: readonly StoredFlow[], changes: Partial<EncoderSpec> = {}, bytesMax = 2 ** 20) {
  const encoder = encoders.loki!.flows!({ ...spec, ...changes }, { bytesMax, now });
  const taken = flows.findIndex((one) => !encoder.add(one, idOf(one)));
  const { body, rawBytes } = encoder.finish();
  const raw = uncompress(body);
  expect(raw.length).toBe(rawBytes);
  return { raw, body, taken: taken === -1 ? flows.length : taken };
}

const streamsOf = (...given: Parameters<typeof encode>): readonly Stream[] =>
  read(protoc(encode(...given).raw));

test("one flow, field by field", () => {
  const one = stored(7, {
    ...{ source: "10.0.0.1", destination: "10.0.0.2", sourcePort: 40_000, destinationPort: 443, protocol: 6 },
    ...{ direction: "egress", verdict: "dropped", dropReason: "NO_SOCKET", endAt: now - 1, startAt: now - 5 },
  });
  expect(streamsOf([one])).toEqual([
    {
      labels: '{cluster="plant", direction="egress", node="edge-1", service_name="fovea", verdict="dropped"}',
      entries: [
        {
          seconds: now / 1000 - 1,
          nanos: 999_000_000,
          line: { id: "edge-1/1/7", node: "edge-1", ...one },
          metadata: {
            ...{ record_id: "edge-1/1/7", source: "10.0.0.1", destination: "10.0.0.2" },
            ...{ source_port: "40000", destination_port: "443", protocol: "tcp", drop_reason: "NO_SOCKET" },
          },
        },
      ],
    },
  ]);
});

test("the line has the keys of the API in its order, whatever order the record has them in", () => {
  const one = stored(1, {
    dropReason: "X",
    icmpType: 1,
    icmpCode: 2,
    rttUs: 3,
    retransmits: 4,
    dnsError: "SERVFAIL",
  });
  const turned = Object.fromEntries(Object.entries(one).toReversed()) as StoredFlow;
  const keys = (flow: StoredFlow) => Object.keys(streamsOf([flow])[0]!.entries[0]!.line).join(" ");
  expect(keys(turned)).toBe(keys(one));
  expect(keys(one)).toBe(
    "id node seq startAt endAt source destination sourcePort destinationPort protocol icmpType icmpCode direction " +
      "verdict dropReason packets bytes tcpFlags interface rttUs retransmits dnsError evictReason",
  );
});

test("streams differ by verdict, direction, node and age alone; each is in order of time", () => {
  const flows = [
    stored(1, { endAt: now - 10, verdict: "forwarded", direction: "ingress" }),
    stored(2, { endAt: now - 20, verdict: "forwarded", direction: "ingress" }),
    stored(3, { endAt: now - 10, verdict: "forwarded", direction: "ingress" }),
    stored(4, { verdict: "dropped", direction: "ingress" }),
    stored(5, { verdict: "forwarded", direction: "egress" }),
    stored(6, { verdict: "forwarded", direction: "ingress", node: "edge-2" }),
    stored(7, { verdict: "forwarded", direction: "ingress", endAt: now - 30 * 60_000 }),
    stored(8, { verdict: "forwarded", direction: "ingress", endAt: now - 30 * 60_000 - 1 }),
  ];
  const found = streamsOf(flows, { cluster: "" }).map(({ labels, entries }) => [
    labels.slice(1, -1).replace('service_name="fovea", ', ""),
    entries.map(({ line }) => line["seq"]),
  ]);
  expect(found).toEqual([
    ['direction="ingress", node="edge-1", verdict="forwarded"', [7, 2, 1, 3]],
    ['direction="ingress", node="edge-1", verdict="dropped"', [4]],
    ['direction="egress", node="edge-1", verdict="forwarded"', [5]],
    ['direction="ingress", node="edge-2", verdict="forwarded"', [6]],
    ['direction="ingress", node="edge-1", replay="true", verdict="forwarded"', [8]],
  ]);
});

describe("labels", () => {
  const labelsOf = (externalLabels: Record<string, string>) => streamsOf([stored(1)], { externalLabels })[0]!;

  test("are quoted", () => {
    const { labels } = labelsOf({ site: 'a"b\\c\nd\u0001\ud800é' });
    expect(labels).toContain('site="a\\"b\\\\c\\nd\\u0001\ufffdé"');
  });

  test("of the sink give way to those of the stream, in whatever case; empty ones are left out", () => {
    const { labels } = labelsOf({ Node: "other", VERDICT: "other", site: "a", empty: "" });
    expect(labels).toBe(
      '{cluster="plant", direction="ingress", node="edge-1", service_name="fovea", site="a", verdict="forwarded"}',
    );
  });

  test("are fifteen at most; the others go with each entry", () => {
    const external = Object.fromEntries(
      Array.from({ length: 20 }, (_, n) => [`x${String(n).padStart(2, "0")}`, `v${n}`]),
    );
    const { labels, entries } = labelsOf(external);
    expect(labels.split(", ").length).toBe(15);
    const extra = Object.keys(entries[0]!.metadata).filter((name) => name.startsWith("x"));
    expect(extra).toEqual(Array.from({ length: 10 }, (_, n) => `x${10 + n}`));
    for (const name of Object.keys(external))
      expect(labels.includes(`${name}="`)).toBe(!extra.includes(name));
  });
});

describe("limits", () => {
  const encoderOf = (externalLabels: Record<string, string>) =>
    encoders.loki!.flows!({ ...spec, externalLabels }, { bytesMax: 2 ** 20, now });

  test("a record that Loki cannot take is named as one, and takes nothing", () => {
    const encoder = encoderOf({});
    expect(() => encoder.add(stored(1, { interface: "x".repeat(256 * 1024) }), "1")).toThrow(EncodeError);
    expect(encoder.add(stored(2), "2")).toBe(true);
    expect(read(protoc(uncompress(encoder.finish().body))).flatMap(({ entries }) => entries).length).toBe(1);
    const wide = encoderOf(Object.fromEntries(Array.from({ length: 140 }, (_, n) => [`x${n}`, "v"])));
    expect(() => wide.add(stored(1), "1")).toThrow(/136 entries .*fewer externalLabels/);
    const long = encoderOf(
      Object.fromEntries(Array.from({ length: 90 }, (_, n) => [`x${n}`, "v".repeat(1023)])),
    );
    expect(() => long.add(stored(1), "1")).toThrow(/structured metadata/);
  });

  test("the first record always fits", () => {
    expect(encode([stored(1), stored(2)], {}, 1).taken).toBe(1);
  });
});

test("a body holds every record that was taken, and never more bytes than it may", () => {
  const bodies = fc.array(anyFlow, { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(bodies, fc.integer({ min: 1000, max: 20_000 }), (records, bytesMax) => {
      const flows = records.map((record, index) => ({ ...record, seq: index + 1 }));
      const { raw, taken } = encode(flows, {}, bytesMax);
      expect(taken).toBeGreaterThan(0);
      if (taken > 1) expect(raw.length).toBeLessThanOrEqual(bytesMax);
      const entries = read(protoc(raw)).flatMap((stream) => stream.entries);
      const expected = flows.slice(0, taken).map((one) => ({ id: idOf(one), node: "edge-1", ...one }));
      const bySeq = (a: Record<string, unknown>, b: Record<string, unknown>) =>
        Number(a["seq"]) - Number(b["seq"]);
      expect(entries.map(({ line }) => line).toSorted(bySeq)).toEqual(expected.map(withoutAbsent));
      for (const { seconds, nanos, line } of entries)
        expect(seconds * 1000 + nanos / 1e6).toBe(Number(line["endAt"]));
    }),
    { numRuns: 30 },
  );
});

const withoutAbsent = (record: object): Record<string, unknown> => JSON.parse(JSON.stringify(record));
