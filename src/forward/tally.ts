// What one sink and signal did since the start, and how it does: counted for the metrics, told to the log.

import { createDistribution } from "../distribution.ts";
import type { Log } from "../log.ts";
import type { Outcome, RetryReason } from "../sinks/sink.ts";
import type { Batch } from "../store/sink-batch.ts";
import type { SinkKey } from "../store/sink-states.ts";
import type { ForwardError, ForwardFacts } from "./facts.ts";

// Upper bounds in seconds: from a receiver next door to the longest timeout; from a live stream to a long outage.
const requestBounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60] as const;
const latencyBounds = [0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 900, 3600, 14_400] as const;

/** Codes of requests that the receiver did not answer. */
const unanswered: ReadonlySet<string> = new Set(["network", "timeout", "tls", "auth", "disk"]);
/** Codes and reasons come from the receiver too: past this many, they share one count. */
const namesMax = 64;

export type Failure = { readonly code: string; readonly reason: string; readonly message: string };
/** The store could not be read, or the sink not be made. */
export type LocalReason = "store" | "open";
type Stored = Extract<Outcome, { kind: "stored" }>;
type Counted = Pick<
  ForwardFacts,
  | "sentBytes"
  | "requests"
  | "retries"
  | "retriedRecords"
  | "partialSuccesses"
  | "writtenMismatches"
  | "staleMarkers"
  | "requestSeconds"
  | "latencySeconds"
  | "connected"
  | "lastError"
  | "lastSentAt"
>;

export type Tally = {
  /** A request had its end. */
  ended(code: string, seconds: number): void;
  stored(batch: Batch, outcome: Stored): void;
  /** From the time of a live record to its acknowledgement. */
  late(seconds: number): void;
  retried(reason: RetryReason, records: number): void;
  /** The receiver does not take records: a request failed, or was refused. */
  unwell(failure: Failure): void;
  /** It will be tried again after a pause: what `failing` tells until something is stored. */
  failed(failure: Failure): void;
  /** Records were given up. */
  rejected(lost: Failure & { readonly records: number }): void;
  /** What failed here, not at the receiver, is over. */
  recovered(reason: LocalReason): void;
  readonly failing: boolean;
  facts(): Counted;
};

const bump = (counts: Map<string, number>, name: string, by: number): void => {
  const key = counts.has(name) || counts.size < namesMax ? name : "other";
  counts.set(key, (counts.get(key) ?? 0) + by);
};

/** Tells when a sink begins to fail, to reject, and when it works again; not of each request between. */
function createHealth({ sink, signal }: SinkKey, log: Log) {
  let failing = false;
  let rejecting = false;
  return {
    failing: () => failing,
    failed: ({ reason, message }: Failure) => {
      if (!failing)
        log.warn("a sink fails; what is for it waits in the store", { sink, signal, reason, error: message });
      failing = true;
    },
    rejected: ({ reason, message, records }: Failure & { readonly records: number }) => {
      if (!rejecting)
        log.error("records that a sink cannot take were given up; they are among the dead letters", {
          ...{ sink, signal, reason, records, error: message },
        });
      rejecting = true;
    },
    worked: (whole: boolean) => {
      if (failing) log.info("a sink works again", { sink, signal });
      failing = false;
      if (whole) rejecting = false;
    },
  };
}

/** `now` is epoch milliseconds. */
export function createTally(key: SinkKey, { log, now }: { readonly log: Log; now(): number }): Tally {
  const health = createHealth(key, log);
  const named = { requests: new Map(), retries: new Map(), retriedRecords: new Map() };
  const plain = { sentBytes: 0, partialSuccesses: 0, writtenMismatches: 0, staleMarkers: 0 };
  const requestSeconds = createDistribution(requestBounds);
  const latencySeconds = createDistribution(latencyBounds);
  let last: { connected?: boolean; lastError?: ForwardError; lastSentAt?: number } = {};
  const unwell = (failure: Failure) => {
    last = { ...last, lastError: { ...failure, at: now(), times: (last.lastError?.times ?? 0) + 1 } };
  };
  const worked = (whole: boolean) => {
    health.worked(whole);
    if (last.lastError !== undefined) last = { ...last, lastError: { ...last.lastError, times: 0 } };
  };
  return {
    ended: (code, seconds) => {
      bump(named.requests, code, 1);
      requestSeconds.add(seconds);
      last = { ...last, connected: !unanswered.has(code) };
    },
    stored: ({ body, markers, rejected: unencoded }, { rejected, mismatch = 0 }) => {
      plain.sentBytes += body?.length ?? 0;
      plain.staleMarkers += markers;
      if (rejected !== undefined) plain.partialSuccesses += 1;
      if (mismatch > 0) plain.writtenMismatches += 1;
      worked(rejected === undefined && mismatch === 0 && unencoded === 0);
      last = { ...last, lastSentAt: now() };
    },
    late: (seconds) => latencySeconds.add(seconds),
    retried: (reason, records) => {
      bump(named.retries, reason, 1);
      bump(named.retriedRecords, reason, records);
    },
    unwell,
    failed: (failure) => {
      unwell(failure);
      health.failed(failure);
    },
    rejected: health.rejected,
    recovered: (reason) => {
      if (health.failing() && last.lastError?.reason === reason) worked(false);
    },
    get failing() {
      return health.failing();
    },
    facts: () => ({
      ...plain,
      requests: Object.fromEntries(named.requests),
      retries: Object.fromEntries(named.retries),
      retriedRecords: Object.fromEntries(named.retriedRecords),
      requestSeconds: requestSeconds.all(),
      latencySeconds: latencySeconds.all(),
      ...last,
    }),
  };
}
