// The SQLite addon on Windows: where it is unpacked, and that one which is loaded neither goes nor stands in the way.

import "./remove-trees.ts";
import { afterAll, expect, test } from "bun:test";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { addonDirs, openDatabase, unpackBytes } from "../../src/store/sqlite.ts";
import { holdOpen } from "./held-file.ts";

const root = mkdtempSync(join(tmpdir(), "fovea addon "));
const unloaded = join(root, "unloaded");
// What is loaded stays until the process ends.
afterAll(() => rmSync(unloaded, { recursive: true }));

const prebuilt = join(import.meta.dir, "../../node_modules/better-sqlite3/prebuilds/win32-x64.node");
const addon = readFileSync(prebuilt);
/** What stands behind the last section is never loaded. */
const newer = Buffer.concat([addon, Buffer.from("of another version")]);

/** As the appliance does: whether it can be loaded from there. */
function load(path: string): void {
  openDatabase({ path: ":memory:", nativeBinding: path }).close();
}

const namesIn = (dir: string): readonly string[] => readdirSync(dir).toSorted();

test("it is loaded from the data directory, at each start from the same file", () => {
  const dir = join(root, "data", "native");
  const path = unpackBytes({ bytes: addon, dirs: [dir], check: load });
  expect(path).toMatch(/\\data\\native\\better-sqlite3-[0-9a-f]{16}\.node$/);
  expect(unpackBytes({ bytes: addon, dirs: [dir], check: load })).toBe(path);
  expect(namesIn(dir)).toHaveLength(1);
});

test("another version goes beside one that is loaded, and back", () => {
  const dir = join(root, "upgrade", "native");
  const first = unpackBytes({ bytes: addon, dirs: [dir], check: load });
  expect(() => unlinkSync(first)).toThrow();
  const second = unpackBytes({ bytes: newer, dirs: [dir], check: load });
  expect(second).not.toBe(first);
  expect(unpackBytes({ bytes: addon, dirs: [dir], check: load })).toBe(first);
  expect(namesIn(dir)).toHaveLength(2);
});

const notLoaded = { check: () => undefined };

test("one of before that nobody has loaded goes", () => {
  const dirs = [join(unloaded, "old")];
  unpackBytes({ bytes: addon, dirs, ...notLoaded });
  unpackBytes({ bytes: newer, dirs, ...notLoaded });
  expect(namesIn(join(unloaded, "old"))).toHaveLength(1);
});

test("one that is damaged is replaced; where it cannot be, nothing is left of the attempt", () => {
  const dir = join(unloaded, "damaged");
  const path = unpackBytes({ bytes: addon, dirs: [dir], ...notLoaded });
  const again = () => unpackBytes({ bytes: addon, dirs: [dir], ...notLoaded });
  writeFileSync(path, "half");
  {
    using _scanner = holdOpen(path);
    expect(again).toThrow("could not be unpacked");
  }
  expect(namesIn(dir)).toHaveLength(1);
  expect(again()).toBe(path);
  expect(readFileSync(path).equals(addon)).toBe(true);
});

test("a directory that is none is passed over", () => {
  const file = join(unloaded, "file");
  mkdirSync(unloaded, { recursive: true });
  writeFileSync(file, "");
  const path = unpackBytes({
    ...{ bytes: addon, dirs: [join(file, "native"), join(unloaded, "next")], ...notLoaded },
  });
  expect(path).toStartWith(join(unloaded, "next"));
});

test("where the data directory cannot take it, the profile of the user does, never a directory for all", () => {
  const profile = process.env["LOCALAPPDATA"] ?? "";
  expect(profile).not.toBe("");
  expect(addonDirs({ dataDir: "E:\\data" })).toEqual(["E:\\data\\native", join(profile, "Fovea", "native")]);
});
