// Files of stand-ins change although somebody reads them just then.

import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, renameSync, rmdirSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { holdOpen } from "./held-file.ts";
import { whenFree } from "./when-free.ts";

test("a change waits until nobody has the file open", () => {
  const directory = mkdtempSync(join(tmpdir(), "fovea-free-"));
  const file = join(directory, "settings");
  const changes = [() => renameSync(`${file}.part`, file), () => unlinkSync(file)];
  for (const change of changes) {
    writeFileSync(file, "before");
    writeFileSync(`${file}.part`, "after");
    const reader = holdOpen(file);
    let tries = 0;
    whenFree(() => {
      tries += 1;
      if (tries === 3) reader[Symbol.dispose]();
      change();
      if (change === changes[0]) expect(readFileSync(file, "utf8")).toBe("after");
    });
    expect(tries).toBe(3);
  }
  unlinkSync(`${file}.part`);
  rmdirSync(directory);
});

test("another failure is no reason to wait", () => {
  let tries = 0;
  const change = (): void => {
    tries += 1;
    unlinkSync("C:\\no-such-file-of-fovea");
  };
  expect(() => whenFree(change)).toThrow("ENOENT");
  expect(tries).toBe(1);
});
