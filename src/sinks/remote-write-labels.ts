// The labels of a series as Remote-Write wants them: checked, with the external ones, in the order of their names.

import type { Labels } from "../store/sample-series.ts";
import { type EncodedSeries, EncodeError, type EncoderSpec } from "./encoder.ts";

export type LabelRules = { readonly externalLabels: Labels; readonly azure: boolean };

export const labelRulesOf = ({ externalLabels, options }: EncoderSpec): LabelRules => ({
  externalLabels,
  azure: options?.["azure"] === true,
});

/** Names and values in turn; `__name__` is one of the names. */
export type LabelPairs = readonly string[];

const metricName = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const labelName = /^[a-zA-Z_][a-zA-Z0-9_]*$/;

/**
 * Azure Monitor workspaces (prometheus-metrics-details.md): names at most 511 characters, values at most 1,023, at most
 * 63 labels, and names that differ by case alone are one name.
 */
const azureMax = { name: 511, value: 1023, labels: 63 } as const;

const shown = (text: string): string => JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);

/** Cut by bytes: short enough however the receiver counts. */
function cut(value: string, bytesMax: number): string {
  if (Buffer.byteLength(value) <= bytesMax) return value;
  const bytes = Buffer.from(value);
  let end = bytesMax;
  while (((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1; // Not in the midst of a character.
  return bytes.toString("utf8", 0, end);
}

function checkNames(name: string, labels: readonly string[]): void {
  if (!metricName.test(name)) throw new EncodeError(`${shown(name)} is no metric name of Prometheus`);
  for (const label of labels)
    if (!labelName.test(label) || label === "__name__")
      throw new EncodeError(`series ${shown(name)}: ${shown(label)} is no label name of Prometheus`);
}

function checkAzure(name: string, labels: readonly string[]): void {
  const refuse = (what: string): never => {
    throw new EncodeError(`series ${shown(name)}: ${what}, more than Azure Monitor takes`);
  };
  if (name.length > azureMax.name) refuse(`a name of ${name.length} characters`);
  if (labels.length > azureMax.labels) refuse(`${labels.length} labels`);
  const seen = new Set<string>();
  for (const label of labels) {
    if (label.length > azureMax.name) refuse(`a label name of ${label.length} characters`);
    if (seen.has(label.toLowerCase())) refuse(`two labels that are ${shown(label)} but for case`);
    seen.add(label.toLowerCase());
  }
}

/** The labels of all series of one name with the same labels: names in order, `__name__` among them. */
type Shape = { readonly labels: readonly { readonly name: string; readonly external?: string }[] };

/** `own` are the labels of the series that have a value: one without is no label. Throws EncodeError. */
function shapeOf(name: string, own: readonly string[], { externalLabels, azure }: LabelRules): Shape {
  checkNames(name, own);
  const labels: { name: string; external?: string }[] = own.map((label) => ({ name: label }));
  const taken = new Set(["__name__", ...own.map((label) => label.toLowerCase())]);
  for (const [label, external] of Object.entries(externalLabels)) {
    if (external === "" || taken.has(label.toLowerCase())) continue;
    taken.add(label.toLowerCase());
    labels.push({ name: label, external });
  }
  labels.push({ name: "__name__", external: name });
  labels.sort((a, b) => (a.name < b.name ? -1 : 1));
  const names = labels.map((label) => label.name);
  if (azure) checkAzure(name, names);
  return { labels };
}

/** Far more than there are families; what a file of another origin has beyond it is worked out again. */
const shapesMax = 4096;

export type LabelSorter = (series: EncodedSeries) => LabelPairs;

/** Throws EncodeError for a series that the receiver cannot take. */
function createLabelSorter(rules: LabelRules): LabelSorter {
  const shapes = new Map<string, Shape>();
  return ({ name, labels }) => {
    const own: string[] = [];
    let key = `${name.length}:${name}`;
    for (const label in labels)
      if (labels[label] !== "") {
        own.push(label);
        key += `${label.length}:${label}`;
      }
    let shape = shapes.get(key);
    if (shape === undefined) {
      shape = shapeOf(name, own, rules);
      if (shapes.size >= shapesMax) shapes.clear();
      shapes.set(key, shape);
    }
    const pairs: string[] = [];
    for (const { name: label, external } of shape.labels) {
      const value = external ?? labels[label] ?? "";
      pairs.push(label, rules.azure ? cut(value, azureMax.value) : value);
    }
    return pairs;
  };
}

/** As many as there can be sinks. */
const rulesMax = 16;

/**
 * Remembers what was made of a series for as long as somebody holds its object, by the rules that it was made by: to
 * check and sort labels takes longer than to write the samples.
 */
export function createLabelCache<T>(
  make: (series: EncodedSeries, pairs: LabelPairs) => T,
): (rules: LabelRules) => (series: EncodedSeries) => T {
  const caches = new Map<string, (series: EncodedSeries) => T>();
  return (rules) => {
    const key = JSON.stringify(rules);
    const cache = caches.get(key) ?? createCache(make, createLabelSorter(rules));
    caches.delete(key); // The one that was used last is the last to go.
    caches.set(key, cache);
    for (const oldest of caches.keys()) if (caches.size > rulesMax) caches.delete(oldest);
    return cache;
  };
}

function createCache<T>(make: (series: EncodedSeries, pairs: LabelPairs) => T, sort: LabelSorter) {
  const known = new WeakMap<EncodedSeries, T>();
  return (series: EncodedSeries): T => {
    const found = known.get(series);
    if (found !== undefined) return found;
    const made = make(series, sort(series));
    known.set(series, made);
    return made;
  };
}
