// Spreads the reading of many namespaces over ticks, so that no tick waits for all of them.

import type { Namespace, NamespaceScan, Namespaces } from "./namespaces.ts";

// Both collectors together take about 1 ms a namespace: 110 pods are read in 7 ticks.
const namespacesPerTickMax = 16;

export type Round = {
  readonly scan: NamespaceScan;
  /** Namespaces to read on this tick. */
  readonly due: readonly Namespace[];
  readonly first: boolean;
  /** With these the round is complete. */
  readonly last: boolean;
};

/** Each scan makes one round through its namespaces; a round that takes longer than a scan's age is finished first. */
export function openRounds(namespaces: Namespaces): { next(): Round } {
  let generation = 0;
  let waiting: readonly Namespace[] = [];
  return {
    next() {
      const scan = namespaces.scan();
      const first = waiting.length === 0 && scan.generation !== generation;
      if (first) {
        generation = scan.generation;
        waiting = scan.others;
      }
      const due = waiting.slice(0, namespacesPerTickMax);
      waiting = waiting.slice(namespacesPerTickMax);
      return { scan, due, first, last: waiting.length === 0 && (first || due.length > 0) };
    },
  };
}
