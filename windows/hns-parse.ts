// Answers of HNS to what they say: keys in any case, counts exact, fields that are missing or new are no error.

import type { Direction } from "../src/flow.ts";
import type { TcpFlag } from "../src/snapshot.ts";
import type { EndpointFacts, EndpointReading, SwitchCounters } from "./counters.ts";
import { countOf, parseExact } from "./exact-json.ts";

/** A request that HNS did not answer, or refused, or answered with what makes no sense. */
export class HnsError extends Error {
  override readonly name = "HnsError";
  /** HRESULT or error number; undefined where none was given. */
  readonly code: number | undefined;
  constructor(message: string, code?: number) {
    super(message.replace(/\s+/g, " ").trim());
    this.code = code;
  }
}

type JsonObject = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Versions of HNS differ in the case of their keys; the documented spelling is looked for first. */
function fieldOf(object: JsonObject, name: string): unknown {
  if (Object.hasOwn(object, name)) return object[name];
  const wanted = name.toLowerCase();
  for (const key in object)
    if (key.length === wanted.length && key.toLowerCase() === wanted) return object[key];
  return undefined;
}

/** A list of one is at times written as the one. */
function listOf(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  return value === undefined || value === null ? [] : [value];
}

/** Texts become labels: HNS gives names of any length. */
const textMax = 256;

const textOf = (value: unknown): string => (typeof value === "string" ? value.trim().slice(0, textMax) : "");

const guid = /^\{?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\}?$/i;

/** Lower case, without braces. */
const guidOf = (value: unknown): string | undefined => guid.exec(textOf(value))?.[1]?.toLowerCase();

const excerpt = (text: string): string => JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);

/** An HRESULT is written with or without its sign. */
const codeOf = (value: unknown): number | undefined => {
  const code = Number(value);
  return value !== undefined && Number.isInteger(code) && code !== 0 ? code | 0 : undefined;
};

/** What an answer carries. HNS answers a request that failed as well, by `Success: false`. */
function outputOf(text: string, path: string, parse: (text: string) => unknown): unknown {
  let answer: unknown;
  try {
    answer = parse(text);
  } catch {
    throw new HnsError(`HNS, GET ${path}: the answer is no JSON: ${excerpt(text)}`);
  }
  const success = isObject(answer) ? fieldOf(answer, "Success") : undefined;
  if (!isObject(answer) || typeof success !== "boolean")
    throw new HnsError(`HNS, GET ${path}: the answer does not tell of success: ${excerpt(text)}`);
  if (success) return fieldOf(answer, "Output");
  const told = textOf(fieldOf(answer, "Error")) || "an error without a text";
  throw new HnsError(`HNS, GET ${path}: ${told}`, codeOf(fieldOf(answer, "ErrorCode")));
}

export type ListedEndpoint = {
  readonly facts: EndpointFacts;
  /** The id as HNS writes it. */
  readonly spelling: string;
};

export type EndpointList = {
  readonly local: readonly ListedEndpoint[];
  readonly remote: number;
  /** Entries without an id, or with one that is no GUID. */
  readonly malformed: number;
};

/** HNS of version 1 says it by a field of its own, version 2 by a bit. */
const isRemote = (endpoint: JsonObject): boolean =>
  fieldOf(endpoint, "IsRemoteEndpoint") === true || (Number(fieldOf(endpoint, "Flags") ?? 0) & 1) === 1;

// Uninitialised, created, detached, destroyed: these are at no port of the switch, so nothing counts for them, and asking for
// their counts may fail each time. Attached, shared and degraded ones are. Where no state is told, the counts are asked for.
const statesWithoutPort = new Set([0, 1, 4, 6]);

const hasPort = (endpoint: JsonObject): boolean => {
  const state = fieldOf(endpoint, "State");
  return typeof state !== "number" || !statesWithoutPort.has(state);
};

/** The allocator of this tag holds the port; others are those of the host's own adapters and of policies. */
function portOf(endpoint: JsonObject): string | undefined {
  const resources = fieldOf(endpoint, "Resources");
  if (!isObject(resources)) return undefined;
  for (const allocator of listOf(fieldOf(resources, "Allocators"))) {
    if (!isObject(allocator) || textOf(fieldOf(allocator, "Tag")).toLowerCase() !== "endpoint port") continue;
    const port = guidOf(fieldOf(allocator, "EndpointPortGuid"));
    if (port !== undefined) return port;
  }
  return undefined;
}

function factsOf(endpoint: JsonObject, id: string): EndpointFacts {
  const text = (name: string): string => textOf(fieldOf(endpoint, name));
  const port = portOf(endpoint);
  return {
    id,
    name: text("Name"),
    address: text("IPAddress") || text("IPv6Address"),
    network: text("VirtualNetworkName") || (guidOf(fieldOf(endpoint, "VirtualNetwork")) ?? ""),
    ...(port === undefined ? {} : { port }),
  };
}

/** The answer to `/endpoints/`. An id that is listed twice counts once. */
export function parseEndpoints(text: string, path: string): EndpointList {
  const local = new Map<string, ListedEndpoint>();
  let remote = 0;
  let malformed = 0;
  // It has times of 64 bits, but no counts: to keep those exact would take ten times as long.
  for (const endpoint of listOf(outputOf(text, path, JSON.parse))) {
    const id = isObject(endpoint) ? guidOf(fieldOf(endpoint, "ID")) : undefined;
    if (!isObject(endpoint) || id === undefined) malformed += 1;
    else if (isRemote(endpoint)) remote += 1;
    else if (hasPort(endpoint))
      local.set(id, { facts: factsOf(endpoint, id), spelling: textOf(fieldOf(endpoint, "ID")) });
  }
  return { local: [...local.values()], remote, malformed };
}

// Statistics of newer versions come in pairs, `…In` and `…Out`, and are the switch's.
const switchFlags: Readonly<Record<string, TcpFlag>> = {
  SynPackets: "SYN",
  SynAckPackets: "SYN-ACK",
  FinPackets: "FIN",
  RstPackets: "RST",
};
const switchStatistics: Readonly<Record<string, string>> = {
  TcpConnectionsVerified: "Verified",
  TcpConnectionsTimedOut: "TimedOutCount",
  TcpConnectionsReset: "ResetCount",
  TcpConnectionsResetBySyn: "ResetSyn",
  TcpConnectionsClosedByFin: "ClosedFin",
  TcpHalfOpenTimeouts: "TcpHalfOpenTimeouts",
  TcpConnectionsTimeWait: "TimeWaitExpiredCount",
};
const suffixes: readonly (readonly [Direction, string])[] = [
  ["ingress", "In"],
  ["egress", "Out"],
];

function* switchCounts<Name extends string>(statistics: JsonObject, names: Readonly<Record<string, Name>>) {
  for (const [field, name] of Object.entries(names))
    for (const [direction, suffix] of suffixes) {
      const count = countOf(fieldOf(statistics, `${field}${suffix}`));
      if (count !== undefined) yield { direction, name, count };
    }
}

/** Undefined where this version of HNS tells nothing of the switch. */
function switchOf(statistics: JsonObject): SwitchCounters | undefined {
  const flags = [...switchCounts(statistics, switchFlags)];
  const connections = [...switchCounts(statistics, switchStatistics)];
  const denied = [...switchCounts(statistics, { DropAcl: "aclrule" })];
  if (flags.length + connections.length + denied.length === 0) return undefined;
  return {
    source: "hns",
    drops: denied.map(({ direction, name, count }) => ({ reason: name, direction, packets: count })),
    tcpFlags: flags.map(({ direction, name, count }) => ({ direction, flag: name, packets: count })),
    tcpStatistics: connections.map(({ direction, name, count }) => ({ direction, statistic: name, count })),
  };
}

export type EndpointCounts = Pick<EndpointReading, "forward" | "drops" | "switch">;

/** The answer to `/endpointstats/…`. Received is what the endpoint got: ingress. A count that is left out is 0. */
export function parseStatistics(text: string, path: string): EndpointCounts {
  const statistics = outputOf(text, path, parseExact);
  if (!isObject(statistics)) throw new HnsError(`HNS, GET ${path}: the answer has no statistics`);
  const count = (name: string): bigint => {
    const value = fieldOf(statistics, name);
    const exact = value === undefined || value === null ? 0n : countOf(value);
    if (exact === undefined)
      throw new HnsError(`HNS, GET ${path}: ${name} is ${excerpt(String(value))}, which is no count`);
    return exact;
  };
  const ofSwitch = switchOf(statistics);
  return {
    forward: {
      ingress: { packets: count("PacketsReceived"), bytes: count("BytesReceived") },
      egress: { packets: count("PacketsSent"), bytes: count("BytesSent") },
    },
    drops: [
      { reason: "endpoint", direction: "ingress", packets: count("DroppedPacketsIncoming") },
      { reason: "endpoint", direction: "egress", packets: count("DroppedPacketsOutgoing") },
    ],
    ...(ofSwitch === undefined ? {} : { switch: ofSwitch }),
  };
}
