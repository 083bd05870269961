// One process a data directory: a lock that dies with its holder, however that dies.

import { unlinkSync } from "node:fs";
import { join } from "node:path";
import { errorCode, isCorruption, StoreLockedError } from "./failure.ts";
import { type Database, openDatabase } from "./sqlite.ts";

/**
 * Takes the directory or throws StoreLockedError with the holder's process id. The lock is SQLite's own write lock on
 * a tiny database: the kernel lets go of it with the process, and others can still read whose it is. The file stays
 * when the lock is released: removing it would let two processes lock two files of one name.
 */
export function lockDirectory({
  dir,
  nativeBinding,
}: {
  readonly dir: string;
  readonly nativeBinding?: string | undefined;
}): Disposable {
  const path = join(dir, "fovea.lock");
  try {
    return hold(path, nativeBinding);
  } catch (error) {
    if (!isCorruption(error)) throw error;
    unlinkSync(path); // Not a lock that anyone can hold.
    return hold(path, nativeBinding);
  }
}

/** Windows takes its time to release the locks of a process that was killed: its next start is not to be refused. */
const timeoutMs = process.platform === "win32" ? 2000 : 0;

function hold(path: string, nativeBinding: string | undefined): Disposable {
  using undo = new DisposableStack();
  const database = undo.adopt(openDatabase({ path, timeoutMs, nativeBinding }), (opened) => opened.close());
  try {
    database.pragma("journal_mode = MEMORY"); // The file says nothing that must outlive a crash.
    database.exec("BEGIN IMMEDIATE");
    nameHolder(database);
    database.exec("BEGIN IMMEDIATE");
  } catch (error) {
    if (!/^SQLITE_(BUSY|LOCKED)/.test(errorCode(error))) throw error;
    throw new StoreLockedError(
      `${path} is held by ${holder(database)}: two processes cannot keep one store. ` +
        "Stop that one, or give this one another data directory.",
    );
  }
  const held = undo.move();
  return { [Symbol.dispose]: () => held.dispose() };
}

// Readers see the number only after a commit, which gives the lock up for a moment: whoever comes between holds it.
function nameHolder(database: Database): void {
  try {
    database.pragma(`user_version = ${process.pid}`);
    database.exec("COMMIT");
  } catch {
    // A full disk: the lock is as good without a name.
    if (database.inTransaction) database.exec("ROLLBACK");
  }
}

function holder(database: Database): string {
  try {
    const pid = Number(database.pragma("user_version", { simple: true }));
    return pid > 0 ? `process ${pid}` : "another process";
  } catch {
    return "another process"; // It is writing its number just now.
  }
}
