// A batch while it is filled: what became of each record, and the times of those in the body.

import type { EncodedBody } from "../sinks/encoder.ts";
import type { Batch, Ordinals } from "./sink-batch.ts";

export type Tally = {
  records: number;
  filtered: number;
  expired: number;
  missing: number;
  rejected: number;
  rejectedMessage: string | undefined;
  markers: number;
  firstAt: number;
  lastAt: number;
  /** The number of the series that is in the body; none for flows. */
  series: number | "several" | undefined;
  /** The first record of the body as text. */
  text: () => string;
};

export const createTally = (): Tally => ({
  ...{ records: 0, filtered: 0, expired: 0, missing: 0, rejected: 0, markers: 0, firstAt: 0, lastAt: 0 },
  rejectedMessage: undefined,
  series: undefined,
  text: () => "",
});

/** Ordinals that are done with. */
export const doneOf = ({ records, filtered, expired, missing, rejected }: Tally): number =>
  records + filtered + expired + missing + rejected;

/** Counts a record of the body. */
export function countRecord(tally: Tally, at: number, text: () => string): void {
  if (tally.records === 0) {
    tally.firstAt = at;
    tally.lastAt = at;
    tally.text = text;
  } else if (at < tally.firstAt) tally.firstAt = at;
  else if (at > tally.lastAt) tally.lastAt = at;
  tally.records++;
}

export function countSeries(tally: Tally, id: number): void {
  tally.series = tally.series === undefined || tally.series === id ? id : "several";
}

/** Counts a stale marker, whose time is that of the body only where there is no record. */
export function countMarker(tally: Tally, at: number): void {
  if (tally.records === 0) {
    tally.firstAt = tally.markers === 0 ? at : Math.min(tally.firstAt, at);
    tally.lastAt = Math.max(tally.lastAt, at);
  }
  tally.markers++;
}

export function batchOf(
  { first, last, complete }: Ordinals & { readonly complete: boolean },
  { text, rejectedMessage, series, ...counts }: Tally,
  finish?: () => EncodedBody,
): Batch {
  const filled = counts.records + counts.markers > 0;
  return {
    ...{ first, last, complete },
    ...counts,
    ...(rejectedMessage === undefined ? {} : { rejectedMessage }),
    ...(typeof series === "number" ? { series } : {}),
    ...(filled && finish !== undefined ? cloneable(finish()) : { rawBytes: 0 }),
    ...(counts.records === 1 ? { text: text() } : {}),
  };
}

/** A view would take the whole buffer behind it along to the other thread. */
const cloneable = ({ body, rawBytes }: EncodedBody): EncodedBody => ({
  body: body.length === body.buffer.byteLength ? body : new Uint8Array(body),
  rawBytes,
});
