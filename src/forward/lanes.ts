// Which records of a sink go next: live ones, or the backlog of a time without an upstream.

import type { Lane, Signal } from "../sinks/sink.ts";
import type { Ordinals } from "../store/sink-batch.ts";
import type { PendingRange, SinkState, SinkStates } from "../store/sink-states.ts";
import { isOpen, parseWindow } from "./window.ts";

const pendingOf = ({ first, last, done }: PendingRange): number => Math.max(0, last - first + 1 - done);

const hasSome = (range: PendingRange): boolean => pendingOf(range) > 0;

export type Lanes = { readonly [lane in Lane]?: PendingRange };

/** The open range is live; of the closed ones the oldest is first. Lanes without records are left out. */
export function lanesOf({ ranges }: SinkState): Lanes {
  const live = ranges.find((range) => range.open && hasSome(range));
  const backlog = ranges.find((range) => !range.open && hasSome(range));
  return { ...(live === undefined ? {} : { live }), ...(backlog === undefined ? {} : { backlog }) };
}

/** Records that wait in each lane. */
export function waitingIn({ ranges }: SinkState): Readonly<Record<Lane, number>> {
  const sum = (open: boolean) =>
    ranges.filter((range) => range.open === open).reduce((total, range) => total + pendingOf(range), 0);
  return { live: sum(true), backlog: sum(false) };
}

/** An open range whose oldest record was stored longer ago than this has fallen behind. */
const behindMs = (everyMs: number): number => Math.max(2 * everyMs, 20_000);

type Age = {
  readonly states: SinkStates;
  readonly signal: Signal;
  readonly everyMs: number;
  readonly now: number;
};

export function isBehind(range: PendingRange, { states, signal, everyMs, now }: Age): boolean {
  const storedAt = hasSome(range) ? states.storedAt(signal, range.first) : undefined;
  return storedAt !== undefined && now - storedAt > behindMs(everyMs);
}

/**
 * Where an open range is to be cut so that what is live can go first: what was stored within the last `everyMs`, and
 * the newest step of metrics at least. Undefined when all of it is either.
 */
export function cutOf(range: PendingRange, { states, signal, everyMs, now }: Age): number | undefined {
  const { newest } = states.bounds(signal);
  const newestAt = signal === "metrics" ? states.storedAt(signal, newest) : undefined;
  const at = states.ordinalAt(signal, Math.min(now - everyMs, newestAt ?? now));
  // A unit that was begun stays whole.
  return at > Math.max(range.first, range.unitLast ?? 0) ? at : undefined;
}

export type Shares = {
  /** Which lane goes, of those that have something to send now. */
  pick(due: Readonly<Record<Lane, boolean>>): Lane | undefined;
  charge(lane: Lane, bytes: number): void;
};

/**
 * Divides bytes between lanes that both have something, and gives all of them to one that is alone. The lane that has
 * had less of its share goes first, live at a tie; a lane that was idle saves nothing up.
 */
export function createShares(liveShare: number): Shares {
  // A share of nothing would never go at all.
  const share = { live: Math.max(0.001, liveShare), backlog: Math.max(0.001, 1 - liveShare) };
  /** Bytes by share, from the start of the request that went last. */
  const used = { live: 0, backlog: 0 };
  return {
    pick: (due) => {
      for (const lane of ["live", "backlog"] as const) used[lane] = Math.max(0, used[lane]);
      if (!due.live && !due.backlog) return undefined;
      const lane = due.live && (!due.backlog || used.live <= used.backlog) ? "live" : "backlog";
      const base = used[lane];
      used.live -= base;
      used.backlog -= base;
      return lane;
    },
    charge: (lane, bytes) => {
      used[lane] += bytes / share[lane];
    },
  };
}

export type Burst = {
  /** Until live records are due: at most each `everyMs`, or at once for `full` of them. */
  dueInMs(range: PendingRange, full: number): number;
  /** A batch of this range goes now. */
  begin(range: PendingRange): void;
};

/** All that was there when a burst began belongs to it, however many requests that takes. */
export function createBurst(everyMs: number, elapsedMs: () => number): Burst {
  let beganMs = Number.NEGATIVE_INFINITY;
  let burst: Ordinals = { first: 0, last: 0 };
  return {
    dueInMs: (range, full) => {
      const belongs = range.first >= burst.first && range.first <= burst.last;
      if (belongs || pendingOf(range) >= full) return 0;
      return Math.max(0, beganMs + everyMs - elapsedMs());
    },
    begin: ({ first, last }) => {
      if (elapsedMs() < beganMs + everyMs) return;
      beganMs = elapsedMs();
      burst = { first, last };
    },
  };
}

/** Whether windows of time are open at `at`, worked out once a minute. */
export function createGate(texts: readonly string[], timeZone: string): (at: number) => boolean {
  const windows = texts.flatMap((text) => parseWindow(text) ?? []);
  let minute = Number.NaN;
  let open = true;
  return (at) => {
    const now = Math.floor(at / 60_000);
    if (now !== minute) open = isOpen(windows, timeZone, at);
    minute = now;
    return open;
  };
}
