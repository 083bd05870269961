// The drain of one sink and signal: batch after batch out of the store to the upstream, one request at a time.

import { errorText } from "../log.ts";
import type { SinkConfig } from "../sinks/schema.ts";
import type { Outcome, Sink } from "../sinks/sink.ts";
import type { Batch, BatchQuery } from "../store/sink-batch.ts";
import type { SinkKey, SinkState, SinkStates } from "../store/sink-states.ts";
import { wantedText } from "../store/sink-wanted.ts";
import { type Backoff, createBackoff } from "./backoff.ts";
import { type Bell, createBell, type Sleep } from "./bell.ts";
import type { ForwardPhase } from "./facts.ts";
import { createFetcher, type Fetcher, type Made } from "./fetch.ts";
import { createShares, type Shares } from "./lanes.ts";
import { type Pace, requestOverheadBytes } from "./pace.ts";
import { createPlanner, type Plan, type Planner } from "./plan.ts";
import { createRefusals, type Refusals } from "./refusals.ts";
import {
  doneOf,
  type Settlement,
  settleRejected,
  settleStored,
  settleUnsent,
  withoutZeros,
} from "./settle.ts";
import type { Failure, Tally } from "./tally.ts";

export type DrainOptions = {
  readonly key: SinkKey;
  readonly config: Pick<SinkConfig, "schedule" | "pace" | "filter">;
  readonly sink: Pick<Sink, "capability" | "encoder" | "send">;
  readonly states: SinkStates;
  /** Writes what `states` was told to the file, at once. */
  readonly commit: () => void;
  readonly batch: (query: BatchQuery) => Promise<Batch>;
  /** Of the sink: its drains share it. */
  readonly pace: Pace;
  readonly tally: Tally;
  /** The sink that takes what is too old for this one, if there is one now. */
  readonly divertTo: () => string | undefined;
  /** Records were handed over to that sink. */
  readonly diverted: (to: string) => void;
  readonly now: () => number;
  /** Milliseconds that never go back. */
  readonly elapsedMs: () => number;
  readonly random: () => number;
  readonly sleep: Sleep;
};

export type Drain = {
  /** Something was appended. */
  ticked(): void;
  /** An operator wants it to go now: no pause of a failure is waited out. */
  hurry(): void;
  /** After the request that is under way, which is aborted when it takes too long. */
  stop(): Promise<void>;
  phase(state: SinkState | undefined): ForwardPhase;
  backoffSeconds(): number;
};

const reencodesMax = 3;
/** For what should not happen twice: a worker with another file, or a range without records. */
const oddPauseMs = 1000;
/**
 * A request under way may end by itself for so long when its drain stops, and its abort takes no longer than that. Both
 * within 5 s, after which a container of Windows is ended whatever it does.
 */
const graceMs = 3000;
const abortMs = 1000;

/** What the parts of a drain share; the numbers change while it runs. */
type Course = DrainOptions & {
  readonly fetcher: Fetcher;
  readonly planner: Planner;
  readonly shares: Shares;
  readonly refusals: Refusals;
  readonly backoff: Backoff;
  readonly abort: AbortSignal;
  readonly stopped: () => boolean;
  /** Whether its end was not waited for: what a late answer tells is no longer its business. */
  readonly abandoned: () => boolean;
  retryAtMs: number;
  reencodes: number;
  refusal: Failure;
};

/** Tells the store what became of a batch. */
function progress(
  course: Course,
  { generation, range }: Plan,
  batch: Batch,
  settled: Settlement,
  divertTo?: string,
): void {
  const { first, last, complete } = batch;
  const { wanted } = range;
  const divertWanted =
    divertTo === undefined ? undefined : wantedText(course.config.filter, course.key.signal);
  for (const lost of settled.deadLetters) course.tally.rejected(lost);
  course.states.progress({
    ...course.key,
    ...{ generation, first, last, complete, counts: withoutZeros(settled.counts) },
    ...(settled.deadLetters.length === 0 ? {} : { deadLetters: settled.deadLetters }),
    ...(wanted === undefined ? {} : { wanted }),
    ...(divertTo === undefined ? {} : { divertTo }),
    ...(divertWanted === undefined ? {} : { divertWanted }),
  });
}

/** Nothing is tried until the pause is over; then it is planned anew, what is live first. */
function pause(
  course: Course,
  failure: Failure & { readonly slow?: boolean; readonly afterMs?: number },
): void {
  const { code, reason, message } = failure;
  course.tally.failed({ code, reason, message });
  course.retryAtMs = course.elapsedMs() + course.backoff.next(failure);
}

type Again = Extract<Outcome, { kind: "again" }>;

function retryLater(course: Course, outcome: Omit<Again, "kind">, records: number): void {
  course.tally.retried(outcome.reason, records);
  pause(course, outcome);
}

type Refused = Extract<Outcome, { kind: "refused" | "too_large" }>;

function refused(course: Course, plan: Plan, batch: Batch, outcome: Refused): void {
  const { code, message } = outcome;
  const failure = { code, message, reason: outcome.kind === "refused" ? outcome.reason : "too_large" };
  const { refusals, tally } = course;
  const verdict = refusals.refused(plan.lane, batch, failure.reason);
  if (verdict === "keep") {
    retryLater(course, { code, message, reason: "other", slow: true }, batch.records);
    return;
  }
  tally.unwell(failure);
  if (verdict === "halve") return;
  course.refusal = failure;
  progress(course, plan, batch, settleRejected(batch, failure, course.now()));
}

function stored(
  course: Course,
  plan: Plan,
  batch: Batch,
  outcome: Extract<Outcome, { kind: "stored" }>,
): void {
  const { tally, now } = course;
  const { rejected, code } = outcome;
  if (rejected !== undefined) tally.unwell({ ...rejected, code });
  tally.stored(batch, outcome);
  if (plan.lane === "live") tally.late(Math.max(0, now() - batch.lastAt) / 1000);
  course.refusals.stored(plan.lane, batch.records);
  course.backoff.reset();
  course.reencodes = 0;
  progress(course, plan, batch, settleStored(batch, outcome, now()));
  // It would refuse what it has already: after a crash that is the one body that was under way, and no more.
  if (course.sink.capability(course.key.signal).outOfOrderMs === 0) course.commit();
}

function settle(course: Course, plan: Plan, batch: Batch, outcome: Outcome): void {
  if (outcome.kind !== "reencode") course.reencodes = 0;
  if (outcome.kind === "stored") stored(course, plan, batch, outcome);
  else if (outcome.kind === "again") retryLater(course, outcome, batch.records);
  else if (outcome.kind === "reencode") {
    course.reencodes += 1;
    if (course.reencodes > reencodesMax) retryLater(course, { ...outcome, reason: "other" }, batch.records);
  } else refused(course, plan, batch, outcome);
}

/** One request. */
async function send(course: Course, plan: Plan, batch: Made, body: Uint8Array<ArrayBuffer>): Promise<void> {
  const { sink, key, shares, pace, tally, elapsedMs } = course;
  const { lane } = plan;
  const bytes = body.length + requestOverheadBytes;
  pace.take(bytes);
  shares.charge(lane, bytes);
  const { records, markers, firstAt, lastAt } = batch;
  const { format } = batch.encoder;
  const beganMs = elapsedMs();
  const outcome = await sink.send(
    { signal: key.signal, lane, body, records, markers, format, firstAt, lastAt },
    course.abort,
  );
  // What a stop cut short is no failure; it is sent again by whoever comes next.
  if (course.abandoned() || (course.stopped() && outcome.kind !== "stored")) return;
  tally.ended(outcome.code, (elapsedMs() - beganMs) / 1000);
  settle(course, plan, batch, outcome);
}

/** A batch without a body: filtered, expired, lost; no request is needed. */
function passOver(course: Course, plan: Plan, batch: Batch): void {
  const { done, wanted } = plan.range;
  // A unit that was begun cannot be handed over whole: some of it was sent. With a second filter would go what the
  // first one left out.
  const whole = done === 0 && wanted === undefined;
  const to = batch.expired > 0 && whole ? course.divertTo() : undefined;
  course.shares.charge(plan.lane, requestOverheadBytes);
  const settled = settleUnsent(batch, course.now(), to !== undefined);
  progress(course, plan, batch, settled, to);
  if (to !== undefined) course.diverted(to);
}

/** What follows a series, or any records, of which one after the other was refused. */
function giveUp(course: Course, plan: Plan, batch: Batch): void {
  const { message, ...why } = course.refusal;
  const failure = { ...why, message: `given up unsent, after many in a row were refused: ${message}` };
  course.refusals.gaveUp(plan.lane, batch);
  progress(course, plan, batch, settleRejected(batch, failure, course.now()));
}

/** Whether there is anything in a batch at all. */
const isEmpty = (batch: Batch): boolean =>
  batch.body === undefined && doneOf(batch) === 0 && (!batch.complete || batch.last < batch.first);

/** Takes one batch as far as it goes. Milliseconds to wait before the next. */
async function step(course: Course, plan: Plan): Promise<number> {
  const { fetcher, planner, refusals, sink, key, pace, tally } = course;
  const { lane, range } = plan;
  const { recordsMax: most } = sink.capability(key.signal);
  const extent = refusals.extent(lane, most);
  planner.begin(plan);
  const batch = await fetcher.take(plan, extent);
  if (course.stopped()) return 0;
  tally.recovered("store");
  if (batch.stale === true || isEmpty(batch)) return oddPauseMs;
  if (batch.body === undefined) passOver(course, plan, batch);
  else if (refusals.givesUp(lane, batch, range.done > 0)) giveUp(course, plan, batch);
  else {
    // With a limit of the rate the next one waits for that anyway; while poison is looked for, it may be another one.
    const more =
      !batch.complete || (lane === "backlog" ? batch.last < range.last : range.last - batch.last >= most);
    const whole = extent.recordsMax === most && !extent.oneSeries;
    if (more && whole && !tally.failing && pace.bytesPerSecond === Number.POSITIVE_INFINITY)
      fetcher.ahead(plan, batch, extent);
    await send(course, plan, batch, batch.body);
  }
  return 0;
}

type Ends = Pick<Course, "abort" | "stopped" | "abandoned">;

function createCourse(options: DrainOptions, ends: Ends): Course {
  const { key, config, sink, batch, pace, now } = options;
  const { every } = config.schedule;
  const shares = createShares(config.pace.liveShare);
  return {
    ...options,
    ...ends,
    ...{ shares, refusals: createRefusals(), backoff: createBackoff(options.random) },
    // Half of a turn of the live lane, so that what is live never waits long behind the backlog.
    fetcher: createFetcher({
      ...{ key, sink, batch, pace, now, filter: config.filter, bodyMs: Math.max(every, 5000) / 2 },
    }),
    planner: createPlanner({ ...options, schedule: config.schedule, shares }),
    retryAtMs: 0,
    reencodes: 0,
    refusal: { code: "none", reason: "4xx", message: "" },
  };
}

/** Works until it is stopped; whatever goes wrong is tried again. */
async function run(course: Course, bell: Bell): Promise<void> {
  while (!course.stopped()) {
    try {
      const { retryAtMs, fetcher, tally } = course;
      const { recordsMax } = course.sink.capability(course.key.signal);
      const full = Math.min(recordsMax, fetcher.full());
      const next = course.planner.next({ retryAtMs, failing: tally.failing, full });
      if ("waitMs" in next) await bell.wait(next.waitMs, next.onTick);
      else {
        const pauseMs = await step(course, next);
        if (pauseMs > 0 && !course.stopped()) await bell.wait(pauseMs, false);
      }
    } catch (error) {
      const message = `the store was asked for the next records: ${errorText(error)}`;
      if (course.stopped()) return;
      pause(course, { code: "store", reason: "store", message });
      // What failed may be what is asked before the pause is looked at.
      await bell.wait(oddPauseMs, false);
    }
  }
}

export function createDrain(options: DrainOptions): Drain {
  const { sleep, elapsedMs } = options;
  const stopping = new AbortController();
  const aborting = new AbortController();
  const bell = createBell(sleep);
  let abandoned = false;
  const course = createCourse(options, {
    abort: aborting.signal,
    stopped: () => stopping.signal.aborted,
    abandoned: () => abandoned,
  });
  const running = run(course, bell);
  /** Whether it came to its end within `ms`. */
  const ends = async (ms: number): Promise<boolean> => {
    const late = new AbortController();
    const ended = running.then(() => true);
    const done = await Promise.race([ended, sleep(ms, late.signal).then(() => false)]);
    late.abort();
    return done;
  };
  return {
    ticked: bell.tick,
    hurry: () => {
      course.retryAtMs = 0;
      bell.order();
    },
    stop: async () => {
      stopping.abort();
      bell.order();
      if (await ends(graceMs)) return;
      aborting.abort();
      abandoned = !(await ends(abortMs));
    },
    phase: (state) => course.planner.phase(state, course.tally.failing),
    backoffSeconds: () => Math.max(0, course.retryAtMs - elapsedMs()) / 1000,
  };
}
