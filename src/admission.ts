// Admission: which flow records go to the store as rows, and what the ledger says of the others.

import type { Filter, FilterReason } from "./filter.ts";
import type { FlowRecord } from "./flow.ts";
import type { LedgerDeltas, LedgerName } from "./store/ledger.ts";
import type { Throttle, ThrottleReason } from "./throttle.ts";

export type Admitted = {
  readonly rows: readonly FlowRecord[];
  /** Filtered and throttled: they count in rollups and totals all the same. */
  readonly unkept: readonly FlowRecord[];
  readonly ledger: LedgerDeltas;
};

export type Admission = {
  sort(records: readonly FlowRecord[]): Admitted;
  /** From the next record on; undefined lets all pass. */
  setFilter(filter: Filter | undefined): void;
};

type Reason = FilterReason | ThrottleReason;

const ledgerNames: readonly (readonly [Reason, LedgerName])[] = [
  ["not_included", "rows.filtered.not_included"],
  ["excluded", "rows.filtered.excluded"],
  ["window", "rows.throttled.window"],
  ["smooth", "rows.throttled.smooth"],
  ["reserve", "rows.throttled.reserve"],
];

const noCounts: Readonly<Record<Reason, number>> = {
  not_included: 0,
  excluded: 0,
  window: 0,
  smooth: 0,
  reserve: 0,
};

const ledgerOf = (counts: Readonly<Record<Reason, number>>): LedgerDeltas =>
  Object.fromEntries(
    ledgerNames.flatMap(([reason, name]) => (counts[reason] === 0 ? [] : [[name, counts[reason]]])),
  );

/** What the filter refuses never spends the throttle's budget. */
export function createAdmission(options: {
  readonly throttle: Pick<Throttle, "admit" | "elapsedMs">;
  readonly filter?: Filter | undefined;
}): Admission {
  const { throttle } = options;
  let { filter } = options;
  return {
    sort(records) {
      // A copy is made only once there is something to leave out.
      let rows: FlowRecord[] | undefined;
      const unkept: FlowRecord[] = [];
      const counts = { ...noCounts };
      const atMs = throttle.elapsedMs();
      let index = -1;
      for (const record of records) {
        index++;
        const reason = filter?.(record) ?? throttle.admit(record, atMs);
        if (reason === undefined) {
          rows?.push(record);
          continue;
        }
        rows ??= records.slice(0, index);
        unkept.push(record);
        counts[reason]++;
      }
      return { rows: rows ?? records, unkept, ledger: ledgerOf(counts) };
    },
    setFilter(next) {
      filter = next;
    },
  };
}
