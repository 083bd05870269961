// Small text files that the configuration is made of: read with a bound, and told from their later versions.

import { readFileSync, statSync } from "node:fs";

const bytesMax = 2 ** 20;

export function readText(file: string): string {
  const { size } = statSync(file);
  if (size > bytesMax) throw new Error(`has ${size} bytes, more than ${bytesMax}`);
  return decodeText(readFileSync(file));
}

/**
 * UTF-8, or UTF-16 with the mark that PowerShell 5 writes for each `>`: where that mark stands, no UTF-8 does. A mark
 * of UTF-8 stays: whoever reads the text passes over it.
 */
export const decodeText = (bytes: Buffer): string =>
  bytes[0] === 0xff && bytes[1] === 0xfe ? bytes.toString("utf16le", 2) : bytes.toString("utf8");

const codeOf = (error: unknown): unknown =>
  error instanceof Error && "code" in error ? error.code : undefined;

const isAbsence = (error: unknown): boolean => ["ENOENT", "ENOTDIR"].includes(String(codeOf(error)));

/** Undefined where there is no such file. */
export function readTextIfThere(file: string): string | undefined {
  try {
    return readText(file);
  } catch (error) {
    if (isAbsence(error)) return undefined;
    throw error;
  }
}

/**
 * Another text whenever the file is another. A configuration map of Kubernetes changes by a symbolic link above the
 * file: then the inode is another.
 */
export function versionOf(file: string): string {
  try {
    const { ino, mtimeMs, ctimeMs, size } = statSync(file);
    return `${ino} ${mtimeMs} ${ctimeMs} ${size}`;
  } catch (error) {
    return isAbsence(error) ? "absent" : `unreadable: ${codeOf(error)}`; // Reading it tells why.
  }
}
