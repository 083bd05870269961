// The encoders of OTLP: both signals in both encodings.

import type { Encoders } from "./encoder.ts";
import type { Notation } from "./otlp-encode.ts";
import { otlpLogs } from "./otlp-logs.ts";
import { otlpMetrics } from "./otlp-metrics.ts";

export const otlpEncoders = (notation: Notation): Encoders => ({
  flows: otlpLogs(notation),
  metrics: otlpMetrics(notation),
});
