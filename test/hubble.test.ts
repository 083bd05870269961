// Hubble's JSON: the lines are read here as strictly as protobuf's own parser reads them, by the fields of flow.proto.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import type { FlowRecord } from "../src/flow.ts";
import { type HubbleOptions, hubbleLine, hubbleLineBytesMax, lostEventsLine } from "../src/hubble.ts";
import schema from "./fixtures/hubble/schema.json" with { type: "json" };
import { anyFlow, flow, startAt } from "./store.flows.ts";

const messages: Readonly<Record<string, Readonly<Record<string, string>>>> = schema.messages;
const enums: Readonly<Record<string, Readonly<Record<string, number>>>> = schema.enums;
const options: HubbleOptions = { nodeName: "node-1" };

/** What is wrong with a value of that type of flow.proto, by its path; empty when it can be read and holds no zero. */
function wrongs(type: string, value: unknown, path: string): string[] {
  if (type.endsWith("[]"))
    return Array.isArray(value) && value.length > 0
      ? value.flatMap((item, index) => wrongs(type.slice(0, -2), item, `${path}[${index}]`))
      : [`${path}: no list of something`];
  if (messages[type] !== undefined) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return [`${path}: no message`];
    return Object.entries(value).flatMap(([name, field]) => {
      const fieldType = messages[type]?.[name];
      return fieldType === undefined
        ? [`${path}.${name}: no field of ${type}`]
        : wrongs(fieldType, field, `${path}.${name}`);
    });
  }
  return isScalar(type, value) ? [] : [`${path}: no ${type}: ${JSON.stringify(value)}`];
}

const isWhole = (value: unknown, most: number): boolean =>
  Number.isInteger(value) && (value as number) > 0 && (value as number) <= most;

function isScalar(type: string, value: unknown): boolean {
  if (enums[type] !== undefined) return typeof value === "string" && (enums[type][value] ?? 0) > 0;
  switch (type) {
    case "uint32":
      return isWhole(value, 0xffff_ffff);
    case "int32":
      return isWhole(value, 0x7fff_ffff);
    case "uint64":
      return typeof value === "string" && /^[1-9]\d*$/.test(value);
    case "string":
      return typeof value === "string" && value !== "" && value.isWellFormed();
    case "bool":
      return value === true;
    case "Timestamp":
      return typeof value === "string" && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(value);
    case "Any":
      return isStruct(value);
    default:
      return false;
  }
}

function isStruct(value: unknown): boolean {
  const { "@type": type, value: fields, ...more } = value as Record<string, unknown>;
  if (type !== "type.googleapis.com/google.protobuf.Struct" || Object.keys(more).length > 0) return false;
  return Object.values(fields as object).every((field) => ["number", "string"].includes(typeof field));
}

/** The line as an object, after it was found to be one line that the client reads without complaint. */
function read(line: string) {
  expect(line).not.toMatch(/[\n\r]/);
  const response = JSON.parse(line);
  expect(wrongs("GetFlowsResponse", response, "response")).toEqual([]);
  if (response.flow?.l4 !== undefined) expect(Object.keys(response.flow.l4)).toHaveLength(1);
  return response;
}

const flowOf = (record: FlowRecord, more: Partial<HubbleOptions> = {}) =>
  read(hubbleLine(record, { ...options, ...more })).flow;

const extensionsOf = (record: FlowRecord) => flowOf(record).extensions.value;

const tcp = flow(10, { protocol: 6, tcpFlags: 0b1_0010, rttUs: 1200, retransmits: 0 });
const dropped = (dropReason: string): FlowRecord => flow(9, { verdict: "dropped", dropReason });

test("the lines are those of the fixture, which protobuf's parsers of Go and Python read", () => {
  const records: FlowRecord[] = [
    tcp,
    flow(7, { protocol: 6, tcpFlags: 0xff, evictReason: "rst" }),
    flow(3, { protocol: 17, dnsError: "NXDOMAIN", sourcePort: 53 }),
    { ...dropped("NETFILTER_DROP"), protocol: 6, tcpFlags: 2 },
    { ...dropped("NO_SOCKET"), protocol: 17, interface: "" },
    flow(12, { protocol: 1, icmpType: 0, icmpCode: 0, sourcePort: 0, destinationPort: 0 }),
    flow(13, { protocol: 58, icmpType: 128, icmpCode: 0, sourcePort: 0, destinationPort: 0 }),
    flow(14, { protocol: 132 }),
    flow(15, { protocol: 47, sourcePort: 0, destinationPort: 0 }),
    flow(16, { protocol: 6, tcpFlags: 0, node: "another" }),
  ];
  const names = (address: string) => (address.startsWith("192.168.1.") ? ["db.example"] : []);
  const lines = records.map((record) => hubbleLine(record, { ...options, names }));
  lines.push(lostEventsLine({ startAt, endAt: startAt + 1000, rows: 12_345 }, options));
  const fixture = readFileSync(join(import.meta.dir, "fixtures/hubble/lines.ndjson"), "utf8");
  expect(`${lines.join("\n")}\n`).toBe(fixture);
  for (const line of lines) read(line);
});

test("a field that Hubble has not, a zero or a number for an enum would be found", () => {
  const line = JSON.parse(hubbleLine(tcp, options));
  const broken = (changes: object) =>
    wrongs("GetFlowsResponse", { ...line, flow: { ...line.flow, ...changes } }, "");
  expect(broken({})).toEqual([]);
  for (const change of [
    { bytes: 1 },
    { uuid: "" },
    { verdict: 1 },
    { verdict: "VERDICT_UNKNOWN" },
    { l4: { GRE: {} } },
  ])
    expect(broken(change)).toHaveLength(1);
});

test("every record that can be stored has a line that can be read", () => {
  fc.assert(
    fc.property(anyFlow, fc.constantFrom(1, 2, 6, 17, 47, 58, 112, 132, 255), (record, protocol) => {
      const { extensions, time } = flowOf({ ...record, protocol });
      expect(Date.parse(time)).toBe(record.endAt);
      expect(extensions.value).toMatchObject({ packets: record.packets, bytes: record.bytes, protocol });
    }),
    { numRuns: 1000 },
  );
});

test("no text makes a line too long for the client, or one that it cannot read", () => {
  const any = fc.oneof(
    fc.string({ unit: "binary", maxLength: 5000 }),
    fc
      .array(fc.constantFrom("\u0000", "\ud800", "😀", "\u2028", "\n", '"'), { maxLength: 3000 })
      .map((all) => all.join("")),
  );
  fc.assert(
    fc.property(
      any.filter((text) => text !== ""),
      (text) => {
        const record = flow(9, {
          verdict: "dropped",
          dropReason: text,
          dnsError: text,
          interface: text,
          node: text,
        });
        const names = () => Array.from({ length: 100 }, () => text);
        const line = hubbleLine(record, { ...options, names });
        expect(Buffer.byteLength(line)).toBeLessThan(hubbleLineBytesMax);
        expect(read(line).flow.source_names.length).toBeLessThan(100);
      },
    ),
    { examples: [["\u0000".repeat(5000)], ["😀".repeat(5000)]] },
  );
});

describe("a flow", () => {
  test("has what Hubble's filters look at", () => {
    expect(flowOf(tcp)).toMatchObject({
      verdict: "FORWARDED",
      IP: { source: tcp.source, destination: tcp.destination, ipVersion: "IPv4" },
      l4: {
        TCP: {
          source_port: tcp.sourcePort,
          destination_port: 443,
          flags: { SYN: true, ACK: true },
        },
      },
      Type: "L3_L4",
      node_name: "node-1",
      event_type: { type: 4, sub_type: 11 },
      traffic_direction: "EGRESS",
      trace_observation_point: "TO_NETWORK",
      interface: { name: "eth2" },
    });
    expect(flowOf({ ...tcp, direction: "ingress", source: "2001:db8::1" })).toMatchObject({
      IP: { ipVersion: "IPv6" },
      event_type: { type: 4, sub_type: 10 },
      traffic_direction: "INGRESS",
      trace_observation_point: "FROM_NETWORK",
    });
  });

  test("shows packets and bytes in the one text that the client prints, and all else in the extensions", () => {
    expect(flowOf(tcp).Summary).toBe(`TCP Flags: SYN, ACK; ${tcp.packets} packets, ${tcp.bytes} bytes`);
    expect(extensionsOf(tcp)).toEqual({
      packets: tcp.packets,
      bytes: tcp.bytes,
      protocol: 6,
      started_at: new Date(tcp.startAt).toISOString(),
      evict_reason: "idle",
      rtt_us: 1200,
      retransmits: 0,
    });
    const failed = { ...tcp, protocol: 17, dnsError: "SERVFAIL" };
    expect(flowOf(failed).Summary).toEndWith("; DNS SERVFAIL");
    expect(extensionsOf(failed)).toMatchObject({ dns_error: "SERVFAIL" });
    expect(flowOf({ ...tcp, protocol: 47 }).Summary).toStartWith("GRE; ");
    expect(flowOf({ ...tcp, protocol: 200 }).Summary).toStartWith("Protocol 200; ");
  });

  test("has each flag under its name", () => {
    const bits = { FIN: 1, SYN: 2, RST: 4, PSH: 8, ACK: 16, URG: 32, ECE: 64, CWR: 128 };
    for (const [name, bit] of Object.entries(bits))
      expect(flowOf({ ...tcp, tcpFlags: bit }).l4.TCP.flags).toEqual({ [name]: true });
    expect(flowOf({ ...tcp, tcpFlags: 0 }).l4.TCP).not.toHaveProperty("flags");
  });

  test("of another protocol has no layer 4, of ICMP none of its zeros", () => {
    expect(flowOf({ ...tcp, protocol: 47 })).not.toHaveProperty("l4");
    expect(flowOf({ ...tcp, protocol: 1, icmpType: 0, icmpCode: 0 }).l4).toEqual({ ICMPv4: {} });
    expect(flowOf({ ...tcp, protocol: 58, icmpType: 1, icmpCode: 4 }).l4).toEqual({
      ICMPv6: { type: 1, code: 4 },
    });
  });

  test("has the names of its ends", () => {
    const names = (address: string) => (address === tcp.source ? ["a.example", "b.example"] : []);
    const named = flowOf(tcp, { names });
    expect(named.source_names).toEqual(["a.example", "b.example"]);
    expect(named).not.toHaveProperty("destination_names");
  });

  test("that was imported has the node that saw it", () => {
    const line = read(hubbleLine({ ...tcp, node: "another" }, options));
    expect([line.node_name, line.flow.node_name]).toEqual(["another", "another"]);
  });

  test("whose time no timestamp can have is refused", () => {
    for (const at of [Number.NaN, -1, 253_402_300_800_000, Number.POSITIVE_INFINITY]) {
      expect(() => hubbleLine({ ...tcp, endAt: at }, options)).toThrow(RangeError);
      expect(() => hubbleLine({ ...tcp, startAt: at }, options)).toThrow(RangeError);
    }
  });
});

describe("a drop", () => {
  const known = {
    MAC_INVALID_SOURCE: "INVALID_SOURCE_MAC",
    IP_INVALID_SOURCE: "INVALID_SOURCE_IP",
    IP_LOCAL_SOURCE: "INVALID_SOURCE_IP",
    NETFILTER_DROP: "POLICY_DENIED",
    PKT_TOO_SMALL: "INVALID_PACKET_DROPPED",
    HDR_TRUNC: "INVALID_PACKET_DROPPED",
    UNHANDLED_PROTO: "UNSUPPORTED_L3_PROTOCOL",
    IP_NOPROTO: "UNKNOWN_L4_PROTOCOL",
    IPV6_NDISC_BAD_CODE: "UNKNOWN_ICMPV6_CODE",
    IPV6_BAD_EXTHDR: "INVALID_IPV6_EXTENSION_HEADER",
    FQ_HORIZON_LIMIT: "REACHED_EDT_RATE_LIMITING_DROP_HORIZON",
    IP_INNOROUTES: "FIB_LOOKUP_FAILED",
    IP_OUTNOROUTES: "FIB_LOOKUP_FAILED",
    VXLAN_VNI_NOT_FOUND: "INVALID_VNI",
  };

  test.each(Object.entries(known))("of %s is %s to Hubble", (reason, name) => {
    const number = schema.enums.DropReason[name as keyof typeof schema.enums.DropReason];
    const line = flowOf(dropped(reason));
    expect(line).toMatchObject({
      verdict: "DROPPED",
      drop_reason: number,
      drop_reason_desc: name,
      event_type: { type: 1, sub_type: number },
      extensions: { value: { drop_reason: reason } },
    });
    expect(line.Summary).toEndWith(`; ${reason}`);
    expect(line).not.toHaveProperty("trace_observation_point");
  });

  test.each(["NO_SOCKET", "IP_INHDR", "TCP_CSUM", "constructor", undefined])(
    "of %s has no reason of Hubble's, and none that is wrong",
    (dropReason) => {
      const { dropReason: _, ...record } = dropped("");
      const line = flowOf({ ...record, ...(dropReason === undefined ? {} : { dropReason }) });
      expect(line).toMatchObject({ verdict: "DROPPED", event_type: { type: 1, sub_type: 255 } });
      expect(line).not.toHaveProperty("drop_reason");
      expect(line).not.toHaveProperty("drop_reason_desc");
      expect(line.extensions.value.drop_reason).toBe(dropReason);
    },
  );
});

test("a throttled interval is a line of lost events", () => {
  expect(read(lostEventsLine({ startAt, endAt: startAt + 3000, rows: 2 ** 40 }, options))).toEqual({
    lost_events: {
      num_events_lost: "1099511627776",
      first: "2026-01-01T00:00:00.000Z",
      last: "2026-01-01T00:00:03.000Z",
    },
    node_name: "node-1",
    time: "2026-01-01T00:00:03.000Z",
  });
});
