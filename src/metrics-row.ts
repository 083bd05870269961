// One row a metric family: its name, help, type and labels, and where its values come from.

import type { Distribution } from "./distribution.ts";
import type { MetricView } from "./metrics-view.ts";

export type Labels<L extends string> = Readonly<Record<L, string>>;
export type Sample<L extends string> = readonly [labels: Labels<L>, value: number];
/** A histogram of one set of labels. */
export type Spread<L extends string> = readonly [labels: Labels<L>, distribution: Distribution];

type Family = { readonly name: string; readonly help: string; readonly labels: readonly string[] };

type Valued = Family & {
  readonly read: (view: MetricView) => Iterable<Sample<string>>;
  /** Labels that all series of the family have in common. */
  readonly shared?: (view: MetricView) => Labels<string>;
};

export type MetricRow =
  | (Valued & { readonly type: "gauge" })
  /** `named`: kept to the letter although it does not end in _total. */
  | (Valued & { readonly type: "counter"; readonly named: boolean })
  | (Family & {
      readonly type: "histogram";
      readonly read: (view: MetricView) => Iterable<Spread<string>>;
    });

/** Every label that is declared, and no other, stands on each sample. Each label is bounded; `help` says by what. */
type Definition<Name extends string, L extends string> = {
  readonly name: Name;
  readonly help: string;
  readonly labels: readonly L[];
  readonly read: (view: MetricView) => Iterable<Sample<NoInfer<L>>>;
};

// A gauge of ours must not look like a counter.
type NotTotal<Name extends string> = Name extends `${string}_total` ? never : Name;

export const counter = <const L extends string>(row: Definition<`fovea_${string}_total`, L>): MetricRow => ({
  ...row,
  type: "counter",
  named: false,
});

export const gauge = <const L extends string, Name extends `fovea_${string}`>(
  row: Definition<NotTotal<Name>, L>,
): MetricRow => ({ ...row, type: "gauge" });

export const histogram = <const L extends string>(row: {
  readonly name: `fovea_${string}_seconds`;
  readonly help: string;
  readonly labels: readonly L[];
  readonly read: (view: MetricView) => Iterable<Spread<NoInfer<L>>>;
}): MetricRow => ({ ...row, type: "histogram" });

type KappieName = `kappie_${string}`;
const nodeLabels = ({ nodeName, cluster }: MetricView) => ({ NodeName: nodeName, Cluster: cluster });

// NodeName and Cluster stand on every kappie series.
const kappie = <const L extends string>(row: Definition<KappieName, L>): Valued => ({
  ...row,
  labels: [...row.labels, "NodeName", "Cluster"],
  shared: nodeLabels,
});

export const kappieCounter = <const L extends string>(row: Definition<KappieName, L>): MetricRow => ({
  ...kappie(row),
  type: "counter",
  named: true,
});

export const kappieGauge = <const L extends string>(row: Definition<KappieName, L>): MetricRow => ({
  ...kappie(row),
  type: "gauge",
});

/** Of a program whose dashboards are to work with ours; its names end in _total as ours do. */
export const foreignCounter = <const L extends string>(
  row: Definition<`fluentbit_${string}_total`, L>,
): MetricRow => ({ ...row, type: "counter", named: false });

type RetinaName = `networkobservability_${string}`;

export const retinaCounter = <const L extends string>(row: Definition<RetinaName, L>): MetricRow => ({
  ...row,
  type: "counter",
  named: true,
});

export const retinaGauge = <const L extends string>(row: Definition<RetinaName, L>): MetricRow => ({
  ...row,
  type: "gauge",
});
