// The contract between a platform and the rest: what a collector returns each tick.

import type { Direction, FlowRecord } from "./flow.ts";

/** Wire packets and their bytes: layer 2 length without checksum, headers of every segment included. */
export type PacketCount = { readonly packets: number; readonly bytes: number };

export const tcpFlagNames = ["FIN", "SYN", "SYN-ACK", "RST", "PSH", "ACK", "URG", "ECE", "CWR"] as const;
export type TcpFlag = (typeof tcpFlagNames)[number];

/**
 * Each packet counts once: taken on the uplinks alone, or, where the platform counts by endpoint, the sum over those.
 * Cumulative since the backend opened.
 */
export type Totals = {
  /** Empty where endpoints are summed up. */
  readonly uplinks: readonly string[];
  readonly forward: Readonly<Record<Direction, PacketCount>>;
  /** A SYN-ACK counts as SYN-ACK alone, not as SYN nor as ACK. */
  readonly tcpFlags: readonly {
    readonly direction: Direction;
    readonly flag: TcpFlag;
    readonly packets: number;
  }[];
};

/**
 * Cumulative. `reason` is the name of the kernel (without its SKB_DROP_REASON_ prefix) or of the virtual switch; `bytes`
 * is absent where the platform counts packets alone.
 */
export type DropTotal = {
  readonly reason: string;
  readonly direction: Direction;
  readonly packets: number;
  readonly bytes?: number;
};

/** Cumulative unless the statistic is a state. Statistic names are those of the kernel or the driver. */
export type InterfaceCounters = {
  readonly interface: string;
  readonly statistics: Readonly<Record<string, number>>;
};

/** Open TCP connections to one remote address and port. */
export type TcpRemote = { readonly address: string; readonly port: number; readonly connections: number };

export type TcpSockets = {
  /** Sockets by state name (ESTABLISHED, TIME_WAIT, …); every state that the platform knows, zeros included. */
  readonly states: Readonly<Record<string, number>>;
  /** The busiest `remotesMax` remotes, most connections first; absent where the platform cannot tell. */
  readonly remotes?: readonly TcpRemote[];
  /** Connections to all remotes that did not fit. */
  readonly remotesOther?: number;
};

/** Cumulative; `type` and `code` are DNS names (A, AAAA, NOERROR, …), `OTHER` for the rest. */
export type DnsTotals = {
  readonly queries: readonly { readonly type: string; readonly count: number }[];
  readonly responses: readonly { readonly type: string; readonly code: string; readonly count: number }[];
  /** Time from query to response: upper bounds in seconds, one cumulative count a bound, sum in seconds. */
  readonly latency: {
    readonly bounds: readonly number[];
    readonly counts: readonly number[];
    readonly sum: number;
    readonly count: number;
  };
  /** Queries that saw no response before their place was needed or their time ran out. */
  readonly unanswered: number;
  /** Responses that no query waited for: none was seen, or it has its response. Their answers name nothing. */
  readonly unsolicited: number;
  /** Messages that passed a hook and found the ring buffer full: counted as packets, not as DNS. */
  readonly lost: number;
};

/** An address that a DNS answer gave for a name; `ttlSeconds` as answered. */
export type DnsAnswer = { readonly name: string; readonly address: string; readonly ttlSeconds: number };

/** A DNS response that was an error: its ends as they stand in the packet (the server is the source), and the code's name. */
export type DnsError = {
  readonly source: string;
  readonly destination: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** IANA protocol number: UDP or TCP. */
  readonly protocol: number;
  readonly code: string;
};

/** Fill of a kernel table: what is in use and how much fits. `bytes` is the kernel memory that it holds. */
export type MapUse = {
  readonly map: string;
  readonly entries: number;
  readonly capacity: number;
  readonly bytes: number;
};

/** The ledger's first law: seen = aggregated + untracked. Cumulative, over every hook, not only uplinks. */
export type PacketLedger = {
  readonly seen: number;
  readonly aggregated: number;
  /** Of the aggregated: seen again on another interface of the same node, counted once in the flow. */
  readonly duplicate: number;
  readonly untracked: readonly { readonly reason: string; readonly packets: number }[];
};

/** Live flows, and how many records left the flow table by reason (cumulative). */
export type FlowTableUse = {
  readonly live: number;
  readonly max: number;
  readonly evicted: readonly { readonly reason: string; readonly flows: number }[];
};

/** One statistic family: the kernel's own names. Cumulative. */
export type Statistics = Readonly<Record<string, number>>;

/** One local endpoint of the platform's virtual switch. Counts are the platform's own, since it made the endpoint. */
export type Endpoint = {
  /** Lower case, without braces. */
  readonly id: string;
  readonly name: string;
  /** Empty where it has none. */
  readonly address: string;
  readonly network: string;
  readonly forward: Readonly<Record<Direction, PacketCount>>;
  readonly drops: readonly {
    readonly reason: string;
    readonly direction: Direction;
    readonly packets: number;
  }[];
  /** Empty where no source has them. A SYN-ACK counts as SYN-ACK alone. */
  readonly tcpFlags: readonly {
    readonly direction: Direction;
    readonly flag: TcpFlag;
    readonly packets: number;
  }[];
  /** What the switch tells of its TCP connections (ResetCount, ClosedFin, …); empty where no source has it. */
  readonly tcpStatistics: readonly {
    readonly direction: Direction;
    readonly statistic: string;
    readonly count: number;
  }[];
};

/** What became of the platform's endpoints in the last reading, and cumulative counts of what went wrong. */
export type EndpointUse = {
  readonly local: number;
  /** They stand for endpoints of other nodes, and count nothing. */
  readonly remote: number;
  /** Local ones beyond the bound: they are in no count. */
  readonly overflow: number;
  /** Counters that fell, or endpoints that came anew under a known address: cumulative. */
  readonly resets: number;
  readonly replaced: number;
  /** How many endpoints have what the switch counts from which source; `none` for the rest. */
  readonly sources: readonly { readonly source: string; readonly endpoints: number }[];
  /** Readings of an endpoint, or of the switch's counters of it, that failed: cumulative, by source. */
  readonly failures: readonly { readonly source: string; readonly failures: number }[];
};

// A section is absent when the platform cannot see it. Absent is not zero.
export type Snapshot = {
  readonly totals?: Totals;
  readonly drops?: readonly DropTotal[];
  /** Records that ended or were reported since the last snapshot; each is handed over once. */
  readonly flows?: readonly FlowRecord[];
  readonly flowTable?: FlowTableUse;
  readonly packets?: PacketLedger;
  readonly dns?: DnsTotals;
  /** Answers since the last snapshot; each is handed over once. */
  readonly dnsAnswers?: readonly DnsAnswer[];
  /** Error responses since the last snapshot; each is handed over once. */
  readonly dnsErrors?: readonly DnsError[];
  readonly interfaces?: readonly InterfaceCounters[];
  readonly tcpSockets?: TcpSockets;
  readonly tcpStatistics?: Statistics;
  readonly ipStatistics?: Statistics;
  readonly udpStatistics?: Statistics;
  readonly udpActiveSockets?: number;
  /** Sums over all endpoints of what their switch tells of TCP connections. */
  readonly switchTcpStatistics?: Statistics;
  /** Statistics of protocols that have no family of their own on this platform. */
  readonly protocols?: readonly { readonly protocol: string; readonly statistics: Statistics }[];
  readonly endpoints?: readonly Endpoint[];
  readonly endpointUse?: EndpointUse;
  readonly maps?: readonly MapUse[];
  /** Interfaces that this collector is attached to. */
  readonly attached?: readonly string[];
  /** What this collector cannot see here and why, one sentence each; empty or absent when it sees all. */
  readonly limits?: readonly string[];
};

/** Thrown by a collector after which this process must not go on: the node does not catch it. */
export class FatalError extends Error {}

/** Reads one subject. Throws when it cannot; the node catches and goes on with the others. */
export type Collector = {
  readonly name: string;
  collect(signal: AbortSignal): Snapshot | Promise<Snapshot>;
};

/**
 * All collectors of one platform. Opening is construction, closing is disposal. A subject that cannot be opened
 * on this machine is a collector whose `collect` throws the reason. Disposal returns what is still live as a
 * last snapshot through `drain`, so that nothing unreported is lost on a clean stop.
 */
export type Backend = AsyncDisposable & {
  readonly collectors: readonly Collector[];
  /** Called once before disposal: the flows that are still live, reported with reason `shutdown`. */
  drain?(): Snapshot;
};
