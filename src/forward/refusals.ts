// What to do with bodies that a receiver will not take: cut them until the poison is alone, without giving everything up.

import type { Lane } from "../sinks/sink.ts";
import type { Batch } from "../store/sink-batch.ts";

/** Samples of one series in a row that were refused alone: then the rest of it in its unit is given up with them. */
export const ofSeriesMax = 8;
/** Records in a row that were refused alone: then what follows is given up by slices, one record tried between them. */
const singlesMax = 256;
/** Of a slice, once it has doubled often. */
const sliceMax = 65_536;
/** Slices in a row that were given up: then the receiver refuses everything, and the fault is not in the records. */
const slicesMax = 3;
/**
 * Records that were refused alone for their time: of those the next ones may be good, as when a receiver in order alone
 * is sent again what it has. More than a body or two of them count as any others, but never towards a receiver that
 * refuses everything: it judges times.
 */
export const lateMax = 4096;
/** Bodies that must be taken before one grows again after a size that was too large. */
const calmAfterSize = 32;

/**
 * - halve: send half of it at once. reject: it is alone and goes to the dead letters.
 * - keep: nothing is taken at all; keep the records and ask again after a long pause.
 */
export type Verdict = "halve" | "reject" | "keep";

/** Of the next body: so many records, or those of the series that it begins with. */
export type Extent = { readonly recordsMax: number; readonly oneSeries: boolean };

/** `series`: that of all its records, where they are of one. */
type Body = Pick<Batch, "records" | "series">;

export type Refusals = {
  /** `max` where nothing was refused. */
  extent(lane: Lane, max: number): Extent;
  /** `reason` as in `rejected.<reason>`. */
  refused(lane: Lane, body: Body, reason: string): Verdict;
  /** Whether this body is to be rejected unsent. `begun`: it goes on in the unit of the one before. */
  givesUp(lane: Lane, body: Body, begun: boolean): boolean;
  /** It was. */
  gaveUp(lane: Lane, body: Body): void;
  stored(lane: Lane, records: number): void;
};

type Place = {
  /** Records of a body. */
  limit: number;
  /** Records still ahead of the body whose refusal began this. */
  rest: number;
  /** In a row, of all and of `series`, since one was taken. */
  singles: number;
  ofSeries: number;
  series: number | undefined;
  /** What is to be given up next. */
  skips: "series" | "slice" | undefined;
  slice: number;
  late: number;
  /** It was halved since a body was taken: what poisoned the one before is in the next half, or alone. */
  halved: boolean;
  /** Bodies to be taken before the limit doubles, and how many of them were. */
  calm: number;
  taken: number;
};

const noSingles = { singles: 0, ofSeries: 0, series: undefined, skips: undefined, slice: singlesMax };

const createPlace = (): Place => ({
  ...{ limit: Number.POSITIVE_INFINITY, rest: 0, ...noSingles, late: 0 },
  ...{ halved: false, calm: 1, taken: 0 },
});

const isOfTime = (reason: string): boolean => reason === "too_old";

/** One record that was refused alone is done with. */
function single(place: Place, { series }: Body, reason: string): Verdict {
  place.rest = Math.max(0, place.rest - 1);
  if (isOfTime(reason) && place.late < lateMax) {
    place.late += 1;
    return "reject";
  }
  place.singles += 1;
  place.ofSeries = series !== undefined && series === place.series ? place.ofSeries + 1 : 1;
  place.series = series;
  if (place.singles >= singlesMax) place.skips = "slice";
  else if (series !== undefined && place.ofSeries >= ofSeriesMax) place.skips = "series";
  return "reject";
}

function took(place: Place, records: number): void {
  const { halved } = place;
  Object.assign(place, noSingles);
  place.rest = Math.max(0, place.rest - records);
  place.taken += 1;
  place.halved = false;
  if (halved || place.taken < place.calm) return;
  place.limit *= 2;
  place.taken = 0;
  if (place.limit > 1e6) Object.assign(place, createPlace());
}

export function createRefusals(): Refusals {
  const places = { live: createPlace(), backlog: createPlace() };
  let slices = 0;
  /** Whether anything was taken since the last trouble began. */
  let takenSince = false;
  return {
    extent: (lane, max) => {
      const { limit, skips, slice } = places[lane];
      const recordsMax = Math.min(max, skips === undefined ? limit : skips === "slice" ? slice : max);
      return { recordsMax, oneSeries: skips === "series" };
    },
    refused: (lane, body, reason) => {
      const { records } = body;
      const place = places[lane];
      place.taken = 0;
      place.halved = records > 1;
      if (reason === "too_large") place.calm = calmAfterSize;
      if (place.rest === 0) {
        place.rest = records;
        takenSince = false;
      }
      // One that judges times is not one that refuses everything.
      if (isOfTime(reason)) slices = 0;
      // A server that fails may fail at anything: a record is to blame only if others were taken meanwhile.
      const unproven = reason === "server" && records <= 1 && !takenSince;
      if (slices >= slicesMax || unproven) {
        place.limit = 1;
        return "keep";
      }
      if (records <= 1) return single(place, body, reason);
      place.limit = Math.max(1, Math.floor(records / 2));
      return "halve";
    },
    givesUp: (lane, { series }, begun) => {
      const place = places[lane];
      // The series may have ended with the sample that was refused last.
      if (place.skips === "series" && !(begun && series === place.series)) place.skips = undefined;
      return place.skips !== undefined;
    },
    gaveUp: (lane, { records }) => {
      const place = places[lane];
      place.rest = Math.max(0, place.rest - records);
      if (place.skips === "slice") {
        slices += 1;
        place.slice = Math.min(sliceMax, place.slice * 2);
      }
      place.skips = undefined;
      place.ofSeries = 0;
    },
    stored: (lane, records) => {
      slices = 0;
      takenSince = true;
      took(places[lane], records);
    },
  };
}
