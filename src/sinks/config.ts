// The list of sinks in the configuration: rules between sinks, and printing it.

import { resolve } from "node:path";
import { z } from "zod";
import { unwrapped } from "../config-fields.ts";
import { printDuration, printShare, printSize } from "../config-units.ts";
import { type SinkConfig, sinkSchema, sinksMax } from "./schema.ts";
import type { Signal } from "./sink.ts";

type Tree = Readonly<Record<string, unknown>>;
const isTree = (value: unknown): value is Tree =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * An empty value is one that is not set, as elsewhere in the configuration. Not so inside of lists: a rule with fewer
 * terms would match more.
 */
function withoutEmpty(value: unknown): unknown {
  if (!isTree(value)) return value;
  const kept = Object.entries(value).filter(([, inner]) => inner !== null);
  return Object.fromEntries(kept.map(([key, inner]) => [key, withoutEmpty(inner)]));
}

/** What a sink forwards; some types know one signal alone. */
export function signalsOf(sink: SinkConfig): readonly Signal[] {
  if (sink.type === "remote-write") return ["metrics"];
  return sink.type === "loki" ? ["flows"] : sink.signals;
}

/** What is wrong with where a sink diverts to. */
function divertFault(sink: SinkConfig, sinks: readonly SinkConfig[]): string | undefined {
  const { divertTo } = sink;
  if (divertTo === undefined) return undefined;
  const target = sinks.find(({ name }) => name === divertTo);
  if (divertTo === sink.name) return "is this sink itself";
  if (target === undefined) return `"${divertTo}" is no name of a sink`;
  // A sink that is fed gets nothing else, and diverts nothing: so there is neither a chain nor a circle.
  if (target.divertTo !== undefined)
    return `"${divertTo}" itself diverts to "${target.divertTo}"; a sink that others divert to cannot`;
  if (sink.enabled && !target.enabled) return `"${divertTo}" is not enabled`;
  const shared = signalsOf(sink).filter((signal) => signalsOf(target).includes(signal));
  return shared.length > 0
    ? undefined
    : `"${divertTo}" takes ${signalsOf(target).join(" and ")}, this sink has ${signalsOf(sink).join(" and ")}`;
}

/** Two that write to one directory would end each other's files. */
function directoryFault(sink: SinkConfig, before: readonly SinkConfig[]): string | undefined {
  if (sink.type !== "file") return undefined;
  const path = resolve(sink.directory);
  const first = before.findIndex((other) => other.type === "file" && resolve(other.directory) === path);
  return first === -1 ? undefined : `"${sink.directory}" is the directory of sinks.${first} already`;
}

export const sinksField = z
  .array(z.preprocess(withoutEmpty, sinkSchema), "is a list of sinks")
  .max(sinksMax, `has more than ${sinksMax} sinks`)
  .superRefine((sinks, context) => {
    for (const [at, sink] of sinks.entries()) {
      const first = sinks.findIndex(({ name }) => name === sink.name);
      if (first < at)
        context.addIssue({
          ...{ code: "custom", path: [at, "name"] },
          message: `"${sink.name}" is the name of sinks.${first} already`,
        });
      const message = divertFault(sink, sinks);
      if (message !== undefined) context.addIssue({ code: "custom", path: [at, "divertTo"], message });
      const taken = directoryFault(sink, sinks.slice(0, at));
      if (taken !== undefined) context.addIssue({ code: "custom", path: [at, "directory"], message: taken });
    }
  })
  .default([]);

const asNumber =
  (print: (value: number) => string) =>
  (value: unknown): unknown =>
    typeof value === "number" ? print(value) : value;

const printReach = (ms: number): string => (ms === Number.POSITIVE_INFINITY ? "any" : printDuration(ms));

const printers: readonly (readonly [RegExp, (value: unknown) => unknown])[] = [
  [/^limits\.(ageMax|outOfOrder|spanMax)$/, asNumber(printReach)],
  [/^(timeout|schedule\.every|fileAgeMax)$/, asNumber(printDuration)],
  [/^(pace\.bytesPerSecond|limits\.bytesMax|fileBytesMax|totalMax)$/, asNumber(printSize)],
  [/^pace\.liveShare$/, asNumber(printShare)],
];

/** Every key of a section; null for one that is not set. */
function printedSection({ shape }: z.ZodObject, values: Tree, path: string): Tree {
  const printed = Object.entries(shape).map(([key, schema]): [string, unknown] => {
    const inner = unwrapped(schema);
    const value = values[key];
    if (inner instanceof z.ZodObject && isTree(value))
      return [key, printedSection(inner, value, `${path}${key}.`)];
    const print = printers.find(([pattern]) => pattern.test(path + key))?.[1];
    return [key, print?.(value) ?? value ?? null];
  });
  return Object.fromEntries(printed);
}

function printSink(sink: SinkConfig): Tree {
  const { name, type } = sink;
  const schema = sinkSchema.options.find(({ shape }) => shape.type.value === type);
  return schema === undefined ? sink : { name, type, ...printedSection(schema, sink, "") };
}

/** In the form in which it may be given again. */
export const printSinks = (sinks: readonly SinkConfig[]): readonly Tree[] => sinks.map(printSink);
