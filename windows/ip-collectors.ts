// The collectors `protocols`, `sockets` and `interfaces` of Windows: what iphlpapi tells of the host as a whole.

import type { Collector, Snapshot, Statistics } from "../src/snapshot.ts";
import {
  decodeInterfaces,
  type InterfaceSelection,
  interfaceTest,
  nameInterfaces,
} from "./interface-table.ts";
import { createStatisticsReader, type StatisticsReader, sumCounts } from "./ip-statistics.ts";
import {
  type Family,
  families,
  iphlpapi,
  type Libraries,
  openInterfaceTable,
  openStatistics,
  openTcpTable,
  type StatisticsCall,
  type StatisticsProtocol,
} from "./iphlpapi.ts";
import { WindowsError } from "./system.ts";
import { addStates, emptyTally, statesOf, tcpRows, unknownStates } from "./tcp-table.ts";

type Result<T> = { readonly value: T } | { readonly error: unknown };

function attempt<T>(action: () => T): Result<T> {
  try {
    return { value: action() };
  } catch (error) {
    return { error };
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** How many parts of it one tick could read, and why not the others, a sentence each. */
type Outcome = { readonly read: number; readonly limits: readonly string[]; readonly firstError: unknown };

/** Some of it failing is a limit; with nothing read it is the collector's own failure. */
function throwIfNothing({ read, limits, firstError }: Outcome): void {
  if (read === 0 && limits.length > 0) throw firstError;
}

const ERROR_NOT_SUPPORTED = 50;

/** A machine without IPv6 has nothing to count of it: no failure, as on Linux. */
const isMissingFamily = (family: Family, error: unknown): boolean =>
  family === "IPv6" && error instanceof WindowsError && error.code === ERROR_NOT_SUPPORTED;

type Counts = ReadonlyMap<string, bigint>;

/** Of one protocol in one address family. */
type Source = {
  readonly protocol: StatisticsProtocol;
  readonly family: Family;
  readonly call: Result<StatisticsCall>;
  readonly reader: StatisticsReader | undefined;
  /** Of the last time that it could be read. */
  last: Counts | undefined;
};

const statisticsProtocols: readonly StatisticsProtocol[] = ["tcp", "udp", "ip", "icmp"];

function openSources(libraries: Libraries): Source[] {
  return statisticsProtocols.flatMap((protocol) => {
    const call = attempt(() => openStatistics(protocol, libraries));
    return families.map((family) => ({
      ...{ protocol, family, call, last: undefined },
      reader: "value" in call ? createStatisticsReader(call.value.layout) : undefined,
    }));
  });
}

function readSource({ call, family, reader }: Source): Counts | undefined {
  if ("error" in call) throw call.error;
  const view = attempt(() => call.value.read(family));
  if ("value" in view) return reader?.(view.value);
  if (isMissingFamily(family, view.error)) return undefined;
  throw view.error;
}

/** Reads every source for itself: a family that fails hides no other. */
function readSources(sources: readonly Source[]): Outcome {
  const limits: string[] = [];
  let read = 0;
  let firstError: unknown;
  for (const source of sources) {
    const counts = attempt(() => readSource(source));
    if ("error" in counts) {
      firstError ??= counts.error;
      const { family, protocol } = source;
      limits.push(`${protocol.toUpperCase()} of ${family} is not counted: ${messageOf(counts.error)}.`);
    } else if (counts.value !== undefined) {
      read += 1;
      source.last = counts.value;
    }
  }
  return { read, limits, firstError };
}

/**
 * Of TCP both families are one sum, as on Linux. A family that fails stands in it with what it had last: without it the
 * sum would fall, and then jump. The other protocols are one section a family.
 */
function statisticsOf(sources: readonly Source[]): Pick<Snapshot, "tcpStatistics" | "protocols"> {
  const known = sources.flatMap(({ protocol, family, last }) =>
    last === undefined ? [] : [{ protocol, family, last }],
  );
  const tcp = known.filter(({ protocol }) => protocol === "tcp").map(({ last }) => last);
  const protocols = known
    .filter(({ protocol }) => protocol !== "tcp")
    .map(({ protocol, family, last }): { protocol: string; statistics: Statistics } => ({
      protocol: family === "IPv6" ? `${protocol}6` : protocol,
      statistics: sumCounts([last]),
    }));
  return { ...(tcp.length > 0 && { tcpStatistics: sumCounts(tcp) }), protocols };
}

function openProtocols(libraries: Libraries): () => Snapshot {
  const sources = openSources(libraries);
  return () => {
    const outcome = readSources(sources);
    throwIfNothing(outcome);
    return { ...statisticsOf(sources), limits: outcome.limits };
  };
}

/** Windows tells remotes in the same table, but the documents of the metrics have these of Linux alone. */
function openSockets(libraries: Libraries): () => Snapshot {
  const table = openTcpTable(libraries);
  return () => {
    const tally = emptyTally();
    const limits: string[] = [];
    let read = 0;
    let firstError: unknown;
    for (const family of families) {
      const added = attempt(() => addStates(tally, table(family), tcpRows[family]));
      if ("value" in added) read += 1;
      else if (!isMissingFamily(family, added.error)) {
        firstError ??= added.error;
        limits.push(`TCP sockets of ${family} are not counted: ${messageOf(added.error)}.`);
      }
    }
    throwIfNothing({ read, limits, firstError });
    const unknown = unknownStates(tally);
    if (unknown > 0) limits.push(`${unknown} TCP sockets are in states without a name, and not counted.`);
    return { tcpSockets: { states: statesOf(tally) }, limits };
  };
}

function openInterfaces(
  libraries: Libraries,
  selection: InterfaceSelection,
  interfacesMax: number,
): () => Snapshot {
  const table = openInterfaceTable(libraries);
  const wanted = interfaceTest(selection);
  return () => {
    const all = nameInterfaces(decodeInterfaces(table()).filter(wanted));
    const beyond = all.length - interfacesMax;
    return {
      interfaces: beyond > 0 ? all.slice(0, interfacesMax) : all,
      limits: beyond > 0 ? [`${beyond} interfaces are not counted: more than ${interfacesMax}.`] : [],
    };
  };
}

/**
 * How long an answer stands that took so long: these calls keep the loop waiting, and on a node with very many sockets
 * or interfaces are asked for at most 2 % of the time.
 */
export const restMs = (elapsedMs: number): number => (elapsedMs < 20 ? 0 : Math.min(50 * elapsedMs, 60_000));

/** What cannot be opened throws the reason on each tick. */
function openCollector(name: string, open: () => () => Snapshot, now: () => number): Collector {
  const opened = attempt(open);
  let answer: { readonly snapshot: Snapshot; readonly staleAt: number } | undefined;
  return {
    name,
    collect() {
      if ("error" in opened) throw opened.error;
      const startedAt = now();
      if (answer !== undefined && startedAt < answer.staleAt) return answer.snapshot;
      const snapshot = opened.value();
      const endedAt = now();
      answer = { snapshot, staleAt: endedAt + restMs(endedAt - startedAt) };
      return snapshot;
    },
  };
}

export type IpOptions = {
  readonly interfaces: InterfaceSelection;
  readonly interfacesMax?: number;
  readonly libraries?: Libraries;
  /** Milliseconds; never go back. */
  readonly elapsedMs?: () => number;
};

export function openIpCollectors(options: IpOptions): readonly Collector[] {
  const { interfaces, interfacesMax = 4096, libraries = iphlpapi } = options;
  const elapsedMs = options.elapsedMs ?? (() => performance.now());
  return [
    openCollector("protocols", () => openProtocols(libraries), elapsedMs),
    openCollector("sockets", () => openSockets(libraries), elapsedMs),
    openCollector("interfaces", () => openInterfaces(libraries, interfaces, interfacesMax), elapsedMs),
  ];
}
