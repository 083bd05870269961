// When the next sample of every series is due: at whole steps of the wall clock, whatever that clock does.

export type Sampler = {
  /** The time of the step that is due now, epoch milliseconds; undefined when none is. Each is given once. */
  due(): number | undefined;
};

/** `now` is the wall clock, epoch milliseconds; `elapsedMs` never goes back. */
export function createSampler(options: {
  readonly stepMs: () => number;
  readonly now: () => number;
  readonly elapsedMs: () => number;
}): Sampler {
  const { stepMs, now, elapsedMs } = options;
  const latest = (): number => Math.floor(now() / stepMs()) * stepMs();
  // The step that is under way may have been taken before a restart: two values of one time are refused upstream.
  let lastAt = latest();
  let lastMs = Number.NEGATIVE_INFINITY;
  return {
    due() {
      const step = stepMs();
      const at = latest();
      const passedMs = elapsedMs() - lastMs;
      // A clock that trembles at the border of two steps must not give one of them twice.
      if (at === lastAt || passedMs < step / 2) return undefined;
      lastAt = at;
      lastMs = elapsedMs();
      return at;
    },
  };
}
