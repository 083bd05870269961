// Flows as entries of Loki streams: a PushRequest of protobuf in a block of snappy.

import { compress } from "snappyjs";
import { protocolNames } from "../flow.ts";
import type { StoredFlow } from "../store/rows.ts";
import type { Labels } from "../store/sample-series.ts";
import { EncodeError, type EncoderSpec, type Encoders } from "./encoder.ts";
import { flowLine, withExternalLabels } from "./ndjson-encode.ts";
import { createProtoWriter, fieldLength, type ProtoWriter } from "./protobuf.ts";

// What Loki takes by default: labels of a stream, bytes of a line, structured metadata of an entry.
const labelsMax = 15;
const lineBytesMax = 256 * 1024;
const metadataMax = 128;
const metadataBytesMax = 64 * 1024;

/**
 * Loki takes entries of a stream up to an hour behind its newest. What is half as old when it is encoded goes to
 * streams of its own, so that a backlog does not fall behind what is live.
 */
const replayMs = 30 * 60_000;

type Pair = readonly [name: string, value: string];
type Entry = { readonly at: number; readonly bytes: Uint8Array };
type Stream = { readonly labels: string; readonly entries: Entry[]; readonly more: readonly Pair[] };

/** Go's quoting, of which JSON's is a part once no surrogate stands alone. */
const labelsText = (pairs: readonly Pair[]): string =>
  `{${pairs.map(([name, value]) => `${name}=${JSON.stringify(value.toWellFormed())}`).join(", ")}}`;

/** The labels of a stream, and those that are too many for one: they go with each of its entries. */
function labelsOf(
  own: Labels,
  external: Labels,
): { readonly labels: string; readonly more: readonly Pair[] } {
  const all = Object.entries(withExternalLabels(own, external)).filter(([, value]) => value !== "");
  const isOwn = ([name]: Pair): boolean => name in own;
  const added = all.filter((pair) => !isOwn(pair)).toSorted(byName);
  const kept = [...all.filter(isOwn), ...added].slice(0, labelsMax);
  return {
    labels: labelsText(kept.toSorted(byName)),
    more: added.slice(labelsMax - (all.length - added.length)),
  };
}

const byName = ([a]: Pair, [b]: Pair): number => (a < b ? -1 : 1);

/** What is asked for most and is too many values for a label. */
function metadataOf(flow: StoredFlow, id: string): readonly Pair[] {
  const { source, destination, sourcePort, destinationPort, protocol, dropReason } = flow;
  const port = (name: string, value: number): readonly Pair[] => (value === 0 ? [] : [[name, String(value)]]);
  return [
    ["record_id", id],
    ["source", source],
    ["destination", destination],
    ...port("source_port", sourcePort),
    ...port("destination_port", destinationPort),
    ["protocol", protocolNames[protocol] ?? String(protocol)],
    ...(dropReason === undefined ? [] : [["drop_reason", dropReason.toWellFormed()] as const]),
  ];
}

function checkEntry(line: string, metadata: readonly Pair[]): void {
  const lineBytes = Buffer.byteLength(line);
  if (lineBytes >= lineBytesMax)
    throw new EncodeError(`the line has ${lineBytes} bytes, Loki takes ${lineBytesMax}`);
  const bytes = metadata.reduce((sum, [name, value]) => sum + name.length + Buffer.byteLength(value), 0);
  if (metadata.length <= metadataMax && bytes <= metadataBytesMax) return;
  throw new EncodeError(
    `the structured metadata has ${metadata.length} entries and ${bytes} bytes, Loki takes ${metadataMax} and ` +
      `${metadataBytesMax}: set fewer externalLabels`,
  );
}

/** Writes a message that is a field of another: `inner` is used for it, and empty before and after. */
function nested(writer: ProtoWriter, field: number, inner: ProtoWriter, write: () => void): void {
  write();
  writer.lengthField(field, inner.length);
  writer.raw(inner.view());
  inner.truncate(0);
}

/** EntryAdapter: timestamp 1, line 2, structuredMetadata 3. */
function createEntryWriter(): (at: number, line: string, metadata: readonly Pair[]) => Uint8Array {
  const writer = createProtoWriter();
  const inner = createProtoWriter();
  return (at, line, metadata) => {
    writer.truncate(0);
    nested(writer, 1, inner, () => {
      inner.varintField(1, Math.floor(at / 1000));
      inner.varintField(2, (at % 1000) * 1_000_000);
    });
    writer.stringField(2, line);
    for (const [name, value] of metadata)
      nested(writer, 3, inner, () => {
        inner.stringField(1, name);
        inner.stringField(2, value);
      });
    return writer.view().slice();
  };
}

/** PushRequest: streams 1. StreamAdapter: labels 1, entries 2; its hash, 3, is for Loki's own use. */
function pushRequest(streams: Iterable<Stream>): Uint8Array<ArrayBuffer> {
  const writer = createProtoWriter();
  const inner = createProtoWriter();
  for (const { labels, entries } of streams)
    nested(writer, 1, inner, () => {
      inner.stringField(1, labels);
      for (const { bytes } of entries.toSorted((a, b) => a.at - b.at)) {
        inner.lengthField(2, bytes.length);
        inner.raw(bytes);
      }
    });
  return writer.view();
}

/** The stream of a flow; few values each, so that there are few streams. */
function ownLabels(flow: StoredFlow, { node, cluster }: EncoderSpec, replay: boolean): Labels {
  return {
    service_name: "fovea",
    node: flow.node ?? node,
    ...(cluster === "" ? {} : { cluster }),
    verdict: flow.verdict,
    direction: flow.direction,
    ...(replay ? { replay: "true" } : {}),
  };
}

/** Of a stream without its entries: tags, lengths of at most five bytes, labels. */
const streamBytes = (labels: string): number => 12 + Buffer.byteLength(labels);

function createStreams(spec: EncoderSpec, now: number) {
  // By what makes them differ, as the text of the labels takes longer than all else.
  const streams = new Map<string, Stream>();
  return {
    all: () => streams.values(),
    of(flow: StoredFlow): { readonly stream: Stream; readonly isNew: boolean; keep(): void } {
      const replay = now - flow.endAt > replayMs;
      const key = JSON.stringify([flow.verdict, flow.direction, replay, flow.node]);
      const known = streams.get(key);
      const made = () => labelsOf(ownLabels(flow, spec, replay), spec.externalLabels);
      const stream = known ?? { ...made(), entries: [] };
      return { stream, isNew: known === undefined, keep: () => void streams.set(key, stream) };
    },
  };
}

export const loki: Encoders = {
  flows: (spec, { bytesMax, now }) => {
    const streams = createStreams(spec, now);
    const writeEntry = createEntryWriter();
    let bytes = 0;
    return {
      add(flow, id) {
        const { stream, isNew, keep } = streams.of(flow);
        // Loki takes two entries for one when their times and lines are equal: the id makes each line another.
        const line = flowLine(flow, { id, node: spec.node });
        const metadata = [...metadataOf(flow, id), ...stream.more];
        checkEntry(line, metadata);
        const entry = writeEntry(Math.trunc(flow.endAt), line, metadata);
        const more = fieldLength(entry.length) + (isNew ? streamBytes(stream.labels) : 0);
        if (bytes > 0 && bytes + more > bytesMax) return false;
        keep();
        bytes += more;
        stream.entries.push({ at: flow.endAt, bytes: entry });
        return true;
      },
      finish() {
        const raw = pushRequest(streams.all());
        return { body: compress(raw), rawBytes: raw.length };
      },
    };
  },
};
