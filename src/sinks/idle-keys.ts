// Keys of a sink that do nothing with the receiver that it has: told, and no reason to refuse the configuration.

import type { SinkProblem } from "./check.ts";
import { outOfOrderOf } from "./remote-write.ts";
import { liveShareDefault, type SinkConfig } from "./schema.ts";

const why =
  "is not in force: the receiver takes records in order alone, so that what is left from an outage goes before " +
  "what is live, at any time and with the whole rate; if it has a window for what is out of order, set limits.outOfOrder";

/** `key` is the path of the key within the sink. A key that was given its default is none of them. */
export function idleKeys(config: SinkConfig): readonly SinkProblem[] {
  const { limits, schedule, pace } = config;
  const usual = config.type === "remote-write" ? outOfOrderOf(config) : Number.POSITIVE_INFINITY;
  if ((limits.outOfOrder ?? usual) > 0) return [];
  return [
    ...(schedule.backlogWindows.length === 0 ? [] : [{ key: "schedule.backlogWindows", message: why }]),
    ...(pace.liveShare === liveShareDefault ? [] : [{ key: "pace.liveShare", message: why }]),
  ];
}
