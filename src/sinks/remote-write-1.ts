// Prometheus Remote-Write 1.0: samples as a WriteRequest, in a block of snappy.

import { compress } from "snappyjs";
import type { Encoders } from "./encoder.ts";
import { borrowWriter, returnWriter, stringFieldLength } from "./protobuf.ts";
import { checkTime, createSeriesBody } from "./remote-write-body.ts";
import { createLabelCache, labelRulesOf } from "./remote-write-labels.ts";

// WriteRequest.timeseries, TimeSeries.labels, Label.name and Label.value.
const field = { timeseries: 1, labels: 1, name: 1, value: 2 } as const;

/** All labels of a series, as they stand in its TimeSeries. */
const labelBytesBy = createLabelCache((_, pairs): Uint8Array => {
  const writer = borrowWriter();
  let name = "";
  for (const [index, text] of pairs.entries()) {
    if (index % 2 === 0) {
      name = text;
      continue;
    }
    writer.lengthField(field.labels, stringFieldLength(name) + stringFieldLength(text));
    writer.stringField(field.name, name);
    writer.stringField(field.value, text);
  }
  const bytes = writer.view().slice();
  returnWriter(writer);
  return bytes;
});

export const remoteWrite1: Encoders = {
  metrics: (spec, { bytesMax }) => {
    const labelBytes = labelBytesBy(labelRulesOf(spec));
    const body = createSeriesBody(field.timeseries, bytesMax);
    return {
      add: (series, at, value) => {
        checkTime(series, at);
        return body.add({ series, head: labelBytes(series), outside: 0, at, value });
      },
      finish: () => {
        const request = borrowWriter();
        body.finish(request);
        const encoded = { body: compress(request.view()), rawBytes: request.length };
        returnWriter(request);
        return encoded;
      },
    };
  },
};
