// OTLP as bytes on the wire, read by protoc with the published definitions.

import { describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EncodeError } from "../src/sinks/encoder.ts";
import { at, attribute, decoded, linesOf, logsBody, metricsBody, nanos, specOf } from "./otlp.world.ts";
import { flow } from "./store.flows.ts";

const spec = specOf("otlp-protobuf");
const decodedMetrics = (...series: Parameters<typeof metricsBody>[1]): readonly string[] =>
  linesOf(decoded("ExportMetricsServiceRequest", metricsBody(spec, series).body), "metrics");

describe("the generated schema", () => {
  test("is what protoc makes of the definition", () => {
    const root = join(import.meta.dir, "..");
    const directory = mkdtempSync(join(tmpdir(), "fovea-otlp-"));
    try {
      const plugin = `--plugin=protoc-gen-es=${join(root, "node_modules/.bin/protoc-gen-es")}`;
      const done = Bun.spawnSync(
        ["protoc", plugin, `--es_out=${directory}`, "--es_opt=target=ts", "-Isrc/sinks", "otlp.proto"],
        { cwd: root },
      );
      expect(done.stderr.toString()).toBe("");
      expect(readFileSync(join(directory, "otlp_pb.ts"), "utf8")).toBe(
        readFileSync(join(root, "src/sinks/otlp.gen.ts"), "utf8"),
      );
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

describe("the resource", () => {
  const body = (changes: Parameters<typeof specOf>[1]) => {
    const series = [{ name: "kappie_drop_count", points: [[at, 1]] as const }];
    const { body: bytes } = metricsBody(specOf("otlp-protobuf", changes), series);
    return decoded("ExportMetricsServiceRequest", bytes)
      .split("\n")
      .map((line) => line.trim());
  };

  test("names program, node and cluster, and holds the external labels", () => {
    const lines = body({ externalLabels: { site: "north" } }).filter((line) => line !== "}");
    expect(lines.slice(0, lines.indexOf("metrics {"))).toEqual([
      "resource_metrics {",
      "resource {",
      ...attribute("site", "north"),
      ...attribute("service.name", "fovea"),
      ...attribute("service.version", "1.2.3"),
      ...attribute("host.name", "edge-1"),
      ...attribute("k8s.cluster.name", "plant"),
      ...attribute("k8s.node.name", "edge-1"),
      "scope_metrics {",
      "scope {",
      'name: "fovea"',
      'version: "1.2.3"',
    ]);
  });

  test("has no cluster where none is set", () => {
    expect(body({ cluster: "" }).filter((line) => line.includes("cluster"))).toEqual([]);
  });
});

describe("metrics", () => {
  test("are sums of counters, whole as integers, with all series of a name together", () => {
    const metric = "kappie_drop_count";
    expect(
      decodedMetrics(
        { name: metric, labels: { Reason: "NO_SOCKET", Direction: "ingress" }, points: [[at, 2 ** 53 - 1]] },
        { name: "no_such_metric", points: [[at, 7]] },
        {
          name: metric,
          labels: { Reason: "é" },
          points: [
            [at, 0.5],
            [at + 15_000, 2 ** 53],
          ],
        },
      ),
    ).toEqual([
      "metrics {",
      'name: "kappie_drop_count"',
      'description: "Packets dropped, by direction and by the reason of the kernel or the virtual switch."',
      "sum {",
      "data_points {",
      `time_unix_nano: ${nanos}`,
      "as_int: 9007199254740991",
      ...attribute("Reason", "NO_SOCKET"),
      ...attribute("Direction", "ingress"),
      "data_points {",
      `time_unix_nano: ${nanos}`,
      "as_double: 0.5",
      "attributes {",
      'key: "Reason"',
      "value {",
      'string_value: "\\303\\251"',
      "data_points {",
      `time_unix_nano: ${at + 15_000}000000`,
      "as_double: 9007199254740992",
      "attributes {",
      'key: "Reason"',
      "value {",
      'string_value: "\\303\\251"',
      "aggregation_temporality: AGGREGATION_TEMPORALITY_CUMULATIVE",
      "is_monotonic: true",
      "metrics {",
      'name: "no_such_metric"',
      "gauge {",
      "data_points {",
      `time_unix_nano: ${nanos}`,
      "as_double: 7",
    ]);
  });

  test("are gauges of gauges, whatever the number", () => {
    const points = [1, 0, -0.25, Number.NaN, Number.POSITIVE_INFINITY].map((value) => [at, value] as const);
    const values = decodedMetrics({ name: "kappie_tcp_state", labels: { State: "LISTEN" }, points });
    expect(values[3]).toBe("gauge {");
    expect(values.filter((line) => line.startsWith("as_"))).toEqual([
      ...["as_double: 1", "as_double: 0", "as_double: -0.25", "as_double: nan", "as_double: inf"],
    ]);
  });

  test("say where a series ended, without a value", () => {
    const labels = { Direction: "egress" };
    const lines = decodedMetrics({
      name: "kappie_forward_count",
      labels,
      points: [
        [at, 0],
        [at + 1, null],
      ],
    });
    expect(lines.slice(lines.indexOf("sum {") + 1)).toEqual([
      "data_points {",
      `time_unix_nano: ${nanos}`,
      "as_int: 0",
      ...attribute("Direction", "egress"),
      "data_points {",
      `time_unix_nano: ${at + 1}000000`,
      ...attribute("Direction", "egress"),
      "flags: 1",
      "aggregation_temporality: AGGREGATION_TEMPORALITY_CUMULATIVE",
      "is_monotonic: true",
    ]);
  });

  test("take no time that OTLP cannot say", () => {
    const add = (time: number) => () =>
      metricsBody(spec, [{ name: "kappie_tcp_state", points: [[time, 1]] }]);
    expect(add(Number.NaN)).toThrow(EncodeError);
    expect(add(-1)).toThrow(EncodeError);
    expect(add(1e15)).toThrow(EncodeError);
    expect(add(0)).not.toThrow();
  });

  test("replace half of a surrogate pair, which is no UTF-8", () => {
    const lines = decodedMetrics({ name: "x", labels: { label: "a\ud800b" }, points: [[at, 1]] });
    expect(lines).toContain('string_value: "a\\357\\277\\275b"');
  });
});

describe("flows", () => {
  const decodedLogs = (...flows: Parameters<typeof logsBody>[1]): readonly string[] =>
    linesOf(decoded("ExportLogsServiceRequest", logsBody(spec, flows).body), "log_records");

  test("are log records, with what OpenTelemetry has names for under these", () => {
    const forwarded = flow(1, {
      ...{ source: "10.0.0.1", sourcePort: 40_000, destination: "2001:db8::53", destinationPort: 53 },
      ...{ protocol: 17, tcpFlags: 0, packets: 3, bytes: 300, dnsError: "NXDOMAIN", node: "edge-2" },
      ...{ startAt: at - 1500, endAt: at, rttUs: 250, retransmits: 0, interface: "eth0" },
    });
    expect(decodedLogs({ ...forwarded, seq: 77 })).toEqual([
      "log_records {",
      `time_unix_nano: ${nanos}`,
      "severity_number: SEVERITY_NUMBER_INFO",
      'severity_text: "INFO"',
      "body {",
      'string_value: "ingress udp 10.0.0.1:40000 -> [2001:db8::53]:53 forwarded NXDOMAIN, 3 packets, 300 bytes"',
      ...attribute("source.address", "10.0.0.1"),
      ...attribute("source.port", 40_000),
      ...attribute("destination.address", "2001:db8::53"),
      ...attribute("destination.port", 53),
      ...attribute("network.type", "ipv4"),
      ...attribute("network.transport", "udp"),
      ...attribute("network.io.direction", "receive"),
      ...attribute("network.interface.name", "eth0"),
      ...attribute("fovea.record_id", "id-77"),
      ...attribute("fovea.verdict", "forwarded"),
      ...attribute("fovea.direction", "ingress"),
      ...attribute("fovea.interface", "eth0"),
      ...attribute("fovea.start_time", "2026-01-02T03:04:04.178Z"),
      ...attribute("fovea.evict_reason", "idle"),
      ...attribute("fovea.dns_error", "NXDOMAIN"),
      ...attribute("fovea.node", "edge-2"),
      ...attribute("fovea.protocol", 17),
      ...attribute("fovea.packets", 3),
      ...attribute("fovea.bytes", 300),
      ...attribute("fovea.rtt_us", 250),
      ...attribute("fovea.retransmits", 0),
      `observed_time_unix_nano: ${nanos}`,
      'event_name: "fovea.flow"',
    ]);
  });

  test("are warnings when they were dropped, and have no ports where the protocol has none", () => {
    const {
      rttUs: _,
      retransmits: __,
      ...dropped
    } = flow(4, {
      ...{ source: "fe80::1", sourcePort: 0, destination: "ff02::1", destinationPort: 0 },
      ...{ protocol: 58, tcpFlags: 0, icmpType: 135, icmpCode: 0, packets: 1, bytes: 86, interface: "" },
      ...{ startAt: at, endAt: at, verdict: "dropped", dropReason: "NETFILTER_DROP", evictReason: "first" },
    });
    expect(decodedLogs({ ...dropped, seq: 5 })).toEqual([
      "log_records {",
      `time_unix_nano: ${nanos}`,
      "severity_number: SEVERITY_NUMBER_WARN",
      'severity_text: "WARN"',
      "body {",
      'string_value: "egress icmpv6 fe80::1 -> ff02::1 dropped NETFILTER_DROP, 1 packets, 86 bytes"',
      ...attribute("source.address", "fe80::1"),
      ...attribute("destination.address", "ff02::1"),
      ...attribute("network.type", "ipv6"),
      ...attribute("network.io.direction", "transmit"),
      ...attribute("fovea.record_id", "id-5"),
      ...attribute("fovea.verdict", "dropped"),
      ...attribute("fovea.drop_reason", "NETFILTER_DROP"),
      ...attribute("fovea.direction", "egress"),
      ...attribute("fovea.start_time", "2026-01-02T03:04:05.678Z"),
      ...attribute("fovea.evict_reason", "first"),
      ...attribute("fovea.protocol", 58),
      ...attribute("fovea.packets", 1),
      ...attribute("fovea.bytes", 86),
      ...attribute("fovea.icmp_type", 135),
      ...attribute("fovea.icmp_code", 0),
      `observed_time_unix_nano: ${nanos}`,
      'event_name: "fovea.flow"',
    ]);
  });

  test("share one resource and one scope", () => {
    const flows = [1, 2, 3].map((seq) => ({ ...flow(seq), seq }));
    const text = decoded("ExportLogsServiceRequest", logsBody(spec, flows).body);
    const times = (part: string): number => text.split(`${part} {`).length - 1;
    expect([times("resource_logs"), times("scope_logs"), times("log_records")]).toEqual([1, 1, 3]);
  });
});

test("gzip leaves the bytes as they are, and rawBytes says how many", () => {
  const series = [{ name: "kappie_tcp_state", labels: { State: "LISTEN" }, points: [[at, 3]] as const }];
  const plain = metricsBody(spec, series);
  const zipped = metricsBody({ ...spec, options: { compression: "gzip" } }, series);
  expect(Bun.gunzipSync(zipped.body)).toEqual(plain.body);
  expect([zipped.rawBytes, plain.rawBytes]).toEqual([plain.body.length, plain.body.length]);
});
