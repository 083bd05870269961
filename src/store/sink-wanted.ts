// What a sink wanted of the records that it handed over: its filter, which goes with them, so that no other is told of the rest.

import { z } from "zod";
import { excludeRuleSchema, filterRuleSchema, rulesMax } from "../filter-rules.ts";
import type { Signal } from "../sinks/sink.ts";
import type { SinkFilter } from "./sink-batch.ts";

/** Of all filters that go with what is handed over to one sink and signal: they stand in its state, which changes often. */
export const wantedBytesMax = 32_768;

const patternsMax = 256;

const schema = z.strictObject({
  include: z.array(filterRuleSchema).max(rulesMax).default([]),
  exclude: z.array(excludeRuleSchema).max(rulesMax).default([]),
  metrics: z.array(z.string()).max(patternsMax).default([]),
});

/** The part of a filter that speaks of this signal, as text; undefined where it lets everything through. */
export function wantedText({ include, exclude, metrics }: SinkFilter, signal: Signal): string | undefined {
  const part = signal === "metrics" ? { metrics } : { include, exclude };
  const named = Object.entries(part).filter(([, list]) => list.length > 0);
  return named.length === 0 ? undefined : JSON.stringify(Object.fromEntries(named));
}

const readMax = 64;
const read = new Map<string, SinkFilter>();

/** Undefined where the text is none of a filter. */
export function readWanted(text: string): SinkFilter | undefined {
  const known = read.get(text);
  if (known !== undefined) return known;
  const { data } = schema.safeParse(parsed(text));
  if (data === undefined) return undefined;
  if (read.size >= readMax) read.clear();
  read.set(text, data);
  return data;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // The schema then says that it is none.
  }
}
