// Samples as metrics of OTLP: a sum, a gauge or a histogram a name, with the points of all of its series.

import { familyOf } from "../metric-family.ts";
import type { EncodedSeries, EncoderLimits, EncoderSpec, SampleEncoder } from "./encoder.ts";
import {
  type HistogramPoint,
  type KeyValue,
  type Metric,
  MetricSchema,
  type MetricsRequest,
  MetricsRequestSchema,
  type NumberPoint,
} from "./otlp.gen.ts";
import { nanoseconds, resourceOf, scopeOf, textAttribute } from "./otlp-attributes.ts";
import { encodeBody, type Notation, type Sizes, sizesOf } from "./otlp-encode.ts";
import { createHistograms, type Part, partOf } from "./otlp-histograms.ts";

/** Since a start that is not known; a sum of OTLP may also be the growth since the point before. */
const CUMULATIVE = 2;
const NO_RECORDED_VALUE = 1;

/** What all samples of a series have in common. */
type SeriesFacts = {
  readonly series: EncodedSeries;
  readonly type: "gauge" | "sum";
  readonly help: string;
  readonly attributes: KeyValue[];
  readonly attributeBytes: number;
  /** Of a histogram, and of which. */
  readonly part?: Part;
  readonly family: string;
};

function factsOf(series: EncodedSeries, sizes: Sizes): SeriesFacts {
  const family = familyOf(series.name);
  const attributes = Object.entries(series.labels).map(([name, value]) => textAttribute(name, value));
  const part = family?.type === "histogram" ? partOf(series) : undefined;
  return {
    series,
    type: family === undefined || family.type === "gauge" ? "gauge" : "sum",
    help: family?.help ?? "",
    attributes,
    attributeBytes: sizes.attributes(attributes),
    ...(part === undefined ? {} : { part }),
    family: family?.name ?? series.name,
  };
}

/** Whole counts stay exact, as far as they are when they come here. */
function numberOf({ type, part }: SeriesFacts, value: number | null): NumberPoint["value"] {
  if (value === null) return { case: undefined };
  const counts = type === "sum" && part?.kind !== "sum" && Number.isSafeInteger(value);
  return counts ? { case: "asInt", value: BigInt(value) } : { case: "asDouble", value };
}

const pointOf = (facts: SeriesFacts, timeUnixNano: bigint, value: number | null): NumberPoint => ({
  $typeName: "fovea.otlp.NumberPoint",
  timeUnixNano,
  value: numberOf(facts, value),
  attributes: facts.attributes,
  flags: value === null ? NO_RECORDED_VALUE : 0,
});

const metricOf = (name: string, description: string, data: Metric["data"]): Metric => ({
  $typeName: "fovea.otlp.Metric",
  name,
  description,
  data,
});

function numbersOf({ series, type, help }: SeriesFacts, dataPoints: NumberPoint[]): Metric {
  if (type === "gauge")
    return metricOf(series.name, help, {
      case: "gauge",
      value: { $typeName: "fovea.otlp.Gauge", dataPoints },
    });
  const aggregationTemporality = CUMULATIVE;
  return metricOf(series.name, help, {
    case: "sum",
    value: { $typeName: "fovea.otlp.Sum", dataPoints, aggregationTemporality, isMonotonic: true },
  });
}

const histogramOf = (name: string, help: string, dataPoints: HistogramPoint[]): Metric =>
  metricOf(name, help, {
    case: "histogram",
    value: { $typeName: "fovea.otlp.Histogram", dataPoints, aggregationTemporality: CUMULATIVE },
  });

const requestOf = (spec: EncoderSpec, metrics: Metric[]): MetricsRequest => ({
  $typeName: "fovea.otlp.MetricsRequest",
  resourceMetrics: [
    {
      $typeName: "fovea.otlp.ResourceMetrics",
      resource: resourceOf(spec),
      scopeMetrics: [{ $typeName: "fovea.otlp.ScopeMetrics", scope: scopeOf(spec), metrics }],
    },
  ],
});

/** The points of one name, with the facts of its first series. */
type Numbers = { readonly facts: SeriesFacts; readonly points: NumberPoint[] };

/** The metrics of one body. */
function createCollection() {
  const numbers = new Map<string, Numbers>();
  const histograms = createHistograms();
  const families = new Map<string, string>();

  return {
    has: (name: string): boolean => numbers.has(name),
    hasFamily: (name: string): boolean => families.has(name),
    add(facts: SeriesFacts, point: NumberPoint, value: number | null): void {
      const { part, family, help, series } = facts;
      const { name } = series;
      const known: Numbers = numbers.get(name) ?? { facts, points: [] };
      numbers.set(name, known);
      if (part === undefined) known.points.push(point);
      else {
        families.set(family, help);
        histograms.add(family, { part, value, point, name });
      }
    },
    metrics(): Metric[] {
      const joined: Metric[] = [];
      for (const { family, points, rest } of histograms.finish()) {
        if (points.length > 0) joined.push(histogramOf(family, families.get(family) ?? "", points));
        for (const { name, point } of rest) numbers.get(name)?.points.push(point);
      }
      const filled = [...numbers.values()].filter(({ points }) => points.length > 0);
      return [...filled.map(({ facts, points }) => numbersOf(facts, points)), ...joined];
    },
  };
}

export const otlpMetrics =
  (notation: Notation) =>
  (spec: EncoderSpec, { bytesMax }: EncoderLimits): SampleEncoder => {
    const sizes = sizesOf[notation];
    const collection = createCollection();
    let bytes = sizes.message(MetricsRequestSchema, requestOf(spec, [])) + sizes.listBytes;
    let facts: SeriesFacts | undefined;
    let taken = 0;

    const metricBytes = (metric: Metric): number =>
      sizes.element(sizes.message(MetricSchema, metric) + sizes.listBytes);
    /** Of what comes with the first series of a name. Pieces of a histogram count as points, which take more. */
    const headBytes = (of: SeriesFacts): number => {
      const own = collection.has(of.series.name) ? 0 : metricBytes(numbersOf(of, []));
      const joined = of.part === undefined || collection.hasFamily(of.family);
      return joined ? own : own + metricBytes(histogramOf(of.family, of.help, []));
    };
    return {
      add(series, at, value) {
        if (facts?.series !== series) facts = factsOf(series, sizes);
        const point = pointOf(facts, nanoseconds(at), value);
        const pointBytes = sizes.element(facts.attributeBytes + sizes.numberPoint(point));
        const more = pointBytes + headBytes(facts);
        if (taken > 0 && bytes + more > bytesMax) return false;
        collection.add(facts, point, value);
        bytes += more;
        taken += 1;
        return true;
      },
      finish: () => encodeBody(notation, MetricsRequestSchema, requestOf(spec, collection.metrics()), spec),
    };
  };
