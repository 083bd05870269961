// How forwarding does, one entry a sink and signal: what the metrics, the API and the status tell.

import type { Distribution } from "../distribution.ts";
import type { SinkConfig } from "../sinks/schema.ts";
import type { FileFacts, Lane } from "../sinks/sink.ts";
import type { SinkCounts, SinkKey } from "../store/sink-states.ts";

/**
 * - live: all that is due was sent. catching_up: live data is sent, and a backlog beside it.
 * - retrying: the last request failed; it is sent again after a pause.
 * - paused: by an operator. scheduled: outside its windows. waiting: the store is not on disk.
 */
export type ForwardPhase = "live" | "catching_up" | "retrying" | "paused" | "scheduled" | "waiting";

export type ForwardError = {
  readonly at: number;
  readonly code: string;
  readonly reason: string;
  readonly message: string;
  /** Requests that failed since the last one that did not. */
  readonly times: number;
};

export type ForwardFacts = SinkKey & {
  readonly type: SinkConfig["type"];
  /** Scheme, host and path, or a directory. */
  readonly target: string;
  readonly phase: ForwardPhase;
  /** Whether the last request was answered by the receiver; absent before the first. */
  readonly connected?: boolean;
  readonly pending: number;
  /** About what they take in the store. */
  readonly pendingBytes: number;
  /** When the oldest pending record was stored; absent when there is none. Epoch milliseconds. */
  readonly oldestAt?: number;
  /** Records that wait in each lane. */
  readonly lanes: Readonly<Record<Lane, number>>;
  /** Until retention takes what is pending, at the present rate; absent when that is not known. */
  readonly bufferHoursLeft?: number;
  /** Since the store was made. */
  readonly offered: number;
  readonly counts: SinkCounts;
  // All that follows: since the start.
  readonly sentBytes: number;
  readonly requests: Readonly<Record<string, number>>;
  readonly retries: Readonly<Record<string, number>>;
  readonly retriedRecords: Readonly<Record<string, number>>;
  readonly partialSuccesses: number;
  readonly writtenMismatches: number;
  readonly staleMarkers: number;
  /** Seconds until the next try; 0 when none waits. */
  readonly backoffSeconds: number;
  readonly requestSeconds: Distribution;
  /** From the record's time to its acknowledgement, of the last record of each body. */
  readonly latencySeconds: Distribution;
  readonly lastError?: ForwardError;
  readonly lastSentAt?: number;
  readonly tokenExpiresAt?: number;
  readonly tokenErrors: number;
  readonly clockSkewMs?: number;
  /** Of the sink, all its signals together; absent where it writes none. */
  readonly files?: FileFacts;
};
