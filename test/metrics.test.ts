// The metric table: names, types and labels that users rely on, and what each row makes of a node.

import { describe, expect, test } from "bun:test";
import { createExposition } from "../src/exposition.ts";
import { metricTable } from "../src/metrics.ts";
import { counter, gauge, kappieCounter } from "../src/metrics-row.ts";
import { type MetricView, processFacts } from "../src/metrics-view.ts";
import type { State } from "../src/node.ts";
import type { Snapshot } from "../src/snapshot.ts";

const bare: MetricView = {
  nodeName: "node-1",
  cluster: "edge",
  node: { at: 0, state: {}, sections: {}, health: [] },
  build: { version: "0.1.0", commit: "abc", bun: "1.4.5", os: "linux", arch: "x64" },
  process: { startedAt: 1_700_000_000_000, residentBytes: 5, cpuSeconds: 1.5 },
};

const seeing = (state: State): MetricView => ({ ...bare, node: { ...bare.node, state } });

async function linesOf(view: MetricView, prefix: string): Promise<string[]> {
  const exposition = createExposition({ names: ["kappie", "networkobservability"], seriesMax: 10_000 });
  const { body } = await exposition.render(view);
  expect([...exposition.failures()]).toEqual([]);
  return body.split("\n").filter((line) => line.startsWith(prefix));
}

const node = 'NodeName="node-1",Cluster="edge"';

describe("the families of the source documents", () => {
  const kappie = metricTable(["kappie"]).filter(({ name }) => name.startsWith("kappie_"));

  test("have exactly these names, types and labels", () => {
    expect(kappie.map(({ name, type, labels }) => `${name} ${type} ${labels.join(",")}`)).toEqual([
      "kappie_forward_count counter Direction,NodeName,Cluster",
      "kappie_forward_bytes counter Direction,NodeName,Cluster",
      "kappie_drop_count counter Reason,Direction,NodeName,Cluster",
      "kappie_drop_bytes counter Reason,Direction,NodeName,Cluster",
      "kappie_tcp_state gauge State,NodeName,Cluster",
      "kappie_tcp_connection_remote gauge Address,Port,NodeName,Cluster",
      "kappie_tcp_connection_stats counter Statistic,NodeName,Cluster",
      "kappie_tcp_flag_counters counter Flag,NodeName,Cluster",
      "kappie_ip_connection_stats counter Statistic,NodeName,Cluster",
      "kappie_udp_connection_stats counter Statistic,NodeName,Cluster",
      "kappie_udp_active_sockets gauge NodeName,Cluster",
      "kappie_interface_stats counter InterfaceName,Statistic,NodeName,Cluster",
    ]);
  });

  test("are there when they are asked for, and no others", () => {
    const prefixes = (names: Parameters<typeof metricTable>[0]) =>
      new Set(metricTable(names).map(({ name }) => name.replace(/_.*/, "")));
    expect(prefixes([])).toEqual(new Set(["fovea"]));
    expect(prefixes(["kappie"])).toEqual(new Set(["fovea", "kappie"]));
    expect(prefixes(["networkobservability"])).toEqual(new Set(["fovea", "networkobservability"]));
  });
});

describe("the table", () => {
  const table = metricTable(["kappie", "networkobservability"]);

  test("has each name once, help that is one sentence, and valid names", () => {
    expect(new Set(table.map(({ name }) => name)).size).toBe(table.length);
    for (const { name, help, labels } of table) {
      expect(name).toMatch(/^[a-z][a-z0-9_]*$/);
      expect(help).toMatch(/^[A-Z0-9][^"\\\n]*\.$/);
      for (const label of labels) expect(label).toMatch(/^[A-Za-z][A-Za-z0-9_]*$/);
    }
  });

  test("has no two families that OpenMetrics, which leaves out _total, takes for one", () => {
    const families = table.map(({ name, type }) => (type === "counter" ? name.replace(/_total$/, "") : name));
    expect(families.filter((name, at) => families.indexOf(name) !== at)).toEqual([]);
  });

  test("has no two labels of a family that differ by case alone", () => {
    for (const { name, labels } of table)
      expect({ name, labels: new Set(labels.map((label) => label.toLowerCase())).size }).toEqual({
        name,
        labels: labels.length,
      });
  });

  test("has nothing of ours that looks like another type", () => {
    for (const { name, type } of table.filter((row) => row.name.startsWith("fovea_")))
      expect({ name, counter: name.endsWith("_total") }).toEqual({ name, counter: type === "counter" });
  });

  test("does not compile with a wrong name or a wrong label", () => {
    const read = () => [];
    // @ts-expect-error A counter of ours ends in _total.
    counter({ name: "fovea_x", help: "", labels: [], read });
    // @ts-expect-error No other prefix.
    counter({ name: "other_x_total", help: "", labels: [], read });
    // @ts-expect-error A gauge of ours does not.
    gauge({ name: "fovea_x_total", help: "", labels: [], read });
    // @ts-expect-error The label is missing.
    gauge({ name: "fovea_x", help: "", labels: ["a"], read: () => [[{}, 1]] });
    // @ts-expect-error The label is another.
    gauge({ name: "fovea_x", help: "", labels: ["a"], read: () => [[{ b: "" }, 1]] });
    gauge({
      name: "fovea_x",
      help: "",
      labels: ["a"],
      // @ts-expect-error Also from a generator.
      *read() {
        yield [{ b: "" }, 1];
      },
    });
    // @ts-expect-error A value is a number.
    kappieCounter({ name: "kappie_x", help: "", labels: [], read: () => [[{}, "1"]] });
  });
});

describe("values", () => {
  test("of what is not seen are absent", async () => {
    expect(await linesOf(bare, "kappie_")).toEqual([]);
    expect(await linesOf(bare, "networkobservability_")).toEqual([]);
    const own = (await linesOf(bare, "fovea_")).filter((line) => !line.startsWith("fovea_scrape_"));
    expect(own).toEqual([
      'fovea_build_info{version="0.1.0",commit="abc",bun="1.4.5",os="linux",arch="x64"} 1',
      "fovea_start_time_seconds 1700000000",
      "fovea_process_resident_memory_bytes 5",
      "fovea_process_cpu_seconds_total 1.5",
    ]);
  });

  test("of what is seen as nothing are zero", async () => {
    const none = { packets: 0, bytes: 0 };
    const totals = { uplinks: [], forward: { ingress: none, egress: none }, tcpFlags: [] };
    expect(await linesOf(seeing({ totals, udpActiveSockets: 0 }), "kappie_")).toEqual([
      `kappie_forward_count{Direction="ingress",${node}} 0`,
      `kappie_forward_count{Direction="egress",${node}} 0`,
      `kappie_forward_bytes{Direction="ingress",${node}} 0`,
      `kappie_forward_bytes{Direction="egress",${node}} 0`,
      `kappie_udp_active_sockets{${node}} 0`,
    ]);
  });

  test("of drops of one reason from two collectors are added up, not written over", async () => {
    const drops: Snapshot["drops"] = [
      { reason: "A", direction: "ingress", packets: 1, bytes: 10 },
      { reason: "A", direction: "egress", packets: 2, bytes: 20 },
      { reason: "A", direction: "ingress", packets: 4, bytes: 40 },
    ];
    expect(await linesOf(seeing({ drops }), "kappie_drop_")).toEqual([
      `kappie_drop_count{Reason="A",Direction="ingress",${node}} 5`,
      `kappie_drop_count{Reason="A",Direction="egress",${node}} 2`,
      `kappie_drop_bytes{Reason="A",Direction="ingress",${node}} 50`,
      `kappie_drop_bytes{Reason="A",Direction="egress",${node}} 20`,
    ]);
  });

  test("of remotes end with what did not fit", async () => {
    const tcpSockets = {
      states: { ESTABLISHED: 9, LISTEN: 0 },
      remotes: [{ address: "2001:db8::1", port: 443, connections: 4 }],
      remotesOther: 5,
    };
    expect(await linesOf(seeing({ tcpSockets }), "kappie_tcp_")).toEqual([
      `kappie_tcp_state{State="ESTABLISHED",${node}} 9`,
      `kappie_tcp_state{State="LISTEN",${node}} 0`,
      `kappie_tcp_connection_remote{Address="2001:db8::1",Port="443",${node}} 4`,
      `kappie_tcp_connection_remote{Address="other",Port="other",${node}} 5`,
    ]);
    expect(await linesOf(seeing({ tcpSockets }), "networkobservability_")).toEqual([
      'networkobservability_tcp_state{state="ESTABLISHED"} 9',
      'networkobservability_tcp_state{state="LISTEN"} 0',
      'networkobservability_tcp_connection_remote{address="AllIPs"} 9',
    ]);
  });

  test("of flags are over both directions, Retina's by direction", async () => {
    const none = { packets: 0, bytes: 0 };
    const totals: Snapshot["totals"] = {
      uplinks: ["eth0"],
      forward: { ingress: none, egress: none },
      tcpFlags: [
        { direction: "ingress", flag: "SYN-ACK", packets: 3 },
        { direction: "egress", flag: "SYN-ACK", packets: 4 },
      ],
    };
    expect(await linesOf(seeing({ totals }), "kappie_tcp_flag")).toEqual([
      `kappie_tcp_flag_counters{Flag="SYN-ACK",${node}} 7`,
    ]);
    expect(await linesOf(seeing({ totals }), "networkobservability_tcp_flag")).toEqual([
      'networkobservability_tcp_flag_gauges{direction="ingress",flag="SYNACK"} 3',
      'networkobservability_tcp_flag_gauges{direction="egress",flag="SYNACK"} 4',
    ]);
  });

  test("of interfaces are one by one, Retina's the sum of errors and drops", async () => {
    const interfaces = ["eth0", "eth1", "lo", "lxc1"].map((name, index) => ({
      interface: name,
      statistics: { rx_errors: 2 ** index, tx_dropped: 1, rx_packets: 100 },
    }));
    const lines = await linesOf(seeing({ interfaces }), "kappie_interface_stats");
    expect(lines).toHaveLength(12);
    expect(lines).toContain(`kappie_interface_stats{InterfaceName="lo",Statistic="rx_errors",${node}} 4`);
    expect(await linesOf(seeing({ interfaces }), "networkobservability_")).toEqual([
      'networkobservability_interface_stats{interface_name="all_interfaces",statistic_name="rx_errors"} 3',
      'networkobservability_interface_stats{interface_name="all_interfaces",statistic_name="tx_dropped"} 2',
    ]);
  });

  test("of the ledger are by reason; rows that were never lost are told as zero", async () => {
    const ledger = { "rows.offered": 10, "rows.kept": 7, "rows.lost.disk_full": 2, "rows.invalid.time": 1 };
    expect(await linesOf({ ...bare, ledger }, "fovea_rows_")).toEqual([
      "fovea_rows_offered_total 10",
      "fovea_rows_kept_total 7",
      'fovea_rows_filtered_total{reason="not_included"} 0',
      'fovea_rows_filtered_total{reason="excluded"} 0',
      'fovea_rows_throttled_total{reason="window"} 0',
      'fovea_rows_throttled_total{reason="smooth"} 0',
      'fovea_rows_throttled_total{reason="reserve"} 0',
      'fovea_rows_invalid_total{reason="time"} 1',
      'fovea_rows_lost_total{reason="disk_full"} 2',
      'fovea_rows_lost_total{reason="read_only"} 0',
      'fovea_rows_lost_total{reason="busy"} 0',
      'fovea_rows_lost_total{reason="error"} 0',
    ]);
    expect(await linesOf({ ...bare, ledger: {} }, "fovea_rows_offered")).toEqual([
      "fovea_rows_offered_total 0",
    ]);
  });

  test("of an interface that two collectors are attached to count it once", async () => {
    expect(await linesOf(seeing({ attached: ["eth0", "eth1", "eth0"] }), "fovea_interfaces")).toEqual([
      "fovea_interfaces_attached 2",
    ]);
  });

  test("of this process are what it takes", () => {
    const { startedAt, residentBytes, cpuSeconds } = processFacts(7);
    expect(startedAt).toBe(7);
    expect(residentBytes).toBeGreaterThan(2 ** 20);
    expect(cpuSeconds).toBeGreaterThan(0);
  });
});
