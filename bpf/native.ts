// The eBPF objects and shared libraries that travel inside the binary, and how the libraries get loaded.

import { createHash } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { closeFd, loadLibrary, memoryFile } from "./libc.ts";

// packaging/build.ts writes dist/bpf and dist/lib and embeds both; from source they are read where it left them.
const room = Bun.isStandaloneExecutable ? import.meta.dir : join(import.meta.dir, "../dist");

/** One library of dist/lib, named by its SONAME. */
export type Library = { readonly soname: string; readonly sha256: string };

/** What each of the two needs besides the C library, in loading order; the list of libbpf ends with itself. */
export type Libraries = { readonly libbpf: readonly Library[]; readonly addon: readonly Library[] };

function embedded(path: string): Uint8Array {
  try {
    return readFileSync(join(room, path));
  } catch (error) {
    throw new Error(`${path} is not in ${room}: build it with npm run build`, { cause: error });
  }
}

/** The compiled bpf/<name>.bpf.c. */
export const objectBytes = (name: string): Uint8Array => embedded(`bpf/${name}.bpf.o`);

export const embeddedLibraries = (): Libraries =>
  JSON.parse(Buffer.from(embedded("lib/libraries.json")).toString("utf8"));

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** Makes `path` a directory that only this user can look into, or says why what is there cannot be trusted. */
function privateDirectory(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const found = lstatSync(path);
  if (!found.isDirectory()) throw new Error(`${path} is not a directory: remove it`);
  if (found.uid !== process.geteuid?.()) throw new Error(`${path} belongs to user ${found.uid}: remove it`);
  if ((found.mode & 0o077) !== 0) throw new Error(`${path} is open to others: chmod 700 ${path}`);
}

function sameContent(path: string, digest: string): boolean {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return false; // Absent, or a symbolic link: the caller puts a fresh file in its place.
  }
  try {
    return fstatSync(fd).isFile() && sha256(readFileSync(fd)) === digest;
  } finally {
    closeSync(fd);
  }
}

// Each version of a library leaves one; only the newest is kept.
function removeOlder(directory: string, kept: string, soname: string): void {
  for (const name of readdirSync(directory))
    if (name !== kept && /^[0-9a-f]{16}-/.test(name) && name.slice(17) === soname)
      rmSync(join(directory, name));
}

/** Puts `bytes` at a name made of its digest in a private directory; a file that is already so is left alone. */
export function unpackPrivately(directory: string, library: Library, bytes: Uint8Array): string {
  privateDirectory(directory);
  const name = `${library.sha256.slice(0, 16)}-${library.soname}`;
  const path = join(directory, name);
  removeOlder(directory, name, library.soname);
  if (sameContent(path, library.sha256)) return path;
  const fresh = `${path}.${process.pid}`;
  rmSync(fresh, { force: true }); // Left by a crash of an earlier process with this number.
  const fd = openSync(fresh, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o700);
  try {
    writeFileSync(fd, bytes);
    fsyncSync(fd);
    renameSync(fresh, path); // Replaces a symbolic link, never what it points to.
  } catch (error) {
    rmSync(fresh, { force: true });
    throw error;
  } finally {
    closeSync(fd);
  }
  return path;
}

type Loaded = { readonly path: string; readonly fd?: number };

function loadFromMemory(library: Library, bytes: Uint8Array): Loaded {
  const fd = memoryFile(library.soname, bytes);
  const path = `/proc/self/fd/${fd}`;
  try {
    loadLibrary(path);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  return { path, fd };
}

function whyNeither(library: Library, errors: readonly unknown[]): string {
  const [memory, file] = errors.map((error) => (error instanceof Error ? error.message : String(error)));
  const advice = /GLIBC_/.test(`${memory}${file}`)
    ? "this machine's C library is older than that of the machine that built this binary: build it on the older one"
    : "allow memory files (mount /proc, sysctl vm.memfd_noexec=0), or give a data directory that is not noexec";
  return `${library.soname} loads neither from memory (${memory}) nor from a file (${file}): ${advice}`;
}

function loadOne(library: Library, fallbackDirectory: string): Loaded {
  const bytes = embedded(`lib/${library.soname}`);
  if (sha256(bytes) !== library.sha256) throw new Error(`embedded ${library.soname} is damaged: build again`);
  try {
    return loadFromMemory(library, bytes);
  } catch (fromMemory) {
    try {
      const path = unpackPrivately(fallbackDirectory, library, bytes);
      loadLibrary(path);
      return { path };
    } catch (fromFile) {
      throw new Error(whyNeither(library, [fromMemory, fromFile]), { cause: fromFile });
    }
  }
}

/**
 * Loads libraries one after the other; returns the path of the last. All descriptors stay open until it is loaded: a
 * number used twice is one path, and the loader takes one path for one library. That of the last stays open for good,
 * because its path is what the caller opens.
 */
function loadInOrder(libraries: readonly Library[], fallbackDirectory: string): string | undefined {
  using borrowed = new DisposableStack();
  let last: Loaded | undefined;
  for (const library of libraries) {
    const needed = last?.fd;
    if (needed !== undefined) borrowed.defer(() => closeFd(needed));
    last = loadOne(library, fallbackDirectory);
  }
  return last?.path;
}

/** Where `loadLibraries` found libbpf; a process loads it once, because the loader keeps it for good. */
let libbpfPath: string | undefined;

/**
 * Loads what libbpf needs and libbpf itself, each from memory, or from `fallbackDirectory` where that is refused.
 * Returns the path of the loaded libbpf, for a dlopen that binds its functions.
 */
export function loadLibraries(options: { readonly fallbackDirectory: string }): string {
  libbpfPath ??= loadInOrder(embeddedLibraries().libbpf, options.fallbackDirectory);
  if (libbpfPath === undefined) throw new Error("lib/libraries.json names no libbpf: build again");
  return libbpfPath;
}

function onThisMachine(soname: string): boolean {
  try {
    loadLibrary(soname);
    return true;
  } catch {
    return false; // The embedded one stands in.
  }
}

/**
 * Loads what the SQLite addon needs: the C++ library of this machine, which suits its C library best, or the embedded
 * one where there is none. To be called before the addon is loaded; calling it again does nothing.
 */
export function loadAddonLibraries(options: { readonly fallbackDirectory: string }): void {
  const missing = embeddedLibraries().addon.filter(({ soname }) => !onThisMachine(soname));
  loadInOrder(missing, options.fallbackDirectory);
}
