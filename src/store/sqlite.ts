// The one place that opens SQLite databases, and puts the addon where a compiled binary can load it.

import { createHash } from "node:crypto";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import BetterSqlite3 from "better-sqlite3";
import type { Guard } from "../guard.ts";

export type Database = BetterSqlite3.Database;
export type Statement<Result = unknown> = BetterSqlite3.Statement<unknown[], Result>;

/** How long a connection of ours waits for another program's lock, with the thread. */
export const busyMs = 100;

/** Opens a database; ":memory:" is one that no file stands behind. `nativeBinding` comes from `unpackAddon`. */
export function openDatabase({
  path,
  readonly = false,
  timeoutMs = 0,
  nativeBinding,
}: {
  readonly path: string;
  readonly readonly?: boolean;
  /** How long a call waits, with the thread, for a lock that another process holds. */
  readonly timeoutMs?: number;
  readonly nativeBinding?: string | undefined;
}): Database {
  return new BetterSqlite3(path, {
    readonly,
    timeout: timeoutMs,
    ...(nativeBinding === undefined ? {} : { nativeBinding }),
  });
}

/**
 * Where the addon may be unpacked, best first: the data directory is rarely mounted noexec, /tmp and /run often are. On
 * Windows the profile of the user is his alone, and what he makes elsewhere may be open to others: it comes first there.
 */
export function addonDirs({
  dataDir,
  runtimeDir,
}: {
  readonly dataDir: string;
  /** What systemd names in RUNTIME_DIRECTORY. */
  readonly runtimeDir?: string | undefined;
}): readonly string[] {
  const inDataDir = join(dataDir, "native");
  if (process.getuid === undefined) {
    const profile = process.env["LOCALAPPDATA"] ?? "";
    return [...(profile === "" ? [] : [join(profile, "Fovea", "native")]), inDataDir];
  }
  return [
    inDataDir,
    ...(runtimeDir === undefined ? [] : [join(runtimeDir, "native")]),
    join(tmpdir(), `fovea-native-${process.getuid()}`),
  ];
}

/**
 * In a compiled binary, writes the embedded addon into the first of `dirs` that it can be loaded from, and returns its
 * path. Bun would unpack it to a name in /tmp that anyone can guess and own first. From source there is nothing to
 * unpack, the package finds its addon itself: undefined.
 */
export async function unpackAddon({
  dirs,
  guard,
}: {
  readonly dirs: readonly string[];
  readonly guard?: Guard | undefined;
}): Promise<string | undefined> {
  const embedded = Bun.isStandaloneExecutable ? await embeddedAddon() : undefined;
  if (embedded === undefined) return undefined;
  return unpackBytes({ bytes: readFileSync(embedded), dirs, guard, check: load });
}

/** Writes `bytes` into the first private directory where `check` accepts them; what each directory lacked otherwise. */
export function unpackBytes({
  bytes,
  dirs,
  guard,
  check,
}: {
  readonly bytes: Uint8Array;
  readonly dirs: readonly string[];
  readonly guard?: Guard | undefined;
  readonly check: (path: string) => void;
}): string {
  const refusals: string[] = [];
  for (const dir of dirs) {
    try {
      makePrivate(dir);
      guard?.checkNative(dir);
      const path = placeBytes(dir, bytes, guard);
      guard?.checkNative(path);
      check(path);
      return path;
    } catch (error) {
      refusals.push(`${dir}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  throw new Error(
    `The SQLite addon could not be unpacked and loaded in any of ${dirs.length} directories ` +
      `(${refusals.join("; ")}). Give a data directory on a file system that is writable and not mounted noexec.`,
  );
}

// Bun folds process.platform and process.arch at build time and drops the other branches with their files, and
// running from source it cannot import an addon at all: so each import stands in its own file, behind its own test.
async function embeddedAddon(): Promise<string | undefined> {
  if (process.platform === "linux" && process.arch === "x64")
    return (await import("./addon-linux-x64.ts")).addonPath;
  if (process.platform === "linux" && process.arch === "arm64")
    return (await import("./addon-linux-arm64.ts")).addonPath;
  if (process.platform === "win32" && process.arch === "x64")
    return (await import("./addon-win32-x64.ts")).addonPath;
  throw new Error(`There is no SQLite addon for ${process.platform}-${process.arch} in this binary.`);
}

// A file system mounted noexec takes the file and refuses to map it, which only loading shows.
function load(path: string): void {
  openDatabase({ path: ":memory:", nativeBinding: path }).close();
}

function makePrivate(dir: string): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const found = lstatSync(dir); // Not stat: a link may lead to where others write.
  if (!found.isDirectory()) throw new Error("is not a directory");
  if (process.getuid === undefined) return; // On Windows the guard looks.
  if (found.uid !== process.getuid()) throw new Error(`belongs to user ${found.uid}`);
  if ((found.mode & 0o077) !== 0) chmodSync(dir, 0o700);
}

const placedName = /^better-sqlite3-[0-9a-f]{16}\.node$/;

function placeBytes(dir: string, bytes: Uint8Array, guard: Guard | undefined): string {
  const digest = createHash("sha256").update(bytes).digest("hex").slice(0, 16);
  const name = `better-sqlite3-${digest}.node`;
  const path = join(dir, name);
  removeOthers(dir, name);
  if (!holds(path, bytes) || !passes(path, guard)) {
    const fresh = `${path}.${process.pid}.new`;
    // Without leave to write, Windows would not remove it later.
    writeFileSync(fresh, bytes, { mode: process.platform === "win32" ? 0o600 : 0o500 });
    moveInto(fresh, path, bytes);
  }
  return path;
}

function moveInto(fresh: string, path: string, bytes: Uint8Array): void {
  try {
    renameSync(fresh, path); // A process that has the old file mapped keeps it.
  } catch (error) {
    unlinkSync(fresh);
    if (!holds(path, bytes)) throw error; // On Windows another process may have loaded the same one meanwhile.
  }
}

function holds(path: string, bytes: Uint8Array): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined || !found.isFile()) return false;
  // Who made the file, from before the directory was private, could change it after this look.
  const ours = process.getuid === undefined || (found.uid === process.getuid() && (found.mode & 0o022) === 0);
  return ours && readFileSync(path).equals(bytes);
}

/** One that somebody else could change after this look is replaced. */
function passes(path: string, guard: Guard | undefined): boolean {
  try {
    guard?.checkNative(path);
    return true;
  } catch {
    return false; // Whether the one in its place passes is asked, and told, by the caller.
  }
}

// Each version leaves 2 MB; only the newest is kept.
function removeOthers(dir: string, name: string): void {
  for (const other of readdirSync(dir)) {
    if (other === name || !placedName.test(other)) continue;
    try {
      unlinkSync(join(dir, other));
    } catch {
      // Windows does not remove an addon that another process has loaded; the next start will.
    }
  }
}
