// What the rows of the metric table read: this node, its store and the process, as plain data.

import { statfsSync } from "node:fs";
import type { StreamFacts } from "./api/streams.ts";
import type { Distribution } from "./distribution.ts";
import type { FlowLogFacts } from "./flow-log.ts";
import type { ForwardFacts } from "./forward/facts.ts";
import type { NamesFacts } from "./identity/dns.ts";
import type { LoopFacts } from "./loop.ts";
import type { NodeModel } from "./node.ts";
import type { LedgerTotals } from "./store/ledger.ts";
import type { QueriesFacts } from "./store/queries.ts";
import type { RollupFacts } from "./store/rollups.ts";
import type { SampleFacts } from "./store/samples.ts";
import type { ThrottleFacts } from "./throttle.ts";

export type BuildFacts = {
  readonly version: string;
  readonly commit: string;
  readonly bun: string;
  readonly os: string;
  readonly arch: string;
};

export type ProcessFacts = {
  /** Epoch milliseconds. */
  readonly startedAt: number;
  readonly residentBytes: number;
  readonly cpuSeconds: number;
};

export type StoreFacts = {
  readonly rows: number;
  readonly bytes: number;
  readonly bytesMax: number;
  /** Epoch milliseconds; absent when the store is empty. */
  readonly oldestAt?: number;
  readonly newestAt?: number;
  /** How long appends took, in seconds; cumulative. */
  readonly writeTimes: Distribution;
  /** Times that the log was written back into the file, and how long that took; cumulative. */
  readonly checkpoints: { readonly count: number; readonly seconds: number };
  /** Files that could not be used and were put aside, since the start. */
  readonly recovered: number;
  /** Cumulative; `code` is that of SQLite or of the system. */
  readonly errors: readonly { readonly code: string; readonly count: number }[];
};

export type DiskFacts = {
  /** Of the file system that the store is on: what this process may still take. */
  readonly freeBytes: number;
  readonly bytes: number;
};

/** Absent where the system does not tell. */
export function diskFacts(directory: string): { readonly disk?: DiskFacts } {
  try {
    const { bavail, blocks, bsize } = statfsSync(directory);
    return { disk: { freeBytes: bavail * bsize, bytes: blocks * bsize } };
  } catch {
    return {}; // A directory that is not there, or a system without the call: nothing is told, not zero.
  }
}

export type HttpFacts = {
  /** Cumulative; `route` is a path of the API or `other`. */
  readonly requests: readonly {
    readonly route: string;
    readonly method: string;
    readonly code: string;
    readonly count: number;
  }[];
  readonly connections?: number;
  /** Connections turned away because too many were open; cumulative. */
  readonly refused?: number;
};

export type ConfigFacts = {
  /** Changes of the file that were applied, and that were refused; cumulative. */
  readonly reloaded: number;
  readonly refused: number;
  /** The file as it is now was refused; an older configuration is in force. */
  readonly lastRefused: boolean;
  /** Values that are not in force as they were written, by key; cumulative. */
  readonly rejected: Readonly<Record<string, number>>;
};

export type UpstreamFacts = {
  /** Epoch milliseconds. */
  readonly now: number;
  readonly sinks: readonly ForwardFacts[];
  /** Dead letters that gave way to newer ones, since the store was made. */
  readonly deadLettersEvicted: number;
};

/** A part that is absent gives no series. */
export type MetricView = {
  readonly nodeName: string;
  readonly cluster: string;
  readonly node: NodeModel;
  readonly build: BuildFacts;
  readonly process: ProcessFacts;
  readonly names?: NamesFacts;
  readonly loop?: LoopFacts;
  readonly log?: { readonly suppressed: number; readonly lost: number };
  readonly store?: StoreFacts;
  readonly ledger?: LedgerTotals;
  /** Rows that retention took when every sink had them, by reason. */
  readonly evictedSent?: Readonly<Record<string, number>>;
  readonly upstream?: UpstreamFacts;
  readonly throttle?: ThrottleFacts;
  readonly rollups?: RollupFacts;
  readonly samples?: SampleFacts;
  readonly queries?: QueriesFacts;
  readonly streams?: StreamFacts;
  readonly flowLog?: FlowLogFacts;
  readonly disk?: DiskFacts;
  readonly http?: HttpFacts;
  readonly config?: ConfigFacts;
};

export function processFacts(startedAt: number): ProcessFacts {
  const { user, system } = process.cpuUsage();
  return { startedAt, residentBytes: process.memoryUsage.rss(), cpuSeconds: (user + system) / 1e6 };
}
