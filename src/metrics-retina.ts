// Names and labels of today's Retina, on request; counters where values only grow, nothing where ours would differ.

import { directions, dropSums } from "./metrics-kappie.ts";
import { type MetricRow, retinaCounter, retinaGauge } from "./metrics-row.ts";
import type { InterfaceCounters } from "./snapshot.ts";

const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0);

// Retina leaves out interfaces whose names have one of these in them, and statistics that are no error and no drop.
const leftOut = /lo|cbr0|lxc|azv/;
const faults = /err|drop/i;

function interfaceSums(interfaces: readonly InterfaceCounters[]): ReadonlyMap<string, number> {
  const sums = new Map<string, number>();
  for (const { interface: name, statistics } of interfaces) {
    if (leftOut.test(name)) continue;
    for (const [statistic, value] of Object.entries(statistics))
      if (faults.test(statistic)) sums.set(statistic, (sums.get(statistic) ?? 0) + value);
  }
  return sums;
}

export const retinaRows: readonly MetricRow[] = [
  retinaCounter({
    name: "networkobservability_forward_count",
    help: "Packets forwarded over the uplinks, by direction.",
    labels: ["direction"],
    *read({ node }) {
      const { totals } = node.state;
      if (totals !== undefined)
        for (const direction of directions) yield [{ direction }, totals.forward[direction].packets];
    },
  }),
  retinaCounter({
    name: "networkobservability_forward_bytes",
    help: "Bytes at layer 2 forwarded over the uplinks, by direction.",
    labels: ["direction"],
    *read({ node }) {
      const { totals } = node.state;
      if (totals !== undefined)
        for (const direction of directions) yield [{ direction }, totals.forward[direction].bytes];
    },
  }),
  retinaCounter({
    name: "networkobservability_drop_count",
    help: "Packets dropped, by direction and by the reason of the kernel or the virtual switch.",
    labels: ["reason", "direction"],
    *read({ node }) {
      for (const { reason, direction, packets } of dropSums(node.state.drops))
        yield [{ reason, direction }, packets];
    },
  }),
  retinaCounter({
    name: "networkobservability_drop_bytes",
    help: "Bytes at layer 2 dropped, by direction and by the reason of the kernel or the virtual switch.",
    labels: ["reason", "direction"],
    *read({ node }) {
      for (const { reason, direction, bytes } of dropSums(node.state.drops))
        if (bytes !== undefined) yield [{ reason, direction }, bytes];
    },
  }),
  retinaGauge({
    name: "networkobservability_tcp_state",
    help: "TCP sockets in all network namespaces, by each state of the platform.",
    labels: ["state"],
    *read({ node }) {
      for (const [state, sockets] of Object.entries(node.state.tcpSockets?.states ?? {}))
        yield [{ state }, sockets];
    },
  }),
  retinaGauge({
    name: "networkobservability_tcp_connection_remote",
    help: "Open TCP connections to all remotes together.",
    labels: ["address"],
    *read({ node }) {
      const { remotes, remotesOther = 0 } = node.state.tcpSockets ?? {};
      if (remotes === undefined) return;
      yield [{ address: "AllIPs" }, remotesOther + sum(remotes.map(({ connections }) => connections))];
    },
  }),
  retinaCounter({
    name: "networkobservability_tcp_connection_stats",
    help: "TCP statistics by the name that the platform gives each.",
    labels: ["statistic_name"],
    *read({ node }) {
      for (const of of [node.state.tcpStatistics, node.state.switchTcpStatistics])
        for (const [name, value] of Object.entries(of ?? {})) yield [{ statistic_name: name }, value];
    },
  }),
  retinaCounter({
    name: "networkobservability_tcp_flag_gauges",
    help: "TCP packets over the uplinks, or of all endpoints of the switch, by direction and flag.",
    labels: ["direction", "flag"],
    *read({ node }) {
      for (const { direction, flag, packets } of node.state.totals?.tcpFlags ?? [])
        yield [{ direction, flag: flag.replace("-", "") }, packets];
    },
  }),
  retinaCounter({
    name: "networkobservability_ip_connection_stats",
    help: "IP statistics by the name that the platform gives each.",
    labels: ["statistic_name"],
    *read({ node }) {
      for (const [name, value] of Object.entries(node.state.ipStatistics ?? {}))
        yield [{ statistic_name: name }, value];
    },
  }),
  retinaGauge({
    name: "networkobservability_udp_connection_stats",
    help: "Open UDP sockets, as the one statistic ACTIVE.",
    labels: ["statistic_name"],
    *read({ node }) {
      const { udpActiveSockets } = node.state;
      if (udpActiveSockets !== undefined) yield [{ statistic_name: "ACTIVE" }, udpActiveSockets];
    },
  }),
  retinaCounter({
    name: "networkobservability_interface_stats",
    help: "Errors and drops of all interfaces but loopback and those of pods, by the driver's name of each.",
    labels: ["interface_name", "statistic_name"],
    *read({ node }) {
      for (const [name, value] of interfaceSums(node.state.interfaces ?? []))
        yield [{ interface_name: "all_interfaces", statistic_name: name }, value];
    },
  }),
  retinaCounter({
    name: "networkobservability_dns_request_count",
    help: "DNS queries seen.",
    labels: [],
    *read({ node }) {
      const { dns } = node.state;
      if (dns !== undefined) yield [{}, sum(dns.queries.map(({ count }) => count))];
    },
  }),
  retinaCounter({
    name: "networkobservability_dns_response_count",
    help: "DNS responses seen.",
    labels: [],
    *read({ node }) {
      const { dns } = node.state;
      if (dns !== undefined) yield [{}, sum(dns.responses.map(({ count }) => count))];
    },
  }),
];
