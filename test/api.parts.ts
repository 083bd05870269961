// What the tests of the API share: a store with five flows, and the parts of an API around it.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ApiParts } from "../src/api/app.ts";
import { createRequestCounts } from "../src/api/requests.ts";
import type { StatusAnswer } from "../src/api/schemas.ts";
import { createStreams, type StreamBounds, type Streams } from "../src/api/streams.ts";
import type { FlowRecord } from "../src/flow.ts";
import { openStore, type Store } from "../src/store/store.ts";

export const now = Date.parse("2026-01-31T12:00:00Z");
const second = 1000;

export const flow: FlowRecord = {
  startAt: now - 2 * second,
  endAt: now - second,
  source: "10.0.0.1",
  destination: "192.0.2.1",
  sourcePort: 40_000,
  destinationPort: 443,
  protocol: 6,
  direction: "egress",
  verdict: "forwarded",
  packets: 10,
  bytes: 5000,
  tcpFlags: 27,
  interface: "eth0",
  rttUs: 1200,
  retransmits: 1,
  evictReason: "fin",
};

export const rows: readonly FlowRecord[] = [
  { ...flow, endAt: now - 3600 * second, startAt: now - 3700 * second },
  {
    ...flow,
    source: "192.0.2.1",
    destination: "10.0.0.1",
    sourcePort: 443,
    destinationPort: 40_000,
    direction: "ingress",
  },
  {
    ...flow,
    source: "2001:db8::1",
    destination: "2001:db8:1::53",
    protocol: 17,
    destinationPort: 53,
    tcpFlags: 0,
  },
  {
    ...flow,
    source: "198.51.100.9",
    destination: "10.0.0.1",
    direction: "ingress",
    verdict: "dropped",
    dropReason: "NO_SOCKET",
    destinationPort: 23,
    packets: 3,
    bytes: 180,
    evictReason: "first",
  },
  { ...flow, protocol: 1, sourcePort: 0, destinationPort: 0, icmpType: 8, icmpCode: 0, endAt: now },
];

/** A store that holds `rows`; disposing removes it. */
export function storeOfRows(): Store {
  const dir = mkdtempSync(join(tmpdir(), "fovea-api-"));
  const store = openStore({ dir, bytesMax: 2 ** 20, ageMaxMs: 86_400_000, now: () => now });
  store.append({
    rows,
    ledger: {
      "rows.offered": rows.length,
      "packets.seen": 20,
      "packets.aggregated": 19,
      "packets.untracked.not_ip": 1,
    },
  });
  const close = () => {
    store.close();
    rmSync(dir, { recursive: true });
  };
  return { ...store, close, [Symbol.dispose]: close };
}

const status: StatusAnswer = {
  version: "1.2.3",
  commit: "abc",
  node: "n1",
  cluster: "c1",
  startedAt: now - second,
  uptimeSeconds: 1,
  ticks: 1,
  ticksSkipped: 0,
  uplinks: ["eth0"],
  attached: ["eth0", "veth1"],
  flows: { live: 5, max: 100 },
  collectors: [
    { name: "flows", success: true, durationMs: 1.5, failures: 0, lastSuccessAt: now, limits: [] },
    { name: "drops", success: false, error: "no BTF", durationMs: 0.1, failures: 1, limits: ["half"] },
  ],
  store: { mode: "disk", path: "/x/fovea.db", rows: 5, bytes: 4096, bytesMax: 2 ** 20, recoveries: [] },
  config: {
    reloaded: 0,
    refused: 1,
    problems: ["fovea.yaml:3: tick is wrong"],
    rejected: [
      { file: "fovea.yaml", line: 4, key: "throttle_rate", value: "90000", message: "is above 25000" },
    ],
  },
  throttle: {
    ...{
      enabled: true,
      mode: "window",
      rate: 5000,
      window: 300,
      intervalMs: 1000,
      reserve: 0.2,
      print: false,
    },
    ...{ limit: 1_500_000, rateNow: 12.5, windowUse: 0.01, reserveUse: 0, active: false, interval: 7 },
  },
  filters: { include: 0, exclude: 2 },
  flowLog: {
    ...{ file: "/var/log/fovea/flows.log", lines: 3, bytes: 900, lost: { disk_full: 0 }, failing: false },
    ...{ files: 1, rotations: 1, removed: { count: 0, age: 0 }, compressed: 1, failures: 0 },
  },
  rollups: {
    ...{ offered: 5, written: 5, lost: 0, pending: 0, pendingKeys: 0, pendingMinutes: 0, folded: 0 },
    ...{ minuteRows: 4, hourRows: 0, oldestMinuteAt: now },
  },
  samples: {
    ...{ series: 2, seriesMax: 100, pendingSteps: 0, samples: 10, bytes: 30, oldestAt: now },
    ...{ lost: [{ reason: "queue", samples: 1 }], evicted: [] },
  },
  streams: { open: 0, max: 4, served: 1, refused: 0, cutOff: 0, rowsUnsent: 0 },
  sinks: [],
  api: { connections: 1, refused: 0 },
  warnings: ["collector drops fails: no BTF"],
};

/** The queries of a store, asked on this thread; it has no parts, so totals and samples are made up. */
export function historyOf(store: Store): ApiParts["queries"] {
  return {
    flows: async (query) => store.queryFlows(query),
    drops: async (query) => store.topDrops(query),
    lost: async (query) => store.ask("lost", query),
    summaries: async (query) => store.ask("summaries", query),
    series: async (query) => store.ask("series", query),
    samples: () =>
      Promise.resolve({
        series: [
          {
            name: "kappie_forward_count",
            labels: { Direction: "egress" },
            points: [
              [now - 15_000, 1.5],
              [now, Number.NaN],
              [now, Number.POSITIVE_INFINITY],
              [now, null],
            ],
          },
        ],
        complete: true,
      }),
    top: ({ fromAt = 0, toAt = now }) =>
      Promise.resolve({
        ranks: [
          { key: "10.0.0.1", records: 4, packets: 33, bytes: 15_180 },
          { key: "evil\u001b[31m", records: 1, packets: 10, bytes: 5000 },
        ],
        total: { records: 6, packets: 53, bytes: 25_180 },
        other: { records: 7, packets: 63, bytes: 30_180 },
        unnamed: { records: 0, packets: 0, bytes: 0 },
        fromAt,
        toAt,
        complete: true,
      }),
  };
}

export function streamsOf(
  store: Store,
  { streamsMax = 4, bounds = {} }: { streamsMax?: number; bounds?: Partial<StreamBounds> } = {},
): Streams {
  return createStreams({
    source: {
      ...historyOf(store),
      head: () => ({ generation: store.place().generation, seq: store.stats().lastSeq }),
      ledger: store.ledger,
    },
    streamsMax,
    failed: (error) => {
      throw error;
    },
    bounds,
  });
}

export function apiParts(store: Store, changed: Partial<ApiParts> = {}): ApiParts {
  return {
    version: "1.2.3",
    access: { loopback: true, mutualTls: false, openMetrics: () => false },
    scrape: (accept) =>
      Promise.resolve({ contentType: "text/plain; version=0.0.4", body: `# ${accept ?? "none"}\n` }),
    unready: () => [],
    status: () => status,
    queries: historyOf(store),
    streams: streamsOf(store),
    imports: {
      rowsImported: () => 0,
      importRows: () => Promise.reject(new Error("nothing is imported in this test")),
    },
    sinks: {
      facts: () => [],
      pause: () => undefined,
      resume: () => undefined,
      discard: () => 0,
      deadLetters: () => [],
      deadLettersEvicted: () => 0,
    },
    ledger: () => ({ totals: store.ledger(), rows: store.stats().rows, sinks: [] }),
    now: () => now,
    counts: createRequestCounts(),
    failed: () => undefined,
    ...changed,
  };
}

/** A request as a browser on this machine makes it. */
export const local = { headers: { Host: "127.0.0.1:10093" } };
