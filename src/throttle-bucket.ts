// The token bucket of the throttle: a token a record, refilled without steps, never above the burst.

export type BucketSize = { readonly ratePerMs: number; readonly burst: number };

export type Bucket = {
  /** Whether there was a token; it is then gone. */
  take(atMs: number): boolean;
  level(atMs: number): number;
  /** Goes on with the tokens that are there, as far as they fit. */
  resize(size: BucketSize, atMs: number): void;
};

export function createBucket(options: {
  readonly size: BucketSize;
  readonly level: number;
  readonly atMs: number;
}): Bucket {
  let { size, level, atMs: filledMs } = options;

  const fill = (atMs: number) => {
    if (atMs <= filledMs) return;
    level = Math.min(size.burst, level + (atMs - filledMs) * size.ratePerMs);
    filledMs = atMs;
  };

  return {
    take(atMs) {
      fill(atMs);
      if (level < 1) return false;
      level -= 1;
      return true;
    },
    level(atMs) {
      fill(atMs);
      return level;
    },
    resize(next, atMs) {
      fill(atMs);
      size = next;
      level = Math.min(level, size.burst);
    },
  };
}
