// Prometheus Remote-Write 2.0: samples with type and help of their family, each text once, in a block of snappy.

import { compress } from "snappyjs";
import { familyOf, type MetricFamily } from "../metric-family.ts";
import type { Encoders } from "./encoder.ts";
import { borrowWriter, type ProtoWriter, returnWriter, varintLength } from "./protobuf.ts";
import { checkTime, createSeriesBody } from "./remote-write-body.ts";
import { createLabelCache, type LabelPairs, labelRulesOf } from "./remote-write-labels.ts";

// Request.symbols and .timeseries; TimeSeries.labels_refs and .metadata; Metadata.type and .help_ref.
const field = { symbols: 4, timeseries: 5, labelsRefs: 1, metadata: 5, type: 1, help: 3 } as const;

// Metadata.MetricType.
const types: Readonly<Record<MetricFamily["type"], number>> = { counter: 1, gauge: 2, histogram: 3 };

type SeriesTexts = { readonly pairs: LabelPairs; readonly family: MetricFamily | undefined };

const textsBy = createLabelCache(({ name }, pairs): SeriesTexts => ({ pairs, family: familyOf(name) }));

type Symbols = {
  /** The number of the text; a text that was not there is added. */
  ref(text: string): number;
  /** From here on, `undo` takes out again what is added. */
  mark(): void;
  undo(): void;
  readonly writer: ProtoWriter;
};

function createSymbols(): Symbols {
  const writer = borrowWriter();
  const refs = new Map<string, number>();
  let added: string[] = [];
  let marked = 0;
  const ref = (text: string): number => {
    const known = refs.get(text);
    if (known !== undefined) return known;
    const made = refs.size;
    refs.set(text, made);
    added.push(text);
    writer.stringField(field.symbols, text);
    return made;
  };
  ref(""); // The first symbol is empty: 0 stands for nothing.
  return {
    ref,
    mark: () => {
      added = [];
      marked = writer.length;
    },
    undo: () => {
      for (const text of added) refs.delete(text);
      writer.truncate(marked);
    },
    writer,
  };
}

/** Writes what the time series begins with to `head`. */
function writeHead(head: ProtoWriter, symbols: Symbols, { pairs, family }: SeriesTexts): void {
  head.truncate(0);
  const refs = pairs.map((text) => symbols.ref(text));
  head.lengthField(
    field.labelsRefs,
    refs.reduce((sum, ref) => sum + varintLength(ref), 0),
  );
  for (const ref of refs) head.varint(ref);
  if (family === undefined) return;
  const help = symbols.ref(family.help);
  head.lengthField(field.metadata, 2 + 1 + varintLength(help));
  head.varintField(field.type, types[family.type]);
  head.varintField(field.help, help);
}

export const remoteWrite2: Encoders = {
  metrics: (spec, { bytesMax }) => {
    const textsOf = textsBy(labelRulesOf(spec));
    const body = createSeriesBody(field.timeseries, bytesMax);
    const symbols = createSymbols();
    const head = borrowWriter();
    return {
      add: (series, at, value) => {
        checkTime(series, at);
        const begins = series !== body.current;
        if (begins) {
          const texts = textsOf(series);
          symbols.mark();
          writeHead(head, symbols, texts);
        }
        const outside = symbols.writer.length;
        const taken = body.add({ series, head: head.view(), outside, at, value });
        if (begins && !taken) symbols.undo();
        return taken;
      },
      finish: () => {
        const request = symbols.writer;
        body.finish(request);
        const encoded = { body: compress(request.view()), rawBytes: request.length };
        returnWriter(head);
        returnWriter(request);
        return encoded;
      },
    };
  },
};
