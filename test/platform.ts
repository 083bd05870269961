// Tests of what not every system has: elsewhere they are none, rather than skipped ones.

import { expect, test } from "bun:test";
import { statSync } from "node:fs";

const isWindows = process.platform === "win32";

/** Of links, pipes, mounts, signals, modes, and of programs such as gzip, which Windows does not have. */
export const unixTest: typeof test = isWindows
  ? Object.assign(() => undefined, test, { each: () => () => undefined })
  : test;

/** Windows has access lists instead, which the directory hands down. */
export function expectMode(path: string, mode: number): void {
  if (!isWindows) expect(statSync(path).mode & 0o777).toBe(mode);
}
