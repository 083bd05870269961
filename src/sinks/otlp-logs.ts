// Flows as log records of OTLP: one event a flow, by the names that OpenTelemetry has for its parts.

import { type FlowRecord, protocolNames } from "../flow.ts";
import type { StoredFlow } from "../store/rows.ts";
import type { EncoderLimits, EncoderSpec, FlowEncoder } from "./encoder.ts";
import {
  type KeyValue,
  type LogRecord,
  LogRecordSchema,
  type LogsRequest,
  LogsRequestSchema,
} from "./otlp.gen.ts";
import {
  anyText,
  countAttribute,
  nanoseconds,
  resourceOf,
  scopeOf,
  textAttribute,
} from "./otlp-attributes.ts";
import { encodeBody, type Notation, sizesOf } from "./otlp-encode.ts";

const hasPorts = ({ sourcePort, destinationPort }: FlowRecord): boolean =>
  sourcePort !== 0 || destinationPort !== 0;

const end = (address: string, port: number, ports: boolean): string => {
  if (!ports) return address;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
};

/** What `fovea flows` shows of it, but for the time. */
function lineOf(flow: FlowRecord): string {
  const { protocol, verdict, dropReason, dnsError, packets, bytes } = flow;
  const ports = hasPorts(flow);
  const source = end(flow.source, flow.sourcePort, ports);
  const destination = end(flow.destination, flow.destinationPort, ports);
  const what = [
    `${flow.direction} ${protocolNames[protocol] ?? protocol} ${source} -> ${destination} ${verdict}`,
    ...(dropReason === undefined ? [] : [dropReason]),
    ...(dnsError === undefined ? [] : [dnsError]),
  ];
  return `${what.join(" ")}, ${packets} packets, ${bytes} bytes`;
}

// As OpenTelemetry calls them; the other protocols are no transport to it.
const transports: ReadonlySet<string | undefined> = new Set(["tcp", "udp", "sctp"]);

function ends(flow: FlowRecord): readonly KeyValue[] {
  const ports = hasPorts(flow);
  return [
    textAttribute("source.address", flow.source),
    ...(ports ? [countAttribute("source.port", flow.sourcePort)] : []),
    textAttribute("destination.address", flow.destination),
    ...(ports ? [countAttribute("destination.port", flow.destinationPort)] : []),
  ];
}

function network(flow: FlowRecord): readonly KeyValue[] {
  const name = protocolNames[flow.protocol];
  return [
    textAttribute("network.type", flow.source.includes(":") ? "ipv6" : "ipv4"),
    ...(name !== undefined && transports.has(name) ? [textAttribute("network.transport", name)] : []),
    textAttribute("network.io.direction", flow.direction === "ingress" ? "receive" : "transmit"),
    ...(flow.interface === "" ? [] : [textAttribute("network.interface.name", flow.interface)]),
  ];
}

const textsOf = (flow: FlowRecord, id: string): Readonly<Record<string, string | undefined>> => ({
  "fovea.record_id": id,
  "fovea.verdict": flow.verdict,
  "fovea.drop_reason": flow.dropReason,
  "fovea.direction": flow.direction,
  "fovea.interface": flow.interface === "" ? undefined : flow.interface,
  "fovea.start_time": new Date(flow.startAt).toISOString(),
  "fovea.evict_reason": flow.evictReason,
  "fovea.dns_error": flow.dnsError,
  "fovea.node": flow.node,
});

const countsOf = (flow: FlowRecord): Readonly<Record<string, number | undefined>> => ({
  "fovea.protocol": flow.protocol,
  "fovea.packets": flow.packets,
  "fovea.bytes": flow.bytes,
  "fovea.tcp_flags": flow.protocol === 6 || flow.tcpFlags !== 0 ? flow.tcpFlags : undefined,
  "fovea.rtt_us": flow.rttUs,
  "fovea.retransmits": flow.retransmits,
  "fovea.icmp_type": flow.icmpType,
  "fovea.icmp_code": flow.icmpCode,
});

/** What is absent of the flow has no attribute. */
function attributesOf(flow: FlowRecord, id: string): KeyValue[] {
  const attributes = [...ends(flow), ...network(flow)];
  for (const [name, value] of Object.entries(textsOf(flow, id)))
    if (value !== undefined) attributes.push(textAttribute(name, value));
  for (const [name, value] of Object.entries(countsOf(flow)))
    if (value !== undefined) attributes.push(countAttribute(name, value));
  return attributes;
}

// Numbers of OpenTelemetry for the severities.
const INFO = 9;
const WARN = 13;

function recordOf(flow: StoredFlow, id: string): LogRecord {
  const dropped = flow.verdict === "dropped";
  const endAt = nanoseconds(flow.endAt);
  return {
    $typeName: "fovea.otlp.LogRecord",
    timeUnixNano: endAt,
    observedTimeUnixNano: endAt,
    severityNumber: dropped ? WARN : INFO,
    severityText: dropped ? "WARN" : "INFO",
    body: anyText(lineOf(flow)),
    attributes: attributesOf(flow, id),
    eventName: "fovea.flow",
  };
}

const requestOf = (spec: EncoderSpec, logRecords: LogRecord[]): LogsRequest => ({
  $typeName: "fovea.otlp.LogsRequest",
  resourceLogs: [
    {
      $typeName: "fovea.otlp.ResourceLogs",
      resource: resourceOf(spec),
      scopeLogs: [{ $typeName: "fovea.otlp.ScopeLogs", scope: scopeOf(spec), logRecords }],
    },
  ],
});

/** How many bytes a record takes, by what is different in each. */
function recordSizes(notation: Notation): (record: LogRecord) => number {
  const sizes = sizesOf[notation];
  const bare: LogRecord = {
    $typeName: "fovea.otlp.LogRecord",
    timeUnixNano: nanoseconds(1e12),
    observedTimeUnixNano: nanoseconds(1e12),
    severityNumber: WARN,
    severityText: "INFO",
    body: anyText(""),
    attributes: [],
    eventName: "fovea.flow",
  };
  const bareBytes = sizes.message(LogRecordSchema, bare) + sizes.listBytes;
  return ({ body, attributes }) => {
    const textBytes = body?.value.case === "stringValue" ? sizes.text(body.value.value) : 0;
    return sizes.element(bareBytes + textBytes + sizes.attributes(attributes));
  };
}

export const otlpLogs =
  (notation: Notation) =>
  (spec: EncoderSpec, { bytesMax }: EncoderLimits): FlowEncoder => {
    const records: LogRecord[] = [];
    const { message, listBytes } = sizesOf[notation];
    const recordBytes = recordSizes(notation);
    let bytes = message(LogsRequestSchema, requestOf(spec, [])) + listBytes;
    return {
      add(flow, id) {
        const record = recordOf(flow, id);
        const more = recordBytes(record);
        if (records.length > 0 && bytes + more > bytesMax) return false;
        records.push(record);
        bytes += more;
        return true;
      },
      finish: () => encodeBody(notation, LogsRequestSchema, requestOf(spec, records), spec),
    };
  };
