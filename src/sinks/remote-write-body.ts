// The part that Remote-Write 1.0 and 2.0 have in common: time series with their samples, up to a number of bytes.

import { type EncodedSeries, EncodeError } from "./encoder.ts";
import { borrowWriter, fieldLength, type ProtoWriter, returnWriter, varintLength } from "./protobuf.ts";

/** The NaN 0x7ff0000000000002, lowest byte first. */
const staleMarker = Uint8Array.of(0x02, 0, 0, 0, 0, 0, 0xf0, 0x7f);

// TimeSeries.samples, Sample.value and Sample.timestamp have these numbers in both versions.
const field = { samples: 2, value: 1, timestamp: 2 } as const;

const isZero = (value: number | null): boolean => Object.is(value, 0); // Minus zero is another number.

/** Zeros are left out: that is what a reader takes for a field that is not there. */
function sampleLength(at: number, value: number | null): number {
  return (isZero(value) ? 0 : 9) + (at === 0 ? 0 : 1 + varintLength(at));
}

function writeSample(writer: ProtoWriter, at: number, value: number | null): void {
  writer.lengthField(field.samples, sampleLength(at, value));
  if (value === null) writer.fixed64Field(field.value, staleMarker);
  else if (!isZero(value)) writer.doubleField(field.value, value);
  if (at !== 0) writer.varintField(field.timestamp, at);
}

/** Throws EncodeError for a time that has no place in a varint of ours. */
export function checkTime({ name }: EncodedSeries, at: number): void {
  if (!(Number.isSafeInteger(at) && at >= 0))
    throw new EncodeError(`series ${name}: ${at} is no time in milliseconds since 1970`);
}

export type SeriesBody = {
  /** The series that the last sample was of. */
  readonly current: EncodedSeries | undefined;
  /**
   * `head` is what the time series begins with when `series` is not `current`, and `outside` how many bytes the body
   * has besides its time series.
   */
  add(sample: {
    readonly series: EncodedSeries;
    readonly head: Uint8Array;
    readonly outside: number;
    readonly at: number;
    readonly value: number | null;
  }): boolean;
  /** Writes all time series to `target`. Called once, at the end. */
  finish(target: ProtoWriter): void;
};

/** `number` is that of the field of the time series in the request. */
export function createSeriesBody(number: number, bytesMax: number): SeriesBody {
  const closed = borrowWriter();
  const open = borrowWriter();
  let current: EncodedSeries | undefined;
  const close = (target: ProtoWriter): void => {
    if (current === undefined) return;
    target.lengthField(number, open.length);
    target.raw(open.view());
    open.truncate(0);
  };
  return {
    get current() {
      return current;
    },
    add: ({ series, head, outside, at, value }) => {
      const grown = fieldLength(sampleLength(at, value));
      const rest = outside + closed.length;
      const total =
        series === current
          ? rest + fieldLength(open.length + grown)
          : rest + (current === undefined ? 0 : fieldLength(open.length)) + fieldLength(head.length + grown);
      if (current !== undefined && total > bytesMax) return false;
      if (series !== current) {
        close(closed);
        current = series;
        open.raw(head);
      }
      writeSample(open, at, value);
      return true;
    },
    finish: (target) => {
      close(closed);
      target.raw(closed.view());
      returnWriter(open);
      returnWriter(closed);
    },
  };
}
