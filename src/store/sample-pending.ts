// Steps of samples that no file has yet, in order, within a bound.

import type { Sample, Series, SeriesRegistry } from "./sample-series.ts";

export type SampleStep = {
  /** Wall clock, epoch milliseconds. */
  readonly at: number;
  readonly series: Iterable<Sample>;
};

/** Why samples were never written: no room for their series, too many steps waiting, bytes that cannot be read. */
export type SampleLoss = "series_limit" | "queue" | "damaged";

export type PendingStep = {
  readonly number: number;
  readonly at: number;
  readonly series: readonly Series[];
  readonly values: readonly number[];
};

export type PendingSteps = {
  /** Throws for a time that is none. */
  add(step: SampleStep): void;
  /** The oldest step that is not staged. */
  next(): PendingStep | undefined;
  /** That step is about to be written. */
  stage(): void;
  /** The oldest staged step is in the file. */
  settle(): void;
  /** Nothing is about to be written any more. */
  restart(): void;
  holds(series: Series): boolean;
  readonly size: number;
};

/** An hour of steps of 15 s, and what they may hold in memory: 16 bytes a sample. */
const stepsMax = 240;
const samplesMax = 1_000_000;

export function createPendingSteps({
  registry,
  lose,
}: {
  readonly registry: SeriesRegistry;
  readonly lose: (reason: SampleLoss, samples: number) => void;
}): PendingSteps {
  const steps: PendingStep[] = [];
  let staged = 0;
  let samples = 0;
  let number = 0;

  const holds = ({ seen }: Series): boolean => seen >= (steps[0]?.number ?? number + 1);

  const stepOf = ({ at, series: given }: SampleStep): PendingStep => {
    const series: Series[] = [];
    const values: number[] = [];
    let left = 0;
    for (const { name, labels, value } of given) {
      let found = registry.find(name, labels);
      if (found === undefined && left === 0) {
        registry.forget((one) => one.seen !== number && !holds(one)); // Without a file, only this makes room.
        found = registry.find(name, labels);
      }
      if (found === undefined) {
        left++;
        continue;
      }
      found.seen = number;
      series.push(found);
      values.push(value);
    }
    lose("series_limit", left);
    return { number, at, series, values };
  };

  return {
    add(step) {
      if (!Number.isSafeInteger(step.at))
        throw new RangeError(`A step of samples at ${step.at} has no time.`);
      number++;
      const added = stepOf(step);
      steps.push(added);
      samples += added.values.length;
      while (steps.length > staged + 1 && (steps.length > stepsMax || samples > samplesMax)) {
        const [gone] = steps.splice(staged, 1);
        samples -= gone?.values.length ?? 0;
        lose("queue", gone?.values.length ?? 0);
      }
    },
    next: () => steps[staged],
    stage() {
      staged++;
    },
    settle() {
      staged--;
      samples -= steps.shift()?.values.length ?? 0;
    },
    restart() {
      staged = 0;
    },
    holds,
    get size() {
      return steps.length;
    },
  };
}
