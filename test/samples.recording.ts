// What the metrics of a busy node look like, step by step: counters that grow unevenly, gauges, times with decimals.

import { createExposition } from "../src/exposition.ts";
import type { MetricView } from "../src/metrics-view.ts";
import type { Snapshot } from "../src/snapshot.ts";

/** Numbers that are the same in every run (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

type Random = () => number;

const normal = (random: Random): number =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

/** Traffic of one interface: a rate of its own, which drifts, with noise and bursts on it. */
function createTraffic(random: Random) {
  const packetsPerStep = Math.exp(random() * 10);
  const sizes = [80 + random() * 1000, 80 + random() * 1000];
  let drift = 0;
  const counts = { rx_packets: 0, rx_bytes: 0, tx_packets: 0, tx_bytes: 0 };
  const rare = { rx_errors: 0, rx_dropped: 0, tx_errors: 0, tx_dropped: 0 };
  return {
    step() {
      drift = 0.9 * drift + 0.3 * normal(random);
      for (const [index, way] of (["rx", "tx"] as const).entries()) {
        const burst = random() < 0.02 ? 20 : 1;
        const packets = Math.round(packetsPerStep * burst * Math.exp(drift + 0.3 * normal(random)));
        counts[`${way}_packets`] += packets;
        counts[`${way}_bytes`] += Math.round(packets * (sizes[index] ?? 0) * Math.exp(0.2 * normal(random)));
      }
      if (random() < 0.05) rare.rx_dropped += Math.ceil(random() * 9);
      return { ...counts, ...rare };
    },
    counts,
  };
}

const states = ["ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "TIME_WAIT", "CLOSE_WAIT", "LISTEN"];
const tcpNames = [
  "ActiveOpens",
  "PassiveOpens",
  "AttemptFails",
  "EstabResets",
  "RetransSegs",
  "InErrs",
  "OutRsts",
];
const ipNames = [
  "InReceives",
  "InDelivers",
  "OutRequests",
  "InOctets",
  "OutOctets",
  "InNoRoutes",
  "InCsumErrors",
];
const bounds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];

/** Sockets, protocol statistics, DNS: what a node has once. */
function createProtocols(random: Random) {
  const grown = new Map<string, number>();
  const grow = (names: readonly string[], by: number) =>
    Object.fromEntries(
      names.map((name, index) => {
        const rate = index > 4 ? 0.01 : by * (index + 1);
        grown.set(name, (grown.get(name) ?? 0) + Math.round(rate * Math.exp(normal(random)) * random()));
        return [name, grown.get(name) ?? 0];
      }),
    );
  const buckets = bounds.map(() => 0);
  let [answers, seconds] = [0, 0];
  return () => {
    for (let count = Math.ceil(random() * 40); count > 0; count -= 1) {
      const latency = Math.exp(-5 + normal(random));
      answers += 1;
      seconds += latency;
      for (const [index, bound] of bounds.entries())
        if (latency <= bound) buckets[index] = (buckets[index] ?? 0) + 1;
    }
    return {
      tcpStatistics: grow(tcpNames, 50),
      ipStatistics: grow(ipNames, 9000),
      udpStatistics: grow(["InDatagrams", "OutDatagrams", "NoPorts"], 200),
      udpActiveSockets: 20 + Math.floor(random() * 9),
      tcpSockets: {
        states: Object.fromEntries(states.map((state, index) => [state, Math.floor(random() * 20 * index)])),
        remotes: Array.from({ length: 50 }, (_, index) => ({
          address: `198.51.100.${index}`,
          port: 443,
          connections: 1 + Math.floor((random() * 50) / (index + 1)),
        })),
        remotesOther: Math.floor(random() * 30),
      },
      dns: {
        queries: [{ type: "A", count: answers + 3 }],
        responses: [{ type: "A", code: "NOERROR", count: answers }],
        latency: { bounds, counts: [...buckets], sum: seconds, count: answers },
        unanswered: 3,
        unsolicited: 0,
        lost: 0,
      },
    } satisfies Snapshot;
  };
}

export type Recording = {
  /** The series of the next step. */
  step(): { readonly at: number; readonly series: readonly RecordedSeries[] };
};

export type RecordedSeries = {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
};

const collectors = ["flows", "drops", "dns", "accounting", "protocols", "interfaces", "sockets"];

/** Eight series an interface, and some 200 more. */
export function createRecording({
  interfaces,
  startAt = Date.UTC(2026, 0, 1),
  stepMs = 15_000,
  seed = 1,
}: {
  readonly interfaces: number;
  readonly startAt?: number;
  readonly stepMs?: number;
  readonly seed?: number;
}): Recording {
  const random = randomFrom(seed);
  const links = Array.from({ length: interfaces }, (_, index) => ({
    interface: index === 0 ? "eth0" : `veth${((index * 2_654_435_761) >>> 0).toString(16)}`,
    traffic: createTraffic(random),
  }));
  const protocols = createProtocols(random);
  const exposition = createExposition({ names: ["kappie"], seriesMax: 100_000 });
  let number = 0;
  let cpuMicroseconds = 0;
  const state = (): Snapshot => {
    const shown = links.map(({ interface: name, traffic }) => ({
      interface: name,
      statistics: traffic.step(),
    }));
    const { rx_packets, rx_bytes, tx_packets, tx_bytes } =
      links[0]?.traffic.counts ?? createTraffic(random).counts;
    const forward = {
      ingress: { packets: rx_packets, bytes: rx_bytes },
      egress: { packets: tx_packets, bytes: tx_bytes },
    };
    const reasons = ["NETFILTER_DROP", "NO_SOCKET", "TCP_INVALID_SEQUENCE"];
    return {
      ...protocols(),
      totals: { uplinks: ["eth0"], forward, tcpFlags: [] },
      drops: reasons.map((reason, index) => {
        const packets = Math.floor(number / (index + 1));
        return { reason, direction: "ingress", packets, bytes: packets * 74 };
      }),
      interfaces: shown,
      packets: { seen: rx_packets * 3, aggregated: rx_packets * 3, duplicate: rx_packets, untracked: [] },
      flowTable: { live: Math.floor(500 + 100 * normal(random)), max: 131_072, evicted: [] },
      attached: links.map(({ interface: name }) => name),
    };
  };
  return {
    step() {
      const at = startAt + number * stepMs;
      cpuMicroseconds += Math.round(150_000 + 20_000 * normal(random));
      const view: MetricView = {
        nodeName: "node-1.example.org",
        cluster: "edge",
        node: {
          at: at + Math.floor(random() * 20),
          state: state(),
          sections: {},
          health: collectors.map((name) => ({
            name,
            success: random() < 0.999,
            durationMs: 0.2 + random(),
            limits: [],
            failures: 0,
          })),
        },
        build: { version: "0.1.0", commit: "abc", bun: Bun.version, os: "linux", arch: "x64" },
        process: {
          startedAt: startAt,
          residentBytes: 90_000_000 + 4096 * Math.floor(random() * 999),
          cpuSeconds: cpuMicroseconds / 1e6,
        },
        loop: { ticks: number * 15, skipped: 0, lastTickSeconds: random() / 100 },
        log: { suppressed: 0, lost: 0 },
        ledger: {
          "rows.offered": number * 3000,
          "rows.kept": number * 2990,
          "rows.filtered.excluded": number * 10,
        },
      };
      number += 1;
      return { at, series: exposition.series(view) };
    },
  };
}
