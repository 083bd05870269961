// OTLP as JSON, field by field: what differs from the protobuf on the wire is how the same things are written.

import { expect, test } from "bun:test";
import { at, logsBody, metricsBody, nanos, specOf, type TestSample } from "./otlp.world.ts";
import { flow } from "./store.flows.ts";

const spec = specOf("otlp-json", { externalLabels: { site: "north" } });
const parsed = (body: Uint8Array): unknown => JSON.parse(new TextDecoder().decode(body));
const text = (key: string, stringValue: string) => ({ key, value: { stringValue } });
/** 64 bits are text. */
const count = (key: string, intValue: string) => ({ key, value: { intValue } });

const resource = {
  attributes: [
    text("site", "north"),
    text("service.name", "fovea"),
    text("service.version", "1.2.3"),
    text("host.name", "edge-1"),
    text("k8s.cluster.name", "plant"),
    text("k8s.node.name", "edge-1"),
  ],
};
const scope = { name: "fovea", version: "1.2.3" };
const metricsOf = (...series: TestSample[]) => ({
  parsed: parsed(metricsBody(spec, series).body),
  of: (metrics: readonly unknown[]) => ({
    resourceMetrics: [{ resource, scopeMetrics: [{ scope, metrics }] }],
  }),
});

test("a counter is a sum with 64 bits as text and the temporality as a number", () => {
  const { parsed: body, of } = metricsOf({
    name: "kappie_forward_count",
    labels: { Direction: "egress" },
    points: [
      [at, 2 ** 53 - 1],
      [at + 15_000, null],
    ],
  });
  const attributes = [text("Direction", "egress")];
  const dataPoints = [
    { timeUnixNano: nanos, asInt: "9007199254740991", attributes },
    { timeUnixNano: `${at + 15_000}000000`, attributes, flags: 1 },
  ];
  expect(body).toEqual(
    of([
      {
        name: "kappie_forward_count",
        description: "Packets forwarded over the uplinks, or by all endpoints of the switch, by direction.",
        sum: { dataPoints, aggregationTemporality: 2, isMonotonic: true },
      },
    ]),
  );
});

test("a gauge has numbers as they are, and as text what JSON has no number for", () => {
  const values = [0, -0.5, 1e300, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  const points = values.map((value) => [at, value] as const);
  const { parsed: body, of } = metricsOf({ name: "unknown", points });
  const written = [0, -0.5, 1e300, "NaN", "Infinity", "-Infinity"];
  const dataPoints = written.map((asDouble) => ({ timeUnixNano: nanos, asDouble }));
  expect(body).toEqual(of([{ name: "unknown", gauge: { dataPoints } }]));
});

test("a histogram has its counts as text and its bounds as numbers", () => {
  const name = "fovea_dns_latency_seconds";
  const bucket = (le: string, value: number): TestSample => ({
    ...{ name: `${name}_bucket`, labels: { le }, points: [[at, value]] },
  });
  const { parsed: body, of } = metricsOf(
    ...[bucket("0.01", 1), bucket("0.1", 4), bucket("+Inf", 4)],
    { name: `${name}_sum`, points: [[at, 0.25]] },
    { name: `${name}_count`, points: [[at, 4]] },
  );
  const dataPoints = [
    {
      timeUnixNano: nanos,
      count: "4",
      sum: 0.25,
      bucketCounts: ["1", "3", "0"],
      explicitBounds: [0.01, 0.1],
    },
  ];
  const description = "Time from a DNS query to its response.";
  expect(body).toEqual(of([{ name, description, histogram: { dataPoints, aggregationTemporality: 2 } }]));
});

test("a flow is a log record with its severity as a number", () => {
  const record = flow(10, {
    ...{ source: "10.0.0.1", sourcePort: 40_000, destination: "10.0.0.2", destinationPort: 443 },
    ...{ startAt: at - 1, endAt: at, packets: 1, bytes: 60, interface: "eth0", tcpFlags: 2, protocol: 6 },
    ...{ verdict: "dropped", dropReason: 'a "reason"', rttUs: 12, retransmits: 1 },
  });
  const body = parsed(logsBody(spec, [{ ...record, seq: 3 }]).body);
  const logRecord = {
    timeUnixNano: nanos,
    observedTimeUnixNano: nanos,
    severityNumber: 13,
    severityText: "WARN",
    body: {
      stringValue: 'egress tcp 10.0.0.1:40000 -> 10.0.0.2:443 dropped a "reason", 1 packets, 60 bytes',
    },
    eventName: "fovea.flow",
    attributes: [
      text("source.address", "10.0.0.1"),
      count("source.port", "40000"),
      text("destination.address", "10.0.0.2"),
      count("destination.port", "443"),
      text("network.type", "ipv4"),
      text("network.transport", "tcp"),
      text("network.io.direction", "transmit"),
      text("network.interface.name", "eth0"),
      text("fovea.record_id", "id-3"),
      text("fovea.verdict", "dropped"),
      text("fovea.drop_reason", 'a "reason"'),
      text("fovea.direction", "egress"),
      text("fovea.interface", "eth0"),
      text("fovea.start_time", "2026-01-02T03:04:05.677Z"),
      text("fovea.evict_reason", "idle"),
      count("fovea.protocol", "6"),
      count("fovea.packets", "1"),
      count("fovea.bytes", "60"),
      count("fovea.tcp_flags", "2"),
      count("fovea.rtt_us", "12"),
      count("fovea.retransmits", "1"),
    ],
  };
  const scopeLogs = [{ scope, logRecords: [logRecord] }];
  expect(body).toEqual({ resourceLogs: [{ resource, scopeLogs }] });
});
