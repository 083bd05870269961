// Puts a file that cannot be used out of the way, and keeps what piles up there bounded.

import { existsSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/** How many such files are kept. */
export const asideFilesMax = 3;

const parts = ["", "-wal", "-shm", "-journal"] as const;

/**
 * Renames the database and what belongs to it; returns the new name of the database. It comes last: where Windows
 * refuses in between, as of a file that another program has open, no new database may meet the log of an old one.
 */
export function moveAside({
  path,
  at,
  bytesMax,
}: {
  readonly path: string;
  /** Wall clock, epoch milliseconds: part of the new name. */
  readonly at: number;
  /** What the files aside may take together; the newest is kept even if it takes more. */
  readonly bytesMax: number;
}): string {
  const target = freeName(path, at);
  for (const part of parts.toReversed()) {
    if (existsSync(path + part)) renameSync(path + part, target + part);
  }
  removeOldest(path, bytesMax);
  return target;
}

function freeName(path: string, at: number): string {
  const stamp = new Date(at).toISOString().replaceAll(/[-:.]/g, "");
  const base = `${path}.corrupt-${stamp}`;
  for (let next = 2, name = base; ; next++) {
    if (!parts.some((part) => existsSync(name + part))) return name;
    name = `${base}-${next}`;
  }
}

function removeOldest(path: string, bytesMax: number): void {
  const dir = dirname(path);
  const prefix = `${basename(path)}.corrupt-`;
  const names = readdirSync(dir).filter(
    (name) => name.startsWith(prefix) && !/-(wal|shm|journal)$/.test(name),
  );
  const newestFirst = names
    .map((name) => ({ file: join(dir, name), changed: statSync(join(dir, name)).ctimeMs }))
    .toSorted((a, b) => b.changed - a.changed || (a.file < b.file ? 1 : -1));
  let bytes = 0;
  for (const [index, { file }] of newestFirst.entries()) {
    bytes += parts.reduce((sum, part) => sum + bytesOf(file + part), 0);
    if (index === 0 || (index < asideFilesMax && bytes <= bytesMax)) continue;
    for (const part of parts) rmSync(file + part, { force: true });
  }
}

/** Size of a file, 0 when there is none. */
export const bytesOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
