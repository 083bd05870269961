// How long to wait before a request is made again: longer with each failure, with jitter, without an end.

/** Milliseconds: the first pause at most, and the longest. */
const quick = { firstMs: 500, maxMs: 60_000 } as const;
/** Where only an operator or much time helps: a role that is not assigned yet, a wrong path. */
const slow = { firstMs: 30_000, maxMs: 300_000 } as const;
/** A receiver may ask for more time, but not for ever. */
const askedMaxMs = 3_600_000;
/** On top of what a receiver asks for, so that its clients do not all come back at once. */
const askedJitter = 0.1;

export type Backoff = {
  /** The pause after one more failure in a row; `afterMs` as the receiver asked. */
  next(failure: { readonly slow?: boolean; readonly afterMs?: number }): number;
  /** A request was answered as it should be. */
  reset(): void;
};

/** `random` is from 0 to 1. */
export function createBackoff(random: () => number): Backoff {
  let times = 0;
  let wasSlow = false;
  return {
    next: ({ slow: isSlow = false, afterMs = 0 }) => {
      if (isSlow !== wasSlow) times = 0;
      wasSlow = isSlow;
      const { firstMs, maxMs } = isSlow ? slow : quick;
      const upToMs = Math.min(maxMs, firstMs * 2 ** Math.min(times, 30));
      times += 1;
      if (afterMs > 0) return Math.max(firstMs, Math.min(afterMs, askedMaxMs)) * (1 + askedJitter * random());
      // Jitter alone could come to nothing: half of the first pause is kept always.
      return Math.max(firstMs / 2, upToMs * random());
    },
    reset: () => {
      times = 0;
    },
  };
}
