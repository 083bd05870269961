// Has the next body of a sink made by the query worker, and the one after it while that one is sent.

import type { EncoderSpec } from "../sinks/encoder.ts";
import type { Lane, Sink } from "../sinks/sink.ts";
import type { Batch, BatchQuery, Ordinals, SinkFilter } from "../store/sink-batch.ts";
import type { PendingRange, SinkKey } from "../store/sink-states.ts";
import type { Pace } from "./pace.ts";
import type { Plan } from "./plan.ts";
import type { Extent } from "./refusals.ts";
import { doneOf } from "./settle.ts";

/** A batch and how its body was encoded: a sink may have come to another way since. */
export type Made = Batch & { readonly encoder: EncoderSpec };

export type Fetcher = {
  /** Rejects when the worker does. */
  take(plan: Plan, extent: Extent): Promise<Made>;
  /** Begins with the batch that follows this one, if it is taken as it is. */
  ahead(plan: Plan, batch: Batch, extent: Extent): void;
  /** Ordinals of a body that was full, as far as that is known. */
  full(): number;
};

export type FetcherOptions = {
  readonly key: SinkKey;
  readonly sink: Pick<Sink, "capability" | "encoder">;
  readonly filter: SinkFilter;
  readonly batch: (query: BatchQuery) => Promise<Batch>;
  readonly pace: Pace;
  /** How much of the rate one body may take, as time. */
  readonly bodyMs: number;
  readonly now: () => number;
};

/** Below this, a body is more headers than records. */
const bytesMin = 8192;
/** Where a receiver takes any number. */
const recordsLimit = 100_000;
const learnRate = 0.2;

/** What bodies were like: how many records fill one, and how far they compress. */
function createExperience() {
  let full = Number.POSITIVE_INFINITY;
  let ratio = 1;
  return {
    full: () => full,
    ratio: () => ratio,
    learn: (batch: Batch, bytesMax: number) => {
      const bytes = batch.body?.length ?? 0;
      if (bytes === 0) return;
      ratio += learnRate * (Math.max(1, batch.rawBytes / bytes) - ratio);
      if (batch.rawBytes > bytesMax / 2) full = Math.max(1, doneOf(batch));
      else if (doneOf(batch) > full) full = Number.POSITIVE_INFINITY;
    },
  };
}

type Ahead = Ordinals & {
  readonly plan: Plan;
  readonly done: number;
  readonly batch: Promise<Made | undefined>;
};

const wantedOf = ({ wanted }: PendingRange): Pick<PendingRange, "wanted"> =>
  wanted === undefined ? {} : { wanted };

const lastOf = ({ range }: Plan): number => range.unitLast ?? range.last;

/** Where the same lane goes on after a batch; undefined when nothing is left in its range. */
function following({ lane, range, generation }: Plan, batch: Batch): Plan | undefined {
  const { last, complete } = batch;
  if (!complete)
    return { lane, generation, range: { ...range, unitLast: last, done: range.done + doneOf(batch) } };
  if (last >= range.last) return undefined;
  const { open } = range;
  return {
    lane,
    generation,
    range: { first: last + 1, last: range.last, open, done: 0, ...wantedOf(range) },
  };
}

const fits = ({ plan, first, done }: Ahead, { range, generation }: Plan): boolean =>
  plan.generation === generation &&
  plan.range.wanted === range.wanted &&
  first === range.first &&
  done === range.done;

export function createFetcher(options: FetcherOptions): Fetcher {
  const { key, sink, filter, batch: ask, pace, bodyMs, now } = options;
  const experience = createExperience();
  let ahead: Ahead | undefined;
  const cutoffOf = (lane: Lane): number => {
    const { ageMaxMs, outOfOrderMs } = sink.capability(key.signal);
    const late = lane === "backlog" && outOfOrderMs > 0;
    return Math.max(0, now() - (late ? Math.min(ageMaxMs, outOfOrderMs) : ageMaxMs));
  };
  const bytesMax = (): number => {
    const paced = (pace.bytesPerSecond * bodyMs * experience.ratio()) / 1000;
    return Math.floor(Math.min(sink.capability(key.signal).bytesMax, Math.max(bytesMin, paced)));
  };
  const fetch = async (plan: Plan, { recordsMax, oneSeries }: Extent): Promise<Made> => {
    const { spanMaxMs } = sink.capability(key.signal);
    const encoder = sink.encoder(key.signal);
    const limit = bytesMax();
    const batch = await ask({
      signal: key.signal,
      generation: plan.generation,
      first: plan.range.first,
      last: lastOf(plan),
      done: plan.range.done,
      ...wantedOf(plan.range),
      ...{ filter, encoder, bytesMax: limit, spanMaxMs },
      ...{ recordsMax: Math.min(recordsMax, recordsLimit), oneSeries },
      ...{ cutoffAt: cutoffOf(plan.lane), now: now() },
    });
    experience.learn(batch, limit);
    return { ...batch, encoder };
  };
  const usable = (batch: Made | undefined, plan: Plan, { recordsMax, oneSeries }: Extent): batch is Made =>
    batch !== undefined &&
    !oneSeries &&
    Bun.deepEquals(batch.encoder, sink.encoder(key.signal)) &&
    batch.records <= recordsMax &&
    batch.last <= lastOf(plan) &&
    (batch.body === undefined || batch.firstAt >= cutoffOf(plan.lane));
  return {
    take: async (plan, extent) => {
      const made = ahead?.plan.lane === plan.lane ? ahead : undefined;
      if (made === undefined) return fetch(plan, extent);
      ahead = undefined;
      const batch = fits(made, plan) ? await made.batch : undefined;
      return usable(batch, plan, extent) ? batch : fetch(plan, extent);
    },
    ahead: (plan, batch, extent) => {
      const next = following(plan, batch);
      if (next === undefined) return;
      const { first, last, done } = next.range;
      // One that fails is asked for again when it is due, and tells of it then.
      const made = fetch(next, extent).catch((_unasked: unknown) => undefined);
      ahead = { plan: next, first, last, done, batch: made };
    },
    full: experience.full,
  };
}
