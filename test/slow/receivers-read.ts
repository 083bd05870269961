// Every sample that a store or a receiver has, with the markers of where a series ended, so that both can be compared.

import { compress, uncompress } from "snappyjs";
import { createProtoWriter, fieldLength, type ProtoWriter } from "../../src/sinks/protobuf.ts";
import type { Queries } from "../../src/store/queries.ts";
import { decode, type Sample } from "../remote-write.rig.ts";

/** By name and labels, without the external ones. */
export type Contents = ReadonlyMap<string, readonly Sample[]>;

export const external = { job: "receivers", instance: "edge-1", cluster: "site-a" } as const;

/** Throws for a series that is not from this node. */
function keyOf(all: Iterable<readonly [name: string, value: string]>): string {
  const { __name__, ...labels } = Object.fromEntries(all);
  for (const [name, value] of Object.entries(external)) {
    if (labels[name] !== value) throw new Error(`${__name__} has the ${name} ${labels[name]}`);
    delete labels[name];
  }
  const own = Object.entries(labels).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `${__name__}${JSON.stringify(Object.fromEntries(own))}`;
}

export async function readStore(queries: Queries, fromAt: number, toAt: number): Promise<Contents> {
  const { series, complete } = await queries.samples({ name: "fovea_*", fromAt, toAt, seriesMax: 1000 });
  if (!complete) throw new Error("the store has more than one answer holds");
  return new Map(
    series.map(({ name, labels, points }) => [
      keyOf(Object.entries({ __name__: name, ...labels, ...external })),
      points,
    ]),
  );
}

function message(writer: ProtoWriter, field: number, write: (inner: ProtoWriter) => void): void {
  const inner = createProtoWriter();
  write(inner);
  writer.lengthField(field, inner.length);
  writer.raw(inner.view());
}

/** ReadRequest of prometheus/prompb/remote.proto, for all that a scrape did not bring. */
function readRequest(fromAt: number, toAt: number): Uint8Array<ArrayBuffer> {
  const [regexp, start, end, matchers] = [2, 1, 2, 3];
  const writer = createProtoWriter();
  message(writer, 1, (query) => {
    query.varintField(start, fromAt);
    query.varintField(end, toAt);
    message(query, matchers, (matcher) => {
      matcher.varintField(1, regexp);
      matcher.stringField(2, "__name__");
      matcher.stringField(3, "fovea_.*");
    });
  });
  return writer.view().slice();
}

/** What is in a message whose only field is a message: undefined where it is empty. */
function onlyField(bytes: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
  if (bytes.length === 0) return undefined;
  let head = 1;
  while (((bytes[head] ?? 0) & 0x80) !== 0) head += 1;
  const inner = bytes.slice(head + 1);
  if (bytes[0] !== 0x0a || fieldLength(inner.length) !== bytes.length)
    throw new Error("an answer with more than one result");
  return new Uint8Array(inner);
}

/** By remote read, which alone gives stale markers as well. */
export async function readPrometheus(url: string, fromAt: number, toAt: number): Promise<Contents> {
  const response = await fetch(`${url}/api/v1/read`, {
    method: "POST",
    headers: { "Content-Type": "application/x-protobuf", "Content-Encoding": "snappy" },
    body: compress(readRequest(fromAt, toAt - 1)),
  });
  if (!response.ok) throw new Error(`remote read: ${response.status} ${await response.text()}`);
  const result = onlyField(uncompress(new Uint8Array(await response.arrayBuffer())));
  if (result === undefined) return new Map();
  // A result is to a reader what a request to write is: time series in field 1.
  const all = decode("remote-write-1", { body: compress(result), rawBytes: result.length });
  return new Map(all.map(({ labels, samples }) => [keyOf(labels), samples]));
}

type Exported = {
  readonly metric: Record<string, string>;
  readonly values: readonly (number | null)[];
  readonly timestamps: readonly number[];
};

/** A stale marker comes as null; another NaN is never stored. */
export async function readVictoria(url: string, fromAt: number, toAt: number): Promise<Contents> {
  await fetch(`${url}/internal/force_flush`);
  const asked = new URLSearchParams({ "match[]": '{__name__=~"fovea_.*"}' });
  asked.set("start", (fromAt / 1000).toFixed(3));
  asked.set("end", ((toAt - 1) / 1000).toFixed(3));
  const response = await fetch(`${url}/api/v1/export?${asked}`);
  if (!response.ok) throw new Error(`export: ${response.status} ${await response.text()}`);
  const lines = (await response.text()).split("\n").filter((line) => line !== "");
  return new Map(
    lines.map((line) => {
      const { metric, values, timestamps } = JSON.parse(line) as Exported;
      const samples = timestamps.map((at, index): Sample => [at, values[index] ?? null]);
      return [keyOf(Object.entries(metric)), samples];
    }),
  );
}

/** Remote read leaves a zero out, whatever its sign. */
const textOf = ([at, value]: Sample): string => `${value} @${at}`;

/** A line for each series that is not the same, and what is the first difference. */
export function differences(expected: Contents, found: Contents): readonly string[] {
  const keys = new Set([...expected.keys(), ...found.keys()]);
  return [...keys].flatMap((key) => {
    const [wanted, given] = [expected.get(key) ?? [], found.get(key) ?? []].map((all) => all.map(textOf));
    if (wanted === undefined || given === undefined) return [];
    const at = wanted.findIndex((text, index) => text !== given[index]);
    if (at === -1 && wanted.length === given.length) return [];
    const place = at === -1 ? wanted.length : at;
    const sizes = `${wanted.length} and ${given.length} samples`;
    return [`${key}: ${sizes}, at ${place} ${wanted[place] ?? "none"} and ${given[place] ?? "none"}`];
  });
}

/** Each series without the samples that are not wanted; those without any are left out. */
export const mapped = (
  contents: Contents,
  map: (key: string, samples: readonly Sample[]) => readonly Sample[],
): Contents =>
  new Map(
    [...contents].flatMap(([key, samples]): [string, readonly Sample[]][] => {
      const kept = map(key, samples);
      return kept.length === 0 ? [] : [[key, kept]];
    }),
  );

export const countOf = (contents: Contents): number =>
  [...contents.values()].flat().filter(([, value]) => value !== null).length;
