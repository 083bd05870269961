// What can go wrong with the store's file, and what each failure means.

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** The file was written by a newer version; nothing was touched. */
export class NewerSchemaError extends Error {
  override readonly name = "NewerSchemaError";
}

/** Another process has the directory open. */
export class StoreLockedError extends Error {
  override readonly name = "StoreLockedError";
}

/** The file is larger than its bound allows, and could not, or was not to be made smaller. */
export class StoreTooLargeError extends Error {
  override readonly name = "StoreTooLargeError";
  readonly code = "STORE_TOO_LARGE";
}

/** A query that cannot be answered as it was asked; `parameter` is the name of the wrong one. */
export class StoreQueryError extends Error {
  override readonly name = "StoreQueryError";
  readonly parameter: string;
  constructor(parameter: string, message: string) {
    super(message);
    this.parameter = parameter;
  }
}

/** The query was right, the file could not be read. */
export class StoreUnreadableError extends Error {
  override readonly name = "StoreUnreadableError";
}

/** Why rows could not be written: the reasons of `rows.lost`. */
export const lossReasons = ["disk_full", "read_only", "busy", "error"] as const;
export type LossReason = (typeof lossReasons)[number];

/** The code of a SQLite or system error, "unknown" for anything else. */
export function errorCode(error: unknown): string {
  if (error instanceof Error && "code" in error && typeof error.code === "string") return error.code;
  return "unknown";
}

export const isCorruption = (error: unknown): boolean => /^SQLITE_(CORRUPT|NOTADB)/.test(errorCode(error));

export function lossReason(error: unknown, dir: string): LossReason {
  const code = errorCode(error);
  // The index beside the log cannot grow on a full disk either, which SQLite calls an I/O error; so it calls a write
  // to a read-only file system, and a file that cannot be made there one that cannot be opened.
  return reasonOfCode(code) ?? (/^SQLITE_(IOERR|CANTOPEN)/.test(code) ? stateOf(dir) : "error");
}

function reasonOfCode(code: string): LossReason | undefined {
  if (/^(SQLITE_FULL|ENOSPC|EDQUOT)/.test(code)) return "disk_full";
  if (/^(SQLITE_READONLY|EROFS|EACCES|EPERM)/.test(code)) return "read_only";
  return /^SQLITE_(BUSY|LOCKED)/.test(code) ? "busy" : undefined;
}

// Only trying tells: a file system that made itself read-only after an error still says that it may be written.
function stateOf(dir: string): LossReason {
  const bytes = 16 * 4096;
  const probe = join(dir, "fovea.probe");
  try {
    writeFileSync(probe, new Uint8Array(bytes));
    return "error";
  } catch (error) {
    return reasonOfCode(errorCode(error)) ?? "error";
  } finally {
    removeQuietly(probe);
  }
}

function removeQuietly(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // Where it could not be written it is not there to remove.
  }
}
