// Rollups: exact totals of all records by minute and by hour, kept far longer than rows.

import { minuteMs, minuteOf } from "./minutes.ts";
import type { OpenPart, Part } from "./part.ts";
import { noMarks, openRollupFile, type RollupFile, type RollupMarks } from "./rollup-file.ts";
import { createRollupTable, type RollupTable } from "./rollup-table.ts";
import { openRollupWriter, type RollupQueue, type RollupWriter } from "./rollup-writer.ts";
import { checkTop, createGroups, type PendingTop, rangeOf, rollupTest, type TopQuery } from "./top-groups.ts";

export type RollupOptions = {
  /** Forwarded keys that are kept of a minute or an hour; of dropped ones a quarter of it. */
  readonly keysMax: number;
  readonly minuteAgeMaxMs: number;
  readonly hourAgeMaxMs: number;
  /** Wall clock, epoch milliseconds. */
  readonly now: () => number;
};

export type RollupFacts = {
  /** Valid records that came in since the file was made: `offered` = `written` + `lost` + `pending`. */
  readonly offered: number;
  readonly written: number;
  /** Pending when a process ended without closing the store, and no row of them to count again. */
  readonly lost: number;
  readonly pending: number;
  readonly pendingKeys: number;
  readonly pendingMinutes: number;
  /** Records since the start whose key found no place in its minute: the totals have them without their ends. */
  readonly folded: number;
  readonly minuteRows: number;
  readonly hourRows: number;
  readonly oldestMinuteAt?: number;
  readonly oldestHourAt?: number;
};

export type Rollups = Part & {
  /** What is in no file yet, for `queryTop`. Throws StoreQueryError. */
  pending(query: TopQuery): PendingTop;
  facts(): RollupFacts;
};

const pendingKeysMax = 16_384;
/** Two hours, for while no disk takes them. Minutes that become part of the next one are over by far. */
const pendingMinutesMax = 120;
/** Flows are reported when they fall idle: most of a minute's records are there so long after its end. */
const lateMs = 15_000;
/** A greater difference to the clock comes from a clock that was set. */
const clockStepMs = 3 * minuteMs;

/** A part of the store: counts all valid records of this node, kept or not, before anything is thrown away. */
export function createRollups(options: RollupOptions): Rollups {
  const state: State = {
    options,
    pending: newTable(),
    queue: { flush: undefined, offered: 0, told: false },
    writer: undefined,
    takenAt: Number.NEGATIVE_INFINITY,
  };
  return {
    rows(rows) {
      // Of the records that came before the last write, each has its row in the file by now, or never will.
      if (state.writer !== undefined && !state.queue.told) takeDue(state, state.writer);
      const mark = state.writer?.seq ?? 0;
      let counted = 0;
      for (const row of rows) {
        if (row.record.node !== undefined) continue;
        state.pending.count(row, mark);
        counted++;
      }
      state.queue.offered += counted;
      state.queue.told ||= counted > 0;
    },
    finish() {
      const { writer, queue, pending } = state;
      if (writer === undefined) return false;
      if (queue.flush === undefined && pending.periods.size > 0) takeAll(state, writer);
      return queue.flush !== undefined;
    },
    open: ({ database, budget }) => openPart(state, openRollupFile(database, budget)),
    pending: (query) => pendingTop(state, query),
    facts: () => factsOf(state),
  };
}

type State = {
  readonly options: RollupOptions;
  readonly pending: RollupTable;
  readonly queue: RollupQueue;
  writer: RollupWriter | undefined;
  /** When minutes were last taken to be written. */
  takenAt: number;
};

const newTable = (): RollupTable =>
  createRollupTable({ keysMax: pendingKeysMax, periodsMax: pendingMinutesMax });

/** Takes the minutes that are over, once a minute. */
function takeDue(state: State, writer: RollupWriter): void {
  const { pending, queue, options, takenAt } = state;
  if (queue.flush !== undefined || pending.periods.size === 0) return;
  const now = options.now();
  const overAt = overMinute(now);
  const ats = [...pending.periods.keys()];
  // Then the order of minutes is not the order in which they came, which the marks rely on.
  const stepped = overAt < writer.marks.minuteAt - clockStepMs || Math.max(...ats) > now + clockStepMs;
  if (stepped) {
    if (Math.abs(now - takenAt) >= minuteMs) takeAll(state, writer);
  } else if (overAt > writer.marks.minuteAt && Math.min(...ats) <= overAt) {
    take(state, writer, overAt);
    const left = [...pending.periods.values()].map(({ mark }) => mark);
    covered(queue, { wholeSeq: Math.min(writer.seq, ...left), seq: writer.seq, minuteAt: overAt });
  }
}

const overMinute = (now: number): number => Math.max(0, minuteOf(now - lateMs) - minuteMs);

function takeAll(state: State, writer: RollupWriter): void {
  take(state, writer, Number.POSITIVE_INFINITY);
  const minuteAt = overMinute(state.options.now());
  covered(state.queue, { wholeSeq: writer.seq, seq: writer.seq, minuteAt });
}

function take(state: State, { places }: RollupWriter, lastAt: number): void {
  const { pending, queue } = state;
  const before = pending.records;
  const rows = pending.take({ lastAt, places });
  queue.flush = { rows, records: before - pending.records, sent: 0, covers: undefined };
  state.takenAt = state.options.now();
}

function covered({ flush }: RollupQueue, covers: Pick<RollupMarks, "wholeSeq" | "seq" | "minuteAt">): void {
  if (flush !== undefined) flush.covers = covers;
}

function openPart(state: State, file: RollupFile): OpenPart {
  const { queue, options } = state;
  const same = file.generation === state.writer?.generation;
  const marks = same ? takeUpAgain(state, file) : moveInto(state, file);
  if (queue.flush !== undefined) queue.flush.sent = 0; // A file with some of its rows has them removed first.
  state.writer = openRollupWriter({ ...options, file, queue, marks, foldKeysMax: pendingKeysMax });
  return state.writer.part;
}

/** What a file says that no rollup was ever written to: rows from before are part of none. */
const marksOf = (file: RollupFile): RollupMarks => file.marks() ?? { ...noMarks, wholeSeq: file.seq() };

/** The file that was open before: what it lacks is still in memory. */
function takeUpAgain({ writer }: State, file: RollupFile): RollupMarks {
  const { written, lost } = writer?.marks ?? noMarks;
  return { ...marksOf(file), written, lost };
}

/** Another file. Its rows whose records were pending when it was left are counted again; what else was is lost. */
function moveInto(state: State, file: RollupFile): RollupMarks {
  const { pending, queue, writer } = state;
  const marks = marksOf(file);
  const again = newTable();
  for (const row of file.unwritten(marks)) again.count(row, marks.wholeSeq);
  const lost = Math.max(0, marks.offered - marks.written - marks.lost - again.records);
  // Nothing above this line changes anything: reading may fail.
  for (const period of pending.periods.values()) period.mark = file.seq();
  pending.adopt(again);
  if (queue.flush !== undefined) queue.flush.covers = undefined;
  queue.offered += marks.offered;
  const before = writer?.marks ?? noMarks;
  return { ...marks, written: before.written + marks.written, lost: before.lost + marks.lost + lost };
}

function pendingTop({ pending, queue, writer }: State, query: TopQuery): PendingTop {
  checkTop(query);
  const matches = rollupTest(query);
  const range = rangeOf(query, writer?.marks ?? noMarks);
  const isInside = (at: number): boolean => at >= range.fromAt && at < range.toAt;
  const groups = createGroups(query);
  const taken = queue.flush?.rows ?? [];
  for (const row of taken) if (isInside(row.at) && matches(row)) groups.add(row);
  for (const { at, keys, others } of pending.periods.values())
    for (const rows of isInside(at) ? [keys.values(), others.values()] : [])
      for (const row of rows) if (matches(row)) groups.add(row);
  const ats = [...new Set([...taken.map(({ at }) => at), ...pending.periods.keys()])];
  const { total, unnamed, complete, sums } = groups;
  return {
    range,
    minuteId: writer?.marks.minuteId ?? 0,
    groups: [...sums].map(([key, { records, packets, bytes }]) => [key, records, packets, bytes]),
    total,
    unnamed,
    complete,
    ...(ats.length > 0 ? { edges: { fromAt: Math.min(...ats), toAt: Math.max(...ats) + minuteMs } } : {}),
  };
}

function factsOf({ pending, queue, writer }: State): RollupFacts {
  const { written, lost, minuteId, hourId } = writer?.marks ?? noMarks;
  const minute = writer?.retention.oldestMinute;
  const hour = writer?.retention.oldestHour;
  return {
    offered: queue.offered,
    written,
    lost,
    pending: pending.records + (queue.flush?.records ?? 0),
    pendingKeys: pending.keys,
    pendingMinutes: pending.periods.size,
    folded: pending.folded,
    minuteRows: minute === undefined ? 0 : Math.max(0, minuteId - minute.id + 1),
    hourRows: hour === undefined ? 0 : Math.max(0, hourId - hour.id + 1),
    ...(minute === undefined ? {} : { oldestMinuteAt: minute.at }),
    ...(hour === undefined ? {} : { oldestHourAt: hour.at }),
  };
}
