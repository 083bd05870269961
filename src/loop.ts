// The tick: turns follow one another at a fixed pace, never overlap and never catch up.

import { setTimeout as wait } from "node:timers/promises";

export type Clock = {
  /** Milliseconds from any fixed point, never going back. */
  now(): number;
  /** Resolves after `ms`, or at once when the signal aborts. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
};

export type LoopFacts = {
  readonly ticks: number;
  /** Turns that were left out because one before them took too long. */
  readonly skipped: number;
  readonly lastTickSeconds: number;
};

export type Loop = {
  /** Resolves when the signal aborts, after the turn that was going on; rejects with what `tick` throws. */
  run(signal: AbortSignal): Promise<void>;
  facts(): LoopFacts;
};

export const systemClock = (): Clock => ({
  now: () => performance.now(),
  sleep: async (ms, signal) => {
    try {
      await wait(ms, undefined, { signal });
    } catch (error) {
      if (!signal.aborted) throw error; // An abort is how a sleep ends early, no failure.
    }
  },
});

/** A signal that aborts with `signal`, or after `ms`; disposing takes the timer and the listener away. */
function deadline(signal: AbortSignal, ms: number): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const stop = () => controller.abort(signal.reason);
  const late = () => controller.abort(new Error(`the tick was not done in ${ms} ms`));
  const timer = setTimeout(late, ms);
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
    },
  };
}

/** `tickMs` is asked before each turn, so that it can change while the loop runs. */
export function createLoop(options: {
  readonly tickMs: () => number;
  readonly tick: (signal: AbortSignal) => Promise<void>;
  readonly clock?: Clock;
}): Loop {
  const { tickMs, tick, clock = systemClock() } = options;
  let ticks = 0;
  let skipped = 0;
  let lastTickSeconds = 0;
  const turn = async (signal: AbortSignal) => {
    const startMs = clock.now();
    using limit = deadline(signal, tickMs());
    await tick(limit.signal);
    ticks += 1;
    lastTickSeconds = (clock.now() - startMs) / 1000;
  };
  return {
    run: async (signal) => {
      let nextMs = clock.now();
      while (!signal.aborted) {
        await turn(signal);
        nextMs += tickMs();
        const missed = Math.max(0, Math.ceil((clock.now() - nextMs) / tickMs()));
        skipped += missed;
        nextMs += missed * tickMs();
        await clock.sleep(Math.max(0, nextMs - clock.now()), signal);
      }
    },
    facts: () => ({ ticks, skipped, lastTickSeconds }),
  };
}
