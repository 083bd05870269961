// Series name to metric family: what type it is and what it says, for protocols that carry both.

import { metricNames } from "./config-schema.ts";
import { metricTable } from "./metrics.ts";
import type { MetricRow } from "./metrics-row.ts";
import { scrapeRows } from "./metrics-scrape.ts";

export type MetricFamily = {
  /** A histogram's series end in _bucket, _sum and _count; the family does not. */
  readonly name: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly help: string;
};

const endings: Readonly<Record<MetricFamily["type"], readonly string[]>> = {
  counter: [""],
  gauge: [""],
  histogram: ["_bucket", "_sum", "_count"],
};

function familiesBySeries(rows: readonly MetricRow[]): ReadonlyMap<string, MetricFamily> {
  const families = new Map<string, MetricFamily>();
  for (const { name, type, help } of rows)
    for (const ending of endings[type]) families.set(`${name}${ending}`, { name, type, help });
  return families;
}

let known: ReadonlyMap<string, MetricFamily> | undefined;

/** Undefined for a series that is not in the metric table: an older version may have stored it. */
export function familyOf(seriesName: string): MetricFamily | undefined {
  known ??= familiesBySeries([
    ...metricTable(metricNames),
    ...scrapeRows({ used: 0, seriesMax: 0, lost: () => [], failed: new Map() }),
  ]);
  return known.get(seriesName);
}
