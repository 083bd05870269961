// The sink contract: what an upstream takes, and what became of a parcel that was sent to it.

import type { EncoderSpec } from "./encoder.ts";

/** What a sink forwards: rows of flows, or samples of metrics. */
export const signals = ["flows", "metrics"] as const;
export type Signal = (typeof signals)[number];

/** Live data, or what is left from a time without an upstream. */
export type Lane = "live" | "backlog";

/** What the receiver takes: what it would refuse, silently or not, is not sent but counted as expired. */
export type Capability = {
  /** Records older than this are not taken; infinite where any age is. */
  readonly ageMaxMs: number;
  /**
   * How far behind the newest that it has the receiver takes records, so that live data may go first after an outage.
   * 0: in order alone. Infinite: any order.
   */
  readonly outOfOrderMs: number;
  /** Between the first and the last record of one body; infinite where any span is taken. */
  readonly spanMaxMs: number;
  readonly recordsMax: number;
  /** Of a body before compression. */
  readonly bytesMax: number;
};

/** One body for one request. */
export type Parcel = {
  readonly signal: Signal;
  readonly lane: Lane;
  readonly body: Uint8Array<ArrayBuffer>;
  readonly records: number;
  /** Stale markers in it, which are no records. */
  readonly markers: number;
  /** The encoding that the body is in. */
  readonly format: EncoderSpec["format"];
  /** Times of its records, epoch milliseconds. */
  readonly firstAt: number;
  readonly lastAt: number;
};

/** Why a parcel is sent again: the label `reason` of `fovea_upstream_retries_total`. */
const retryReasons = [
  "network",
  "timeout",
  "tls",
  "auth",
  "forbidden",
  "not_found",
  "redirect",
  "throttled",
  "server",
  "blocked",
  "disk",
  "other",
] as const;
export type RetryReason = (typeof retryReasons)[number];

/** Why records are never sent again: the label `reason` of `fovea_upstream_rejected_records_total`. */
export type RejectReason = "4xx" | "partial" | "too_large" | "too_old" | "encode" | "server";

/**
 * `code` is the HTTP status, or `network`, `timeout`, `tls`, `auth`, `disk`; `message` is one line without a secret.
 * - stored: the receiver has it. `rejected` of its records it took note of and will not keep; `mismatch`: it says that
 *   it has fewer than were sent without saying why.
 * - again: nothing of it may be there; it is sent again after a pause. `afterMs` as the receiver asked; `slow` where
 *   only an operator or much time can help (no role yet, wrong path).
 * - refused: it will never be taken as it is: the drain halves it until the poison is alone.
 * - too_large: the same, but halving is what helps.
 * - reencode: nothing was stored, and `encoder` of the sink now gives another encoding.
 */
export type Outcome =
  | {
      readonly kind: "stored";
      readonly code: string;
      readonly rejected?: {
        readonly records: number;
        readonly reason: RejectReason;
        readonly message: string;
      };
      readonly mismatch?: number;
    }
  | {
      readonly kind: "again";
      readonly code: string;
      readonly reason: RetryReason;
      readonly message: string;
      readonly afterMs?: number;
      readonly slow?: boolean;
    }
  | {
      readonly kind: "refused";
      readonly code: string;
      readonly reason: RejectReason;
      readonly message: string;
    }
  | { readonly kind: "too_large"; readonly code: string; readonly message: string }
  | { readonly kind: "reencode"; readonly code: string; readonly message: string };

/** What became of the files of a sink that writes some, since the start. */
export type FileFacts = {
  readonly completed: number;
  /** Completed after a crash, or after their disk was away. */
  readonly leftovers: number;
  /** Could not be completed, and were put aside. */
  readonly damaged: number;
  /** Complete ones that gave way to newer ones. */
  readonly removed: number;
  readonly removedBytes: number;
};

export type SinkFacts = {
  /** Where it sends: scheme, host and path of a URL, never its query, or a directory. */
  readonly target: string;
  /** When the token that is in use ends, epoch milliseconds. */
  readonly tokenExpiresAt?: number;
  readonly tokenErrors: number;
  /** How far our clock is ahead of the receiver's, by its Date header. */
  readonly clockSkewMs?: number;
  readonly files?: FileFacts;
};

export type Sink = AsyncDisposable & {
  readonly signals: readonly Signal[];
  readonly capability: (signal: Signal) => Capability;
  /** How a batch is encoded: plain data, it goes to the query worker. */
  readonly encoder: (signal: Signal) => EncoderSpec;
  /** Never throws and never waits longer than its timeout; a signal that aborts ends it with `again`. */
  send(parcel: Parcel, abort: AbortSignal): Promise<Outcome>;
  facts(): SinkFacts;
};
