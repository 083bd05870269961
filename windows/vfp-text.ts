// The text that `vfpctrl /port GUID /get-port-counter` prints, where nothing better can be had.

import type { Direction } from "../src/flow.ts";
import type { SwitchCounters } from "./counters.ts";
import { countOf } from "./exact-json.ts";
import { meaningOf, type NamedCount, switchCountersFrom } from "./vfp-names.ts";

/** Spaces around the dash differ. */
const heading = /^\s*Direction\s*-\s*(IN|OUT)\b/i;

/** A label, one colon or, as after `Port type:`, another one later, and a number that ends the line. */
const counter = /^([^:"]+):[\s:]*(\d+)\s*$/;

/**
 * Headings, trailers and lines without a colon or a number are passed over. The text begins with the outgoing direction,
 * which some versions give no heading. Throws where it has no counter of a port.
 */
export function parsePortCountersText(text: string): SwitchCounters {
  const counts: NamedCount[] = [];
  let direction: Direction = "egress";
  for (const line of text.split(/\r?\n/)) {
    const [, side] = heading.exec(line) ?? [];
    if (side !== undefined) direction = side.toUpperCase() === "IN" ? "ingress" : "egress";
    const [, label = "", digits] = counter.exec(line) ?? [];
    const meaning = meaningOf(label);
    const count = countOf(digits);
    if (meaning !== undefined && count !== undefined) counts.push({ direction, meaning, count });
  }
  if (counts.length === 0) throw new Error("the text has no counter of a port");
  return switchCountersFrom("vfpctrl-text", counts);
}
