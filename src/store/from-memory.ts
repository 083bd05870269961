// What a store that runs from memory takes along when there is a disk again: its rows, and its counts by minute.

import type { StoreFile } from "./file.ts";
import type { MinuteCount } from "./minutes.ts";
import { checkRow, columns, decodeRow, type EncodedRow, type RawRow } from "./rows.ts";
import type { Writer } from "./writer.ts";

type Held = { readonly file: StoreFile; readonly writer: Writer };

/** Newest first. */
export const minutesInMemory = ({ file }: Held): readonly MinuteCount[] =>
  file.reader.prepare("SELECT at, name, value FROM ledger_minutes ORDER BY at DESC").all() as MinuteCount[];

/** The newest rows that were kept are kept anew, in the minute in which they are written again. */
export function minutesWithout(minutes: readonly MinuteCount[], rows: number): readonly MinuteCount[] {
  let left = rows;
  return minutes.flatMap((count) => {
    if (count.name !== "rows.kept") return [count];
    const taken = Math.min(left, count.value);
    left -= taken;
    return taken === count.value ? [] : [{ ...count, value: count.value - taken }];
  });
}

export function rowsInMemory({ file, writer }: Held): EncodedRow[] {
  const all = file.reader
    .prepare(`SELECT ${columns.join(", ")} FROM flows ORDER BY seq`)
    .raw()
    .all() as RawRow[];
  return all.flatMap((row) => {
    const checked = checkRow(decodeRow(row, writer.strings));
    return typeof checked === "string" ? [] : [checked];
  });
}
