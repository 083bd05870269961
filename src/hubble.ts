// Flow records as lines of Hubble's JSON: what `hubble observe -o jsonpb` prints and `hubble observe --input-file` reads.

import { type FlowRecord, protocolNames } from "./flow.ts";
import type { ThrottleSummary } from "./throttle-summary.ts";

/** The reader of `hubble observe` stops at a line that is longer: Go's bufio.Scanner takes no token of 64 KiB. */
export const hubbleLineBytesMax = 65_535;

// Together they keep a line below that, even when every character has to be escaped.
const namesMax = 8;
const textMax = 255;

/** The last moment that a protobuf timestamp can have: the end of the year 9999. */
const timeMax = 253_402_300_799_999;

export type HubbleOptions = {
  readonly nodeName: string;
  /** The names that an address is known by. */
  readonly names?: ((address: string) => readonly string[]) | undefined;
};

// Numbers of Cilium's pkg/monitor/api: the event types that `hubble observe --type` filters by, and observation points.
const dropEvent = 1;
const traceEvent = 4;
const fromNetwork = 10;
const toNetwork = 11;
// Any number that Cilium has no drop reason for: the client calls 0, which stands for "unknown" elsewhere, "Success".
const otherDrop = 255;

/**
 * The kernel's reasons that one of Hubble's says as well; all others are DROP_REASON_UNKNOWN there. The kernel's own
 * name stands in the summary and in the extensions. A rule of netfilter is a policy, as Retina has it too.
 */
const dropReasons: ReadonlyMap<string, readonly [name: string, number: number]> = new Map([
  ["MAC_INVALID_SOURCE", ["INVALID_SOURCE_MAC", 130]],
  ["IP_INVALID_SOURCE", ["INVALID_SOURCE_IP", 132]],
  ["IP_LOCAL_SOURCE", ["INVALID_SOURCE_IP", 132]],
  ["NETFILTER_DROP", ["POLICY_DENIED", 133]],
  ["PKT_TOO_SMALL", ["INVALID_PACKET_DROPPED", 134]],
  ["HDR_TRUNC", ["INVALID_PACKET_DROPPED", 134]],
  ["UNHANDLED_PROTO", ["UNSUPPORTED_L3_PROTOCOL", 139]],
  ["IP_NOPROTO", ["UNKNOWN_L4_PROTOCOL", 142]],
  ["IPV6_NDISC_BAD_CODE", ["UNKNOWN_ICMPV6_CODE", 145]],
  ["IPV6_BAD_EXTHDR", ["INVALID_IPV6_EXTENSION_HEADER", 156]],
  ["FQ_HORIZON_LIMIT", ["REACHED_EDT_RATE_LIMITING_DROP_HORIZON", 162]],
  ["IP_INNOROUTES", ["FIB_LOOKUP_FAILED", 169]],
  ["IP_OUTNOROUTES", ["FIB_LOOKUP_FAILED", 169]],
  ["VXLAN_VNI_NOT_FOUND", ["INVALID_VNI", 183]],
]);

/**
 * One line without its end. Fields are undefined, and so left out, where protobuf has zero; 64-bit numbers are text.
 * What Hubble has no field for stands in the extensions. Throws on a time that no timestamp can have.
 */
export function hubbleLine(record: FlowRecord, { nodeName, names }: HubbleOptions): string {
  const time = timestamp(record.endAt);
  const node = text(record.node ?? nodeName);
  const dropped = record.verdict === "dropped";
  const egress = record.direction === "egress";
  const reason = dropped ? dropReasons.get(record.dropReason ?? "") : undefined;
  const flow = {
    time,
    verdict: dropped ? "DROPPED" : "FORWARDED",
    drop_reason: reason?.[1],
    IP: {
      source: record.source,
      destination: record.destination,
      ipVersion: record.source.includes(":") ? "IPv6" : "IPv4",
    },
    l4: layer4(record),
    Type: "L3_L4",
    node_name: node,
    source_names: namesOf(record.source, names),
    destination_names: namesOf(record.destination, names),
    event_type: dropped
      ? { type: dropEvent, sub_type: reason?.[1] ?? otherDrop }
      : { type: traceEvent, sub_type: egress ? toNetwork : fromNetwork },
    traffic_direction: egress ? "EGRESS" : "INGRESS",
    trace_observation_point: dropped ? undefined : egress ? "TO_NETWORK" : "FROM_NETWORK",
    drop_reason_desc: reason?.[0],
    interface: record.interface === "" ? undefined : { name: text(record.interface) },
    Summary: summary(record),
    extensions: extensions(record),
  };
  return JSON.stringify({ flow, node_name: node, time });
}

/**
 * What a throttled interval did not keep, as lost events. Their source is left out, which is "unknown": Hubble's own
 * name queues and rings that overflow.
 */
export function lostEventsLine(
  { startAt, endAt, rows }: Pick<ThrottleSummary, "startAt" | "endAt" | "rows">,
  { nodeName }: Pick<HubbleOptions, "nodeName">,
): string {
  const last = timestamp(endAt);
  return JSON.stringify({
    lost_events: { num_events_lost: String(rows), first: timestamp(startAt), last },
    node_name: text(nodeName),
    time: last,
  });
}

function timestamp(at: number): string {
  if (!(at >= 0 && at <= timeMax))
    throw new RangeError(`${at} is no time that a line of Hubble's JSON can have: 0 to ${timeMax} ms.`);
  return new Date(at).toISOString();
}

// A lone surrogate is refused by protobuf's parser, and would cost the line.
const text = (value: string): string =>
  (value.length <= textMax ? value : value.slice(0, textMax)).toWellFormed();

function namesOf(address: string, names: HubbleOptions["names"]): readonly string[] | undefined {
  const known = names?.(address) ?? [];
  return known.length === 0 ? undefined : known.slice(0, namesMax).map(text);
}

/** Undefined for protocols that Hubble knows no ports or types of. */
export function layer4(record: FlowRecord): object | undefined {
  switch (record.protocol) {
    case 1:
      return { ICMPv4: icmp(record) };
    case 6:
      return { TCP: { ...ports(record), flags: tcpFlags(record.tcpFlags) } };
    case 17:
      return { UDP: ports(record) };
    case 58:
      return { ICMPv6: icmp(record) };
    case 132:
      return { SCTP: ports(record) };
    default:
      return undefined;
  }
}

const ports = ({ sourcePort, destinationPort }: FlowRecord): object => ({
  source_port: sourcePort || undefined,
  destination_port: destinationPort || undefined,
});

const icmp = ({ icmpType, icmpCode }: FlowRecord): object => ({
  type: icmpType || undefined,
  code: icmpCode || undefined,
});

// By bit, from the lowest, as they stand on the wire.
const flagNames = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"] as const;

const flagsOf = (bits: number): readonly string[] => flagNames.filter((_, bit) => (bits >> bit) & 1);

const tcpFlags = (bits: number): object | undefined =>
  bits === 0 ? undefined : Object.fromEntries(flagsOf(bits).map((name) => [name, true]));

/** What the client prints at the end of a line, and the one place where it shows packets and bytes. */
function summary(record: FlowRecord): string {
  const { protocol, tcpFlags: bits, packets, bytes, dropReason, dnsError } = record;
  const name = protocolNames[protocol]?.toUpperCase() ?? `Protocol ${protocol}`;
  const kind = protocol === 6 && bits !== 0 ? `TCP Flags: ${flagsOf(bits).join(", ")}` : name;
  const reason = dropReason === undefined ? "" : `; ${text(dropReason)}`;
  const error = dnsError === undefined ? "" : `; DNS ${text(dnsError)}`;
  return `${kind}; ${packets} packets, ${bytes} bytes${reason}${error}`;
}

// A Struct, because the client cannot read a line with a type that it does not link; CEL filters make it link this one.
const extensions = (record: FlowRecord): object => ({
  "@type": "type.googleapis.com/google.protobuf.Struct",
  value: {
    packets: record.packets,
    bytes: record.bytes,
    protocol: record.protocol,
    started_at: timestamp(record.startAt),
    evict_reason: record.evictReason,
    drop_reason: record.dropReason === undefined ? undefined : text(record.dropReason),
    dns_error: record.dnsError === undefined ? undefined : text(record.dnsError),
    rtt_us: record.rttUs,
    retransmits: record.retransmits,
  },
});
