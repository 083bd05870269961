// The file that an export is written to: beside its name until it is whole, so that nothing half is ever found there.

import { createHash } from "node:crypto";
import {
  closeSync,
  createReadStream,
  existsSync,
  fsyncSync,
  openSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { errorCode } from "../store/failure.ts";
import { sidecarOf } from "./manifest.ts";

export type PartFile = Disposable & {
  /** Where to write; an empty file. */
  readonly path: string;
  /** Gives the file its name, and its sidecar beside it. */
  publish(options: {
    /** The text of the sidecar. */
    readonly sidecar: (sha256: string) => string;
    readonly signal: AbortSignal;
  }): Promise<{ readonly bytes: number; readonly sha256: string }>;
};

/** SHA-256 in hexadecimal digits, and the size. */
export async function digestOf(
  path: string,
  signal: AbortSignal,
): Promise<{ readonly sha256: string; readonly bytes: number }> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const piece of createReadStream(path, { highWaterMark: 1024 * 1024, signal })) {
    hash.update(piece as Buffer);
    bytes += (piece as Buffer).length;
  }
  return { sha256: hash.digest("hex"), bytes };
}

/** Writes all of it: a single call may write less. */
export function writeAll(file: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
}

function checkAbsent(paths: readonly string[]): void {
  const there = paths.find((path) => existsSync(path));
  if (there !== undefined) throw new Error(`${there} is there already: name another file, or --force`);
}

// For its owner alone: who talked to whom is nobody else's business.
const mode = 0o600;

function create(path: string): void {
  try {
    closeSync(openSync(path, "wx", mode));
  } catch (error) {
    if (errorCode(error) !== "EEXIST") throw error;
    throw new Error(
      `${path} is there: another export writes it, or one was killed; remove it, or write over it with --force`,
      { cause: error },
    );
  }
}

function sync(path: string): void {
  const file = openSync(path, "r+");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function writeNew(path: string, text: string): void {
  const file = openSync(path, "wx", mode);
  try {
    writeAll(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Disposing removes what was not published. */
export function openPartFile({ file, force }: { readonly file: string; readonly force: boolean }): PartFile {
  const sidecar = sidecarOf(file);
  const [part, sidecarPart] = [`${file}.part`, `${sidecar}.part`];
  const remove = (...paths: readonly string[]): void => {
    for (const path of paths) rmSync(path, { force: true });
  };
  if (force) remove(part);
  else checkAbsent([file, sidecar]);
  create(part);
  remove(sidecarPart);
  return {
    path: part,
    publish: async ({ sidecar: textOf, signal }) => {
      sync(part);
      const { sha256, bytes } = await digestOf(part, signal);
      writeNew(sidecarPart, textOf(sha256));
      if (!force) checkAbsent([file, sidecar]);
      // A crash between these leaves no file beside the sidecar of another.
      remove(sidecar);
      renameSync(part, file);
      renameSync(sidecarPart, sidecar);
      return { sha256, bytes };
    },
    [Symbol.dispose]: () => remove(part, sidecarPart),
  };
}
