// The flow record: packets that share 5-tuple and direction, between two reports.

export type Direction = "ingress" | "egress";
export type Verdict = "forwarded" | "dropped";

/**
 * Why a record was reported: the connection ended (`fin`, `rst`), no packet for `flows.idle`, still going after
 * `flows.active`, the flow table was full, a first sight that is reported at once (`first`, drops), or the appliance
 * stopped (`shutdown`).
 */
export const evictReasons = ["fin", "rst", "idle", "active", "full", "first", "shutdown"] as const;
export type EvictReason = (typeof evictReasons)[number];

export type FlowRecord = {
  /** First and last packet of this report, epoch milliseconds. */
  readonly startAt: number;
  readonly endAt: number;
  /** Canonical text: dotted IPv4, RFC 5952 IPv6. */
  readonly source: string;
  readonly destination: string;
  /** 0 where the protocol has no ports. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** IANA protocol number. */
  readonly protocol: number;
  /** ICMP and ICMPv6 alone. */
  readonly icmpType?: number;
  readonly icmpCode?: number;
  readonly direction: Direction;
  readonly verdict: Verdict;
  /** With verdict `dropped`: the kernel's name of the reason. */
  readonly dropReason?: string;
  /** Wire packets, and bytes at layer 2, since the last report of this flow. */
  readonly packets: number;
  readonly bytes: number;
  /** All TCP flags seen, OR-ed, as they stand on the wire (FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128). */
  readonly tcpFlags: number;
  /** The one interface that this flow is counted on; empty for a drop that no interface was known for. */
  readonly interface: string;
  /** The kernel's smoothed round trip time of the local socket, microseconds; absent when none was seen. */
  readonly rttUs?: number;
  /** Segments that the local socket sent again since the last report; absent when no socket is local. */
  readonly retransmits?: number;
  /** DNS alone: the name of the last response code in it that was an error (`NXDOMAIN`, `SERVFAIL`); absent without. */
  readonly dnsError?: string;
  /** The node that a row was imported from; absent on what this node saw itself. */
  readonly node?: string;
  readonly evictReason: EvictReason;
};

/** IANA names of the protocols that users ask for by name; others go by number. */
export const protocolNames: Readonly<Record<number, string>> = {
  1: "icmp",
  2: "igmp",
  6: "tcp",
  17: "udp",
  47: "gre",
  50: "esp",
  51: "ah",
  58: "icmpv6",
  89: "ospf",
  103: "pim",
  112: "vrrp",
  132: "sctp",
};
