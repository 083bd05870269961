// SQLite for verbs that look at files: the addon, from wherever it can be loaded.

import { statSync } from "node:fs";
import { join } from "node:path";
import { addonDirs, unpackAddon } from "../store/sqlite.ts";
import type { World } from "./world.ts";

/** A directory that is there and belongs to whoever types the command. */
function isOurs(dir: string): boolean {
  try {
    const { uid } = statSync(dir);
    return process.getuid === undefined || uid === process.getuid();
  } catch {
    return false; // Whoever wants to use it meets the same and tells of it.
  }
}

/**
 * The path of the addon, undefined from source. A data directory does not come into being for it, and in that of
 * another user nothing is made that he could not use.
 */
export async function loadAddon(world: World, dataDir: string): Promise<string | undefined> {
  const inDataDir = join(dataDir, "native");
  const dirs = addonDirs({ dataDir }).filter((dir) => dir !== inDataDir || isOurs(dataDir));
  const [directory] = dirs;
  if (directory !== undefined) await world.loadAddonLibraries(directory);
  return await unpackAddon({ dirs, guard: world.guard });
}
