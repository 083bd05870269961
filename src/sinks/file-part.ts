// A file that grows by whole parcels, and gets its name and its checksum once it is complete.

import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, lstat, open, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { damagedOf, type NamedFile, partOf, sumOf } from "./file-names.ts";
import { gzipMember, readAt, wholeMembers } from "./gzip-members.ts";
import { endOfMetrics } from "./prometheus-text.ts";

export type GrowingFile = {
  readonly bytes: number;
  /** Whether the path still leads here: a disk may have been taken away, and another put in its place. */
  isThere(): Promise<boolean>;
  /**
   * True when the bytes are on the disk; false, and nothing of them is there, when `wanted` says at the end that nobody
   * waits for them any more. Throws when they cannot be written: AbandonedError when something of them may be left.
   */
  append(bytes: Uint8Array, wanted: () => boolean): Promise<boolean>;
  /** Ends the file. When this throws, only `abandon` may follow. */
  complete(): Promise<void>;
  /** Leaves it as it is, to be completed as a leftover. */
  abandon(): Promise<void>;
};

/** Its end is not known to be whole: it is to be left for `completeLeftover`. */
export class AbandonedError extends Error {}

/** For its owner alone: who talked to whom is nobody else's business. */
const mode = 0o600;

// A link in this place could lead to any file. Windows has no such flag: there it is looked for before.
const noLink = constants.O_NOFOLLOW ?? 0;
const newFile = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | noLink;

async function writeAll(file: FileHandle, bytes: Uint8Array, from: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, from + done);
    done += bytesWritten;
  }
}

/** A name is on the disk once its directory is. Windows has no way to ask for that. */
async function syncDirectory(directory: string): Promise<void> {
  if (process.platform === "win32") return;
  await using file = await open(directory, constants.O_RDONLY);
  await file.sync();
}

/** In the form of sha256sum, which `sha256sum -c` reads. Before the file has its name, so that none is without. */
async function publish(directory: string, name: string, sha256: string): Promise<void> {
  const path = join(directory, sumOf(name));
  await rm(path, { force: true }); // Of an attempt that a full disk or a crash ended.
  {
    await using file = await open(path, newFile, mode);
    await writeAll(file, Buffer.from(`${sha256}  ${name}\n`), 0);
    await file.sync();
  }
  await rename(join(directory, partOf(name)), join(directory, name));
  await syncDirectory(directory);
}

/** What stands at the end of a complete file. */
function endingOf({ signal, packed }: Pick<NamedFile, "signal" | "packed">): Uint8Array {
  if (signal === "flows") return new Uint8Array();
  return packed ? gzipMember(Buffer.from(endOfMetrics)) : Buffer.from(endOfMetrics);
}

export async function beginFile(
  directory: string,
  named: Pick<NamedFile, "name" | "signal" | "packed">,
): Promise<GrowingFile> {
  const path = join(directory, partOf(named.name));
  const file = await open(path, newFile, mode);
  const hash = createHash("sha256");
  let bytes = 0;
  let closed = false;
  const close = async (): Promise<void> => {
    if (closed) return;
    closed = true;
    await file.close();
  };
  const put = async (more: Uint8Array): Promise<void> => {
    await writeAll(file, more, bytes);
    await file.sync();
    if (bytes === 0) await syncDirectory(directory);
  };
  const cutBack = async (cause: unknown): Promise<void> => {
    try {
      await file.truncate(bytes);
    } catch (error) {
      throw new AbandonedError(`Could not cut off what was half written to ${path}`, {
        cause: cause ?? error,
      });
    }
  };
  return {
    get bytes() {
      return bytes;
    },
    async isThere() {
      try {
        // Of NTFS, a number would not be exact.
        const [own, found] = [await file.stat({ bigint: true }), await stat(path, { bigint: true })];
        return found.ino === own.ino && found.dev === own.dev;
      } catch {
        return false; // Whatever the reason, it is not to be reached; the next file that is begun tells it.
      }
    },
    async append(more, wanted) {
      try {
        await put(more);
      } catch (error) {
        await cutBack(error);
        throw error;
      }
      if (!wanted()) {
        await cutBack(undefined);
        return false;
      }
      bytes += more.length;
      hash.update(more);
      return true;
    },
    async complete() {
      const ending = endingOf(named);
      await put(ending);
      await close(); // Windows renames no open file.
      await publish(directory, named.name, hash.update(ending).digest("hex"));
    },
    abandon: close,
  };
}

const tailBytes = 64 * 1024;

/** Where the last whole line ends. */
async function wholeLines(file: FileHandle, size: number): Promise<number> {
  for (let to = size; to > 0; to -= tailBytes) {
    const from = Math.max(0, to - tailBytes);
    const end = (await readAt(file, from, to)).lastIndexOf("\n");
    if (end !== -1) return from + end + 1;
  }
  return 0;
}

type Whole = { readonly bytes: number; readonly ended: boolean };

async function wholeOf(file: FileHandle, { signal, packed }: NamedFile, size: number): Promise<Whole> {
  if (packed) {
    const { bytes, last } = await wholeMembers(file, size);
    return { bytes, ended: signal === "flows" || last.equals(Buffer.from(endOfMetrics)) };
  }
  const bytes = await wholeLines(file, size);
  const last = await readAt(file, Math.max(0, bytes - endOfMetrics.length), bytes);
  return { bytes, ended: signal === "flows" || last.equals(Buffer.from(endOfMetrics)) };
}

async function sha256Of(file: FileHandle, size: number): Promise<string> {
  const hash = createHash("sha256");
  const pieceBytes = 2 ** 20;
  for (let at = 0; at < size; at += pieceBytes)
    hash.update(await readAt(file, at, Math.min(size, at + pieceBytes)));
  return hash.digest("hex");
}

/** Cuts the file off at its last whole parcel, and ends it. Returns its SHA-256; undefined when nothing is whole. */
async function mend(path: string, named: NamedFile): Promise<string | undefined> {
  if (process.platform === "win32" && (await lstat(path)).isSymbolicLink())
    throw new Error(`${path} is a link`);
  await using file = await open(path, constants.O_RDWR | noLink | (constants.O_NONBLOCK ?? 0));
  const found = await file.stat();
  if (!found.isFile()) throw new Error(`${path} is no regular file`);
  const { bytes, ended } = await wholeOf(file, named, found.size);
  if (bytes === 0) return undefined;
  if (bytes < found.size) await file.truncate(bytes);
  const ending = ended ? new Uint8Array() : endingOf(named);
  await writeAll(file, ending, bytes);
  await file.sync();
  return await sha256Of(file, bytes + ending.length);
}

/**
 * Completes what a crash, or a disk that was taken away, left. What was half written at its end is cut off: nobody was
 * told that it is stored. Returns whether there was anything whole in it.
 */
export async function completeLeftover(directory: string, named: NamedFile): Promise<boolean> {
  const path = join(directory, partOf(named.name));
  const sha256 = await mend(path, named);
  if (sha256 === undefined) await rm(path);
  else await publish(directory, named.name, sha256);
  return sha256 !== undefined;
}

/** Puts a leftover that cannot be completed out of the way, for somebody to look at. */
export const setAside = (directory: string, { name }: Pick<NamedFile, "name">): Promise<void> =>
  rename(join(directory, partOf(name)), join(directory, damagedOf(name)));
