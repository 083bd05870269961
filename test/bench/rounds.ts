// Figures out of repeated measurements: the least of many for durations, the median for ratios.

/** A benchmark is fair to neighbours that come and go only when it repeats: at least this often. */
export const ROUNDS = 9;

export const least = (values: readonly number[]): number => Math.min(...values);

export const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
};

/** Values by name, in the order of their first mention. */
export function createRecord() {
  const values = new Map<string, number[]>();
  const of = (name: string): readonly number[] => {
    const found = values.get(name);
    if (found === undefined) throw new Error(`nothing was measured of ${name}`);
    return found;
  };
  return {
    add(name: string, value: number): void {
      const found = values.get(name);
      if (found === undefined) values.set(name, [value]);
      else found.push(value);
    },
    of,
    least: (name: string): number => least(of(name)),
    median: (name: string): number => median(of(name)),
    /** Half the width of the band that the true median lies in, 95 of 100 times (McGill, Tukey and Larsen, 1978). */
    doubt(name: string): number {
      const sorted = of(name).toSorted((a, b) => a - b);
      const at = (part: number): number => sorted[Math.floor(sorted.length * part)] ?? Number.NaN;
      return (1.57 * (at(0.75) - at(0.25))) / Math.sqrt(sorted.length);
    },
  };
}

export type Measurements = ReturnType<typeof createRecord>;

/** The order changes from round to round, so that no program always follows the same one. */
export const rotated = <T>(items: readonly T[], round: number): T[] => [
  ...items.slice(round % items.length),
  ...items.slice(0, round % items.length),
];
