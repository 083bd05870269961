// Puts the series of a histogram together again: what the store keeps as _bucket, _sum and _count is one point of OTLP.

import { type Labels, labelsText } from "../store/sample-series.ts";
import type { EncodedSeries } from "./encoder.ts";
import type { HistogramPoint, NumberPoint } from "./otlp.gen.ts";

/** Of which part of a histogram a series tells. */
export type Part = {
  readonly kind: "bucket" | "sum" | "count";
  /** Upper bound of a bucket; 0 for the others. */
  readonly bound: number;
  /** The same text for all series of one histogram. */
  readonly histogram: string;
};

/** A sample of a part, with the point that it is when its histogram is not whole. */
export type Piece = {
  readonly part: Part;
  readonly value: number | null;
  readonly point: NumberPoint;
  /** The name that the series has. */
  readonly name: string;
};

const without = ({ le: _, ...labels }: Labels): Labels => labels;

/** Undefined for a series that is no part of a histogram, whatever its family says. */
export function partOf({ name, labels }: EncodedSeries): Part | undefined {
  const kind = /_(bucket|sum|count)$/.exec(name)?.[1];
  if (kind === "sum" || kind === "count") return { kind, bound: 0, histogram: labelsText(labels) };
  const { le = "" } = labels;
  if (kind !== "bucket" || le === "") return undefined;
  const bound = le === "+Inf" ? Number.POSITIVE_INFINITY : Number(le);
  return Number.isNaN(bound) ? undefined : { kind: "bucket", bound, histogram: labelsText(without(labels)) };
}

export type Histograms = {
  add(family: string, piece: Piece): void;
  /** By family: what is whole, and what is not. A body may have been cut between the pieces of a histogram. */
  finish(): Iterable<{
    readonly family: string;
    readonly points: HistogramPoint[];
    readonly rest: readonly Piece[];
  }>;
};

/** The pieces of one histogram at one time. */
type Pieces = Piece[];
type Bucket = { readonly bound: number; readonly value: number };

const boundsOf = (pieces: Pieces): number => pieces.filter(({ part }) => part.kind === "bucket").length;

export function createHistograms(): Histograms {
  const families = new Map<string, Map<string, Pieces>>();
  return {
    add(family, piece) {
      const groups = families.get(family) ?? new Map<string, Pieces>();
      families.set(family, groups);
      const key = `${piece.part.histogram}${piece.point.timeUnixNano}`;
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [piece]);
      else group.push(piece);
    },
    *finish() {
      for (const [family, groups] of families) {
        const points: HistogramPoint[] = [];
        const rest: Piece[] = [];
        // All histograms of a family have the same bounds: one with fewer lacks some.
        const widest = Math.max(...[...groups.values()].map(boundsOf));
        for (const pieces of groups.values()) {
          const point = boundsOf(pieces) === widest ? joined(pieces) : undefined;
          if (point === undefined) rest.push(...pieces);
          else points.push(point);
        }
        yield { family, points, rest };
      }
    },
  };
}

/** Undefined when pieces lack, come twice, or do not agree with each other. */
function joined(pieces: Pieces): HistogramPoint | undefined {
  const [sum, sums] = only(pieces, "sum");
  const [count, counts] = only(pieces, "count");
  if (sum === undefined || count === undefined || sums + counts + boundsOf(pieces) !== pieces.length)
    return undefined;
  if (sums !== 1 || counts !== 1) return undefined;
  const ended = pieces.filter(({ value }) => value === null).length;
  const buckets = bucketsOf(pieces);
  if (buckets.at(-1)?.bound !== Number.POSITIVE_INFINITY) return undefined;
  if (ended === pieces.length) return pointOf(count, { flags: 1 });
  const bucketCounts = buckets.map(({ value }, index) => value - (buckets[index - 1]?.value ?? 0));
  const right = bucketCounts.every((value) => Number.isSafeInteger(value) && value >= 0);
  if (ended > 0 || !right || buckets.at(-1)?.value !== count.value) return undefined;
  const bounds = buckets.slice(0, -1).map(({ bound }) => bound);
  if (new Set(bounds).size !== bounds.length || !bounds.every(Number.isFinite)) return undefined;
  return pointOf(count, {
    count: BigInt(count.value ?? 0),
    ...(sum.value === null ? {} : { sum: sum.value }),
    bucketCounts: bucketCounts.map(BigInt),
    explicitBounds: bounds,
  });
}

const only = (pieces: Pieces, kind: Part["kind"]): readonly [Piece | undefined, number] => {
  const found = pieces.filter(({ part }) => part.kind === kind);
  return [found[0], found.length];
};

/** By their bounds; ended ones as 0. */
const bucketsOf = (pieces: Pieces): readonly Bucket[] =>
  pieces
    .filter(({ part }) => part.kind === "bucket")
    .map(({ part, value }) => ({ bound: part.bound, value: value ?? 0 }))
    .toSorted((a, b) => a.bound - b.bound);

/** The series of the count has the labels of the histogram and no other. */
const pointOf = (count: Piece, changes: Partial<Omit<HistogramPoint, "$typeName">>): HistogramPoint => ({
  $typeName: "fovea.otlp.HistogramPoint",
  timeUnixNano: count.point.timeUnixNano,
  count: 0n,
  bucketCounts: [],
  explicitBounds: [],
  attributes: count.point.attributes,
  flags: 0,
  ...changes,
});
