// The names that the QoS dashboard of Container Insights asks for, so that it shows this appliance as it is.

import type { ForwardFacts } from "./forward/facts.ts";
import { foreignCounter, type MetricRow } from "./metrics-row.ts";
import { type ReasonFamily, totalOf } from "./store/ledger.ts";

/** What the dashboard selects by: the aliases of input, throttle and output in the agent that it was made for. */
const input = "oms_networkflow_input";
const throttle = "oms_networkflow_throttle";
const output = "oms_network_flow_output";

const counted = (
  name: `fluentbit_${string}_total`,
  help: string,
  alias: string,
  of: "rows.offered" | "rows.kept" | ReasonFamily,
): MetricRow =>
  foreignCounter({
    name,
    help,
    labels: ["name"],
    *read({ ledger }) {
      if (ledger !== undefined) yield [{ name: alias }, totalOf(ledger, of)];
    },
  });

/** Sums over the sinks that forward flow records; absent without one. */
const forwarded = (
  name: `fluentbit_${string}_total`,
  help: string,
  of: (facts: ForwardFacts) => number,
): MetricRow =>
  foreignCounter({
    name,
    help,
    labels: ["name"],
    *read({ upstream }) {
      const sinks = (upstream?.sinks ?? []).filter(({ signal }) => signal === "flows");
      if (sinks.length > 0) yield [{ name: output }, sinks.reduce((sum, facts) => sum + of(facts), 0)];
    },
  });

const sumOf = (counts: Readonly<Record<string, number>>, pattern = /^/): number =>
  Object.entries(counts).reduce((sum, [name, count]) => sum + (pattern.test(name) ? count : 0), 0);

export const fluentbitRows: readonly MetricRow[] = [
  counted("fluentbit_input_records_total", "Flow records that were offered.", input, "rows.offered"),
  counted(
    "fluentbit_filter_records_total",
    "Flow records that came to the throttle.",
    throttle,
    "rows.offered",
  ),
  counted(
    "fluentbit_filter_drop_records_total",
    "Flow records that the throttle held back.",
    throttle,
    "rows.throttled",
  ),
  counted("fluentbit_output_proc_records_total", "Flow records that were kept.", output, "rows.kept"),
  counted(
    "fluentbit_output_dropped_records_total",
    "Flow records that could not be written.",
    output,
    "rows.lost",
  ),
  forwarded(
    "fluentbit_output_proc_bytes_total",
    "Bytes that upstreams acknowledged.",
    (facts) => facts.sentBytes,
  ),
  forwarded("fluentbit_output_errors_total", "Requests that an upstream did not take.", ({ retries }) =>
    sumOf(retries),
  ),
  forwarded("fluentbit_output_retries_total", "Requests that were made again.", ({ retries }) =>
    sumOf(retries),
  ),
  forwarded(
    "fluentbit_output_retries_failed_total",
    "Flow records that an upstream will never take.",
    ({ counts }) => sumOf(counts, /^rejected\./),
  ),
];
