// What a drain does next: which records go, or how long nothing does.

import type { SinkConfig } from "../sinks/schema.ts";
import type { Lane, Sink } from "../sinks/sink.ts";
import type { PendingRange, SinkKey, SinkState, SinkStates } from "../store/sink-states.ts";
import type { ForwardPhase } from "./facts.ts";
import { createBurst, createGate, cutOf, isBehind, type Lanes, lanesOf, type Shares } from "./lanes.ts";
import type { Pace } from "./pace.ts";

export type Plan = { readonly lane: Lane; readonly range: PendingRange; readonly generation: number };
/** Milliseconds; without `onTick` what the store gets meanwhile changes nothing. */
export type Wait = { readonly waitMs: number; readonly onTick: boolean };

export type Planner = {
  next(course: {
    /** Until when nothing is tried, by the clock that never goes back. */
    readonly retryAtMs: number;
    readonly failing: boolean;
    /** So many records are worth a request at once. */
    readonly full: number;
  }): Plan | Wait;
  /** A batch of this plan goes now. */
  begin(plan: Plan): void;
  phase(state: SinkState | undefined, failing: boolean): ForwardPhase;
};

export type PlannerOptions = {
  readonly key: SinkKey;
  readonly schedule: SinkConfig["schedule"];
  readonly sink: Pick<Sink, "capability">;
  readonly states: SinkStates;
  readonly pace: Pace;
  readonly shares: Shares;
  readonly now: () => number;
  readonly elapsedMs: () => number;
};

const untilTick: Wait = { waitMs: Number.POSITIVE_INFINITY, onTick: true };
/** Windows begin and end with minutes. */
const untilMinute = (now: number): Wait => ({ waitMs: 60_000 - (now % 60_000), onTick: false });

/** Cuts what has fallen behind off the open range, where the receiver takes records out of order. */
function createCutter({ key, schedule, sink, states, now }: PlannerOptions) {
  const age = () => ({ states, signal: key.signal, everyMs: schedule.every, now: now() });
  return {
    isBehind: (range: PendingRange): boolean => isBehind(range, age()),
    cut: (state: SinkState): SinkState | undefined => {
      const { live } = lanesOf(state);
      if (live === undefined || sink.capability(key.signal).outOfOrderMs === 0) return state;
      if (!isBehind(live, age())) return state;
      const at = cutOf(live, age());
      if (at === undefined) return state;
      states.split(key, at);
      return states.state(key);
    },
  };
}

export function createPlanner(options: PlannerOptions): Planner {
  const { key, schedule, sink, states, pace, shares, now, elapsedMs } = options;
  const sends = createGate(schedule.windows, schedule.timeZone);
  const sendsBacklog = createGate(schedule.backlogWindows, schedule.timeZone);
  const burst = createBurst(schedule.every, elapsedMs);
  const cutter = createCutter(options);
  const choose = ({ live, backlog }: Lanes, full: number, failing: boolean): PendingRange | Wait => {
    // In order alone: what is left from before goes before all else.
    if (backlog !== undefined && sink.capability(key.signal).outOfOrderMs === 0) return backlog;
    const open = backlog !== undefined && sendsBacklog(now());
    const dueInMs = live === undefined ? Number.POSITIVE_INFINITY : burst.dueInMs(live, full);
    // After a failure what is live is the probe.
    const due = { live: dueInMs === 0, backlog: open && !(failing && dueInMs === 0) };
    const lane = shares.pick(due);
    const range = lane === "live" ? live : backlog;
    if (lane !== undefined && range !== undefined) return range;
    const minuteMs = backlog === undefined ? Number.POSITIVE_INFINITY : untilMinute(now()).waitMs;
    return { waitMs: Math.min(dueInMs, minuteMs), onTick: true };
  };
  return {
    next: ({ retryAtMs, failing, full }) => {
      const known = states.ready ? states.state(key) : undefined;
      if (known === undefined || known.paused) return untilTick;
      if (!sends(now())) return untilMinute(now());
      const waitMs = Math.max(retryAtMs - elapsedMs(), pace.waitMs());
      if (waitMs > 0) return { waitMs, onTick: false };
      const state = cutter.cut(known);
      const range = state === undefined ? untilTick : choose(lanesOf(state), full, failing);
      if ("waitMs" in range || state === undefined) return "waitMs" in range ? range : untilTick;
      return { lane: range.open ? "live" : "backlog", range, generation: state.generation };
    },
    begin: ({ lane, range }) => {
      if (lane === "live") burst.begin(range);
    },
    phase: (state, failing) => {
      if (state === undefined || !states.ready) return "waiting";
      if (state.paused) return "paused";
      if (!sends(now())) return "scheduled";
      if (failing) return "retrying";
      const { live, backlog } = lanesOf(state);
      const behind = backlog !== undefined || (live !== undefined && cutter.isBehind(live));
      return behind ? "catching_up" : "live";
    },
  };
}
