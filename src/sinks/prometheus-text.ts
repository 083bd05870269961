// Samples as lines of OpenMetrics text with times, for `promtool tsdb create-blocks-from openmetrics`.

// What promtool reads, tried with 2.42: families in any order and repeated, no TYPE lines needed, times in seconds,
// `# EOF` once at the very end and no comment before it. One bad name makes it refuse the whole file. Samples of one
// series must rise in time within a file: one that does not is left out without a word.

import { type EncodedSeries, EncodeError, type Encoders } from "./encoder.ts";
import { createTextBody, withExternalLabels } from "./ndjson-encode.ts";

/** The last line of a complete file. */
export const endOfMetrics = "# EOF\n";

const isName = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const isLabelName = /^[a-zA-Z_][a-zA-Z0-9_]*$/;

const escapes: Readonly<Record<string, string>> = { "\\": "\\\\", '"': '\\"', "\n": "\\n" };
const quoted = (value: string): string =>
  `"${value.toWellFormed().replaceAll(/[\\"\n]/g, (mark) => escapes[mark] ?? mark)}"`;

/** The series as it stands before each of its values. */
function seriesText({ name, labels }: EncodedSeries): string {
  if (!isName.test(name)) throw new EncodeError(`"${name.slice(0, 80)}" is no name of a metric`);
  const entries = Object.entries(labels).toSorted(([a], [b]) => (a < b ? -1 : 1));
  const wrong = entries.find(([label]) => !isLabelName.test(label))?.[0];
  if (wrong !== undefined) throw new EncodeError(`"${wrong.slice(0, 80)}" of ${name} is no name of a label`);
  if (entries.length === 0) return name;
  return `${name}{${entries.map(([label, value]) => `${label}=${quoted(value)}`).join(",")}}`;
}

function valueText(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  return Number.isFinite(value) ? String(value) : value > 0 ? "+Inf" : "-Inf";
}

/** Milliseconds as seconds, exactly. */
const secondsText = (at: number): string => (Math.trunc(at) / 1000).toFixed(3);

export const prometheusText: Encoders = {
  metrics: (spec, limits) => {
    const body = createTextBody(spec, limits);
    let last: EncodedSeries | undefined;
    let start = "";
    return {
      add(series, at, value) {
        // The text has no stale marker: where a series ended, its lines just end.
        if (value === null) return true;
        if (series !== last) {
          const labels = withExternalLabels(series.labels, spec.externalLabels);
          start = seriesText({ name: series.name, labels });
          last = series;
        }
        return body.add(`${start} ${valueText(value)} ${secondsText(at)}\n`);
      },
      finish: body.finish,
    };
  },
};
