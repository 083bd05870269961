// The base of all native calls on Windows: the system directory, libraries that lack something, text, errors.

import { dlopen } from "bun:ffi";
import { describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  addressCell,
  addressIn,
  LibraryError,
  messageOf,
  openLibrary,
  openOptional,
  type Pointer,
  readUtf16,
  systemDirectory,
  systemPath,
  takeUtf16,
  utf16,
  WindowsError,
  win32CodeOf,
} from "../../windows/system.ts";

test("this is Windows, and its files behave", () => {
  expect(process.platform).toBe("win32");
  const directory = mkdtempSync(join(tmpdir(), "fovea-smoke-"));
  try {
    expect(directory).toMatch(/^C:\\/);
    writeFileSync(join(directory, "a.txt"), "grüße");
    expect(readFileSync(join(directory, "a.txt"), "utf8")).toBe("grüße");
  } finally {
    rmSync(directory, { recursive: true });
  }
});

describe("the system directory", () => {
  test("is absolute, and has the library that told it", () => {
    expect(systemDirectory().toLowerCase()).toBe("c:\\windows\\system32");
    expect(existsSync(systemPath("kernel32.dll"))).toBe(true);
  });

  test("no name leads out of it", () => {
    for (const name of ["..\\evil.dll", "sub\\x.dll", "sub/x.dll", "C:\\x.dll", "C:x.dll", "x dll", ""])
      expect(() => systemPath(name)).toThrow(LibraryError);
  });

  test("an environment that says otherwise is not believed", () => {
    const module = JSON.stringify(join(import.meta.dir, "../../windows/system.ts"));
    // Set inside: a process is given the right one, whatever the one that starts it has.
    const script = (root: string): string => `
      process.env.SystemRoot = ${JSON.stringify(root)};
      const { systemDirectory } = await import(${module});
      try { console.log(systemDirectory()); } catch (error) { console.log(error.constructor.name, error.message); }`;
    const told = (root: string): string =>
      Bun.spawnSync([process.execPath, "-e", script(root)])
        .stdout.toString()
        .trim();
    expect(told("windows")).toBe("LibraryError SystemRoot is windows, which is no absolute path");
    expect(told("\\\\?\\C:\\Windows")).toStartWith("LibraryError SystemRoot is \\\\?");
    expect(told("C:\\Windows\\System32\\..")).toMatch(/^LibraryError .* but the system directory is C:/i);
    expect(told("C:\\Windows").toLowerCase()).toBe("c:\\windows\\system32");
  });
});

describe("libraries", () => {
  test("one that is not there says its path and the number of the error", () => {
    const open = () => openLibrary("no-such-library.dll", { Any: { args: [], returns: "i32" } });
    expect(open).toThrow(LibraryError);
    expect(open).toThrow(/System32\\no-such-library\.dll cannot be used: .*126/i);
    expect(openOptional("no-such-library.dll", { Any: { args: [], returns: "i32" } })).toBeUndefined();
  });

  test("one without the export says its name", () => {
    const open = () => openLibrary("kernel32.dll", { NoSuchExport: { args: [], returns: "i32" } });
    expect(open).toThrow(LibraryError);
    expect(open).toThrow(/kernel32\.dll cannot be used: .*NoSuchExport/);
    expect(openOptional("kernel32.dll", { NoSuchExport: { args: [], returns: "i32" } })).toBeUndefined();
  });

  test("one with the export answers", () => {
    const { symbols } = openLibrary("kernel32.dll", { GetCurrentProcessId: { args: [], returns: "u32" } });
    expect(symbols.GetCurrentProcessId()).toBe(process.pid);
  });
});

describe("text", () => {
  const texts = ["plain", "Grüße", "端点 中文", "𝄞 above 16 bits", "x".repeat(100_000)];
  const { symbols: shell } = openLibrary("shlwapi.dll", {
    SHStrDupW: { args: ["ptr", "ptr"], returns: "i32" }, // By CoTaskMemAlloc.
  });

  test("a string of the callee is copied, freed, and the cell is empty", () => {
    for (const text of texts) {
      const cell = addressCell();
      expect(shell.SHStrDupW(utf16(text), cell)).toBe(0);
      expect(addressIn(cell)).toBeGreaterThan(0);
      expect(takeUtf16(cell)).toBe(text);
      expect(addressIn(cell)).toBeUndefined();
    }
  });

  test("an empty one is empty, none is undefined", () => {
    const cell = addressCell();
    expect(shell.SHStrDupW(utf16(""), cell)).toBe(0);
    expect(takeUtf16(cell)).toBe("");
    expect(takeUtf16(cell)).toBeUndefined();
  });

  test("a string of somebody else's is copied and stays", () => {
    const { symbols } = dlopen("C:\\Windows\\System32\\kernel32.dll", {
      GetCommandLineW: { args: [], returns: "ptr" },
    });
    const address = symbols.GetCommandLineW() as Pointer;
    expect(readUtf16(address)).toContain("bun.exe");
    expect(readUtf16(address)).toBe(readUtf16(address));
  });

  test("nothing leaks", () => {
    const text = utf16("x".repeat(50_000));
    const cell = addressCell();
    const round = (): void => {
      expect(shell.SHStrDupW(text, cell)).toBe(0);
      takeUtf16(cell);
    };
    for (let count = 0; count < 500; count++) round();
    Bun.gc(true);
    const before = process.memoryUsage().rss;
    for (let count = 0; count < 2000; count++) round(); // 200 MB, if none were freed.
    Bun.gc(true);
    expect(process.memoryUsage().rss - before).toBeLessThan(60e6);
  });
});

describe("errors", () => {
  const ACCESS_DENIED = 5;
  const E_ACCESSDENIED = 0x8007_0005 | 0;

  test("have a text and their number, as Win32's or as an HRESULT", () => {
    expect(messageOf(ACCESS_DENIED)).toMatch(/^\S.* \(error 5\)$/);
    expect(messageOf(E_ACCESSDENIED)).toMatch(/^\S.* \(0x80070005\)$/);
    expect(messageOf(E_ACCESSDENIED).split(" (")[0]).toBe(messageOf(ACCESS_DENIED).split(" (")[0] ?? "");
    expect(messageOf(0x8765_4321 | 0)).toBe("0x87654321");
  });

  test("an HRESULT that carries a number of Win32 gives it back", () => {
    expect(win32CodeOf(E_ACCESSDENIED)).toBe(ACCESS_DENIED);
    expect(win32CodeOf(0x8000_4005 | 0)).toBe(0x8000_4005 | 0);
  });

  test("a failed result says what was tried", () => {
    const { code, message } = new WindowsError("HNSCall", E_ACCESSDENIED);
    expect(code).toBe(E_ACCESSDENIED);
    expect(message).toMatch(/^HNSCall: .*0x80070005/);
  });
});
