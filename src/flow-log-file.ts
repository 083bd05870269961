// The open file of the flow log: whole lines at its end or none, and what another program does to it is noticed.

import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readSync,
  statSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { hubbleLineBytesMax } from "./hubble.ts";
import { errorCode } from "./store/failure.ts";

export type LineFile = {
  readonly bytes: number;
  /** The age of its first line: epoch milliseconds of its writing or of what it speaks of; undefined while empty. */
  readonly firstAt: number | undefined;
  /** Whether the path still leads here, and how much stands here now: it may have been moved, removed or cut short. */
  stillThere(): boolean;
  /** Writes whole lines. When not all of them could be, says which, and leaves no part of a line behind. */
  append(lines: Uint8Array): Appended;
  close(): void;
};

export type Appended = { readonly bytes: number; readonly error?: unknown };

const lineEnd = 10;
const lineStart = 0x7b; // An opening brace.

// A link at this place would be rotated instead of what it leads to. A pipe without a reader must not stop the caller.
// Windows has neither flag: there a link is looked for before.
const flags =
  constants.O_RDWR |
  constants.O_CREAT |
  constants.O_APPEND |
  (constants.O_NOFOLLOW ?? 0) |
  (constants.O_NONBLOCK ?? 0);

/** Opens the file, or makes it and its directory, and goes on behind its last whole line. Throws when it cannot. */
export function openLineFile({ path, now }: { readonly path: string; readonly now: () => number }): LineFile {
  mkdirSync(dirname(path), { recursive: true, mode: 0o750 });
  const descriptor = openPath(path);
  try {
    return lineFile({ path, descriptor, now });
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

function openPath(path: string): number {
  const link = `${path} is a link: name what it leads to as the flow log`;
  if (process.platform === "win32" && lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink())
    throw new Error(link);
  try {
    return openSync(path, flags, 0o640);
  } catch (error) {
    if (errorCode(error) !== "ELOOP") throw error;
    throw new Error(link, { cause: error });
  }
}

type Identity = { readonly ino: bigint; readonly dev: bigint };

/** How much stands in the file at the path, if it is that one still. */
function bytesAt(path: string, { ino, dev }: Identity): number | undefined {
  try {
    const found = statSync(path, { bigint: true, throwIfNoEntry: false });
    return found?.ino === ino && found.dev === dev ? Number(found.size) : undefined;
  } catch (error) {
    if (process.platform !== "win32") throw error;
    return undefined; // One that was removed keeps its name, and opens for nobody, until it is closed here.
  }
}

function lineFile(options: {
  readonly path: string;
  readonly descriptor: number;
  readonly now: () => number;
}): LineFile {
  const { path, descriptor, now } = options;
  const opened = fstatSync(descriptor);
  if (!opened.isFile()) throw new Error(`${path} is no regular file: name another one as the flow log`);
  const identity = fstatSync(descriptor, { bigint: true }); // Of NTFS, a number would not be exact.
  let bytes = opened.size;
  let firstAt = bytes === 0 ? undefined : (timeOfFirstLine(descriptor) ?? opened.mtimeMs);
  // After a kill in the middle of a write the last line has no end.
  let torn = bytes > 0 && !endsWithLine(descriptor, bytes);

  const mend = (): void => {
    if (!torn) return;
    bytes = mendEnd(descriptor, path);
    torn = false;
  };

  const mendNow = (): void => {
    try {
      mend();
    } catch {
      // A full disk lets a file be shortened. Where it cannot be, the next write tries before it writes.
    }
  };

  return {
    get bytes() {
      return bytes;
    },
    get firstAt() {
      return firstAt;
    },
    stillThere() {
      const found = bytesAt(path, identity);
      if (found === undefined) return false;
      bytes = found;
      if (bytes === 0) firstAt = undefined;
      return true;
    },
    append(lines) {
      let written = 0;
      try {
        mend();
        while (written < lines.length) written += writeSync(descriptor, lines, written);
        bytes += written;
        firstAt ??= now();
        return { bytes: written };
      } catch (error) {
        const whole = written === 0 ? 0 : lines.lastIndexOf(lineEnd, written - 1) + 1;
        bytes += whole;
        if (whole > 0) firstAt ??= now();
        torn ||= written > whole;
        mendNow();
        return { bytes: whole, error };
      }
    },
    close: () => closeSync(descriptor),
  };
}

/** Lines are shorter than this, so the last end of a line lies in so many bytes, unless another program wrote here. */
const reachBytes = hubbleLineBytesMax + 1;

function readAt(descriptor: number, from: number, bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  return buffer.subarray(0, readSync(descriptor, buffer, 0, bytes, from));
}

const endsWithLine = (descriptor: number, size: number): boolean =>
  readAt(descriptor, size - 1, 1)[0] === lineEnd;

/** Cuts off the part of a line of ours at the end; ends a line that is none of ours. Returns the new size. */
function mendEnd(descriptor: number, path: string): number {
  const { size } = fstatSync(descriptor);
  const from = Math.max(0, size - reachBytes);
  const tail = readAt(descriptor, from, size - from);
  const end = tail.lastIndexOf(lineEnd) + 1;
  if (tail[end] === lineStart && (end > 0 || from === 0)) {
    cutTo(descriptor, path, from + end);
    return from + end;
  }
  writeSync(descriptor, "\n");
  return size + 1;
}

function cutTo(descriptor: number, path: string, bytes: number): void {
  if (process.platform !== "win32") {
    ftruncateSync(descriptor, bytes);
    return;
  }
  // There, whoever may only append may not shorten.
  const other = openSync(path, "r+");
  try {
    const [own, found] = [descriptor, other].map((file) => fstatSync(file, { bigint: true }).ino);
    if (own !== found) throw new Error(`${path} is another file than before`);
    ftruncateSync(other, bytes);
  } finally {
    closeSync(other);
  }
}

/** What the first line says of itself, epoch milliseconds; undefined when it is none of ours. */
function timeOfFirstLine(descriptor: number): number | undefined {
  const start = readAt(descriptor, 0, reachBytes);
  const end = start.indexOf(lineEnd);
  try {
    const { time } = JSON.parse(start.toString("utf8", 0, end === -1 ? start.length : end)) as {
      time: string;
    };
    const at = Date.parse(time);
    return Number.isNaN(at) ? undefined : at;
  } catch {
    return undefined;
  }
}
