// To be imported by tests that remove directories: what Bun does it by on Windows, wine does not have.

import { mock } from "bun:test";
import * as fs from "node:fs";

const { lstatSync, readdirSync, rmdirSync, rmSync, unlinkSync } = fs;

function removeTree(path: string): void {
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    const inner = `${path}\\${entry.name}`;
    if (entry.isDirectory()) removeTree(inner);
    else unlinkSync(inner);
  }
  rmdirSync(path);
}

function remove(path: string, options: fs.RmOptions = {}): void {
  const isTree = options.recursive === true && lstatSync(path, { throwIfNoEntry: false })?.isDirectory();
  if (isTree === true) removeTree(path);
  else rmSync(path, { force: options.force ?? false });
}

// Those that have imported it already get the new one too.
await mock.module("node:fs", () => ({ ...fs, default: { ...fs, rmSync: remove }, rmSync: remove }));
