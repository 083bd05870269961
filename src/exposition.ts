// Metric table to scrape, through prom-client: Prometheus text or OpenMetrics, whichever the client asks for.

import { Gauge, type OpenMetricsContentType, type PrometheusContentType, Registry } from "prom-client";
import { errorText } from "./log.ts";
import { type MetricNames, metricTable } from "./metrics.ts";
import type { Labels, MetricRow, Sample, Spread } from "./metrics-row.ts";
import { scrapeRows } from "./metrics-scrape.ts";
import type { MetricView } from "./metrics-view.ts";

export type Scrape = { readonly contentType: string; readonly body: string };

/** A series of a scrape, with all of its labels. */
export type SeriesValue = { readonly name: string; readonly labels: Labels<string>; readonly value: number };

export type Exposition = {
  /** `accept` is the header of the request; without it the answer is Prometheus text. */
  render(view: MetricView, accept?: string | null): Promise<Scrape>;
  /** Every series that a scrape would show now, those about the scrape included. No scrape counts it. */
  series(view: MetricView): readonly SeriesValue[];
  /** Why a family failed in the last scrape, by its name. */
  failures(): ReadonlyMap<string, string>;
};

/**
 * As prom-client prints it: `labels`, then `sharedLabels`. The latter it escapes once an object and remembers, so that
 * the labels of a series that was printed before all go there, in one object that is kept: a third of the time less.
 */
type Series = {
  readonly labels?: Labels<string>;
  readonly sharedLabels: Labels<string>;
  readonly value: number;
  readonly metricName?: string;
};

type Filled = { readonly row: MetricRow; readonly series: readonly Series[] };

/** Why a series is not in a scrape: too many of them, its labels twice in its family, a value that is no number. */
type LossReason = "limit" | "duplicate" | "not_finite";

type Losses = {
  add(family: string, reason: LossReason): void;
  samples(): Iterable<Sample<"family" | "reason">>;
};

const labelCharsMax = 256;
const noLabels: Labels<string> = {};

/** Bounded by the families of the table. */
function createLosses(): Losses {
  const counts = new Map<string, { family: string; reason: LossReason; count: number }>();
  return {
    add: (family, reason) => {
      const key = `${family} ${reason}`;
      const known = counts.get(key);
      if (known === undefined) counts.set(key, { family, reason, count: 1 });
      else known.count += 1;
    },
    *samples() {
      for (const { family, reason, count } of counts.values()) yield [{ family, reason }, count];
    },
  };
}

function bucketSeries(name: string, [labels, { bounds, counts, sum, count }]: Spread<string>): Series[] {
  const buckets = bounds.map((bound, index) => ({
    metricName: `${name}_bucket`,
    sharedLabels: { ...labels, le: String(bound) },
    value: counts[index] ?? 0,
  }));
  return [
    ...buckets,
    { metricName: `${name}_bucket`, sharedLabels: { ...labels, le: "+Inf" }, value: count },
    { metricName: `${name}_sum`, sharedLabels: labels, value: sum },
    { metricName: `${name}_count`, sharedLabels: labels, value: count },
  ];
}

const textOf = (labels: Labels<string>): string => Object.values(labels).join("\u0000");

const shortened = (labels: Labels<string>): Labels<string> =>
  Object.fromEntries(Object.entries(labels).map(([name, value]) => [name, value.slice(0, labelCharsMax)]));

/**
 * The series of a family in one scrape by the text of their labels, with the kept object of those that were in the one
 * before as well. Bounded by the series of that scrape.
 */
type Printed = { readonly shared: string; readonly series: ReadonlyMap<string, Labels<string> | undefined> };

type Filling = {
  readonly view: MetricView;
  readonly seriesMax: number;
  readonly losses: Losses;
  /** Of the last scrape, by family. */
  readonly printed: Map<string, Printed>;
};

function fillValued(row: Exclude<MetricRow, { type: "histogram" }>, filling: Filling): Series[] {
  const { view, seriesMax, losses, printed } = filling;
  const common = row.shared?.(view) ?? noLabels;
  const shared = textOf(common);
  const last = printed.get(row.name);
  const before = last?.shared === shared ? last.series : undefined;
  const seen = new Map<string, Labels<string> | undefined>();
  const series: Series[] = [];
  for (const [given, value] of row.read(view)) {
    const text = textOf(given);
    const labels = text.length <= labelCharsMax ? given : shortened(given);
    const key = labels === given ? text : textOf(labels);
    // Prometheus refuses a whole scrape for one series that it meets twice.
    if (seen.has(key)) losses.add(row.name, "duplicate");
    else if (!Number.isFinite(value)) losses.add(row.name, "not_finite");
    else if (series.length >= seriesMax) losses.add(row.name, "limit");
    else {
      const kept = before?.get(key) ?? (before?.has(key) ? { ...labels, ...common } : undefined);
      seen.set(key, kept);
      series.push(
        kept === undefined ? { labels, sharedLabels: common, value } : { sharedLabels: kept, value },
      );
    }
  }
  printed.set(row.name, { shared, series: seen });
  return series;
}

/** A histogram is there whole, or not at all. */
function fillDistributions(row: Extract<MetricRow, { type: "histogram" }>, filling: Filling): Series[] {
  const all: Series[] = [];
  for (const spread of row.read(filling.view)) {
    const series = bucketSeries(row.name, spread);
    if (all.length + series.length <= filling.seriesMax) all.push(...series);
    else for (const _ of series) filling.losses.add(row.name, "limit");
  }
  return all;
}

const fill = (row: MetricRow, filling: Filling): Series[] =>
  row.type === "histogram" ? fillDistributions(row, filling) : fillValued(row, filling);

/**
 * OpenMetrics wants every counter to end in _total, and clients add it where it is missing. Counters whose names are
 * kept to the letter are of type unknown there, so that a series has one name in both formats.
 */
function familyType(row: MetricRow, open: boolean): { readonly name: string; readonly type: string } {
  if (row.type !== "counter" || !open) return { name: row.name, type: row.type };
  return row.named
    ? { name: row.name, type: "unknown" }
    : { name: row.name.replace(/_total$/, ""), type: "counter" };
}

type AnyRegistry = Registry<PrometheusContentType> | Registry<OpenMetricsContentType>;

function openRegistry(open: boolean): AnyRegistry {
  if (!open) return new Registry();
  const registry = new Registry<OpenMetricsContentType>();
  registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
  return registry;
}

/** Filling prom-client's own hash of series would take as long again as printing them: its printer asks `get`. */
function register({ row, series }: Filled, registry: AnyRegistry, open: boolean): void {
  const { name, type } = familyType(row, open);
  const family = new Gauge({ name: row.name, help: row.help, registers: [registry] });
  Object.assign(family, { get: () => Promise.resolve({ name, help: row.help, type, values: series }) });
}

/** What a range of an Accept header weighs, 0 to 1; 1 when it does not say. */
function weightOf(range: string): number {
  const weight = Number(/;\s*q=([\d.]+)/i.exec(range)?.[1] ?? 1);
  return Number.isFinite(weight) ? weight : 0;
}

/** Whether the client wants OpenMetrics at least as much as text. */
function wantsOpenMetrics(accept: string): boolean {
  const ranges = accept.split(",").slice(0, 32);
  const best = (pattern: RegExp) =>
    Math.max(0, ...ranges.filter((range) => pattern.test(range)).map((range) => weightOf(range)));
  const open = best(/^\s*application\/openmetrics-text\s*(;|$)/i);
  return open > 0 && open >= best(/^\s*text\/(plain|\*)\s*(;|$)/i);
}

/** One object a series: the labels that are kept where it has them, so that a reader may know it by them. */
function* seriesOf({ row, series }: Filled): Iterable<SeriesValue> {
  for (const { labels, sharedLabels, value, metricName } of series)
    yield {
      name: metricName ?? row.name,
      labels: labels === undefined ? sharedLabels : { ...labels, ...sharedLabels },
      value,
    };
}

export function createExposition(options: {
  readonly names: readonly MetricNames[];
  readonly seriesMax: number;
  readonly table?: readonly MetricRow[];
}): Exposition {
  const { seriesMax, table = metricTable(options.names) } = options;
  const losses = createLosses();
  const failed = new Map<string, number>();
  const printed = new Map<string, Printed>();
  let failures: ReadonlyMap<string, string> = new Map();
  /** What is left out goes to `into`, a family that fails to `fail`; the families about the scrape tell of scrapes alone. */
  const fillAll = (
    view: MetricView,
    into: Losses,
    fail: (name: string, error: unknown) => void,
  ): Filled[] => {
    let left = seriesMax;
    const filled = table.map((row): Filled => {
      try {
        const series = fill(row, { view, seriesMax: left, losses: into, printed });
        left -= series.length;
        return { row, series };
      } catch (error) {
        fail(row.name, error); // One family that cannot be read must not take the scrape with it.
        return { row, series: [] };
      }
    });
    const own = scrapeRows({ used: seriesMax - left, seriesMax, lost: () => losses.samples(), failed });
    const beyond = { view, seriesMax: Number.POSITIVE_INFINITY, losses: into, printed };
    return [...filled, ...own.map((row) => ({ row, series: fill(row, beyond) }))];
  };
  const fillScrape = (view: MetricView): Filled[] => {
    const errors = new Map<string, string>();
    const filled = fillAll(view, losses, (name, error) => {
      errors.set(name, errorText(error));
      failed.set(name, (failed.get(name) ?? 0) + 1);
    });
    failures = errors;
    return filled;
  };
  return {
    render: async (view, accept) => {
      const open = wantsOpenMetrics(accept ?? "");
      const registry = openRegistry(open);
      for (const filled of fillScrape(view)) if (filled.series.length > 0) register(filled, registry, open);
      return { contentType: registry.contentType, body: await registry.metrics() };
    },
    series: (view) =>
      fillAll(view, createLosses(), () => undefined).flatMap((filled) => [...seriesOf(filled)]),
    failures: () => failures,
  };
}
