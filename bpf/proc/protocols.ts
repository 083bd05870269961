// The `protocols` collector: what TCP, IP, ICMP and UDP counted, over all network namespaces.

import { readFileSync } from "node:fs";
import type { Collector, Statistics } from "../../src/snapshot.ts";
import { sumNamespaces } from "./namespace-sums.ts";
import { type Namespaces, readNetFiles } from "./namespaces.ts";
import { parseNamedValues, parsePairedLines } from "./net-files.ts";
import { openRounds } from "./rounds.ts";

export type ProtocolFiles = { readonly snmp: string; readonly netstat?: string; readonly snmp6?: string };

// Settings and states of now, which stand among the counters.
const tcpStates = ["RtoAlgorithm", "RtoMin", "RtoMax", "MaxConn", "CurrEstab", "MPCurrEstab"];
const ipStates = ["Forwarding", "DefaultTTL"];

const without = (statistics: Statistics, names: readonly string[]): Statistics =>
  Object.fromEntries(Object.entries(statistics).filter(([name]) => !names.includes(name)));

const prefixed = (prefix: string, statistics: Statistics = {}): Statistics =>
  Object.fromEntries(Object.entries(statistics).map(([name, value]) => [`${prefix}${name}`, value]));

const startingWith = (statistics: Statistics, prefixes: readonly string[]): Statistics =>
  Object.fromEntries(
    Object.entries(statistics).filter(([name]) => prefixes.some((prefix) => name.startsWith(prefix))),
  );

/** One namespace's counters by family, under the names that the metrics show. */
export function readFamilies(files: ProtocolFiles): { tcp: Statistics; ip: Statistics; udp: Statistics } {
  const { Tcp, Ip, Icmp, IcmpMsg, Udp, UdpLite } = parsePairedLines(files.snmp, "snmp");
  const netstat = files.netstat === undefined ? {} : parsePairedLines(files.netstat, "netstat");
  const { TcpExt, MPTcpExt, IpExt } = netstat;
  const snmp6 = files.snmp6 === undefined ? {} : parseNamedValues(files.snmp6, "snmp6");
  return {
    tcp: without({ ...Tcp, ...TcpExt, ...MPTcpExt }, tcpStates),
    ip: {
      ...without({ ...Ip }, ipStates),
      ...IpExt,
      ...prefixed("Icmp", Icmp),
      ...prefixed("IcmpMsg", IcmpMsg),
      ...startingWith(snmp6, ["Ip6", "Icmp6"]),
    },
    udp: { ...Udp, ...prefixed("UdpLite", UdpLite), ...startingWith(snmp6, ["Udp6", "UdpLite6"]) },
  };
}

/** A file that this kernel does not have (no IPv6: no snmp6) is no error. */
function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

function readHost(procDir: string): ProtocolFiles {
  const netstat = readIfThere(`${procDir}/net/netstat`);
  const snmp6 = readIfThere(`${procDir}/net/snmp6`);
  const snmp = readFileSync(`${procDir}/net/snmp`, "utf8");
  return { snmp, ...(netstat !== undefined && { netstat }), ...(snmp6 !== undefined && { snmp6 }) };
}

const sameFiles = (a: ProtocolFiles, b: ProtocolFiles | undefined): boolean =>
  a.snmp === b?.snmp && a.netstat === b.netstat && a.snmp6 === b.snmp6;

/** The host's namespace is read on each tick, the others in rounds. */
export function protocolsCollector(options: { namespaces: Namespaces; procDir?: string }): Collector {
  const { namespaces, procDir = "/proc" } = options;
  const rounds = openRounds(namespaces);
  const sums = sumNamespaces();
  const names = ["snmp", "netstat", "snmp6"] as const;
  let last: ProtocolFiles | undefined;

  // On a quiet node the files say what they said a tick ago: parsing them is most of what a tick would cost.
  function updateHost(inode: number): void {
    const files = readHost(procDir);
    if (!sameFiles(files, last)) sums.update(inode, readFamilies(files));
    last = files;
  }

  return {
    name: "protocols",
    collect() {
      const { scan, due, first } = rounds.next();
      if (first) sums.keep(new Set([scan.host, ...scan.others.map(({ inode }) => inode)]));
      updateHost(scan.host);
      for (const namespace of due) {
        const { snmp, ...files } = readNetFiles(namespace, { procDir, names }) ?? {};
        if (snmp !== undefined) sums.update(namespace.inode, readFamilies({ snmp, ...files }));
      }
      const { tcp = {}, ip = {}, udp = {} } = sums.totals();
      return { tcpStatistics: tcp, ipStatistics: ip, udpStatistics: udp, limits: scan.limits };
    },
  };
}
