// The encoders by format: one line each.

import { azureLogsEncoders } from "./azure-logs-encode.ts";
import type { EncoderSpec, Encoders } from "./encoder.ts";
import { loki } from "./loki-encode.ts";
import { ndjson } from "./ndjson-encode.ts";
import { otlpEncoders } from "./otlp-encoders.ts";
import { prometheusText } from "./prometheus-text.ts";
import { remoteWrite1 } from "./remote-write-1.ts";
import { remoteWrite2 } from "./remote-write-2.ts";

export const encoders: Readonly<Partial<Record<EncoderSpec["format"], Encoders>>> = {
  "azure-logs": azureLogsEncoders,
  loki,
  ndjson,
  "prometheus-text": prometheusText,
  "otlp-json": otlpEncoders("json"),
  "otlp-protobuf": otlpEncoders("protobuf"),
  "remote-write-1": remoteWrite1,
  "remote-write-2": remoteWrite2,
};
