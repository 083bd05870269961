// Small text files: what they are written in, and when they are others.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadConfig } from "../src/config.ts";
import { readText, versionOf } from "../src/text-file.ts";

const dir = mkdtempSync(join(tmpdir(), "fovea-text-file-"));
afterAll(() => rmSync(dir, { recursive: true }));
const file = join(dir, "text");

const yaml = "cluster: Gruppe Süd\r\nnode: 機\r\ndataDir: C:\\ProgramData\\Fovea\\data\r\n";

test.each([
  ["UTF-8", Buffer.from(yaml)],
  ["UTF-8 with its mark", Buffer.from(`\ufeff${yaml}`)],
  ["UTF-16, as PowerShell writes it", Buffer.from(`\ufeff${yaml}`, "utf16le")],
])("a configuration in %s, with line ends of Windows, is read", (_, bytes) => {
  writeFileSync(file, bytes);
  expect(loadConfig({ file, env: {} })).toMatchObject({
    cluster: "Gruppe Süd",
    node: "機",
    dataDir: "C:\\ProgramData\\Fovea\\data",
  });
});

test("what is neither is read as UTF-8, and none of it is lost", () => {
  writeFileSync(file, "");
  expect(readText(file)).toBe("");
  writeFileSync(file, Buffer.from([0xff]));
  expect(readText(file)).toBe("\ufffd");
  writeFileSync(file, Buffer.from([0xfe, 0xff, 0x00, 0x61]));
  expect(readText(file)).toBe("\ufffd\ufffd\0a");
});

test("another text is another version, and so is none", () => {
  writeFileSync(file, "one");
  const version = versionOf(file);
  expect(versionOf(file)).toBe(version);
  writeFileSync(file, "three");
  expect(versionOf(file)).not.toBe(version);
  rmSync(file);
  expect(versionOf(file)).toBe("absent");
});
