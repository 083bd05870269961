// What to do with bodies that a receiver will not take: cut them until the poison is alone, without giving everything up.

import type { Lane } from "../sinks/sink.ts";

/** Records in a row that were refused alone: then the rest of their body is given up with them. */
const singlesMax = 32;
/** Bodies in a row that were given up: then the receiver refuses everything, and the fault is not in the records. */
const givenUpMax = 3;
/** Bodies that must be taken before one grows again after a size that was too large. */
const calmAfterSize = 32;

/**
 * - halve: send half of it at once. reject: it is alone and goes to the dead letters.
 * - keep: nothing is taken at all; keep the records and ask again after a long pause.
 */
export type Verdict = "halve" | "reject" | "keep";

export type Refusals = {
  /** Records of the next body, `max` where nothing was refused. */
  recordsMax(lane: Lane, max: number): number;
  /** `reason` as in `rejected.<reason>`. */
  refused(lane: Lane, records: number, reason: string): Verdict;
  /** Whether the next body of this lane is to be rejected unsent. */
  givesUp(lane: Lane): boolean;
  /** It was. */
  gaveUp(lane: Lane): void;
  stored(lane: Lane, records: number): void;
};

type Place = {
  /** Records of a body. */
  limit: number;
  /** Records still ahead of the body whose refusal began this. */
  rest: number;
  singles: number;
  /** Bodies to be taken before the limit doubles, and how many of them were. */
  calm: number;
  taken: number;
};

const createPlace = (): Place => ({
  limit: Number.POSITIVE_INFINITY,
  rest: 0,
  singles: 0,
  calm: 1,
  taken: 0,
});

export function createRefusals(): Refusals {
  const places = { live: createPlace(), backlog: createPlace() };
  let givenUp = 0;
  /** Whether anything was taken since the last trouble began. */
  let takenSince = false;
  /** One record that was refused alone is done with. */
  const single = (place: Place): Verdict => {
    place.singles += 1;
    place.rest = Math.max(0, place.rest - 1);
    if (place.singles < singlesMax || place.rest > 0) return "reject";
    givenUp += 1;
    place.singles = 0;
    return "reject";
  };
  return {
    recordsMax: (lane, max) => {
      const { limit, rest, singles } = places[lane];
      return Math.min(max, singles >= singlesMax ? rest : limit);
    },
    refused: (lane, records, reason) => {
      const place = places[lane];
      place.taken = 0;
      if (reason === "too_large") place.calm = calmAfterSize;
      if (place.rest === 0) {
        place.rest = records;
        takenSince = false;
      }
      // A server that fails may fail at anything: a record is to blame only if others were taken meanwhile.
      const unproven = reason === "server" && records <= 1 && !takenSince;
      if (givenUp >= givenUpMax || unproven) {
        place.limit = 1;
        return "keep";
      }
      if (records <= 1) return single(place);
      place.limit = Math.max(1, Math.floor(records / 2));
      return "halve";
    },
    givesUp: (lane) => places[lane].singles >= singlesMax,
    gaveUp: (lane) => {
      Object.assign(places[lane], createPlace());
      givenUp += 1;
    },
    stored: (lane, records) => {
      const place = places[lane];
      givenUp = 0;
      takenSince = true;
      place.singles = 0;
      place.rest = Math.max(0, place.rest - records);
      place.taken += 1;
      if (place.taken < place.calm) return;
      place.limit *= 2;
      place.taken = 0;
      if (place.limit > 1e6) Object.assign(place, createPlace());
    },
  };
}
