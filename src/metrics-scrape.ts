// The families about the scrape itself: how many series it has, and what it left out.

import { counter, gauge, type MetricRow, type Sample } from "./metrics-row.ts";

/** They stand beyond the bound on series, so that what the bound cut is never silent. */
export function scrapeRows(options: {
  readonly used: number;
  readonly seriesMax: number;
  readonly lost: () => Iterable<Sample<"family" | "reason">>;
  /** Scrapes that a family is missing from, by its name. */
  readonly failed: ReadonlyMap<string, number>;
}): readonly MetricRow[] {
  const { used, seriesMax, lost, failed } = options;
  return [
    gauge({
      name: "fovea_scrape_series",
      help: "Series in this scrape, without those about the scrape.",
      labels: [],
      read: () => [[{}, used]],
    }),
    gauge({
      name: "fovea_scrape_series_limit",
      help: "Series that a scrape may have: metrics.seriesMax.",
      labels: [],
      read: () => [[{}, seriesMax]],
    }),
    counter({
      name: "fovea_scrape_series_lost_total",
      help: "Series left out of scrapes, by family and by reason: limit, duplicate or not_finite.",
      labels: ["family", "reason"],
      read: () => lost(),
    }),
    counter({
      name: "fovea_scrape_families_failed_total",
      help: "Scrapes that a family is missing from because reading it failed, by family.",
      labels: ["family"],
      *read() {
        for (const [family, count] of failed) yield [{ family }, count];
      },
    }),
  ];
}
