// What keeps other users away from a process that may do everything: its native code, and the directory of its store.

import { lstatSync } from "node:fs";
import { dirname } from "node:path";
import type { Guard } from "../src/guard.ts";
import { places } from "../src/places.ts";
import { pathProblem } from "./file-access.ts";
import { administrator, isSystem } from "./file-owner.ts";
import { checkTree, closeDataDir, isClosed, isWithin } from "./private-directory.ts";

const home = dirname(places.configFile);

/** `self` is administrator(): to a process without such rights its own files are nobody else's business. */
export const guardFor = (self: string | undefined): Guard => ({
  checkNative: (path) => {
    if (self === undefined) return;
    const found = pathProblem(path, { self, directory: lstatSync(path).isDirectory() });
    if (found !== undefined) throw new Error(`${found.path} ${found.problem}`);
  },
  // An administrator who tries it out keeps a directory that he can look into.
  enterDataDir: (directory) => {
    if (!isSystem(self)) return;
    // Below a home that is closed it is as whoever closed that wants it.
    if (isWithin(home, directory) && isClosed(home)) checkTree(directory);
    else closeDataDir(directory);
  },
});

/** Asks Windows for the rights of this process when they first matter. */
export function openGuard(): Guard {
  let guard: Guard | undefined;
  const asked = (): Guard => {
    guard ??= guardFor(administrator());
    return guard;
  };
  return {
    checkNative: (path) => asked().checkNative(path),
    enterDataDir: (directory) => asked().enterDataDir(directory),
  };
}
