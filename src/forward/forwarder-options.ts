// What forwarding needs from the rest of the appliance.

import type { Log } from "../log.ts";
import type { SinkConfig } from "../sinks/schema.ts";
import type { Signal, Sink } from "../sinks/sink.ts";
import type { Batch, BatchQuery } from "../store/sink-batch.ts";
import type { SinkState, SinkStates } from "../store/sink-states.ts";
import type { Sleep } from "./bell.ts";

export type ForwarderOptions = {
  /** Makes the sink of a configuration; throws what keeps it from that, such as a file that cannot be read. */
  readonly open: (config: SinkConfig) => Sink;
  readonly states: SinkStates;
  /** Writes what was told to `states` to the file, at once. */
  readonly commit: () => void;
  /** Asks the query worker. */
  readonly batch: (query: BatchQuery) => Promise<Batch>;
  readonly log: Log;
  /** Epoch milliseconds. */
  readonly now: () => number;
  /** Milliseconds that never go back. */
  readonly elapsedMs: () => number;
  /** From 0 to 1. */
  readonly random: () => number;
  readonly sleep: Sleep;
  /** About what one record takes in the store. */
  readonly rowBytes: (signal: Signal) => number;
  /** Until retention takes what is pending; undefined while that is not known. */
  readonly hoursLeft: (state: SinkState) => number | undefined;
};
