// What is written beside the rows, in their transaction: rollups, summaries of throttled intervals, samples.

import type { EncodedRow } from "./rows.ts";
import type { Database } from "./sqlite.ts";

/** Holds what is pending for as long as the store is open, whatever file it is in. */
export type Part = {
  /** Valid records of an append, whether or not they are kept as rows. Imported ones are not told. */
  rows?(rows: readonly EncodedRow[]): void;
  /** Before the store is closed, ahead of each of its last writes: whether the next one has something of this part. */
  finish?(): boolean;
  /** There is no file on disk any more: it was closed, or the store runs from memory. */
  detach?(): void;
  /** For a file on disk that was opened. A store that runs from memory keeps what is pending until a disk is there. */
  open(options: { readonly database: Database; readonly budget: PartBudget }): OpenPart;
};

export type PartBudget = {
  /** Pages of the database file, free ones included, of which each part keeps to a share. */
  readonly pagesMax: number;
};

export type OpenPart = {
  /** Whether `write` has something to do although no row is appended. */
  due(at: number): boolean;
  /** Pages that `write` may add or change at `at`, at most. */
  pages(at: number): number;
  /** Inside the transaction: writes what is due, in a bounded step, and removes what is too old or too much. */
  write(at: number): void;
  /** The transaction was committed. One that was undone is followed by another `write` of the same. */
  settle(): void;
};
