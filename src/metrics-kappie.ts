// The twelve families of the source documents: names and labels to the letter, counters where values only grow.

import type { Direction } from "./flow.ts";
import { kappieCounter, kappieGauge, type MetricRow, type Sample } from "./metrics-row.ts";
import type { DropTotal, Statistics } from "./snapshot.ts";

export const directions: readonly Direction[] = ["ingress", "egress"];

/** Drops by reason and direction, each pair once: two collectors may have seen drops of one reason. */
export function dropSums(drops: readonly DropTotal[] = []): readonly DropTotal[] {
  const sums = new Map<string, DropTotal>();
  for (const drop of drops) {
    const key = `${drop.direction} ${drop.reason}`;
    const { packets = 0, bytes } = sums.get(key) ?? {};
    const known = drop.bytes === undefined ? bytes : (bytes ?? 0) + drop.bytes;
    sums.set(key, {
      ...{ reason: drop.reason, direction: drop.direction, packets: packets + drop.packets },
      ...(known === undefined ? {} : { bytes: known }),
    });
  }
  return [...sums.values()];
}

function* statistics(of: Statistics = {}): Iterable<Sample<"Statistic">> {
  for (const [Statistic, value] of Object.entries(of)) yield [{ Statistic }, value];
}

/** Sums over directions, by flag. */
function flagSums(
  flags: readonly { readonly flag: string; readonly packets: number }[] = [],
): ReadonlyMap<string, number> {
  const sums = new Map<string, number>();
  for (const { flag, packets } of flags) sums.set(flag, (sums.get(flag) ?? 0) + packets);
  return sums;
}

export const kappieRows: readonly MetricRow[] = [
  kappieCounter({
    name: "kappie_forward_count",
    help: "Packets forwarded over the uplinks, or by all endpoints of the switch, by direction.",
    labels: ["Direction"],
    *read({ node }) {
      const { totals } = node.state;
      if (totals !== undefined)
        for (const Direction of directions) yield [{ Direction }, totals.forward[Direction].packets];
    },
  }),
  kappieCounter({
    name: "kappie_forward_bytes",
    help: "Bytes at layer 2 forwarded over the uplinks, or by all endpoints of the switch, by direction.",
    labels: ["Direction"],
    *read({ node }) {
      const { totals } = node.state;
      if (totals !== undefined)
        for (const Direction of directions) yield [{ Direction }, totals.forward[Direction].bytes];
    },
  }),
  kappieCounter({
    name: "kappie_drop_count",
    help: "Packets dropped, by direction and by the reason of the kernel or the virtual switch.",
    labels: ["Reason", "Direction"],
    *read({ node }) {
      for (const { reason, direction, packets } of dropSums(node.state.drops))
        yield [{ Reason: reason, Direction: direction }, packets];
    },
  }),
  kappieCounter({
    name: "kappie_drop_bytes",
    help: "Bytes at layer 2 dropped, by direction and by the reason of the kernel or the virtual switch.",
    labels: ["Reason", "Direction"],
    *read({ node }) {
      for (const { reason, direction, bytes } of dropSums(node.state.drops))
        if (bytes !== undefined) yield [{ Reason: reason, Direction: direction }, bytes];
    },
  }),
  kappieGauge({
    name: "kappie_tcp_state",
    help: "TCP sockets in all network namespaces, by each state of the platform.",
    labels: ["State"],
    *read({ node }) {
      for (const [State, sockets] of Object.entries(node.state.tcpSockets?.states ?? {}))
        yield [{ State }, sockets];
    },
  }),
  kappieGauge({
    name: "kappie_tcp_connection_remote",
    help: "Open TCP connections to the sockets.remotesMax busiest remotes; the rest is Address other, Port other.",
    labels: ["Address", "Port"],
    *read({ node }) {
      const { remotes = [], remotesOther } = node.state.tcpSockets ?? {};
      for (const { address, port, connections } of remotes)
        yield [{ Address: address, Port: String(port) }, connections];
      if (remotesOther !== undefined) yield [{ Address: "other", Port: "other" }, remotesOther];
    },
  }),
  kappieCounter({
    name: "kappie_tcp_connection_stats",
    help: "TCP statistics by the name that the platform gives each.",
    labels: ["Statistic"],
    *read({ node }) {
      yield* statistics(node.state.tcpStatistics);
      yield* statistics(node.state.switchTcpStatistics);
    },
  }),
  kappieCounter({
    name: "kappie_tcp_flag_counters",
    help: "TCP packets over the uplinks, or of all endpoints of the switch, by flag; a SYN-ACK counts as SYN-ACK alone.",
    labels: ["Flag"],
    *read({ node }) {
      for (const [Flag, packets] of flagSums(node.state.totals?.tcpFlags)) yield [{ Flag }, packets];
    },
  }),
  kappieCounter({
    name: "kappie_ip_connection_stats",
    help: "IP statistics by the name that the platform gives each.",
    labels: ["Statistic"],
    read: ({ node }) => statistics(node.state.ipStatistics),
  }),
  kappieCounter({
    name: "kappie_udp_connection_stats",
    help: "UDP statistics by the name that the platform gives each.",
    labels: ["Statistic"],
    read: ({ node }) => statistics(node.state.udpStatistics),
  }),
  kappieGauge({
    name: "kappie_udp_active_sockets",
    help: "Open UDP sockets.",
    labels: [],
    *read({ node }) {
      if (node.state.udpActiveSockets !== undefined) yield [{}, node.state.udpActiveSockets];
    },
  }),
  kappieCounter({
    name: "kappie_interface_stats",
    help: "Interface statistics, by interface and by the name that the kernel or the driver gives each.",
    labels: ["InterfaceName", "Statistic"],
    *read({ node }) {
      for (const { interface: InterfaceName, statistics: values } of node.state.interfaces ?? [])
        for (const [Statistic, value] of Object.entries(values)) yield [{ InterfaceName, Statistic }, value];
    },
  }),
];
