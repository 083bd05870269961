// Retention of rollups: each table keeps its age and its share of the file, oldest rows first, in bounded steps.

import { type RollupFile, type RollupMarks, type RowTable, rollupPages } from "./rollup-file.ts";
import type { Step } from "./rollup-hours.ts";

export type Oldest = { readonly id: number; readonly at: number };

export type RollupRetention = {
  /** What there is to do now, a table each. */
  steps(marks: RollupMarks, at: number): readonly Step[];
  /** Inside a transaction that changed the tables: sees what is there. What it returns is called once that counts. */
  look(): () => void;
  readonly oldestMinute: Oldest | undefined;
  readonly oldestHour: Oldest | undefined;
};

/**
 * Rows go in the order in which they were written and up to one that is young enough, so that a clock that was ahead
 * takes nothing else along. Minutes that are part of no hour yet stay.
 */
export function openRollupRetention({
  file,
  minuteAgeMaxMs,
  hourAgeMaxMs,
}: {
  readonly file: RollupFile;
  readonly minuteAgeMaxMs: number;
  readonly hourAgeMaxMs: number;
}): RollupRetention {
  const minutes = openTrim(file, file.minutes);
  const hours = openTrim(file, file.hours);
  return {
    steps(marks, at) {
      const { minuteId, hourId, foldedId } = marks;
      const ofMinutes = { newestId: minuteId, limitId: foldedId, cutoffAt: at - minuteAgeMaxMs };
      const ofHours = { newestId: hourId, limitId: hourId, cutoffAt: at - hourAgeMaxMs };
      const gone = (toId: number) => goneWith(marks, file.minutes, { toId, at });
      const found = [minutes.next(ofMinutes, gone), hours.next(ofHours, () => ({}))];
      return found.filter((step) => step !== undefined);
    },
    look() {
      const settled = [minutes.look(), hours.look()];
      return () => {
        for (const settle of settled) settle();
      };
    },
    get oldestMinute() {
      return minutes.oldest;
    },
    get oldestHour() {
      return hours.oldest;
    },
  };
}

/** What the marks say of minutes that are gone, once those up to an id are. */
function goneWith(
  { goneAt: before, goneAheadFrom, goneAheadTo }: RollupMarks,
  table: RowTable,
  rows: { readonly toId: number; readonly at: number },
): Pick<RollupMarks, "goneAt" | "goneAheadFrom" | "goneAheadTo"> {
  const goneAt = Math.max(before, table.newestAt(rows));
  const known = goneAheadTo > goneAt ? [{ from: goneAheadFrom, to: goneAheadTo }] : [];
  const ahead = [...known, table.ahead(rows) ?? []].flat();
  return {
    goneAt,
    goneAheadFrom: ahead.length === 0 ? 0 : Math.min(...ahead.map(({ from }) => from)),
    goneAheadTo: Math.max(0, ...ahead.map(({ to }) => to)),
  };
}

type Bounds = {
  readonly newestId: number;
  /** Later rows stay, whatever their age. */
  readonly limitId: number;
  readonly cutoffAt: number;
};

function openTrim({ rowsMax, stepRows }: RollupFile, table: RowTable) {
  let oldest = table.oldest();
  return {
    look() {
      const found = table.oldest();
      return () => {
        oldest = found;
      };
    },
    get oldest() {
      return oldest;
    },
    next(
      { newestId, limitId, cutoffAt }: Bounds,
      marksOf: (toId: number) => Partial<RollupMarks>,
    ): Step | undefined {
      const first = oldest;
      if (first === undefined || first.id > limitId) return undefined;
      const over = newestId - first.id + 1 - rowsMax;
      if (over <= 0 && first.at >= cutoffAt) return undefined;
      const lastId = Math.min(limitId, first.id + stepRows - 1);
      return {
        pages: rollupPages(lastId - first.id + 1),
        run() {
          const young = table.firstYoung({ fromId: first.id, toId: lastId, cutoffAt }) ?? lastId + 1;
          const toId = Math.max(young - 1, Math.min(lastId, first.id + over - 1));
          const marks = marksOf(toId);
          table.removeUpTo(toId);
          return { marks };
        },
      };
    },
  };
}
