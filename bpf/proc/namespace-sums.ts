// Adds the cumulative counters of many network namespaces into totals that never fall when a namespace goes.

import type { Statistics } from "../../src/snapshot.ts";

export type Families = Readonly<Record<string, Statistics | undefined>>;

export type NamespaceSums = {
  /** Takes what a namespace's counters say now. */
  update(inode: number, families: Families): void;
  /** Told after each scan which namespaces there are; forgets those that two scans in a row did not see. */
  keep(inodes: ReadonlySet<number>): void;
  /** Everything counted since the first update, by family and name. */
  totals(): Families;
};

// Counters of one namespace only rise. If one falls, or goes missing, another namespace has got the inode number
// (the kernel gives out the lowest free one), and none of its values follow on from the old ones.
function fell(before: Families, after: Families): boolean {
  for (const family in before) {
    const statistics = after[family] ?? {};
    for (const name in before[family])
      if ((before[family]?.[name] ?? 0) > (statistics[name] ?? 0)) return true;
  }
  return false;
}

/**
 * What a namespace counted stays in the totals when it goes, so nothing needs to be added up again: only the last
 * values of the live ones are kept. Callers bound the number of namespaces.
 */
export function sumNamespaces(): NamespaceSums {
  const sums = new Map<string, Map<string, number>>();
  const live = new Map<number, { families: Families; missed: boolean }>();

  const add = (family: string, after: Statistics, before: Statistics) => {
    const sum = sums.get(family) ?? new Map<string, number>();
    sums.set(family, sum);
    for (const name in after) sum.set(name, (sum.get(name) ?? 0) + (after[name] ?? 0) - (before[name] ?? 0));
  };

  return {
    update(inode, families) {
      const last = live.get(inode)?.families ?? {};
      const before = fell(last, families) ? {} : last;
      for (const [family, statistics] of Object.entries(families))
        add(family, statistics ?? {}, before[family] ?? {});
      live.set(inode, { families, missed: false });
    },
    // A process can start or end during a scan and hide its namespace for that once. Forgetting it at once would
    // count it twice when it is seen again.
    keep(inodes) {
      for (const [inode, entry] of live) {
        if (!inodes.has(inode) && entry.missed) live.delete(inode);
        else entry.missed = !inodes.has(inode);
      }
    },
    totals: () => Object.fromEntries([...sums].map(([family, sum]) => [family, Object.fromEntries(sum)])),
  };
}
