// The families about the history: throttle, rollups, samples, queries, streams, the flow log and its disk.

import { counter, gauge, type MetricRow, type Sample } from "./metrics-row.ts";
import type { MetricView } from "./metrics-view.ts";

/** One value of a section that may be absent. */
function* one<Section>(
  section: Section | undefined,
  value: (section: Section) => number | undefined,
): Iterable<Sample<never>> {
  const found = section === undefined ? undefined : value(section);
  if (found !== undefined) yield [{}, found];
}

const throttleRows: readonly MetricRow[] = [
  gauge({
    name: "fovea_throttle_enabled",
    help: "1 when the throttle is on.",
    labels: [],
    read: ({ throttle }) => one(throttle, ({ enabled }) => Number(enabled)),
  }),
  gauge({
    name: "fovea_throttle_limit",
    help: "Rows that the throttle lets pass at once: rate times window, or the burst; without the reserve.",
    labels: [],
    read: ({ throttle }) => one(throttle, ({ limit }) => limit),
  }),
  gauge({
    name: "fovea_throttle_rate",
    help: "Rows an interval that the throttle lets pass on average.",
    labels: [],
    read: ({ throttle }) => one(throttle, ({ rate }) => rate),
  }),
  gauge({
    name: "fovea_throttle_window_usage_ratio",
    help: "Spent part of the limit, 0 to 1.",
    labels: [],
    read: ({ throttle }) => one(throttle, ({ windowUse }) => windowUse),
  }),
  gauge({
    name: "fovea_throttle_reserve_usage_ratio",
    help: "Spent part of the reserve for rows that matter, 0 to 1.",
    labels: [],
    read: ({ throttle }) => one(throttle, ({ reserveUse }) => reserveUse),
  }),
  gauge({
    name: "fovea_throttle_active",
    help: "1 when rows were held back in this interval or the last one.",
    labels: [],
    read: ({ throttle }) => one(throttle, ({ active }) => Number(active)),
  }),
];

const rollupRows: readonly MetricRow[] = [
  counter({
    name: "fovea_rollup_records_total",
    help: "Records that are in rollups on disk, since the store was made.",
    labels: [],
    read: ({ rollups }) => one(rollups, ({ written }) => written),
  }),
  counter({
    name: "fovea_rollup_records_lost_total",
    help: "Records that a crash took before their minute was written, since the store was made.",
    labels: [],
    read: ({ rollups }) => one(rollups, ({ lost }) => lost),
  }),
  counter({
    name: "fovea_rollup_records_folded_total",
    help: "Records whose ends were not among the greatest of their minute; the totals have them.",
    labels: [],
    read: ({ rollups }) => one(rollups, ({ folded }) => folded),
  }),
  gauge({
    name: "fovea_rollup_pending_keys",
    help: "Keys of minutes that are not written yet.",
    labels: [],
    read: ({ rollups }) => one(rollups, ({ pendingKeys }) => pendingKeys),
  }),
];

const sampleRows: readonly MetricRow[] = [
  gauge({
    name: "fovea_samples_series",
    help: "Series that samples are kept of.",
    labels: [],
    read: ({ samples }) => one(samples, ({ series }) => series),
  }),
  counter({
    name: "fovea_samples_lost_total",
    help: "Samples that were taken and not kept, by reason.",
    labels: ["reason"],
    *read({ samples }) {
      for (const { reason, samples: count } of samples?.lost ?? []) yield [{ reason }, count];
    },
  }),
  counter({
    name: "fovea_samples_evicted_total",
    help: "Samples that retention removed, by what made it: the size or the age.",
    labels: ["reason"],
    *read({ samples }) {
      for (const { reason, samples: count } of samples?.evicted ?? []) yield [{ reason }, count];
    },
  }),
];

// What stands in the file beside the rows of flows, which fovea_store_rows has.
function* tables({ store, rollups, samples }: MetricView): Iterable<Sample<"table">> {
  if (store !== undefined) yield [{ table: "flows" }, store.rows];
  if (rollups !== undefined) {
    yield [{ table: "rollup_minutes" }, rollups.minuteRows];
    yield [{ table: "rollup_hours" }, rollups.hourRows];
  }
  if (samples !== undefined) yield [{ table: "samples" }, samples.samples];
}

function* oldest({ store, rollups, samples }: MetricView): Iterable<Sample<"table">> {
  const times = [
    ["flows", store?.oldestAt],
    ["rollup_minutes", rollups?.oldestMinuteAt],
    ["rollup_hours", rollups?.oldestHourAt],
    ["samples", samples?.oldestAt],
  ] as const;
  for (const [table, at] of times) if (at !== undefined) yield [{ table }, at / 1000];
}

const tableRows: readonly MetricRow[] = [
  gauge({
    name: "fovea_store_table_rows",
    help: "What the store holds, by table: rows of flows and of rollups, single samples.",
    labels: ["table"],
    read: tables,
  }),
  gauge({
    name: "fovea_store_table_oldest_timestamp_seconds",
    help: "Time of the oldest entry, by table.",
    labels: ["table"],
    read: oldest,
  }),
  gauge({
    name: "fovea_disk_free_bytes",
    help: "Bytes that may still be taken of the file system that the store is on.",
    labels: [],
    read: ({ disk }) => one(disk, ({ freeBytes }) => freeBytes),
  }),
];

const queryRows: readonly MetricRow[] = [
  counter({
    name: "fovea_store_queries_total",
    help: "Queries of the store, by result: answered, failed, or refused because too many waited.",
    labels: ["result"],
    *read({ queries }) {
      if (queries === undefined) return;
      yield [{ result: "answered" }, queries.answered];
      yield [{ result: "failed" }, queries.failed];
      yield [{ result: "refused" }, queries.refused];
    },
  }),
  counter({
    name: "fovea_store_query_seconds_total",
    help: "Time from question to answer, of all queries of the store.",
    labels: [],
    read: ({ queries }) => one(queries, ({ seconds }) => seconds),
  }),
  counter({
    name: "fovea_store_query_worker_crashes_total",
    help: "Workers for queries that ended without being told to.",
    labels: [],
    read: ({ queries }) => one(queries, ({ crashed }) => crashed),
  }),
  gauge({
    name: "fovea_streams_open",
    help: "Streams of flows that are open.",
    labels: [],
    read: ({ streams }) => one(streams, ({ open }) => open),
  }),
  counter({
    name: "fovea_streams_total",
    help: "Streams by what became of them: served, refused because too many were open, cut_off as too slow.",
    labels: ["result"],
    *read({ streams }) {
      if (streams === undefined) return;
      yield [{ result: "served" }, streams.served];
      yield [{ result: "refused" }, streams.refused];
      yield [{ result: "cut_off" }, streams.cutOff];
    },
  }),
  counter({
    name: "fovea_stream_rows_unsent_total",
    help: "Rows that streams did not get because they were cut off.",
    labels: [],
    read: ({ streams }) => one(streams, ({ rowsUnsent }) => rowsUnsent),
  }),
];

const flowLogRows: readonly MetricRow[] = [
  counter({
    name: "fovea_flow_log_lines_total",
    help: "Lines written to the flow log.",
    labels: [],
    read: ({ flowLog }) => one(flowLog, ({ lines }) => lines),
  }),
  counter({
    name: "fovea_flow_log_bytes_total",
    help: "Bytes written to the flow log, before compression.",
    labels: [],
    read: ({ flowLog }) => one(flowLog, ({ bytes }) => bytes),
  }),
  counter({
    name: "fovea_flow_log_lines_lost_total",
    help: "Lines that could not be written to the flow log, by reason.",
    labels: ["reason"],
    *read({ flowLog }) {
      for (const [reason, lines] of Object.entries(flowLog?.lost ?? {})) yield [{ reason }, lines];
    },
  }),
  counter({
    name: "fovea_flow_log_rotations_total",
    help: "Times that the flow log began a new file.",
    labels: [],
    read: ({ flowLog }) => one(flowLog, ({ rotations }) => rotations),
  }),
];

export const historyRows: readonly MetricRow[] = [
  ...throttleRows,
  ...tableRows,
  ...rollupRows,
  ...sampleRows,
  ...queryRows,
  ...flowLogRows,
];
