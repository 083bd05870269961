// Keys of the registry below HKEY_LOCAL_MACHINE: made, and removed with all that is in them.

import type { Pointer } from "bun:ffi";
import { addressCell, addressIn, openLibrary, utf16, WindowsError } from "./system.ts";

export type RegistryValue =
  | { readonly name: string; readonly dword: number }
  /** With variables like %SystemRoot%. */
  | { readonly name: string; readonly expand: string };

// A handle that is always open.
const localMachine = 0x8000_0002 as Pointer;

const ERROR_FILE_NOT_FOUND = 2;
const REG_EXPAND_SZ = 2;
const REG_DWORD = 4;
const KEY_WRITE = 0x2_0006;
// The 64-bit view, which is the one that services read.
const KEY_WOW64_64KEY = 0x100;

const openCalls = () =>
  openLibrary("advapi32.dll", {
    RegCreateKeyExW: {
      args: ["ptr", "ptr", "u32", "ptr", "u32", "u32", "ptr", "ptr", "ptr"],
      returns: "i32",
    },
    RegSetValueExW: { args: ["ptr", "ptr", "u32", "u32", "ptr", "u32"], returns: "i32" },
    RegDeleteTreeW: { args: ["ptr", "ptr"], returns: "i32" },
    RegCloseKey: { args: ["ptr"], returns: "i32" },
  }).symbols;

function check(code: number, what: string): void {
  if (code !== 0) throw new WindowsError(what, code);
}

function dataOf(value: RegistryValue): { readonly type: number; readonly data: Buffer } {
  if ("expand" in value) return { type: REG_EXPAND_SZ, data: utf16(value.expand) };
  const data = Buffer.alloc(4);
  data.writeUInt32LE(value.dword);
  return { type: REG_DWORD, data };
}

/** Makes the key, or takes the one that is there, and sets the values. */
export function createKey(path: string, values: readonly RegistryValue[]): void {
  const calls = openCalls();
  const cell = addressCell();
  const what = `HKEY_LOCAL_MACHINE\\${path} cannot be written`;
  const access = KEY_WRITE | KEY_WOW64_64KEY;
  check(
    calls.RegCreateKeyExW(localMachine, utf16(path), 0, null, 0, ...([access, null, cell, null] as const)),
    what,
  );
  const key = addressIn(cell) ?? null;
  try {
    for (const value of values) {
      const { type, data } = dataOf(value);
      check(calls.RegSetValueExW(key, utf16(value.name), 0, type, data, data.length), what);
    }
  } finally {
    calls.RegCloseKey(key);
  }
}

/** Removes the key and all that is in it; one that is not there is no error. */
export function deleteKey(path: string): void {
  const code = openCalls().RegDeleteTreeW(localMachine, utf16(path));
  if (code !== ERROR_FILE_NOT_FOUND) check(code, `HKEY_LOCAL_MACHINE\\${path} cannot be removed`);
}
