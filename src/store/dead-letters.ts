// Records that no upstream takes, the newest of them, so that an operator can see what they were.

import type { DeadLetter, NewDeadLetter, SinkKey } from "./sink-states.ts";
import type { Database } from "./sqlite.ts";

/** What a letter may take; the rest of a longer text is cut off. */
const textBytesMax = 4096;
const messageCharsMax = 1024;
const wordCharsMax = 64;
const lettersMax = 1000;
/** Of text in all; less in a small file, of which letters take a sixty-fourth part. */
export const lettersBytesMax = 2 ** 20;
/** Of one transaction; as many of the oldest make room for them, and some more. */
const lettersOnce = 8;

type Letter = NewDeadLetter & SinkKey;
type Held = { readonly id: number; readonly bytes: number };

const bytesOf = ({ text, message }: Pick<Letter, "text" | "message">): number =>
  Buffer.byteLength(text) + Buffer.byteLength(message);

/** Whole characters of it that are no longer than this in UTF-8. */
function cut(text: string, bytesMax: number): string {
  if (Buffer.byteLength(text) <= bytesMax) return text;
  return new TextDecoder().decode(Buffer.from(text).subarray(0, bytesMax), { stream: true });
}

const bounded = (key: SinkKey, letter: NewDeadLetter): Letter => ({
  ...letter,
  sink: key.sink,
  signal: key.signal,
  reason: letter.reason.slice(0, wordCharsMax),
  code: letter.code.slice(0, wordCharsMax),
  message: letter.message.slice(0, messageCharsMax),
  text: cut(letter.text, textBytesMax),
});

const kinds = ["sink", "signal", "reason", "code", "message"] as const;

/**
 * What was refused for its time alone tells nothing but how much of it there was: thousands of such records, as a
 * crash makes of them, are one letter with the text of the first.
 */
function put(pending: Letter[], letter: Letter): void {
  const last = pending.at(-1);
  const alike = last !== undefined && kinds.every((kind) => last[kind] === letter[kind]);
  if (alike && letter.reason === "too_old")
    pending[pending.length - 1] = { ...last, records: last.records + letter.records };
  else pending.push(letter);
}

/** How many of the first must go so that the rest keeps to the bounds; the last one always stays. */
function excess(all: readonly Pick<Held, "bytes">[], bytesMax: number): number {
  let count = Math.max(0, all.length - lettersMax);
  let bytes = all.slice(count).reduce((sum, one) => sum + one.bytes, 0);
  while (bytes > bytesMax && count < all.length - 1) bytes -= all[count++]?.bytes ?? 0;
  return count;
}

export type LetterQuery = { readonly sink?: string; readonly limit: number };

export type DeadLetters = {
  add(key: SinkKey, letters: readonly NewDeadLetter[]): void;
  open(database: Database, bytesMax: number): void;
  detach(): void;
  /** Whether `write` has something to do. */
  readonly due: boolean;
  /** Bytes that `write` adds or removes, and letters. */
  plan(): { readonly bytes: number; readonly letters: number };
  /** Returns how many made room, for ever once that is committed. */
  write(): number;
  settle(): void;
  /** Newest first. */
  newest(query: LetterQuery): readonly DeadLetter[];
  /** Those of them that are in no file. */
  waiting(query: LetterQuery): readonly DeadLetter[];
  /** Since the last `settle`, without being in a file: those that waited for one, and those of a file that is gone. */
  readonly lost: number;
};

type Plan = { readonly adds: readonly Letter[]; readonly removes: number };

/** What one write does. */
function planOf(pending: readonly Letter[], held: readonly Held[], bytesMax: number): Plan {
  const adds = pending.slice(0, lettersOnce);
  const all = [...held, ...adds.map((letter) => ({ bytes: bytesOf(letter) }))];
  return { adds, removes: Math.min(excess(all, bytesMax), held.length, 2 * lettersOnce) };
}

const sumOf = (numbers: readonly number[]): number => numbers.reduce((sum, number) => sum + number, 0);

export function createDeadLetters(): DeadLetters {
  let pending: Letter[] = [];
  let held: Held[] = [];
  let table: LetterTable | undefined;
  let bytesMax = lettersBytesMax;
  let lastId = 0;
  let lost = 0;
  let written: Plan & { readonly told: number } = { adds: [], removes: 0, told: 0 };

  const plan = (): Plan => planOf(pending, held, bytesMax);
  const waiting = ({ sink, limit }: LetterQuery): readonly DeadLetter[] =>
    pending
      .map((letter, index) => ({ ...letter, id: lastId + 1 + index }))
      .filter((letter) => sink === undefined || letter.sink === sink)
      .reverse()
      .slice(0, limit);

  return {
    add(key, letters) {
      for (const letter of letters) put(pending, bounded(key, letter));
      const over = excess(
        pending.map((letter) => ({ bytes: bytesOf(letter) })),
        bytesMax,
      );
      pending = pending.slice(over);
      lost += over;
    },
    open(database, most) {
      const next = openTable(database);
      const found = next.sizes();
      const ids = new Set(found.map(({ id }) => id));
      lost += held.filter(({ id }) => !ids.has(id)).length; // They were in a file that is gone.
      [table, held, bytesMax] = [next, [...found], most];
      lastId = Math.max(lastId, found.at(-1)?.id ?? 0);
    },
    detach() {
      table = undefined;
    },
    get due() {
      return pending.length > 0 || lost > 0 || excess(held, bytesMax) > 0;
    },
    plan() {
      const { adds, removes } = plan();
      const bytes = sumOf([...adds.map(bytesOf), ...held.slice(0, removes).map((one) => one.bytes)]);
      return { bytes, letters: adds.length + removes };
    },
    write() {
      const { adds, removes } = plan();
      written = { adds, removes, told: lost };
      if (removes > 0) table?.removeTo(held[removes - 1]?.id ?? 0);
      for (const [index, letter] of adds.entries()) table?.put({ ...letter, id: lastId + 1 + index });
      return removes + lost;
    },
    settle() {
      const { adds, removes, told } = written;
      held.splice(0, removes);
      for (const letter of adds) held.push({ id: ++lastId, bytes: bytesOf(letter) });
      pending = pending.slice(adds.length);
      lost -= told;
      written = { adds: [], removes: 0, told: 0 };
    },
    waiting,
    newest({ sink, limit }) {
      const own = waiting({ ...(sink === undefined ? {} : { sink }), limit });
      return [...own, ...(table?.newest(sink, limit - own.length) ?? [])];
    },
    get lost() {
      return lost;
    },
  };
}

type LetterTable = ReturnType<typeof openTable>;

function openTable(database: Database) {
  const columns = "id, sink, signal, at, reason, code, message, records, text";
  const insert = database.prepare(`INSERT INTO dead_letters (${columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`);
  const remove = database.prepare("DELETE FROM dead_letters WHERE id <= ?");
  const sizes = database.prepare<unknown[], Held>(
    `SELECT id, length(CAST(text AS BLOB)) + length(CAST(message AS BLOB)) AS bytes
     FROM dead_letters ORDER BY id`,
  );
  const newest = database.prepare<unknown[], DeadLetter>(
    `SELECT ${columns} FROM dead_letters WHERE sink = coalesce(?, sink) ORDER BY id DESC LIMIT ?`,
  );
  return {
    sizes: () => sizes.all(),
    put: ({ id, sink, signal, at, reason, code, message, records, text }: DeadLetter): void =>
      void insert.run(id, sink, signal, at, reason, code, message, records, text),
    removeTo: (id: number): void => void remove.run(id),
    newest: (sink: string | undefined, limit: number) => newest.all(sink ?? null, Math.max(0, limit)),
  };
}
