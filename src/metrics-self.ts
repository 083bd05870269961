// The appliance's own families about itself: rows, store, ticks, process, log, HTTP, configuration.

import { counter, gauge, histogram, type MetricRow, type Sample } from "./metrics-row.ts";
import { lossReasons } from "./store/failure.ts";
import { type LedgerTotals, type ReasonFamily, totalOf } from "./store/ledger.ts";

/**
 * Counts of a family of the ledger by reason. `always` are told from the start, at zero: the first loss is then an
 * increase, which rules of Prometheus see, and not a series that appears.
 */
function* byReason(
  ledger: LedgerTotals | undefined,
  family: ReasonFamily,
  always: readonly string[] = [],
): Iterable<Sample<"reason">> {
  if (ledger === undefined) return;
  const prefix = `${family}.`;
  const counted = Object.keys(ledger).filter((name) => name.startsWith(prefix));
  const reasons = new Set([...always, ...counted.map((name) => name.slice(prefix.length))]);
  for (const reason of reasons) yield [{ reason }, ledger[prefix + reason] ?? 0];
}

const rowRows: readonly MetricRow[] = [
  counter({
    name: "fovea_rows_offered_total",
    help: "Rows that were offered to the store, before filter and throttle, since the store was made.",
    labels: [],
    *read({ ledger }) {
      if (ledger !== undefined) yield [{}, totalOf(ledger, "rows.offered")];
    },
  }),
  counter({
    name: "fovea_rows_kept_total",
    help: "Rows that the store took, since it was made.",
    labels: [],
    *read({ ledger }) {
      if (ledger !== undefined) yield [{}, totalOf(ledger, "rows.kept")];
    },
  }),
  counter({
    name: "fovea_rows_filtered_total",
    help: "Rows that the configuration left out, by reason.",
    labels: ["reason"],
    read: ({ ledger }) => byReason(ledger, "rows.filtered", ["not_included", "excluded"]),
  }),
  counter({
    name: "fovea_rows_throttled_total",
    help: "Rows that the throttle held back, by reason.",
    labels: ["reason"],
    read: ({ ledger }) => byReason(ledger, "rows.throttled", ["window", "smooth", "reserve"]),
  }),
  counter({
    name: "fovea_rows_invalid_total",
    help: "Records that could not become a row, by reason.",
    labels: ["reason"],
    read: ({ ledger }) => byReason(ledger, "rows.invalid"),
  }),
  counter({
    name: "fovea_rows_lost_total",
    help: "Rows that could not be written, by reason.",
    labels: ["reason"],
    read: ({ ledger }) => byReason(ledger, "rows.lost", lossReasons),
  }),
  counter({
    name: "fovea_store_evicted_rows_total",
    help: "Rows that retention removed, by what made it: the size or the age; sent: whether every sink had them.",
    labels: ["reason", "sent"],
    *read({ ledger, evictedSent = {} }) {
      for (const [{ reason }, rows] of byReason(ledger, "rows.evicted", ["size", "age"])) {
        const sent = Math.min(rows, evictedSent[reason] ?? 0);
        yield [{ reason, sent: "true" }, sent];
        yield [{ reason, sent: "false" }, rows - sent];
      }
    },
  }),
];

const storeRows: readonly MetricRow[] = [
  gauge({
    name: "fovea_store_rows",
    help: "Rows in the store.",
    labels: [],
    *read({ store }) {
      if (store !== undefined) yield [{}, store.rows];
    },
  }),
  gauge({
    name: "fovea_store_bytes",
    help: "Bytes that the files of the store take.",
    labels: [],
    *read({ store }) {
      if (store !== undefined) yield [{}, store.bytes];
    },
  }),
  gauge({
    name: "fovea_store_limit_bytes",
    help: "Bytes that the files of the store may take.",
    labels: [],
    *read({ store }) {
      if (store !== undefined) yield [{}, store.bytesMax];
    },
  }),
  gauge({
    name: "fovea_store_oldest_timestamp_seconds",
    help: "Time of the oldest row in the store.",
    labels: [],
    *read({ store }) {
      if (store?.oldestAt !== undefined) yield [{}, store.oldestAt / 1000];
    },
  }),
  gauge({
    name: "fovea_store_newest_timestamp_seconds",
    help: "Time of the newest row in the store.",
    labels: [],
    *read({ store }) {
      if (store?.newestAt !== undefined) yield [{}, store.newestAt / 1000];
    },
  }),
  histogram({
    name: "fovea_store_write_duration_seconds",
    help: "Time that an append to the store took, rollups, samples and ledger included.",
    labels: [],
    *read({ store }) {
      if (store !== undefined) yield [{}, store.writeTimes];
    },
  }),
  counter({
    name: "fovea_store_checkpoints_total",
    help: "Times that the write-ahead log was written back into the file.",
    labels: [],
    *read({ store }) {
      if (store !== undefined) yield [{}, store.checkpoints.count];
    },
  }),
  counter({
    name: "fovea_store_checkpoint_seconds_total",
    help: "Time that writing the log back took.",
    labels: [],
    *read({ store }) {
      if (store !== undefined) yield [{}, store.checkpoints.seconds];
    },
  }),
  counter({
    name: "fovea_store_recovered_total",
    help: "Files of the store that could not be used and were put aside.",
    labels: [],
    *read({ store }) {
      if (store !== undefined) yield [{}, store.recovered];
    },
  }),
  counter({
    name: "fovea_store_errors_total",
    help: "Failures of the store, by the code of SQLite or of the system.",
    labels: ["code"],
    *read({ store }) {
      for (const { code, count } of store?.errors ?? []) yield [{ code }, count];
    },
  }),
];

const loopRows: readonly MetricRow[] = [
  counter({
    name: "fovea_ticks_total",
    help: "Ticks done.",
    labels: [],
    *read({ loop }) {
      if (loop !== undefined) yield [{}, loop.ticks];
    },
  }),
  counter({
    name: "fovea_ticks_skipped_total",
    help: "Ticks left out because one before them took too long.",
    labels: [],
    *read({ loop }) {
      if (loop !== undefined) yield [{}, loop.skipped];
    },
  }),
  gauge({
    name: "fovea_tick_duration_seconds",
    help: "Time that the last tick took.",
    labels: [],
    *read({ loop }) {
      if (loop !== undefined) yield [{}, loop.lastTickSeconds];
    },
  }),
  gauge({
    name: "fovea_last_tick_timestamp_seconds",
    help: "Time of the last tick; the values of this scrape are from then.",
    labels: [],
    *read({ node }) {
      if (node.at > 0) yield [{}, node.at / 1000];
    },
  }),
  counter({
    name: "fovea_log_lines_suppressed_total",
    help: "Log lines held back because their message came too often.",
    labels: [],
    *read({ log }) {
      if (log !== undefined) yield [{}, log.suppressed];
    },
  }),
  counter({
    name: "fovea_log_lines_lost_total",
    help: "Log lines that could not be written.",
    labels: [],
    *read({ log }) {
      if (log !== undefined) yield [{}, log.lost];
    },
  }),
];

const processRows: readonly MetricRow[] = [
  gauge({
    name: "fovea_build_info",
    help: "Always 1; the labels say what this binary is.",
    labels: ["version", "commit", "bun", "os", "arch"],
    *read({ build }) {
      yield [build, 1];
    },
  }),
  gauge({
    name: "fovea_start_time_seconds",
    help: "Time of the start of this process.",
    labels: [],
    *read({ process }) {
      yield [{}, process.startedAt / 1000];
    },
  }),
  gauge({
    name: "fovea_process_resident_memory_bytes",
    help: "Resident memory of this process.",
    labels: [],
    *read({ process }) {
      yield [{}, process.residentBytes];
    },
  }),
  counter({
    name: "fovea_process_cpu_seconds_total",
    help: "CPU time of this process, user and system together.",
    labels: [],
    *read({ process }) {
      yield [{}, process.cpuSeconds];
    },
  }),
];

const outerRows: readonly MetricRow[] = [
  counter({
    name: "fovea_http_requests_total",
    help: "Requests answered, by route of the API, known method and status; all other paths are route other.",
    labels: ["route", "method", "code"],
    *read({ http }) {
      for (const { route, method, code, count } of http?.requests ?? [])
        yield [{ route, method, code }, count];
    },
  }),
  gauge({
    name: "fovea_http_connections",
    help: "Connections open to the API.",
    labels: [],
    *read({ http }) {
      if (http?.connections !== undefined) yield [{}, http.connections];
    },
  }),
  counter({
    name: "fovea_http_connections_refused_total",
    help: "Connections turned away because api.connectionsMax were open.",
    labels: [],
    *read({ http }) {
      if (http?.refused !== undefined) yield [{}, http.refused];
    },
  }),
  counter({
    name: "fovea_config_reloads_total",
    help: "Changes of the configuration file, by result: applied or refused.",
    labels: ["result"],
    *read({ config }) {
      if (config === undefined) return;
      yield [{ result: "applied" }, config.reloaded];
      yield [{ result: "refused" }, config.refused];
    },
  }),
  counter({
    name: "fovea_config_rejected_total",
    help: "Values that are not in force as they were written, by key; counted once for each load.",
    labels: ["key"],
    *read({ config }) {
      for (const [key, count] of Object.entries(config?.rejected ?? {})) yield [{ key }, count];
    },
  }),
  gauge({
    name: "fovea_config_in_force",
    help: "1 when the configuration file as it is now is in force, 0 when it was refused.",
    labels: [],
    *read({ config }) {
      if (config !== undefined) yield [{}, config.lastRefused ? 0 : 1];
    },
  }),
];

export const selfRows: readonly MetricRow[] = [
  ...processRows,
  ...loopRows,
  ...rowRows,
  ...storeRows,
  ...outerRows,
];
