// What each sink has not sent yet, and what became of the rest: a part of the store, written in its transactions.

import type { Signal } from "../sinks/sink.ts";
import { errorCode } from "./failure.ts";
import type { OpenPart, Part } from "./part.ts";
import type { Ordinals } from "./sink-batch.ts";
import {
  type Book,
  change,
  createBook,
  detach,
  isDirty,
  isDue,
  openBook,
  pagesIn,
  recordOf,
  settle,
  stage,
} from "./sink-book.ts";
import type { SinkFile } from "./sink-file.ts";
import {
  added,
  begun,
  discarded,
  pendingIn,
  rangesMax,
  splitAt,
  type Taken,
  without,
} from "./sink-ranges.ts";
import { fitted, keyText, plus, type SinkRecord } from "./sink-record.ts";
import type { ReadFailure } from "./store.ts";

/** One sink and signal. */
export type SinkKey = { readonly sink: string; readonly signal: Signal };

/**
 * What became of records: `sent`, `filtered`, `rejected.<reason>`, `expired.<reason>`, `diverted` (to another sink),
 * `discarded` (by an operator), `evicted.<reason>` (retention took them before they were sent; `damaged`: the bytes
 * could not be read). `offered = all of these + pending`.
 */
export type SinkCounts = Readonly<Record<string, number>>;

export type SinkDeclaration = SinkKey & {
  /** Where a sink begins that was never there: with what the store holds, or with what comes. */
  readonly start: "oldest" | "newest";
  /** It gets nothing but what other sinks divert to it. */
  readonly fed: boolean;
};

/**
 * What is not acknowledged. Ranges rise, and only the last is open: it ends with the store, and is empty where all was
 * sent. It may touch the one before it; others touch where a unit was begun.
 */
export type PendingRange = Ordinals & {
  readonly open: boolean;
  /** Of a unit of metrics that was begun: it ends at `unitLast`, and `done` of its records are done. */
  readonly unitLast?: number;
  readonly done: number;
  /**
   * Of what another sink handed over: its filter as text, and what that left out is filtered here as well. Ranges with
   * different ones may overlap.
   */
  readonly wanted?: string;
};

export type SinkState = SinkKey & {
  readonly generation: number;
  readonly paused: boolean;
  readonly ranges: readonly PendingRange[];
  readonly counts: SinkCounts;
  readonly offered: number;
  readonly pending: number;
};

/**
 * What one batch came to: its ordinals leave the range that begins with `first`. Counts that tell of more records than
 * were still pending are cut, those of `sent` first.
 */
export type Progress = SinkKey &
  Ordinals & {
    readonly generation: number;
    /** False: more of the same unit follows, and the range keeps its first. */
    readonly complete: boolean;
    /** That of the range that the ordinals were read from. */
    readonly wanted?: string;
    readonly counts: SinkCounts;
    /**
     * The ordinals are handed over to this sink instead (the same signal), with what is left of a unit that was begun:
     * all of them but those that `counts` has as filtered count as `diverted`.
     */
    readonly divertTo?: string;
    /** The filter that goes with them: samples of a unit cannot be handed over one by one. */
    readonly divertWanted?: string;
    readonly deadLetters?: readonly NewDeadLetter[];
  };

export type NewDeadLetter = {
  readonly at: number;
  readonly reason: string;
  readonly code: string;
  readonly message: string;
  readonly records: number;
  /** The record, or the first of them, as text. */
  readonly text: string;
};

export type DeadLetter = NewDeadLetter & SinkKey & { readonly id: number };

/** Ordinals that are in the file; none while `newest < oldest`. */
export type Bounds = {
  readonly generation: number;
  readonly oldest: number;
  readonly newest: number;
};

export type SinkStates = Part & {
  /** Those that are forwarded to from now on. Those left out keep what they have in the file, and are not told of. */
  declare(sinks: readonly SinkDeclaration[]): void;
  /** Whether there is a file on disk; without one nothing is forwarded. */
  readonly ready: boolean;
  all(): readonly SinkState[];
  state(key: SinkKey): SinkState | undefined;
  bounds(signal: Signal): Bounds;
  /** The first ordinal that was stored at or after `at` (wall clock, ms); newest + 1 when there is none. */
  ordinalAt(signal: Signal, at: number): number;
  /** When that record was stored, or nearly; undefined when it is not in the file. Epoch milliseconds. */
  storedAt(signal: Signal, ordinal: number): number | undefined;
  /** Only what is still pending of it counts: retention or an operator may have been there before. */
  progress(progress: Progress): void;
  /** Ends the open range before `at`, an ordinal, and goes on with an open one from there: what is live goes first. */
  split(key: SinkKey, at: number): void;
  setPaused(key: SinkKey, paused: boolean): void;
  /** Gives up all pending records before `before`, an ordinal. Returns how many. */
  discard(key: SinkKey, before: number): number;
  /** Newest first. */
  deadLetters(options: { readonly sink?: string; readonly limit: number }): readonly DeadLetter[];
  /** Dead letters that gave way to newer ones, since the store was made. */
  readonly deadLettersEvicted: number;
  /** States in the file that could not be read, and were begun anew with the oldest record, since the store was made. */
  readonly unreadable: number;
  /** Rows that retention took and that no sink had still to send, by reason, since the store was made. */
  evictedSent(): Readonly<Record<string, number>>;
};

/**
 * Stands behind the samples in the list of parts, so that a write tells it of theirs. `readFailed`: what a lookup in the
 * file met; the lookup then finds nothing.
 */
export function createSinkStates({
  readFailed,
}: {
  readonly readFailed?: (failure: ReadFailure) => void;
} = {}): SinkStates {
  const book = createBook();
  const bounds = (signal: Signal): Bounds => boundsOf(book, signal);
  const look = <Found>(ask: (file: SinkFile) => Found): Found | undefined => {
    try {
      return book.file === undefined ? undefined : ask(book.file);
    } catch (error) {
      readFailed?.({
        code: errorCode(error),
        message: String(error),
        generation: bounds("flows").generation,
      });
      return undefined;
    }
  };
  return {
    ...partOf(book),
    ...actionsOn(book),
    get ready() {
      return book.file !== undefined;
    },
    all: () => [...book.declared.values()].flatMap((key) => stateOf(recordOf(book, key)) ?? []),
    state: (key) => stateOf(recordOf(book, key)),
    bounds,
    ordinalAt(signal, at) {
      const { oldest, newest } = bounds(signal);
      const fine = signal === "flows" ? book.clock.seqAt(at) : undefined;
      const found = fine ?? look((file) => file.ordinalAt({ signal }, at)) ?? newest + 1;
      return Math.min(Math.max(found, oldest), newest + 1);
    },
    storedAt(signal, ordinal) {
      const { oldest, newest } = bounds(signal);
      if (ordinal < oldest || ordinal > newest) return undefined;
      const fine = signal === "flows" ? book.clock.storedAt(ordinal) : undefined;
      return fine ?? look((file) => file.storedAt({ signal }, ordinal));
    },
    deadLetters: (options) => look(() => book.letters.newest(options)) ?? book.letters.waiting(options),
    get deadLettersEvicted() {
      return book.totals.letters + book.letters.lost;
    },
    get unreadable() {
      return book.totals.unreadable;
    },
    evictedSent: () => book.totals.sent,
  };
}

const partOf = (book: Book): Required<Pick<Part, "finish" | "detach" | "open">> => ({
  finish: () => book.file !== undefined && isDirty(book),
  detach: () => detach(book),
  open({ database, budget }): OpenPart {
    openBook(book, database, budget);
    return {
      due: () => isDue(book),
      pages: () => pagesIn(book),
      write: (at) => stage(book, at),
      settle: () => settle(book),
    };
  },
});

type Actions = Pick<SinkStates, "declare" | "progress" | "split" | "setPaused" | "discard">;

const actionsOn = (book: Book): Actions => ({
  declare(sinks) {
    book.declared = new Map(sinks.map((declared) => [keyText(declared), declared]));
    book.stale = true;
  },
  progress: (progress) => settleProgress(book, progress),
  split(key, at) {
    const record = recordOf(book, key);
    const ranges = splitAt(record?.ranges ?? [], at);
    if (record !== undefined && ranges !== record.ranges) change(book, record, { ranges });
  },
  setPaused(key, paused) {
    const record = recordOf(book, key);
    if (record !== undefined && record.paused !== paused) change(book, record, { paused });
  },
  discard(key, before) {
    const record = recordOf(book, key);
    if (record === undefined) return 0;
    const { ranges, taken } = discarded(record.ranges, before);
    if (taken > 0) change(book, record, { ranges, counts: plus(record.counts, { discarded: taken }) });
    return taken;
  },
});

function settleProgress(book: Book, progress: Progress): void {
  const { sink, signal, divertTo, divertWanted, counts, deadLetters = [] } = progress;
  const record = recordOf(book, progress);
  if (record === undefined || record.generation !== progress.generation) return;
  const target =
    divertTo === undefined || divertTo === sink ? undefined : recordOf(book, { sink: divertTo, signal });
  const cut = takenBy(record, progress, target !== undefined);
  const { ranges, taken, pieces } = cut;
  // Only what is cut out of the midst of a range can be too much, which nobody asks for.
  if (taken === 0 || (ranges.length > rangesMax && ranges.length > record.ranges.length)) return;
  const own = target === undefined ? fitted(counts, taken) : divertedOf(counts, taken);
  change(book, record, { ranges, counts: plus(record.counts, own) });
  if (target !== undefined) feed(book, target, withWanted(pieces, divertWanted));
  book.letters.add(progress, deadLetters);
}

function takenBy({ ranges }: SinkRecord, progress: Progress, whole: boolean): Taken {
  const { first, last, wanted, complete, counts } = progress;
  const isMeant = (range: PendingRange): boolean => range.wanted === wanted;
  if (complete || whole) return without(ranges, { first, last }, isMeant);
  const records = Object.values(counts).reduce((sum, count) => sum + count, 0);
  return begun(ranges, { first, last }, records, isMeant);
}

function divertedOf({ filtered: told = 0 }: SinkCounts, taken: number): SinkCounts {
  const filtered = Math.min(told, taken);
  return { filtered, diverted: taken - filtered };
}

const withWanted = (pieces: Taken["pieces"], wanted: string | undefined): Taken["pieces"] =>
  wanted === undefined ? pieces : pieces.map((piece) => ({ ...piece, wanted }));

/** What found no place among too many ranges, or with too much of filters, is counted. */
function feed(book: Book, target: SinkRecord, pieces: Taken["pieces"]): void {
  const { ranges, placed, left } = added(target.ranges, pieces);
  const counts = plus(target.counts, { "evicted.ranges": left });
  change(book, target, { ranges, counts, offered: target.offered + placed + left });
}

function boundsOf({ file, view }: Book, signal: Signal): Bounds {
  if (file === undefined || view === undefined) return { generation: 0, oldest: 1, newest: 0 };
  const { generation, oldest, head } = view[signal];
  return { generation, oldest, newest: head };
}

function stateOf(record: SinkRecord | undefined): SinkState | undefined {
  if (record === undefined) return undefined;
  const { sink, signal, generation, paused, ranges, counts, offered } = record;
  return { sink, signal, generation, paused, ranges, counts, offered, pending: pendingIn(ranges) };
}
