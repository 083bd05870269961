// Samples of every series at a fixed step: a part of the store that takes them and accounts for those that it has not.

import type { Part } from "./part.ts";
import { openSampleFile, type SampleFile } from "./sample-file.ts";
import { createPendingSteps, type SampleLoss, type SampleStep } from "./sample-pending.ts";
import { createSeriesRegistry } from "./sample-series.ts";

export type SampleEviction = "age" | "size";

export type SampleFacts = {
  /** Series that are known, and how many may be. */
  readonly series: number;
  readonly seriesMax: number;
  /** Steps that wait to be written. */
  readonly pendingSteps: number;
  /** In the file: samples, about what they take there, and the time of the oldest. */
  readonly samples: number;
  readonly bytes: number;
  readonly oldestAt?: number;
  /** Samples since the start, by reason. */
  readonly lost: readonly { readonly reason: SampleLoss; readonly samples: number }[];
  readonly evicted: readonly { readonly reason: SampleEviction; readonly samples: number }[];
};

export type Samples = Part & {
  /** Takes a step, which is written with the next append. Throws for a time that is none. */
  add(step: SampleStep): void;
  facts(): SampleFacts;
};

/**
 * Takes an eighth part of the file at the most, and keeps no block longer than `ageMaxMs`. Of more than `seriesMax`
 * series, those that came last are not sampled, and counted.
 */
export function createSamples({
  ageMaxMs,
  seriesMax,
}: {
  readonly ageMaxMs: number;
  readonly seriesMax: number;
}): Samples {
  const lost = createCounts<SampleLoss>();
  const evicted = createCounts<SampleEviction>();
  const registry = createSeriesRegistry(seriesMax);
  const pending = createPendingSteps({ registry, lose: lost.add });
  let file: SampleFile | undefined;
  return {
    add: pending.add,
    facts: () => ({
      series: registry.size,
      seriesMax,
      pendingSteps: pending.size,
      ...(file?.facts() ?? { samples: 0, bytes: 0 }),
      lost: lost.all(),
      evicted: evicted.all(),
    }),
    finish: () => file !== undefined && pending.size > 0,
    open({ database, budget }) {
      pending.restart(); // What was to go to another file goes to this one.
      const { pagesMax } = budget;
      file = openSampleFile({
        database,
        pagesMax,
        ageMaxMs,
        registry,
        pending,
        lose: lost.add,
        evict: evicted.add,
      });
      return file;
    },
  };
}

function createCounts<Reason extends string>() {
  const counts = new Map<Reason, number>();
  return {
    add: (reason: Reason, samples: number): void => {
      if (samples > 0) counts.set(reason, (counts.get(reason) ?? 0) + samples);
    },
    all: () => [...counts].map(([reason, samples]) => ({ reason, samples })),
  };
}
