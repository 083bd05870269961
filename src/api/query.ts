// Queries of the API as zod schemas: what a client may ask of each route.

import { z } from "@hono/zod-openapi";
import type { Direction, Verdict } from "../flow.ts";
import type { Order } from "../store/cursor.ts";
import type { DropKey } from "../store/drops.ts";
import { topKeys, topLimitMax, topOrders } from "../store/top-groups.ts";
import {
  addresses,
  choice,
  limit,
  needed,
  onePort,
  parameter,
  plainText,
  port,
  protocol,
  range,
  repeated,
  step,
} from "./parameters.ts";

export const directions = ["ingress", "egress"] as const satisfies readonly Direction[];
export const verdicts = ["forwarded", "dropped"] as const satisfies readonly Verdict[];
export const orders = ["newest", "oldest"] as const satisfies readonly Order[];
export const formats = ["json", "ndjson"] as const;
const streamFormats = ["sse", "ndjson"] as const;

const sinceAlone = (query: { readonly from?: unknown; readonly since?: unknown }) =>
  query.from === undefined || query.since === undefined;
const sinceTold = { path: ["since"], error: "cannot be given together with from" };

export const flowsMax = 1000;
export const flowsWithout = 100;

const flowRange = range("flows whose last packet came");

const flowFilter = {
  address: addresses("Source or destination, an address or a CIDR."),
  source: addresses("Source, an address or a CIDR."),
  destination: addresses("Destination, an address or a CIDR."),
  port: port("Source or destination port."),
  sourcePort: port("Source port."),
  destinationPort: port("Destination port."),
  protocol: protocol("Name or IANA number."),
  direction: choice(directions, "As seen from the local endpoint."),
  verdict: choice(verdicts, "Whether the packets went on."),
  reason: parameter(plainText, "is no drop reason", "The kernel's name of the drop reason."),
};

/** The form of a cursor; whether the store gave it, the store tells. */
export const cursorForm = /^[\w.:-]{1,64}$/;

const cursor = (description: string) =>
  parameter(
    (text) => (cursorForm.test(text) ? text : undefined),
    "is no cursor of an earlier answer",
    description,
  );

export const flowsQuery = z
  .strictObject({
    ...flowRange,
    ...flowFilter,
    limit: limit({ max: flowsMax, without: flowsWithout }),
    order: choice(orders, "Which come first; newest is the default."),
    cursor: cursor("Go on where the answer with this cursor ended."),
    format: choice(formats, "In place of the Accept header."),
    follow: choice(["true", "false"], "Go on with new flows as /api/v1/flows/stream does, as NDJSON."),
  })
  .refine(sinceAlone, sinceTold)
  .superRefine(({ follow, to, limit: most, order, format }, context) => {
    if (follow !== "true") return;
    const refuse = (name: string, message: string) =>
      context.addIssue({ code: "custom", path: [name], message });
    if (to !== undefined) refuse("to", "cannot be given together with follow");
    if (most !== undefined) refuse("limit", "cannot be given together with follow");
    if (order === "newest") refuse("order", "is oldest with follow");
    if (format === "json") refuse("format", "is ndjson with follow");
  });

export const streamQuery = z
  .strictObject({
    from: flowRange.from,
    since: flowRange.since,
    ...flowFilter,
    cursor: cursor("Go on after the flow that had this cursor; a Last-Event-ID header goes before it."),
    format: choice(streamFormats, "In place of the Accept header; sse is the default."),
  })
  .refine(sinceAlone, sinceTold);

export const dropKeys = ["reason", "address", "port"] as const satisfies readonly DropKey[];

export const dropsWithout = 100;

export const dropsQuery = z
  .strictObject({
    ...flowRange,
    by: choice(
      dropKeys,
      "What to add up by: the drop reason (the default), the far address or the destination port.",
    ),
    limit: limit({ max: 1000, without: dropsWithout }),
  })
  .refine(sinceAlone, sinceTold);

export const topWithout = 10;
/** Without any time. */
export const topSinceMs = 3_600_000;

export const topQuery = z
  .strictObject({
    ...range("what was counted"),
    by: choice(topKeys, "What to add up by; address, which is either end, is the default."),
    order: choice(topOrders, "What makes one the top; bytes is the default."),
    limit: limit({ max: topLimitMax, without: topWithout }),
    address: addresses("Only of this source or destination, an address or a CIDR."),
    port: onePort("Only to this destination port."),
    protocol: protocol("Only of this protocol, a name or an IANA number."),
    direction: choice(directions, "As seen from the local endpoint."),
    verdict: choice(verdicts, "Whether the packets went on."),
  })
  .refine(sinceAlone, sinceTold);

export const summariesWithout = 100;

export const ledgerQuery = z
  .strictObject({
    ...range("counts"),
    limit: limit({ max: 1000, without: summariesWithout }),
  })
  .refine(sinceAlone, sinceTold);

/** A name of a metric, or with a star at the end how it begins. */
const metricName = (text: string) => (/^[A-Za-z_:][\w:]{0,254}\*?$/.test(text) ? text : undefined);

const labelText = (text: string): readonly [string, string] | undefined => {
  const [, name, value] = /^([A-Za-z_]\w{0,254})=(\P{Cc}{0,1024})$/u.exec(text) ?? [];
  return name === undefined || value === undefined ? undefined : [name, value];
};

const named = (labels: readonly (readonly [string, string])[] = []) => labels.map(([of]) => of);

const labelDescription = "A label that the series has, as NAME=VALUE; each name once.";
const label = repeated(labelText, "is no label such as Direction=egress", labelDescription)
  .refine((labels) => new Set(named(labels)).size === named(labels).length, {
    error: "has one name more than once: a series has one value of each",
  })
  .openapi({ type: "array", items: { type: "string" }, description: labelDescription });
const nameFacts = {
  told: "is no name of a metric",
  missing: "is missing: which metric?",
  description: "Name of the metric, or with a star at the end how it begins.",
};

export const seriesWithout = 1000;

export const seriesQuery = z.strictObject({
  name: parameter(metricName, nameFacts.told, nameFacts.description),
  label,
  limit: limit({ max: 10_000, without: seriesWithout }),
});

export const samplesWithout = 100;
/** Without any time. */
export const samplesSinceMs = 3_600_000;

export const samplesQuery = z
  .strictObject({
    ...range("samples that were taken"),
    name: needed(metricName, nameFacts),
    label,
    step: step("The last sample of each step alone, as in 5m."),
    limit: limit({ max: 1000, without: samplesWithout }),
  })
  .refine(sinceAlone, sinceTold);

export type FlowsQuery = z.output<typeof flowsQuery>;
export type StreamQuery = z.output<typeof streamQuery>;
export type TopAsked = z.output<typeof topQuery>;
