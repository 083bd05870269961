// The table of series in the file: a bounded part of it, to which new series are added some at a time.

import type { PendingStep } from "./sample-pending.ts";
import type { Series, SeriesRegistry } from "./sample-series.ts";
import { pagesOf, type Work } from "./sample-work.ts";
import type { Database } from "./sqlite.ts";

/** What a row takes with its entry in the index, which repeats the texts and is two thirds full. */
const bytesOf = ({ name, labels }: Pick<Series, "name" | "labels">): number =>
  Math.ceil(1.3 * (2 * (name.length + labels.length) + 24));

export type SeriesTable = {
  /** Gives numbers to those of a step that have none, if they fit into the pages; whether all that find room have one. */
  stage(step: PendingStep, pagesMax: number): { readonly work?: Work; readonly complete: boolean };
  /** They are no more in the registry from here on. */
  remove(series: readonly Series[]): Work;
  readonly bytes: number;
};

/** New series that one transaction takes: some 20 ms. */
const newMax = 2000;

/** Takes no more than `bytesMax`. */
export function openSeriesTable({
  database,
  bytesMax,
  registry,
}: {
  readonly database: Database;
  readonly bytesMax: number;
  readonly registry: SeriesRegistry;
}): SeriesTable {
  const insert = database.prepare("INSERT INTO series (id, name, labels) VALUES (?, ?, ?)");
  const removeOne = database.prepare("DELETE FROM series WHERE id = ?");
  const rows = database.prepare("SELECT id, name, labels FROM series").raw().all() as [
    number,
    string,
    string,
  ][];
  registry.restart(rows);
  let idMax = rows.reduce((max, [id]) => Math.max(max, id), 0);
  let bytes = rows.reduce((sum, [, name, labels]) => sum + bytesOf({ name, labels }), 0);
  // Entries of the index go anywhere in it.
  const pagesFor = (count: number): number => Math.min(2 * count + 2, 2 * pagesOf(bytes));
  return {
    stage(step, pagesMax) {
      const entered: Series[] = [];
      let complete = true;
      for (const series of step.series) {
        if (series.id !== 0 || bytes + bytesOf(series) > bytesMax) continue;
        complete =
          entered.length < newMax && (entered.length < 2 || pagesFor(entered.length + 1) <= pagesMax);
        if (!complete) break;
        registry.enter(series, ++idMax);
        bytes += bytesOf(series);
        entered.push(series);
      }
      if (entered.length === 0) return { complete };
      return {
        complete,
        work: {
          pages: pagesFor(entered.length),
          write: () => {
            for (const { id, name, labels } of entered) insert.run(id, name, labels);
          },
          settle: () => undefined,
        },
      };
    },
    remove(series) {
      for (const one of series) {
        registry.remove(one);
        bytes -= bytesOf(one);
      }
      return {
        pages: 2 * series.length + 2,
        write: () => {
          for (const { id } of series) removeOne.run(id);
        },
        settle: () => undefined,
      };
    },
    get bytes() {
      return bytes;
    },
  };
}
