// How many bytes a second go to an upstream: a token bucket that may be overdrawn by one request.

/** Of the line and the headers of a request, about. */
export const requestOverheadBytes = 400;

/** What may go at once after a quiet time, as time at the full rate. */
const burstMs = 1000;

export type Pace = {
  /** Infinite where there is no limit. */
  readonly bytesPerSecond: number;
  /** Until the next request may go; 0: now. */
  waitMs(): number;
  /** A request of so many bytes goes now. */
  take(bytes: number): void;
};

/**
 * A request goes as soon as nothing is owed, however large it is, and what it takes beyond the bucket is owed: so its
 * size need not be known before, and over any time the bytes are the rate, plus one bucket and one request at most.
 * `bytesPerSecond` 0: no limit. `elapsedMs` never goes back.
 */
export function createPace(bytesPerSecond: number, elapsedMs: () => number): Pace {
  if (bytesPerSecond === 0)
    return { bytesPerSecond: Number.POSITIVE_INFINITY, waitMs: () => 0, take: () => {} };
  const perMs = bytesPerSecond / 1000;
  let tokens = 0;
  let atMs = elapsedMs();
  const fill = () => {
    const nowMs = elapsedMs();
    tokens = Math.min(burstMs * perMs, tokens + (nowMs - atMs) * perMs);
    atMs = nowMs;
  };
  return {
    bytesPerSecond,
    waitMs: () => {
      fill();
      // A part of a byte is no debt: timers are not that exact, and would come back for nothing.
      return tokens > -1 ? 0 : -tokens / perMs;
    },
    take: (bytes) => {
      fill();
      tokens -= bytes;
    },
  };
}
