// The families about forwarding: what each sink has sent, what waits, what is lost, and how its upstream does.

import type { ForwardFacts } from "./forward/facts.ts";
import { counter, gauge, histogram, type MetricRow, type Sample, type Spread } from "./metrics-row.ts";
import type { MetricView } from "./metrics-view.ts";
import type { FileFacts } from "./sinks/sink.ts";

// Bounded by `sinks`, at most 16, and two signals.
const labels = ["destination", "signal"] as const;
type Label = (typeof labels)[number];

const labelsOf = ({ sink, signal }: ForwardFacts) => ({ destination: sink, signal });

/** One value a sink and signal, where there is one. */
const each = (value: (facts: ForwardFacts) => number | undefined) =>
  function* read({ upstream }: MetricView): Iterable<Sample<Label>> {
    for (const facts of upstream?.sinks ?? []) {
      const found = value(facts);
      if (found !== undefined) yield [labelsOf(facts), found];
    }
  };

const eachSpread = (value: (facts: ForwardFacts) => Spread<Label>[1]) =>
  function* read({ upstream }: MetricView): Iterable<Spread<Label>> {
    for (const facts of upstream?.sinks ?? []) yield [labelsOf(facts), value(facts)];
  };

/** A count of the ledger by reason; `always` are told from the start, at zero. */
const byReason = (family: string, always: readonly string[]) =>
  function* read({ upstream }: MetricView): Iterable<Sample<Label | "reason">> {
    for (const facts of upstream?.sinks ?? []) {
      const counted = Object.keys(facts.counts).filter((name) => name.startsWith(`${family}.`));
      const reasons = new Set([...always, ...counted.map((name) => name.slice(family.length + 1))]);
      for (const reason of reasons)
        yield [{ ...labelsOf(facts), reason }, facts.counts[`${family}.${reason}`] ?? 0];
    }
  };

const byName = <Name extends string>(
  name: Name,
  value: (facts: ForwardFacts) => Readonly<Record<string, number>>,
) =>
  function* read({ upstream }: MetricView): Iterable<Sample<Label | Name>> {
    for (const facts of upstream?.sinks ?? [])
      for (const [key, count] of Object.entries(value(facts)))
        yield [{ ...labelsOf(facts), [name]: key } as Record<Label | Name, string>, count];
  };

const count = (name: string) => each(({ counts }) => counts[name] ?? 0);

const pendingRows: readonly MetricRow[] = [
  gauge({
    name: "fovea_upstream_connected",
    help: "1 when the last request was answered by the upstream; absent before the first.",
    labels,
    read: each(({ connected }) => (connected === undefined ? undefined : Number(connected))),
  }),
  gauge({
    name: "fovea_upstream_paused",
    help: "1 when an operator paused the sink.",
    labels,
    read: each(({ phase }) => Number(phase === "paused")),
  }),
  gauge({
    name: "fovea_upstream_pending_records",
    help: "Records in the store that the upstream has not acknowledged yet.",
    labels,
    read: each(({ pending }) => pending),
  }),
  gauge({
    name: "fovea_upstream_pending_bytes",
    help: "About what those records take in the store.",
    labels,
    read: each(({ pendingBytes }) => pendingBytes),
  }),
  gauge({
    name: "fovea_upstream_pending_oldest_age_seconds",
    help: "How long the oldest of those records has been in the store; 0 when nothing waits.",
    labels,
    *read({ upstream }) {
      for (const facts of upstream?.sinks ?? []) {
        const ageMs = facts.oldestAt === undefined ? 0 : (upstream?.now ?? 0) - facts.oldestAt;
        yield [labelsOf(facts), Math.max(0, ageMs) / 1000];
      }
    },
  }),
  gauge({
    name: "fovea_upstream_buffer_left_seconds",
    help: "Until retention would take what waits, at the present rate; absent when that is not known.",
    labels,
    read: each(({ bufferHoursLeft }) => (bufferHoursLeft === undefined ? undefined : bufferHoursLeft * 3600)),
  }),
];

const recordRows: readonly MetricRow[] = [
  counter({
    name: "fovea_upstream_offered_records_total",
    help: "Records that were there for the sink: offered = sent + filtered + rejected + expired + diverted + discarded + evicted + pending.",
    labels,
    read: each(({ offered }) => offered),
  }),
  counter({
    name: "fovea_upstream_sent_records_total",
    help: "Records that the upstream acknowledged.",
    labels,
    read: count("sent"),
  }),
  counter({
    name: "fovea_upstream_sent_bytes_total",
    help: "Bytes of the bodies that it acknowledged, as they went over the wire, since the start.",
    labels,
    read: each(({ sentBytes }) => sentBytes),
  }),
  counter({
    name: "fovea_upstream_stale_markers_total",
    help: "Stale markers that it acknowledged, beside the samples, since the start.",
    labels,
    read: each(({ staleMarkers }) => staleMarkers),
  }),
  counter({
    name: "fovea_upstream_filtered_records_total",
    help: "Records that the filter of the sink left out.",
    labels,
    read: count("filtered"),
  }),
  counter({
    name: "fovea_upstream_rejected_records_total",
    help: "Records that the upstream will never take, by reason; the newest are among the dead letters.",
    labels: [...labels, "reason"],
    read: byReason("rejected", ["4xx", "partial", "too_old", "too_large", "encode"]),
  }),
  counter({
    name: "fovea_upstream_expired_records_total",
    help: "Records that were not sent because the upstream does not take records of their age, by reason.",
    labels: [...labels, "reason"],
    read: byReason("expired", ["age"]),
  }),
  counter({
    name: "fovea_upstream_diverted_records_total",
    help: "Records of such an age that were handed over to another sink.",
    labels,
    read: count("diverted"),
  }),
  counter({
    name: "fovea_upstream_discarded_records_total",
    help: "Records that an operator gave up.",
    labels,
    read: count("discarded"),
  }),
  counter({
    name: "fovea_upstream_evicted_records_total",
    help: "Records that retention took before they were sent, by reason.",
    labels: [...labels, "reason"],
    read: byReason("evicted", ["size", "age"]),
  }),
  counter({
    name: "fovea_upstream_dead_letters_evicted_total",
    help: "Dead letters that gave way to newer ones.",
    labels: [],
    *read({ upstream }) {
      if (upstream !== undefined) yield [{}, upstream.deadLettersEvicted];
    },
  }),
];

/** A sink has one set of files, whatever it writes into them. */
function* filesOf({ upstream }: MetricView): Iterable<readonly [destination: string, files: FileFacts]> {
  const seen = new Set<string>();
  for (const { sink, files } of upstream?.sinks ?? []) {
    if (files === undefined || seen.has(sink)) continue;
    seen.add(sink);
    yield [sink, files];
  }
}

const fileRows: readonly MetricRow[] = [
  counter({
    name: "fovea_upstream_files_total",
    help: "Files that were completed, completed after a crash, put aside as damaged, or removed for newer ones; since the start.",
    labels: ["destination", "outcome"],
    *read(view) {
      for (const [destination, { completed, leftovers, damaged, removed }] of filesOf(view))
        for (const [outcome, files] of Object.entries({ completed, leftover: leftovers, damaged, removed }))
          yield [{ destination, outcome }, files];
    },
  }),
  counter({
    name: "fovea_upstream_file_removed_bytes_total",
    help: "Bytes of the files that were removed for newer ones, since the start.",
    labels: ["destination"],
    *read(view) {
      for (const [destination, { removedBytes }] of filesOf(view)) yield [{ destination }, removedBytes];
    },
  }),
];

const requestRows: readonly MetricRow[] = [
  counter({
    name: "fovea_upstream_requests_total",
    help: "Requests by their end: the HTTP status, or network, timeout, tls, auth or disk; since the start.",
    labels: [...labels, "code"],
    read: byName("code", ({ requests }) => requests),
  }),
  counter({
    name: "fovea_upstream_retries_total",
    help: "Requests that had to be made again, by reason, since the start.",
    labels: [...labels, "reason"],
    read: byName("reason", ({ retries }) => retries),
  }),
  counter({
    name: "fovea_upstream_retried_records_total",
    help: "Records in such requests, by reason, since the start.",
    labels: [...labels, "reason"],
    read: byName("reason", ({ retriedRecords }) => retriedRecords),
  }),
  counter({
    name: "fovea_upstream_partial_success_total",
    help: "Requests of which the upstream kept only a part, since the start.",
    labels,
    read: each(({ partialSuccesses }) => partialSuccesses),
  }),
  counter({
    name: "fovea_upstream_written_mismatch_total",
    help: "Requests of which the upstream says that it wrote less than was sent, since the start.",
    labels,
    read: each(({ writtenMismatches }) => writtenMismatches),
  }),
  gauge({
    name: "fovea_upstream_backoff_seconds",
    help: "Until the next try; 0 when none waits.",
    labels,
    read: each(({ backoffSeconds }) => backoffSeconds),
  }),
  histogram({
    name: "fovea_upstream_request_duration_seconds",
    help: "Time that a request took.",
    labels,
    read: eachSpread(({ requestSeconds }) => requestSeconds),
  }),
  histogram({
    name: "fovea_upstream_end_to_end_latency_seconds",
    help: "From the time of a live record to its acknowledgement.",
    labels,
    read: eachSpread(({ latencySeconds }) => latencySeconds),
  }),
  gauge({
    name: "fovea_upstream_token_expiry_timestamp_seconds",
    help: "When the access token in use ends.",
    labels,
    read: each(({ tokenExpiresAt }) => (tokenExpiresAt === undefined ? undefined : tokenExpiresAt / 1000)),
  }),
  counter({
    name: "fovea_upstream_token_errors_total",
    help: "Tokens that could not be had, since the start.",
    labels,
    read: each(({ tokenErrors }) => tokenErrors),
  }),
  gauge({
    name: "fovea_upstream_clock_skew_seconds",
    help: "How far the clock of this node is ahead of the upstream's.",
    labels,
    read: each(({ clockSkewMs }) => (clockSkewMs === undefined ? undefined : clockSkewMs / 1000)),
  }),
];

export const upstreamRows: readonly MetricRow[] = [
  ...pendingRows,
  ...recordRows,
  ...fileRows,
  ...requestRows,
];
