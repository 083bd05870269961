// The SQLite addon on Windows: where it is unpacked, and that one which is loaded neither goes nor stands in the way.

import "./remove-trees.ts";
import { afterAll, describe, expect, test } from "bun:test";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
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

test("the profile of the user comes first, then the data directory, and never a directory for all", () => {
  const profile = process.env["LOCALAPPDATA"] ?? "";
  expect(profile).not.toBe("");
  expect(addonDirs({ dataDir: "E:\\data", runtimeDir: "E:\\run" })).toEqual([
    join(profile, "Fovea", "native"),
    "E:\\data\\native",
  ]);
});

describe("a guard", () => {
  const refusing = (refused: (path: string) => boolean) => {
    const asked: string[] = [];
    const checkNative = (path: string): void => {
      asked.push(path);
      if (refused(path)) throw new Error("is somebody else's");
    };
    return { asked, guard: { checkNative, enterDataDir: () => undefined } };
  };

  test("that refuses a directory leaves it as it is, and the next one is taken", () => {
    const [open, safe] = [join(unloaded, "open"), join(unloaded, "safe")];
    const { asked, guard } = refusing((path) => path.startsWith(open));
    const path = unpackBytes({ bytes: addon, dirs: [open, safe], guard, ...notLoaded });
    expect(path).toStartWith(safe);
    expect(namesIn(open)).toEqual([]);
    expect(asked.slice(0, 2)).toEqual([open, safe]);
    expect(asked.at(-1)).toBe(path); // The file itself, as it is loaded.
  });

  test("that refuses the file has it replaced, and refused where that does not help", () => {
    const dirs = [join(unloaded, "foreign")];
    const path = unpackBytes({ bytes: addon, dirs, ...notLoaded });
    const before = statSync(path, { bigint: true }).ino;
    let times = 0;
    const once = refusing((asked) => asked === path && times++ === 0);
    expect(unpackBytes({ bytes: addon, dirs, guard: once.guard, ...notLoaded })).toBe(path);
    expect(statSync(path, { bigint: true }).ino).not.toBe(before);
    let loads = 0;
    const always = refusing((asked) => asked === path);
    const check = () => {
      loads++;
    };
    expect(() => unpackBytes({ bytes: addon, dirs, guard: always.guard, check })).toThrow(
      "is somebody else's",
    );
    expect(loads).toBe(0);
  });
});
