// Writes rollups to one open file: what was left half written goes, minutes come, hours come of them, old ones go.

import type { OpenPart } from "./part.ts";
import { type RollupFile, type RollupMarks, type RowTable, rollupPages } from "./rollup-file.ts";
import { createHourFold, type Step } from "./rollup-hours.ts";
import { openRollupRetention, type RollupRetention } from "./rollup-retention.ts";
import type { Places, RollupRow } from "./rollup-table.ts";

/** Minutes that were taken to be written. */
export type Flush = {
  readonly rows: readonly RollupRow[];
  readonly records: number;
  /** Rows that are in the file. */
  sent: number;
  /** What the marks say once all is written; nothing in a file whose seqs are others. */
  covers: Pick<RollupMarks, "wholeSeq" | "seq" | "minuteAt"> | undefined;
};

/** What is to be written. */
export type RollupQueue = {
  flush: Flush | undefined;
  /** Records that ever came in. */
  offered: number;
  /** Records came in since the last write: some of their rows may have no seq yet. */
  told: boolean;
};

export type RollupWriter = {
  readonly part: OpenPart;
  readonly generation: number;
  readonly places: Places;
  /** As they were committed. */
  readonly marks: RollupMarks;
  /** The newest seq that was committed. */
  readonly seq: number;
  readonly retention: RollupRetention;
};

/** A store for so few rows has no use for more keys: an hour of minutes must fit. */
const leastPeriods = 64;
const leastKeys = 8;

export function openRollupWriter({
  file,
  queue,
  marks: marksAtFirst,
  keysMax,
  foldKeysMax,
  ...ages
}: {
  readonly file: RollupFile;
  readonly queue: RollupQueue;
  readonly marks: RollupMarks;
  readonly keysMax: number;
  readonly foldKeysMax: number;
  readonly minuteAgeMaxMs: number;
  readonly hourAgeMaxMs: number;
}): RollupWriter {
  const forwarded = Math.min(keysMax, Math.max(leastKeys, Math.floor(file.rowsMax / leastPeriods)));
  const places = { forwarded, dropped: Math.ceil(forwarded / 4) };
  const fold = createHourFold({ file, keysMax: foldKeysMax, places });
  const retention = openRollupRetention({ file, ...ages });
  const leftMinutes = openLeft(file.minutes, file.stepRows);
  const leftHours = openLeft(file.hours, file.stepRows);
  let marks = marksAtFirst;
  let inFile = file.marks();
  let seq = file.seq();
  let commit: (() => void) | undefined;

  // Each in its turn would let the one that always has something starve the others. They change different marks.
  const steps = (at: number): readonly Step[] => {
    const left = leftMinutes(marks.minuteId) ?? leftHours(marks.hourId);
    if (left !== undefined) return [left];
    const { minuteId } = marks;
    const written = (): void => fold.flushed(minuteId, at);
    const others = [sendMinutes({ file, queue, marks, written }), fold.next(marks, at)];
    return [...others.filter((step) => step !== undefined), ...retention.steps(marks, at)];
  };

  return {
    generation: file.generation,
    places,
    retention,
    get marks() {
      return marks;
    },
    get seq() {
      return seq;
    },
    part: {
      due: (at) => steps(at).length > 0,
      pages: (at) => steps(at).reduce((sum, { pages }) => sum + pages, 0),
      write(at) {
        queue.told = false;
        const done = steps(at).map((step) => step.run());
        const changes = done.map((one) => one.marks);
        const after: RollupMarks = Object.assign({ ...marks, offered: queue.offered }, ...changes);
        file.putMarks(after, inFile);
        const seqAfter = file.seq();
        const seen = done.length > 0 ? retention.look() : undefined;
        commit = () => {
          marks = after;
          inFile = after;
          seq = seqAfter;
          for (const one of done) one.settle?.();
          seen?.();
        };
      },
      settle: () => commit?.(),
    },
  };
}

function sendMinutes({
  file,
  queue,
  marks: { minuteId, written: writtenBefore },
  written,
}: Pick<RollupWriter, "marks"> & {
  readonly file: RollupFile;
  readonly queue: RollupQueue;
  /** All of it is in the file. */
  readonly written: () => void;
}): Step | undefined {
  const { flush } = queue;
  if (flush === undefined) return undefined;
  const { rows, records, sent, covers } = flush;
  const chunk = rows.slice(sent, sent + file.stepRows);
  const whole = sent + chunk.length === rows.length;
  return {
    pages: rollupPages(chunk.length),
    run() {
      file.minutes.insert(chunk, minuteId + 1 + sent);
      const after = { ...covers, minuteId: minuteId + rows.length, written: writtenBefore + records };
      const settle = (): void => {
        flush.sent = sent + chunk.length;
        if (!whole) return;
        queue.flush = undefined;
        written();
      };
      return { marks: whole ? after : {}, settle };
    },
  };
}

/** Removes what a process that ended had half written, newest rows first. */
function openLeft(table: RowTable, stepRows: number): (wholeId: number) => Step | undefined {
  let newestId: number | undefined = table.newestId();
  return (wholeId) => {
    if (newestId === undefined) return undefined;
    if (newestId <= wholeId) {
      newestId = undefined;
      return undefined;
    }
    const fromId = Math.max(wholeId + 1, newestId - stepRows + 1);
    return {
      pages: rollupPages(newestId - fromId + 1),
      run: () => {
        table.removeFrom(fromId);
        const settle = (): void => {
          newestId = fromId - 1;
        };
        return { marks: {}, settle };
      },
    };
  };
}
