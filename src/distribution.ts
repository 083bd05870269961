// A distribution of durations, as a histogram of the scrape tells it.

export type Distribution = {
  /** Upper bounds without infinity, rising; one cumulative count each. */
  readonly bounds: readonly number[];
  readonly counts: readonly number[];
  readonly sum: number;
  readonly count: number;
};

export function createDistribution(bounds: readonly number[]): {
  add(value: number): void;
  all(): Distribution;
} {
  const counts = bounds.map(() => 0);
  let sum = 0;
  let count = 0;
  return {
    add: (value) => {
      sum += value;
      count += 1;
      for (const [index, bound] of bounds.entries())
        if (value <= bound) counts[index] = (counts[index] ?? 0) + 1;
    },
    all: () => ({ bounds, counts: [...counts], sum, count }),
  };
}
