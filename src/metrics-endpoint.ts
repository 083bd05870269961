// Families about the endpoints of a platform's virtual switch, and about protocols that have no family of their own.

import { counter, gauge, type MetricRow } from "./metrics-row.ts";
import type { Endpoint } from "./snapshot.ts";

const labels = ["endpoint", "name", "address", "network"] as const;

const labelsOf = ({ id, name, address, network }: Endpoint) => ({ endpoint: id, name, address, network });

const directions = ["ingress", "egress"] as const;

const endpointCounts: readonly MetricRow[] = [
  counter({
    name: "fovea_endpoint_packets_total",
    help: "Packets that an endpoint got (ingress) and sent (egress), since the switch made it.",
    labels: [...labels, "direction"],
    *read({ node }) {
      for (const endpoint of node.state.endpoints ?? [])
        for (const direction of directions)
          yield [{ ...labelsOf(endpoint), direction }, endpoint.forward[direction].packets];
    },
  }),
  counter({
    name: "fovea_endpoint_bytes_total",
    help: "Bytes that an endpoint got (ingress) and sent (egress), since the switch made it.",
    labels: [...labels, "direction"],
    *read({ node }) {
      for (const endpoint of node.state.endpoints ?? [])
        for (const direction of directions)
          yield [{ ...labelsOf(endpoint), direction }, endpoint.forward[direction].bytes];
    },
  }),
  counter({
    name: "fovea_endpoint_drops_total",
    help: "Packets to and from an endpoint that were dropped, by the reason that the switch gives.",
    labels: [...labels, "reason", "direction"],
    *read({ node }) {
      for (const endpoint of node.state.endpoints ?? [])
        for (const { reason, direction, packets } of endpoint.drops)
          yield [{ ...labelsOf(endpoint), reason, direction }, packets];
    },
  }),
  counter({
    name: "fovea_endpoint_tcp_flags_total",
    help: "TCP packets to and from an endpoint by flag; a SYN-ACK counts as SYN-ACK alone.",
    labels: [...labels, "flag", "direction"],
    *read({ node }) {
      for (const endpoint of node.state.endpoints ?? [])
        for (const { flag, direction, packets } of endpoint.tcpFlags)
          yield [{ ...labelsOf(endpoint), flag, direction }, packets];
    },
  }),
  counter({
    name: "fovea_endpoint_tcp_statistics_total",
    help: "What the switch tells of the TCP connections of an endpoint.",
    labels: [...labels, "statistic", "direction"],
    *read({ node }) {
      for (const endpoint of node.state.endpoints ?? [])
        for (const { statistic, direction, count } of endpoint.tcpStatistics)
          yield [{ ...labelsOf(endpoint), statistic, direction }, count];
    },
  }),
];

const useRows: readonly MetricRow[] = [
  gauge({
    name: "fovea_endpoints",
    help: "Endpoints of the switch: local ones are counted, remote ones stand for other nodes, overflow is beyond the bound.",
    labels: ["kind"],
    *read({ node }) {
      const { endpointUse: use } = node.state;
      if (use === undefined) return;
      for (const kind of ["local", "remote", "overflow"] as const) yield [{ kind }, use[kind]];
    },
  }),
  gauge({
    name: "fovea_endpoint_sources",
    help: "Endpoints by the source of what the switch counts beyond packets and bytes.",
    labels: ["source"],
    *read({ node }) {
      for (const { source, endpoints } of node.state.endpointUse?.sources ?? [])
        yield [{ source }, endpoints];
    },
  }),
  counter({
    name: "fovea_endpoint_failures_total",
    help: "Readings of an endpoint, or of what the switch counts of it, that failed.",
    labels: ["source"],
    *read({ node }) {
      for (const { source, failures } of node.state.endpointUse?.failures ?? []) yield [{ source }, failures];
    },
  }),
  counter({
    name: "fovea_endpoint_resets_total",
    help: "Endpoints whose counters began anew; what they count from there on is added.",
    labels: [],
    *read({ node }) {
      if (node.state.endpointUse !== undefined) yield [{}, node.state.endpointUse.resets];
    },
  }),
  counter({
    name: "fovea_endpoints_replaced_total",
    help: "Endpoints that came anew under the address of one that went.",
    labels: [],
    *read({ node }) {
      if (node.state.endpointUse !== undefined) yield [{}, node.state.endpointUse.replaced];
    },
  }),
];

const protocolRow = counter({
  name: "fovea_protocol_statistics_total",
  help: "Statistics of a protocol by the name that the platform gives each.",
  labels: ["protocol", "statistic"],
  *read({ node }) {
    for (const { protocol, statistics } of node.state.protocols ?? [])
      for (const [statistic, value] of Object.entries(statistics)) yield [{ protocol, statistic }, value];
  },
});

export const endpointRows: readonly MetricRow[] = [...endpointCounts, ...useRows, protocolRow];
