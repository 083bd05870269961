// The metric table: every family that a scrape can have, one row each.

import type { metricNames } from "./config-schema.ts";
import { endpointRows } from "./metrics-endpoint.ts";
import { fluentbitRows } from "./metrics-fluentbit.ts";
import { historyRows } from "./metrics-history.ts";
import { kappieRows } from "./metrics-kappie.ts";
import { nodeRows } from "./metrics-node.ts";
import { retinaRows } from "./metrics-retina.ts";
import type { MetricRow } from "./metrics-row.ts";
import { selfRows } from "./metrics-self.ts";
import { upstreamRows } from "./metrics-upstream.ts";

export type MetricNames = (typeof metricNames)[number];

/** The appliance's own families first: the bound on series cuts what comes last. */
export const metricTable = (names: readonly MetricNames[]): readonly MetricRow[] => [
  ...selfRows,
  ...historyRows,
  ...upstreamRows,
  ...nodeRows,
  ...endpointRows,
  ...(names.includes("kappie") ? kappieRows : []),
  ...(names.includes("networkobservability") ? retinaRows : []),
  ...(names.includes("fluentbit") ? fluentbitRows : []),
];
