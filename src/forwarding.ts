// Puts forwarding together: the sinks of the configuration, their states in the store, and the drains between.

import { setTimeout as wait } from "node:timers/promises";
import type { Config } from "./config-schema.ts";
import { type Buffer, hoursLeft } from "./forward/buffer.ts";
import { createForwarder, type Forwarder } from "./forward/forwarder.ts";
import type { History } from "./history.ts";
import type { Log } from "./log.ts";
import { openSink } from "./sinks/open.ts";
import type { Signal } from "./sinks/sink.ts";
import { samplesShare } from "./store/sample-file.ts";

/** Ends its wait when the signal aborts, too. */
async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  try {
    // Its own end must not keep a process alive that has nothing else to do.
    await wait(ms, undefined, { signal, ref: false });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** What the history of each signal takes, and what it may. */
function bufferOf({ store, samples }: History, config: Config, signal: Signal): Buffer {
  const { bytesMax, ageMax } = config.store;
  const facts = signal === "metrics" ? samples.facts() : store.stats();
  const oldest = facts.oldestAt === undefined ? {} : { oldestAt: facts.oldestAt };
  if ("samples" in facts) {
    const ageMaxMs = config.samples.ageMax;
    return { bytes: facts.bytes, bytesMax: bytesMax * samplesShare, ageMaxMs, ...oldest };
  }
  return { bytes: facts.bytes.database, bytesMax, ageMaxMs: ageMax, ...oldest };
}

const rowBytesMin = 64;

/** About what one record takes in the store. */
function recordBytes({ store, samples }: History, signal: Signal): number {
  const { bytes, samples: count } = samples.facts();
  if (signal === "metrics") return bytes / Math.max(1, count);
  const stats = store.stats();
  // What is in the log alone is not counted yet.
  return Math.max(rowBytesMin, (stats.bytes.database - bytes) / Math.max(1, stats.rows));
}

/** Nothing is forwarded until `apply` is called. Dispose before the history: it reads it. */
export function openForwarding(options: {
  readonly history: History;
  readonly config: () => Config;
  readonly version: string;
  readonly log: Log;
  readonly now: () => number;
}): Forwarder {
  const { history, config, version, log, now } = options;
  const { sinkStates: states, queries } = history;
  return createForwarder({
    states,
    commit: () => void history.store.append({ rows: [], at: now(), fit: false }),
    batch: queries.batch,
    log,
    now,
    elapsedMs: () => performance.now(),
    random: Math.random,
    sleep,
    open: (sink) => {
      const { node, cluster } = config();
      return openSink(sink, { identity: { node, cluster, version }, now, env: process.env, log });
    },
    rowBytes: (signal) => recordBytes(history, signal),
    hoursLeft: ({ signal, ranges }) => {
      const oldest = ranges.find(({ first, last, done }) => last - first + 1 > done);
      const oldestPendingAt = oldest === undefined ? undefined : states.storedAt(signal, oldest.first);
      return hoursLeft(bufferOf(history, config(), signal), { now: now(), oldestPendingAt });
    },
  });
}
