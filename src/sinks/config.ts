// The list of sinks in the configuration: rules between sinks, and printing it.

import { resolve } from "node:path";
import { z } from "zod";
import { unwrapped } from "../config-fields.ts";
import { printDuration, printShare, printSize } from "../config-units.ts";
import { wantedBytesMax, wantedText } from "../store/sink-wanted.ts";
import { type SinkConfig, sinkSchema, sinksMax } from "./schema.ts";
import { withoutQueryValues } from "./secret-names.ts";
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

/** Signals of which a sink gets nothing but what others divert to it. */
export const fedSignals = (name: string, sinks: readonly SinkConfig[]): ReadonlySet<Signal> =>
  new Set(sinks.filter(({ divertTo }) => divertTo === name).flatMap(signalsOf));

/** What is right, and might surprise all the same: one sentence each. */
export const sinkNotes = (sinks: readonly SinkConfig[]): readonly string[] =>
  sinks.flatMap((sink, at) => {
    const fed = fedSignals(sink.name, sinks);
    return signalsOf(sink)
      .filter((signal) => sink.enabled && fed.has(signal))
      .map((signal) => {
        const from = sinks.filter(
          (other) => other.divertTo === sink.name && signalsOf(other).includes(signal),
        );
        const names = from.map(({ name, enabled }) => (enabled ? name : `${name} (not enabled)`));
        return `sinks.${at}: ${sink.name} gets no ${signal} but what is too old for ${names.join(" and ")}`;
      });
  });

/** Of filters that may go along to one sink: half of what its state holds, for a change of them to find room. */
const filterBytesMax = wantedBytesMax / 2;

function filterFault(target: string, sinks: readonly SinkConfig[]): string | undefined {
  const from = sinks.filter(({ divertTo }) => divertTo === target);
  const bytesOf = (signal: Signal): number =>
    [...new Set(from.map(({ filter }) => wantedText(filter, signal)))].reduce(
      (sum, text = "") => sum + Buffer.byteLength(text),
      0,
    );
  const bytes = Math.max(bytesOf("flows"), bytesOf("metrics"));
  if (bytes <= filterBytesMax) return undefined;
  return `"${target}" gets the filter along with the records, at most ${filterBytesMax} bytes of all that divert to it, not ${bytes}; make it shorter`;
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
    ? filterFault(divertTo, sinks)
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

/** Without what is said in the queries of its URLs, which may be secret. */
export function shownSink(sink: SinkConfig): SinkConfig {
  if (sink.type === "file") return sink;
  const { entra } = sink.auth;
  const shown = { ...sink, url: withoutQueryValues(sink.url), proxy: withoutQueryValues(sink.proxy) };
  if (entra?.authorityHost === undefined) return shown;
  const authorityHost = withoutQueryValues(entra.authorityHost);
  return { ...shown, auth: { ...sink.auth, entra: { ...entra, authorityHost } } };
}

/** In the form in which it may be given again, but for values of a query, which are refused until they are written. */
export const printSinks = (sinks: readonly SinkConfig[]): readonly Tree[] =>
  sinks.map((sink) => printSink(shownSink(sink)));
