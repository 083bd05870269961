// Hours out of minutes: each minute row becomes part of an hour once, in bounded steps.

import { minuteMs } from "./minutes.ts";
import { type RollupFile, type RollupMarks, rollupPages } from "./rollup-file.ts";
import {
  createRollupTable,
  hourMs,
  hourOf,
  type Places,
  type RollupRow,
  type RollupTable,
} from "./rollup-table.ts";

/** A bounded piece of work inside a transaction. */
export type Step = {
  /** Pages that it may add or change. */
  readonly pages: number;
  /** What it changes counts once the transaction is committed, which `settle` is told. */
  run(): { readonly marks: Partial<RollupMarks>; readonly settle?: () => void };
};

export type HourFold = {
  /** What there is to do now. */
  next(marks: RollupMarks, at: number): Step | undefined;
  /** Minutes were written at `at`, after the row with `beforeId`. */
  flushed(beforeId: number, at: number): void;
};

/** An hour is folded when it is over for so long: then its last minute is written. */
const settleMs = 2 * minuteMs;
/** Hours in hand at once: the clock may have gone to and fro. */
const periodsMax = 24;

/**
 * Minute rows are folded in the order of their ids. An hour that lies further ahead than the next one was written by a
 * clock that was ahead, and does not hold up the others.
 */
export function createHourFold({
  file,
  keysMax,
  places,
}: {
  readonly file: RollupFile;
  /** Keys in memory. */
  readonly keysMax: number;
  /** Keys kept of an hour. */
  readonly places: Places;
}): HourFold {
  let fold: Fold | undefined;
  let lookedAtHour = Number.NaN;
  // A reader that was told what is pending before the last minute was written must not meet that minute in an hour.
  let foldable: { id: number; at: number } | undefined;

  const begin = (marks: RollupMarks, at: number): Fold | undefined => {
    foldable ??= { id: marks.minuteId, at };
    if (Math.abs(at - foldable.at) >= minuteMs) foldable = { id: marks.minuteId, at };
    const { id } = foldable;
    const hour = hourOf(at - settleMs);
    const crowded = id - marks.foldedId > file.rowsMax / 2;
    if (id <= marks.foldedId || (hour === lookedAtHour && !crowded)) return undefined;
    const open = { after: marks.foldedId, fromAt: hour, toAt: hour + 2 * hourMs };
    const toId = crowded ? id : Math.min(id, (file.firstIn(open) ?? id + 1) - 1);
    lookedAtHour = hour;
    if (toId <= marks.foldedId) return undefined;
    return {
      table: createRollupTable({ keysMax, periodsMax: Number.POSITIVE_INFINITY }),
      readId: marks.foldedId,
      toId,
    };
  };

  const read = (current: Fold): Step => ({
    pages: 0,
    run() {
      // The rows were committed before: what becomes of this transaction changes nothing about them.
      const rows = file.minutesAfter({ id: current.readId, toId: current.toId, limit: file.stepRows });
      for (const row of rows) current.table.add({ ...row, at: hourOf(row.at) });
      current.readId = rows.length === 0 ? current.toId : current.readId + rows.length;
      const { periods } = current.table;
      if (current.readId < current.toId && periods.size < periodsMax) return { marks: {} };
      current.rows = current.table.take({ lastAt: Number.POSITIVE_INFINITY, places });
      return { marks: {} };
    },
  });

  const send = (current: Fold, rows: readonly RollupRow[], marks: RollupMarks): Step => {
    const sent = current.sent ?? 0;
    const chunk = rows.slice(sent, sent + file.stepRows);
    const whole = sent + chunk.length === rows.length;
    return {
      pages: rollupPages(chunk.length),
      run: () => {
        file.hours.insert(chunk, marks.hourId + 1 + sent);
        return {
          marks: whole ? { hourId: marks.hourId + rows.length, foldedId: current.readId } : {},
          settle: () => {
            current.sent = sent + chunk.length;
            if (!whole) return;
            if (current.readId < current.toId) lookedAtHour = Number.NaN;
            fold = undefined;
          },
        };
      },
    };
  };

  return {
    next(marks, at) {
      fold ??= begin(marks, at);
      if (fold === undefined) return undefined;
      return fold.rows === undefined ? read(fold) : send(fold, fold.rows, marks);
    },
    flushed(beforeId, at) {
      foldable = { id: beforeId, at };
    },
  };
}

type Fold = {
  readonly table: RollupTable;
  /** Minute rows up to here are in the table; the ids have no gaps. */
  readId: number;
  readonly toId: number;
  /** The rows of the hours, once all is read, and how many of them are written. */
  rows?: readonly RollupRow[];
  sent?: number;
};
