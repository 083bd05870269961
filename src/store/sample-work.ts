// What the samples have the next transaction do, and how many pages that takes.

import { pageBytes } from "./schema.ts";

/** Done by one transaction, and again by the next if that one is undone. What making it changed in memory stands. */
export type Work = {
  /** Pages that `write` may add or change, at most. */
  readonly pages: number;
  write(): void;
  settle(): void;
};

/** Rows are next to each other in pages that are three quarters full; there are pages above them and of the free list. */
export const pagesOf = (bytes: number): number => Math.ceil((bytes * 4) / 3 / pageBytes) + 3;
