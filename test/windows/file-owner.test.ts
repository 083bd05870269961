// Whose a file is: the decision about owners, and what Windows says of files that are there, ours, or missing.

import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  administrator,
  giveToAdministrators,
  ownerOf,
  ownerProblem,
  takeOver,
  trustedOwner,
} from "../../windows/file-owner.ts";
import { checkDirectory, checkTree, makePrivate } from "../../windows/private-directory.ts";
import { WindowsError } from "../../windows/system.ts";

const directory = mkdtempSync(join(tmpdir(), "fovea owner "));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const file = join(directory, "the file.yaml");
writeFileSync(file, "tick: 1s\n");

const user = "S-1-5-21-1004336348-1177238915-682003330-1001";

describe("an owner that a service obeys", () => {
  test.each([
    ["SYSTEM", "S-1-5-18"],
    ["the administrators", "S-1-5-32-544"],
    ["TrustedInstaller", "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"],
  ])("is %s, whoever asks", (_, sid) => {
    expect(trustedOwner(sid, undefined)).toBe(true);
    expect(trustedOwner(sid, user)).toBe(true);
  });

  test("is the administrator who asks, and nobody else", () => {
    expect(trustedOwner(user, user)).toBe(true);
    expect(trustedOwner(user, undefined)).toBe(false);
    expect(trustedOwner(user, "S-1-5-18")).toBe(false);
    expect(trustedOwner(`${user}0`, user)).toBe(false);
  });

  test.each([
    ["Everyone", "S-1-1-0"],
    ["an anonymous one", "S-1-5-7"],
    ["LocalService", "S-1-5-19"],
    ["NetworkService", "S-1-5-20"],
    ["the users", "S-1-5-32-545"],
    ["another service", "S-1-5-80-1-2-3-4-5"],
    ["none", ""],
  ])("is not %s", (_, sid) => {
    expect(trustedOwner(sid, user)).toBe(false);
  });
});

describe("the owner that Windows tells", () => {
  test("is that of our token for what we have made, file or directory", () => {
    const self = administrator();
    expect(self).toMatch(/^S-1-5-21-\d+-\d+-\d+-\d+$/);
    expect([ownerOf(file), ownerOf(directory)]).toEqual([String(self), String(self)]);
    expect(ownerProblem(file, self)).toBeUndefined();
  });

  test("is told with what to do when it is somebody else's, in one line", () => {
    expect(ownerProblem(file, undefined)).toBe(
      `belongs to ${ownerOf(file)}, who is not for the service to obey: remove it, or read it and give it to ` +
        `the administrators by icacls "${file}" /setowner *S-1-5-32-544 and icacls "${file}" /reset`,
    );
  });

  test("of a file that is not there is an error, and no problem", () => {
    for (const missing of [join(directory, "none.yaml"), join(directory, "none", "deep.yaml")]) {
      expect(() => ownerOf(missing)).toThrow(WindowsError);
      expect(() => ownerOf(missing)).toThrow(`the owner of ${missing} cannot be read: `);
      expect(ownerProblem(missing, undefined)).toBeUndefined();
    }
  });
});

test("what is ours is given to the administrators, and can still be read", () => {
  // Whether Windows then names them cannot be seen here: wine knows the user of the machine alone.
  giveToAdministrators(file);
  takeOver(file, administrator());
  expect(readFileSync(file, "utf8")).toBe("tick: 1s\n");
  const missing = join(directory, "none.yaml");
  expect(() => giveToAdministrators(missing)).toThrow(`${missing} cannot be given to the administrators: `);
  expect(() => takeOver(file, undefined)).toThrow(`${file} belongs to `);
});

test("a directory with things of ours in it is taken, and passes the checks", () => {
  const home = join(directory, "home");
  checkTree(home); // Not there yet.
  mkdirSync(join(home, "data"), { recursive: true });
  writeFileSync(join(home, "data", "fovea.db"), "rows");
  checkTree(home);
  makePrivate(home);
  checkDirectory(home);
  expect(readFileSync(join(home, "data", "fovea.db"), "utf8")).toBe("rows");
});
