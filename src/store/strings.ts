// The dictionary: texts that many rows share (interfaces, drop reasons), each stored once under a small number.

import { emptyStringId, otherStringId } from "./schema.ts";
import type { Database } from "./sqlite.ts";

/** Longer texts are cut: no interface or drop reason is, and a row must not be lost for a name. */
export const textMax = 128;

/** The dictionary as a reader sees it. */
export type StringLookup = {
  /** The number of a text that is there. */
  find(text: string): number | undefined;
  text(id: number): string;
};

export type Strings = StringLookup & {
  /** The number of a text, made when it is new; a row with `seq` is about to use it. */
  use(text: string, seq: number): number;
  /** Undoes what was made since the last commit; the caller rolls the file back. */
  rollback(): void;
  commit(): void;
  /** Rows whose text found no place and reads "(other)" since the file was opened. */
  readonly others: number;
};

type Entry = { readonly id: number; lastSeq: number };

/** Pod interfaces come and go for ever: when the dictionary is full, texts that only evicted rows used make room. */
export function openStrings({
  database,
  lastSeq,
  oldestSeq,
  stringsMax,
}: {
  readonly database: Database;
  /** The newest seq in the file: for all that is known, that row uses every text. */
  readonly lastSeq: number;
  readonly oldestSeq: () => number;
  readonly stringsMax: number;
}): Strings {
  const insert = database.prepare("INSERT INTO strings (id, text) VALUES (?, ?)");
  const remove = database.prepare("DELETE FROM strings WHERE id = ?");
  const entries = new Map<string, Entry>();
  const texts = new Map<number, string>();
  let idMax = otherStringId;
  let sweptSeq = -1;
  let others = 0;
  let changed = false;

  const reload = (): void => {
    entries.clear();
    texts.clear();
    for (const row of database.prepare("SELECT id, text FROM strings").raw().all() as [number, string][]) {
      const [id, text] = row;
      entries.set(text, { id, lastSeq });
      texts.set(id, text);
      idMax = Math.max(idMax, id);
    }
    changed = false;
  };

  // At most one sweep for each row that retention takes: it walks the whole dictionary.
  const sweep = (): void => {
    const oldest = oldestSeq();
    if (oldest === sweptSeq) return;
    sweptSeq = oldest;
    for (const [text, { id, lastSeq: used }] of entries) {
      if (used >= oldest || id === emptyStringId || id === otherStringId) continue;
      remove.run(id);
      entries.delete(text);
      texts.delete(id);
      changed = true;
    }
  };

  const make = (text: string, seq: number): number => {
    if (entries.size >= stringsMax) sweep();
    if (entries.size >= stringsMax) {
      others++;
      return otherStringId;
    }
    changed = true;
    const id = ++idMax;
    insert.run(id, text);
    entries.set(text, { id, lastSeq: seq });
    texts.set(id, text);
    return id;
  };

  reload();
  return {
    use(text, seq) {
      const entry = entries.get(text);
      if (entry === undefined) return make(text, seq);
      entry.lastSeq = seq;
      return entry.id;
    },
    find: (text) => entries.get(text)?.id,
    text: (id) => texts.get(id) ?? "",
    rollback() {
      if (changed) reload();
    },
    commit() {
      changed = false;
    },
    get others() {
      return others;
    },
  };
}

/** Texts that are remembered of a file that another connection writes. */
const rememberedMax = 8192;

/** For a connection that only reads. A number never changes its text, a text may get another number. */
export function openStringLookup(database: Database): StringLookup {
  const idOf = database.prepare<unknown[], number>("SELECT id FROM strings WHERE text = ?").pluck();
  const textOf = database.prepare<unknown[], string>("SELECT text FROM strings WHERE id = ?").pluck();
  const texts = new Map<number, string>();
  return {
    find: (text) => idOf.get(text),
    text(id) {
      const known = texts.get(id);
      if (known !== undefined) return known;
      const found = textOf.get(id);
      if (found === undefined) return "";
      if (texts.size >= rememberedMax) texts.clear();
      texts.set(id, found);
      return found;
    },
  };
}
