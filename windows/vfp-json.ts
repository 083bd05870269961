// The JSON that `vfpctrl /port GUID /get-port-counter /format 1` prints.

import type { Direction } from "../src/flow.ts";
import type { SwitchCounters } from "./counters.ts";
import { countOf, parseExact } from "./exact-json.ts";
import { meaningOf, type NamedCount, switchCountersFrom } from "./vfp-names.ts";

type Fields = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Scripts that read it work with one object as well as with an array of them. */
const objectsIn = (value: unknown): readonly Fields[] =>
  (Array.isArray(value) ? value : [value]).filter(isObject);

/** Keys are read without regard to case, as everywhere in these interfaces. */
const fieldOf = (object: Fields, name: string): unknown =>
  object[name] ?? Object.entries(object).find(([key]) => key.toLowerCase() === name.toLowerCase())?.[1];

function directionOf(port: Fields): Direction | undefined {
  const direction = fieldOf(port, "Direction");
  const written = typeof direction === "string" ? direction.trim().toUpperCase() : direction;
  if (written === 0 || written === "0" || written === "OUT") return "egress";
  return written === 1 || written === "1" || written === "IN" ? "ingress" : undefined;
}

function countsOf(port: Fields): readonly NamedCount[] {
  const direction = directionOf(port);
  if (direction === undefined) return [];
  return Object.entries(port).flatMap(([label, value]) => {
    const meaning = meaningOf(label);
    const count = meaning === undefined ? undefined : countOf(value);
    return meaning === undefined || count === undefined ? [] : [{ direction, meaning, count }];
  });
}

/** Throws where the text is no JSON, as that of a vfpctrl which does not know `/format`, or has no counter of a port. */
export function parsePortCountersJson(text: string): SwitchCounters {
  const root = parseExact(text.replace(/^\uFEFF/, ""));
  const ports = objectsIn(root)
    .flatMap((object) => objectsIn(fieldOf(object, "InformationArray")))
    .flatMap((information) => objectsIn(fieldOf(information, "PortCounters")));
  const counts = ports.flatMap(countsOf);
  if (counts.length === 0) throw new Error("the JSON has no counter of a port");
  return switchCountersFrom("vfpctrl", counts);
}
