// The `sockets` collector: open TCP sockets by state and remote, and open UDP sockets, over all network namespaces.

import { readFileSync } from "node:fs";
import type { Collector, TcpSockets } from "../../src/snapshot.ts";
import { LibcError, type Socket } from "../libc.ts";
import { ENOENT } from "../netlink.ts";
import { emptyTally, openInetDiag, sumTallies, type TcpTally, tallyTcpSockets } from "./inet-diag.ts";
import { insideNamespace, type Namespace, type Namespaces, readNetFiles } from "./namespaces.ts";
import { parseSocketUse } from "./net-files.ts";
import { openRounds } from "./rounds.ts";

const AF_INET = 2;
const AF_INET6 = 10;

export type SocketFiles = { readonly sockstat?: string; readonly sockstat6?: string };

/** UDP sockets of a namespace, and the address families in which it has TCP sockets at all. */
export type SocketUse = { readonly udp: number; readonly tcpFamilies: readonly number[] };

const inUse = (
  text: string | undefined,
  options: { file: string; section: string; name: string },
): number => {
  const sections = text === undefined ? {} : parseSocketUse(text, options.file);
  return sections[options.section]?.[options.name] ?? 0;
};

/** A dump walks the socket table of the whole machine, so a namespace without TCP sockets is not asked. */
export function readSocketUse({ sockstat, sockstat6 }: SocketFiles): SocketUse {
  const ipv4 = (section: string, name: string) => inUse(sockstat, { file: "sockstat", section, name });
  const ipv6 = (section: string, name: string) => inUse(sockstat6, { file: "sockstat6", section, name });
  const timeWait = ipv4("TCP", "tw"); // Of both families.
  const tcpFamilies: number[] = [];
  if (ipv4("TCP", "inuse") + timeWait > 0) tcpFamilies.push(AF_INET);
  if (ipv6("TCP6", "inuse") + timeWait > 0) tcpFamilies.push(AF_INET6);
  return { udp: ipv4("UDP", "inuse") + ipv6("UDP6", "inuse"), tcpFamilies };
}

/** Sockets of the namespaces that a round has come through. */
type Sum = { readonly tally: TcpTally; udp: number; refused: number };

function tallyFamilies(socket: Socket, options: { families: readonly number[]; tally: TcpTally }): void {
  for (const family of options.families) tallyTcpSockets(socket, { family, tally: options.tally });
}

/** The errno of a refused call, when it was refused for the reason given. */
const failedWith = (error: unknown, errno: number): boolean =>
  error instanceof LibcError && error.errno === errno;

function enterAndTally(
  namespace: Namespace,
  options: { procDir: string; sum: Sum; families: readonly number[] },
): void {
  const EPERM = 1;
  const { procDir, sum, families } = options;
  try {
    using socket = insideNamespace(namespace, { procDir, action: openInetDiag });
    if (socket !== undefined) tallyFamilies(socket, { families, tally: sum.tally });
  } catch (error) {
    if (!failedWith(error, EPERM)) throw error;
    sum.refused += 1; // A namespace of a user namespace over which we have no rights.
  }
}

function addNamespace(
  namespace: Namespace,
  options: { procDir: string; sum: Sum; enterable: boolean },
): void {
  const { procDir, sum, enterable } = options;
  const files = readNetFiles(namespace, { procDir, names: ["sockstat", "sockstat6"] });
  if (files === undefined) return;
  const { udp, tcpFamilies } = readSocketUse(files);
  sum.udp += udp;
  if (enterable && tcpFamilies.length > 0) enterAndTally(namespace, { procDir, sum, families: tcpFamilies });
}

function readHostFiles(procDir: string): SocketFiles {
  const files: { sockstat?: string; sockstat6?: string } = {
    sockstat: readFileSync(`${procDir}/net/sockstat`, "utf8"),
  };
  try {
    files.sockstat6 = readFileSync(`${procDir}/net/sockstat6`, "utf8");
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error; // No IPv6.
  }
  return files;
}

/** Undefined where the kernel has no inet_diag. */
function tallyHost(options: { families: readonly number[]; addressesMax: number }): TcpTally | undefined {
  const tally = emptyTally(options.addressesMax);
  try {
    using socket = openInetDiag();
    tallyFamilies(socket, { families: options.families, tally });
    return tally;
  } catch (error) {
    if (failedWith(error, ENOENT)) return undefined;
    throw error;
  }
}

function roundLimits(sum: Sum, tcp: TcpSockets | undefined): string[] {
  const limits: string[] = [];
  if (tcp === undefined)
    limits.push("TCP sockets are not counted: the kernel has no inet_diag; load the module tcp_diag.");
  if (sum.refused > 0)
    limits.push(`TCP sockets of ${sum.refused} network namespaces are not counted: setns is not permitted.`);
  return limits;
}

/**
 * How long the answer of a dump stands. The kernel and we take about 1 µs a socket: below 10,000 sockets it is asked
 * on each tick, from there on for at most 2 % of the time.
 */
export function restMs(tally: TcpTally): number {
  const sockets = tally.states.reduce((sum, count) => sum + count, 0);
  return sockets < 10_000 ? 0 : sockets / 20;
}

/**
 * The host's namespace is read on each tick, the others in rounds: their last complete round stands until the next one
 * is complete. `addressesMax` bounds the remotes that are told apart before the top is taken.
 */
export function socketsCollector(options: {
  namespaces: Namespaces;
  remotesMax: number;
  addressesMax?: number;
  procDir?: string;
  now?: () => number;
}): Collector {
  const { namespaces, remotesMax, addressesMax = 65536, procDir = "/proc" } = options;
  const now = options.now ?? performance.now.bind(performance);
  const rounds = openRounds(namespaces);
  const emptySum = (): Sum => ({ tally: emptyTally(addressesMax), udp: 0, refused: 0 });
  let complete: Sum | undefined;
  let growing = emptySum();
  let host: { readonly tally: TcpTally | undefined; readonly staleAt: number } | undefined;

  const readHost = (families: readonly number[]): TcpTally | undefined => {
    const at = now();
    if (host !== undefined && at < host.staleAt) return host.tally;
    const tally = tallyHost({ families, addressesMax });
    host = { tally, staleAt: tally === undefined ? at : at + restMs(tally) };
    return tally;
  };

  return {
    name: "sockets",
    collect() {
      const { scan, due, first, last } = rounds.next();
      if (first) growing = emptySum();
      for (const namespace of due)
        addNamespace(namespace, { procDir, sum: growing, enterable: scan.enterable });
      if (last) complete = growing;
      const others = complete ?? growing;
      const use = readSocketUse(readHostFiles(procDir));
      const tally = readHost(use.tcpFamilies);
      const tcp = tally === undefined ? undefined : sumTallies([tally, others.tally], remotesMax);
      return {
        udpActiveSockets: use.udp + others.udp,
        ...(tcp !== undefined && { tcpSockets: tcp }),
        limits: [...scan.limits, ...roundLimits(others, tcp)],
      };
    },
  };
}
