// Who else may write: access lists as Windows has them, read from their bytes, and what is asked of a path and all above it.

import { toArrayBuffer } from "bun:ffi";
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  accessList,
  allowedIn,
  directoryRights,
  fileRights,
  passedRights,
  pathsTo,
  strangersAt,
} from "../../windows/file-access.ts";
import { administrator } from "../../windows/file-owner.ts";
import { guardFor } from "../../windows/guard.ts";
import { closeDataDir, isWithin } from "../../windows/private-directory.ts";
import { addressCell, addressIn, openLibrary, utf16, WindowsError } from "../../windows/system.ts";

const root = mkdtempSync(join(tmpdir(), "fovea access "));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const advapi = openLibrary("advapi32.dll", {
  ConvertStringSecurityDescriptorToSecurityDescriptorW: {
    args: ["ptr", "u32", "ptr", "ptr"],
    returns: "i32",
  },
  GetSecurityDescriptorDacl: { args: ["ptr", "ptr", "ptr", "ptr"], returns: "i32" },
  SetNamedSecurityInfoW: { args: ["ptr", "u32", "u32", "ptr", "ptr", "ptr", "ptr"], returns: "u32" },
}).symbols;

/** The access list that Windows makes of its text. */
function listAt(text: string) {
  const descriptor = addressCell();
  const made = advapi.ConvertStringSecurityDescriptorToSecurityDescriptorW(utf16(text), 1, descriptor, null);
  const list = addressCell();
  const flags = new Uint32Array(1);
  advapi.GetSecurityDescriptorDacl(addressIn(descriptor) ?? null, flags, list, flags);
  const at = addressIn(list);
  if (made === 0 || at === undefined) throw new Error(`${text} is no list`);
  return at;
}

function aclOf(text: string): Buffer {
  const at = listAt(text);
  const bytes = new DataView(toArrayBuffer(at, 0, 8)).getUint16(2, true);
  return Buffer.from(toArrayBuffer(at, 0, bytes).slice(0));
}

const users = "S-1-5-32-545";
const authenticated = "S-1-5-11";
const system = "S-1-5-18";
const administrators = "S-1-5-32-544";
const closed = "(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)";

describe("an access list", () => {
  // As Windows Server 2022 has them after its installation.
  const drive = `D:PAI(A;;LC;;;AU)(A;OICIIO;SDGXGWGR;;;AU)${closed}(A;OICI;0x1200a9;;;BU)`;
  const programFiles = `D:PAI(A;OICIIO;GA;;;CO)${closed}(A;OICI;0x1200a9;;;BU)(A;OICIIO;GXGR;;;BU)`;
  const programData = `D:PAI(A;OICIIO;GA;;;CO)${closed}(A;CI;DCLCRPCR;;;BU)(A;OICI;0x1200a9;;;BU)`;

  test.each([
    ["lets nobody replace what is at the top of a drive", drive, passedRights, []],
    ["nor the program files", programFiles, directoryRights, []],
    ["nor what is in ProgramData", programData, passedRights, []],
    ["but lets users put files there", programData, directoryRights, [users]],
    [
      "of a directory at the top of a drive lets users change it",
      "D:(A;OICI;0x1301bf;;;AU)",
      passedRights,
      [authenticated],
    ],
    ["that gives all to everyone", "D:(A;;FA;;;WD)", fileRights, ["S-1-1-0"]],
    ["that lets them read", "D:(A;;FR;;;WD)(A;;FX;;;BU)", fileRights, []],
    ["that hands down only", "D:(A;OICIIO;FA;;;WD)", directoryRights, []],
    ["that denies", `D:(D;;FA;;;BU)${closed}`, fileRights, []],
    ["that gives a right of its own: to write", "D:(A;;0x2;;;BU)", fileRights, [users]],
    ["to append", "D:(A;;0x4;;;BU)", fileRights, [users]],
    ["to delete", "D:(A;;SD;;;BU)", fileRights, [users]],
    ["to change the list", "D:(A;;WD;;;BU)", fileRights, [users]],
    ["to become the owner", "D:(A;;WO;;;BU)", fileRights, [users]],
    ["to delete what is in it", "D:(A;;0x40;;;BU)", passedRights, [users]],
    ["each but once", "D:(A;;FA;;;BU)(A;CI;FA;;;BU)(A;;FA;;;AU)", fileRights, [users, authenticated]],
    ["that is empty", "D:", fileRights, []],
  ])("%s", (_, text, rights, expected) => {
    const trusted = [system, administrators];
    expect(allowedIn(aclOf(text), rights).filter((sid) => !trusted.includes(sid))).toEqual([...expected]);
  });

  test("with an entry of a kind that says more names the kind", () => {
    const acl = aclOf("D:(A;;FA;;;BU)");
    acl.writeUInt8(5, 8); // For objects of a directory service.
    expect(allowedIn(acl, fileRights)).toEqual(["an entry of type 5"]);
  });
});

describe("a path", () => {
  const self = administrator();
  const setList = (path: string, text: string): void => {
    const DACL = 4;
    expect(advapi.SetNamedSecurityInfoW(utf16(path), 1, DACL, null, null, listAt(text), null)).toBe(0);
  };

  test("has strangers where everyone may write, and none where we are alone", () => {
    const file = join(root, "a file");
    writeFileSync(file, "");
    expect(strangersAt(file, fileRights, self)).toEqual([]);
    setList(file, `D:${closed}(A;;FA;;;WD)`);
    expect(strangersAt(file, fileRights, self)).toEqual(["S-1-1-0"]);
    setList(file, `D:${closed}(A;;FR;;;WD)`);
    expect(strangersAt(file, fileRights, self)).toEqual([]);
  });

  test("that is not there is an error", () => {
    expect(() => accessList(join(root, "none"))).toThrow(WindowsError);
  });

  test("is all that leads to it", () => {
    expect(pathsTo("C:\\a b\\c.exe")).toEqual(["C:\\a b\\c.exe", "C:\\a b", "C:\\"]);
    expect(isWithin("C:\\a", "C:\\a\\b")).toBe(true);
    expect(isWithin("C:\\a", "C:\\a")).toBe(true);
    for (const path of ["C:\\ab", "C:\\", "D:\\a\\b", "\\\\server\\a"])
      expect({ path, within: isWithin("C:\\a", path) }).toEqual({ path, within: false });
  });

  test("is no place for native code where somebody else may write, for a process that may do all", () => {
    const directory = join(process.env["LOCALAPPDATA"] ?? "", "FoveaTest");
    mkdirSync(directory, { recursive: true });
    try {
      guardFor(self).checkNative(directory);
      setList(directory, `D:${closed}(A;;FA;;;WD)`);
      expect(() => guardFor(self).checkNative(directory)).toThrow(
        `${directory} may be changed by Everyone (S-1-1-0)`,
      );
      expect(() => guardFor("S-1-5-18").checkNative(directory)).toThrow(`${directory} belongs to ${self}`);
      guardFor(undefined).checkNative(directory); // To an ordinary user it is his own matter.
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

describe("the directory of a store", () => {
  test("is made, or taken where it is a store's alone, and what else is in one is left open", () => {
    const made = join(root, "made", "data");
    closeDataDir(made);
    writeFileSync(join(made, "fovea.db"), "rows");
    closeDataDir(made);
    expect(readdirSync(made)).toEqual(["fovea.db"]);
    const shared = join(root, "shared");
    mkdirSync(shared);
    writeFileSync(join(shared, "letter.txt"), "");
    expect(() => closeDataDir(shared)).toThrow(
      `${shared} cannot be closed to other users: it is not the store's`,
    );
    expect(() => closeDataDir("C:\\")).toThrow("C:\\ cannot be closed to other users: it is not the store's");
  });

  test("is closed by the system alone, and refused where it is somebody else's", () => {
    const directory = join(root, "of the system");
    guardFor(administrator()).enterDataDir(directory);
    guardFor(undefined).enterDataDir(directory);
    expect(existsSync(directory)).toBe(false);
    // The system is nobody else, and in wine nobody is the system.
    expect(() => guardFor("S-1-5-18").enterDataDir(directory)).not.toThrow();
    expect(existsSync(directory)).toBe(true);
  });
});
