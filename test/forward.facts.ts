// Facts of two sinks as a running appliance tells them: one that is up to date, one with its upstream away; and of one that writes files.

import type { ForwardFacts } from "../src/forward/facts.ts";

const seconds = { bounds: [0.1, 1], counts: [3, 4], sum: 1.25, count: 5 };

/** Of a sink that writes files. */
export const fileFacts = (at: number): ForwardFacts => ({
  ...{ sink: "disk", signal: "flows", type: "file", target: "/media/usb", phase: "live", connected: true },
  ...{ pending: 0, pendingBytes: 0, lanes: { live: 0, backlog: 0 }, offered: 90, counts: { sent: 90 } },
  ...{ sentBytes: 8192, requests: { ok: 9 }, retries: {}, retriedRecords: {}, partialSuccesses: 0 },
  ...{ writtenMismatches: 0, staleMarkers: 0, backoffSeconds: 0, tokenErrors: 0, lastSentAt: at - 500 },
  ...{ requestSeconds: seconds, latencySeconds: seconds },
  files: { completed: 12, leftovers: 2, damaged: 1, removed: 7, removedBytes: 7_340_032 },
});

export const forwardFacts = (at: number): readonly ForwardFacts[] => [
  {
    sink: "central",
    signal: "metrics",
    type: "remote-write",
    target: "https://metrics.example.org/api/v1/write",
    phase: "live",
    connected: true,
    pending: 0,
    pendingBytes: 0,
    lanes: { live: 0, backlog: 0 },
    offered: 5000,
    counts: { sent: 4000, filtered: 700, "rejected.4xx": 100, "expired.age": 150, diverted: 50 },
    sentBytes: 65_536,
    requests: { "200": 12, "503": 1 },
    retries: { server: 1 },
    retriedRecords: { server: 500 },
    partialSuccesses: 0,
    writtenMismatches: 0,
    staleMarkers: 7,
    backoffSeconds: 0,
    requestSeconds: seconds,
    latencySeconds: seconds,
    lastSentAt: at - 1000,
    tokenExpiresAt: at + 3_600_000,
    tokenErrors: 1,
    clockSkewMs: 250,
  },
  {
    sink: "logs",
    signal: "flows",
    type: "loki",
    target: "http://127.0.0.1:3100/loki/api/v1/push",
    phase: "retrying",
    connected: false,
    pending: 600,
    pendingBytes: 54_000,
    oldestAt: at - 90_000,
    lanes: { live: 100, backlog: 500 },
    bufferHoursLeft: 12.5,
    offered: 1000,
    counts: { sent: 300, discarded: 60, "evicted.size": 40 },
    sentBytes: 4096,
    requests: { network: 3, "204": 2 },
    retries: { network: 3 },
    retriedRecords: { network: 300 },
    partialSuccesses: 1,
    writtenMismatches: 0,
    staleMarkers: 0,
    backoffSeconds: 4,
    requestSeconds: seconds,
    latencySeconds: seconds,
    lastError: { at: at - 2000, code: "network", reason: "network", message: "connection refused", times: 3 },
    lastSentAt: at - 95_000,
    tokenErrors: 0,
  },
];
