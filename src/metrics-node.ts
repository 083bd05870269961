// The appliance's own families about what it observes: collectors, packets, flows, kernel maps, DNS.

import { counter, gauge, histogram, type MetricRow } from "./metrics-row.ts";

const collectorRows: readonly MetricRow[] = [
  gauge({
    name: "fovea_collector_success",
    help: "1 when the collector read all of its subject in the last tick, 0 when it failed.",
    labels: ["collector"],
    *read({ node }) {
      for (const { name, success } of node.health) yield [{ collector: name }, success ? 1 : 0];
    },
  }),
  gauge({
    name: "fovea_collector_duration_seconds",
    help: "Time that the collector took in the last tick.",
    labels: ["collector"],
    *read({ node }) {
      for (const { name, durationMs } of node.health) yield [{ collector: name }, durationMs / 1000];
    },
  }),
  gauge({
    name: "fovea_collector_limits",
    help: "Things that the collector cannot see on this machine; fovea check names them.",
    labels: ["collector"],
    *read({ node }) {
      for (const { name, limits } of node.health) yield [{ collector: name }, limits.length];
    },
  }),
  counter({
    name: "fovea_collector_failures_total",
    help: "Ticks that the collector failed in.",
    labels: ["collector"],
    *read({ node }) {
      for (const { name, failures } of node.health) yield [{ collector: name }, failures];
    },
  }),
  gauge({
    name: "fovea_interfaces_attached",
    help: "Interfaces that packets are counted on.",
    labels: [],
    *read({ node }) {
      const { attached } = node.state;
      if (attached !== undefined) yield [{}, new Set(attached).size];
    },
  }),
];

const packetRows: readonly MetricRow[] = [
  counter({
    name: "fovea_packets_seen_total",
    help: "Packets met on any hook: aggregated and untracked ones together.",
    labels: [],
    *read({ node }) {
      if (node.state.packets !== undefined) yield [{}, node.state.packets.seen];
    },
  }),
  counter({
    name: "fovea_packets_aggregated_total",
    help: "Packets that went into a flow.",
    labels: [],
    *read({ node }) {
      if (node.state.packets !== undefined) yield [{}, node.state.packets.aggregated];
    },
  }),
  counter({
    name: "fovea_packets_duplicate_total",
    help: "Of the aggregated packets: met again on another interface of this node, counted once in their flow.",
    labels: [],
    *read({ node }) {
      if (node.state.packets !== undefined) yield [{}, node.state.packets.duplicate];
    },
  }),
  counter({
    name: "fovea_packets_untracked_total",
    help: "Packets that are in the totals and in no flow, by reason.",
    labels: ["reason"],
    *read({ node }) {
      for (const { reason, packets } of node.state.packets?.untracked ?? []) yield [{ reason }, packets];
    },
  }),
  gauge({
    name: "fovea_flows_live",
    help: "Flows in the flow table.",
    labels: [],
    *read({ node }) {
      if (node.state.flowTable !== undefined) yield [{}, node.state.flowTable.live];
    },
  }),
  gauge({
    name: "fovea_flows_max",
    help: "Flows that the flow table takes.",
    labels: [],
    *read({ node }) {
      if (node.state.flowTable !== undefined) yield [{}, node.state.flowTable.max];
    },
  }),
  counter({
    name: "fovea_flows_evicted_total",
    help: "Records that left the flow table, by reason.",
    labels: ["reason"],
    *read({ node }) {
      for (const { reason, flows } of node.state.flowTable?.evicted ?? []) yield [{ reason }, flows];
    },
  }),
];

const mapRows: readonly MetricRow[] = [
  gauge({
    name: "fovea_map_entries",
    help: "Entries in use of a kernel table, by table.",
    labels: ["map"],
    *read({ node }) {
      for (const { map, entries } of node.state.maps ?? []) yield [{ map }, entries];
    },
  }),
  gauge({
    name: "fovea_map_capacity",
    help: "Entries that fit into a kernel table, by table.",
    labels: ["map"],
    *read({ node }) {
      for (const { map, capacity } of node.state.maps ?? []) yield [{ map }, capacity];
    },
  }),
  gauge({
    name: "fovea_map_bytes",
    help: "Kernel memory that a table holds, by table.",
    labels: ["map"],
    *read({ node }) {
      for (const { map, bytes } of node.state.maps ?? []) yield [{ map }, bytes];
    },
  }),
];

const dnsRows: readonly MetricRow[] = [
  counter({
    name: "fovea_dns_queries_total",
    help: "DNS queries seen, by the type of the question; types that have no name are OTHER.",
    labels: ["type"],
    *read({ node }) {
      for (const { type, count } of node.state.dns?.queries ?? []) yield [{ type }, count];
    },
  }),
  counter({
    name: "fovea_dns_responses_total",
    help: "DNS responses seen, by the type of the question and by response code; those without a name are OTHER.",
    labels: ["type", "code"],
    *read({ node }) {
      for (const { type, code, count } of node.state.dns?.responses ?? []) yield [{ type, code }, count];
    },
  }),
  counter({
    name: "fovea_dns_unanswered_total",
    help: "DNS queries that saw no response before their time ran out or their place was needed.",
    labels: [],
    *read({ node }) {
      if (node.state.dns !== undefined) yield [{}, node.state.dns.unanswered];
    },
  }),
  counter({
    name: "fovea_dns_unsolicited_total",
    help: "DNS responses that no query waited for; no name is learnt from them.",
    labels: [],
    *read({ node }) {
      if (node.state.dns !== undefined) yield [{}, node.state.dns.unsolicited];
    },
  }),
  counter({
    name: "fovea_dns_lost_total",
    help: "DNS messages that could not be copied out for want of room; their packets are counted all the same.",
    labels: [],
    *read({ node }) {
      if (node.state.dns !== undefined) yield [{}, node.state.dns.lost];
    },
  }),
  histogram({
    name: "fovea_dns_latency_seconds",
    help: "Time from a DNS query to its response.",
    labels: [],
    *read({ node }) {
      if (node.state.dns !== undefined) yield [{}, node.state.dns.latency];
    },
  }),
  gauge({
    name: "fovea_names_kept",
    help: "Addresses that a name is known for, from DNS responses.",
    labels: [],
    *read({ names }) {
      if (names !== undefined) yield [{}, names.kept];
    },
  }),
  gauge({
    name: "fovea_names_max",
    help: "Addresses that names are kept for at most.",
    labels: [],
    *read({ names }) {
      if (names !== undefined) yield [{}, names.max];
    },
  }),
  counter({
    name: "fovea_dns_errors_evicted_total",
    help: "DNS errors that were forgotten before a flow was reported with them, by reason.",
    labels: ["reason"],
    *read({ node }) {
      for (const { reason, errors } of node.dnsErrors?.evicted ?? []) yield [{ reason }, errors];
    },
  }),
  counter({
    name: "fovea_names_evicted_total",
    help: "Names of addresses that were let go, by reason.",
    labels: ["reason"],
    *read({ names }) {
      for (const { reason, names: count } of names?.evicted ?? []) yield [{ reason }, count];
    },
  }),
];

export const nodeRows: readonly MetricRow[] = [...collectorRows, ...packetRows, ...mapRows, ...dnsRows];
