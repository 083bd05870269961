// The upstream of the outage: takes remote write and Loki pushes, and knows what came, how often and in which order.

import { uncompress } from "snappyjs";
import { valueAt } from "./outage-load.ts";

type Cursor = { readonly bytes: Uint8Array; readonly view: DataView; at: number };

function varint(cursor: Cursor): number {
  let value = 0;
  for (let scale = 1; ; scale *= 128) {
    const byte = cursor.bytes[cursor.at++] ?? 0;
    value += (byte & 127) * scale;
    if (byte < 128) return value;
  }
}

/** Calls `take` with the field and where it lies; only the wire types that are sent. */
function fields(cursor: Cursor, end: number, take: (field: number, end: number) => void): void {
  while (cursor.at < end) {
    const tag = varint(cursor);
    const wire = tag & 7;
    const length = wire === 2 ? varint(cursor) : 0;
    const next = wire === 2 ? cursor.at + length : wire === 1 ? cursor.at + 8 : -1;
    take(tag >> 3, next);
    if (next >= 0) cursor.at = next;
  }
}

const decoder = new TextDecoder();

export type Sample = { readonly series: number; readonly at: number; readonly value: number };

/** The value of the label `series`; undefined when this is another label. */
function seriesOf(cursor: Cursor, end: number): number | undefined {
  const texts = ["", ""];
  fields(cursor, end, (field, to) => {
    texts[field - 1] = decoder.decode(cursor.bytes.subarray(cursor.at, to));
  });
  return texts[0] === "series" ? Number(texts[1]) : undefined;
}

/** Samples of a WriteRequest whose series have a label `series`. */
export function readSamples(packed: Uint8Array<ArrayBuffer>, take: (sample: Sample) => void): void {
  const bytes = uncompress(packed);
  const cursor = { bytes, view: new DataView(bytes.buffer, bytes.byteOffset), at: 0 };
  let series = Number.NaN;
  const readSample = (end: number): void => {
    const sample = { series, at: 0, value: 0 };
    fields(cursor, end, (field) => {
      if (field === 1) sample.value = cursor.view.getFloat64(cursor.at, true);
      else sample.at = varint(cursor);
    });
    take(sample);
  };
  fields(cursor, bytes.length, (_, end) =>
    fields(cursor, end, (field, to) => {
      if (field === 1) series = seriesOf(cursor, to) ?? series;
      else readSample(to);
    }),
  );
}

/** What came of one kind: each of `size` places at least once, and each for the first time after all before it. */
function createPlaces(size: number) {
  const seen = new Uint8Array(size);
  let distinct = 0;
  let again = 0;
  return {
    /** Whether it is new. */
    add(place: number): boolean {
      if (place < 0 || place >= size) throw new Error(`there is no place ${place}`);
      if (seen[place] === 1) again += 1;
      else distinct += 1;
      const isNew = seen[place] === 0;
      seen[place] = 1;
      return isNew;
    },
    get distinct() {
      return distinct;
    },
    get again() {
      return again;
    },
  };
}

export type Past = {
  readonly from: number;
  readonly steps: number;
  readonly stepMs: number;
  readonly series: number;
  readonly rows: number;
};

export function startUpstream({ from, steps, stepMs, series, rows }: Past) {
  const samples = createPlaces(steps * series);
  const flows = createPlaces(rows + 1);
  const lastStep = new Int32Array(series).fill(-1);
  const to = from + steps * stepMs;
  const faults: string[] = [];
  const live = { newestAt: 0, lagMaxMs: 0, samples: 0, rows: 0 };
  let lastSeq = 0;
  const fault = (text: string): void => void (faults.length < 10 && faults.push(text));

  const takeSample = ({ series: number, at, value }: Sample): void => {
    if (value !== valueAt(number, at)) fault(`series ${number} at ${at} is ${value}`);
    if (at >= to) {
      live.samples += 1;
      live.newestAt = Math.max(live.newestAt, at);
      return;
    }
    const step = (at - from) / stepMs;
    if (!samples.add(step * series + number)) return;
    if (step !== (lastStep[number] ?? 0) + 1)
      fault(`series ${number}: step ${step} after ${lastStep[number]}`);
    lastStep[number] = step;
  };

  const takeRows = (text: string): void => {
    let newest = 0;
    for (const [, digits = ""] of text.matchAll(/"id":"[^"/]+\/[0-9a-z]+-([0-9a-z]+)"/g)) {
      const seq = Number.parseInt(digits, 36);
      if (seq > rows) live.rows += 1;
      else if (flows.add(seq)) {
        if (seq <= lastSeq) fault(`row ${seq} after ${lastSeq}`);
        newest = Math.max(newest, seq);
      }
    }
    lastSeq = Math.max(lastSeq, newest);
  };

  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      const body = new Uint8Array(await request.arrayBuffer());
      if (new URL(request.url).pathname === "/write") readSamples(body, takeSample);
      else takeRows(Buffer.from(uncompress(body)).toString("latin1"));
      return new Response(null, { status: 204 });
    },
  });
  return {
    url: `http://127.0.0.1:${server.port}`,
    samples,
    flows,
    faults,
    live,
    stop: () => server.stop(true),
  };
}
