// The appliance: what one tick does, what a stop still saves, and how it does meanwhile.

import type { Admission, Admitted } from "./admission.ts";
import { createDistribution, type Distribution } from "./distribution.ts";
import type { FlowRecord } from "./flow.ts";
import type { PacketDeltas } from "./ledger-deltas.ts";
import { errorText, type Log } from "./log.ts";
import type { StoreFacts } from "./metrics-view.ts";
import type { CollectorHealth, NodeModel } from "./node.ts";
import type { Observing } from "./observing.ts";
import type { PacketLedger } from "./snapshot.ts";
import type { LossReason } from "./store/failure.ts";
import type { Store } from "./store/store.ts";
import { statusLine, type Throttle } from "./throttle.ts";
import type { ThrottleSummary } from "./throttle-summary.ts";

/** What is done with records and counts beside the store. */
export type Outlets = {
  /** Kept with the next append. */
  summaries(summaries: readonly ThrottleSummary[]): void;
  /** Called before the append of a tick, so that a sample goes into its transaction. */
  sample(): void;
  /** Rows that the store kept or lost, and what was throttled meanwhile. */
  log(rows: readonly FlowRecord[], summaries: readonly ThrottleSummary[]): void;
};

export type Appliance = {
  /** Observes once, and appends what was seen together with what was counted. */
  tick(signal: AbortSignal): Promise<void>;
  /** After the last tick: appends what is still held. Never throws. */
  finish(): void;
  model(): NodeModel;
  storeFacts(): StoreFacts;
  /** Why the appliance is not ready; empty when it observes and keeps what it sees. */
  unready(): readonly string[];
};

/** Tells of a collector when it fails, and when it works again; not in each tick between. */
function createHealthLog(log: Log): (health: readonly CollectorHealth[]) => void {
  let failing = new Set<string>();
  return (health) => {
    const failed = health.filter(({ success }) => !success);
    for (const { name, error } of failed)
      if (!failing.has(name)) log.warn("a collector fails; the others go on", { collector: name, error });
    const names = new Set(failed.map(({ name }) => name));
    for (const name of failing)
      if (!names.has(name)) log.info("a collector works again", { collector: name });
    failing = names;
  };
}

// Upper bounds, in seconds, of the time that an append takes: from an empty tick to a disk that hardly moves.
const writeBounds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5] as const;

/** Tells of a store that leaves the disk or comes back to it, and of files that it could not go on with. */
function createStoreLog(store: Store, log: Log): () => void {
  let mode: "disk" | "memory" = "disk";
  let replacedAt = Number.NaN;
  return () => {
    const { mode: now, memoryReason, path, recoveries } = store.stats();
    const { at, reason, movedTo } = recoveries.at(-1) ?? {};
    if (at !== undefined && at !== replacedAt) {
      replacedAt = at;
      log.error("a store file that cannot be used was put aside; a new one is in its place", {
        reason,
        movedTo,
      });
    }
    if (now === mode) return;
    mode = now;
    if (now === "memory")
      log.error("the store is not on disk; its rows end with the process", { reason: memoryReason });
    else log.info("the store is on disk again", { path });
  };
}

/** Appends, times the appends, and tells of lost rows. */
function createWriter(store: Store, log: Log, deltasOf: PacketDeltas) {
  const times = createDistribution(writeBounds);
  const tellStore = createStoreLog(store, log);
  let failure: LossReason | undefined;
  return {
    append: ({ rows, unkept, ledger: decided }: Admitted, packets: PacketLedger | undefined): void => {
      const startMs = performance.now();
      const ledger = { ...deltasOf(packets), ...decided, "rows.offered": rows.length + unkept.length };
      const { lost, invalid, ...result } = store.append({ rows, unkept, ledger });
      failure = result.failure;
      times.add((performance.now() - startMs) / 1000);
      if (lost > 0) log.error("rows were lost", { rows: lost, reason: failure });
      if (invalid > 0) log.error("rows were invalid", { rows: invalid });
      tellStore();
    },
    times: times.all,
    /** Why the last append could not be written. */
    failure: () => failure,
  };
}

/** Logs the status line of the throttle, where it is asked for, once an interval. */
function createThrottleLog({ facts }: Throttle, log: Log): () => void {
  let told = Number.NaN;
  return () => {
    const now = facts();
    if (!now.enabled || !now.print || now.interval === told) return;
    told = now.interval;
    log.info("throttle", { status: statusLine(now) });
  };
}

function factsOf(store: Store, writeTimes: Distribution): StoreFacts {
  const { rows, bytes, bytesMax, oldestAt, newestAt, errors, checkpoints, recovered } = store.stats();
  return {
    rows,
    bytes: bytes.database + bytes.wal,
    bytesMax,
    ...(oldestAt === undefined ? {} : { oldestAt }),
    ...(newestAt === undefined ? {} : { newestAt }),
    writeTimes,
    checkpoints,
    recovered,
    errors: Object.entries(errors).map(([code, count]) => ({ code, count })),
  };
}

function unreadyReasons(model: NodeModel, store: Store, failure: LossReason | undefined): readonly string[] {
  const { mode, memoryReason = "unknown" } = store.stats();
  const lost = mode === "disk" && failure !== undefined;
  return [
    ...(model.at === 0 ? ["no tick is done yet"] : []),
    ...(mode === "memory" ? [`the store is not on disk: ${memoryReason}`] : []),
    ...(lost ? [`the store cannot be written, rows are lost: ${failure}`] : []),
  ];
}

export function createAppliance(options: {
  readonly observing: Observing;
  /** Whether what observes goes on after the last tick; else its backend is asked for what it still holds. */
  readonly stays: () => boolean;
  readonly store: Store;
  readonly log: Log;
  readonly admission: Admission;
  readonly throttle: Throttle;
  readonly outlets: Outlets;
}): Appliance {
  const { observing, stays, store, log, admission, throttle, outlets } = options;
  const { backend, node } = observing;
  const writer = createWriter(store, log, observing.packetDeltas);
  const tellHealth = createHealthLog(log);
  const tellThrottle = createThrottleLog(throttle, log);
  const take = (flows: readonly FlowRecord[], packets: PacketLedger | undefined, last: boolean): void => {
    const admitted = admission.sort(flows);
    const summaries = throttle.takeSummaries({ now: last });
    outlets.summaries(summaries);
    outlets.sample();
    writer.append(admitted, packets);
    outlets.log(admitted.rows, summaries);
  };
  return {
    tick: async (signal) => {
      const { model, flows } = await node.observe(backend.collectors, signal);
      take(flows, model.state.packets, false);
      tellHealth(model.health);
      tellThrottle();
    },
    finish: () => {
      try {
        const last = stays() ? {} : (backend.drain?.() ?? {});
        take(node.take(last), last.packets, true);
      } catch (error) {
        log.error("flows that were still live are lost", { error: errorText(error) });
      }
    },
    model: node.model,
    storeFacts: () => factsOf(store, writer.times()),
    unready: () => unreadyReasons(node.model(), store, writer.failure()),
  };
}
