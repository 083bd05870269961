// The watchdog of the service manager is fed by ticks, and between them while the next one is not overdue.

import type { Notifier } from "./sd-notify.ts";

/** A tick may take as long as the time to the next one. */
const ticksMax = 2;

export type Watchdog = Disposable & {
  /** `tickMs`: the time to the next one. */
  ticked(tickMs: number): void;
};

/** `elapsedMs` never goes back. */
export function feedWatchdog(options: {
  readonly notifier: Pick<Notifier, "watchdog" | "watchdogMs">;
  readonly elapsedMs: () => number;
}): Watchdog {
  const { notifier, elapsedMs } = options;
  let overdueAtMs = Number.NEGATIVE_INFINITY;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const wait = (ms: number): void => {
    timer = setTimeout(() => {
      if (elapsedMs() < overdueAtMs) notifier.watchdog();
      wait(ms);
    }, ms);
    timer.unref();
  };
  if (notifier.watchdogMs !== undefined) wait(notifier.watchdogMs / 3);
  return {
    ticked: (tickMs) => {
      overdueAtMs = elapsedMs() + ticksMax * tickMs;
      notifier.watchdog();
    },
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}
