// The base of every native call on Windows: libraries of the system directory alone, UTF-16, errors by their number.

import { dlopen, type FFIFunction, type Library, type Pointer, ptr, toArrayBuffer } from "bun:ffi";

export type Symbols = Record<string, FFIFunction>;
export type { Pointer };
/** An address or a handle, as a call returns it: a bigint past 2^53. */
export type Address = Pointer | bigint;

/** A library of the system directory that is not there, cannot be loaded, or lacks what is wanted of it. */
export class LibraryError extends Error {}

/** A call that failed: an HRESULT, or an error number of Win32. */
export class WindowsError extends Error {
  readonly code: number;
  constructor(what: string, code: number) {
    super(`${what}: ${messageOf(code)}`);
    this.code = code;
  }
}

const absolute = /^[A-Za-z]:\\/;

/** What the environment says, as long as the system says the same: a name alone would be searched for elsewhere first. */
function findSystemDirectory(): string {
  const root = process.env["SystemRoot"] ?? "C:\\Windows";
  if (!absolute.test(root)) throw new LibraryError(`SystemRoot is ${root}, which is no absolute path`);
  const expected = `${root}\\System32`;
  const { symbols } = dlopen(`${expected}\\kernel32.dll`, {
    GetSystemDirectoryW: { args: ["ptr", "u32"], returns: "u32" },
  });
  const buffer = new Uint16Array(512);
  const length = symbols.GetSystemDirectoryW(buffer, buffer.length);
  const found = Buffer.from(buffer.buffer, 0, length * 2).toString("utf16le");
  if (found.toLowerCase() !== expected.toLowerCase())
    throw new LibraryError(`SystemRoot is ${root}, but the system directory is ${found}`);
  return found;
}

let directory: string | undefined;

/** `C:\Windows\System32` on most machines. */
export function systemDirectory(): string {
  directory ??= findSystemDirectory();
  return directory;
}

/** The absolute path of a file of the system directory; `file` is a bare name. */
export function systemPath(file: string): string {
  if (!/^[\w.-]+$/.test(file)) throw new LibraryError(`${file} is no name of a file`);
  return `${systemDirectory()}\\${file}`;
}

/** Throws LibraryError where the library or one of the exports is missing. */
export function openLibrary<const S extends Symbols>(file: string, symbols: S): Library<S> {
  const path = systemPath(file);
  try {
    return dlopen(path, symbols);
  } catch (error) {
    throw new LibraryError(`${path} cannot be used: ${error instanceof Error ? error.message : error}`, {
      cause: error,
    });
  }
}

/** Undefined where it is missing: exports that not every version of Windows has are opened one by one. */
export function openOptional<const S extends Symbols>(file: string, symbols: S): Library<S> | undefined {
  try {
    return openLibrary(file, symbols);
  } catch (error) {
    if (error instanceof LibraryError) return undefined;
    throw error;
  }
}

/** With the zero that ends it. Pass the buffer itself to a call, which keeps it alive; a bare address does not. */
export const utf16 = (text: string): Buffer => Buffer.from(`${text}\0`, "utf16le");

/** A pointer to a string, and behind it the string: alive as long as the one buffer is. */
export function utf16Pointer(text: string): Buffer {
  const string = utf16(text);
  const buffer = Buffer.alloc(8 + string.length);
  buffer.writeBigUInt64LE(BigInt(ptr(buffer) + 8));
  string.copy(buffer, 8);
  return buffer;
}

const openKernel = () =>
  openLibrary("kernel32.dll", {
    lstrlenW: { args: ["ptr"], returns: "i32" },
    FormatMessageW: { args: ["u32", "ptr", "u32", "u32", "ptr", "u32", "ptr"], returns: "u32" },
  }).symbols;

let kernel: ReturnType<typeof openKernel> | undefined;

function kernel32(): ReturnType<typeof openKernel> {
  kernel ??= openKernel();
  return kernel;
}

/** A copy of a string that ends with a zero. */
export function readUtf16(address: Pointer): string {
  const length = kernel32().lstrlenW(address);
  if (length === 0) return "";
  return Buffer.from(toArrayBuffer(address, 0, length * 2).slice(0)).toString("utf16le");
}

/** For an argument that a call writes an address to. */
export const addressCell = (): BigUint64Array => new BigUint64Array(1);

/** The address in a cell; undefined for NULL. Addresses of processes are below 2^47. */
export function addressIn(cell: BigUint64Array): Pointer | undefined {
  const address = Number(cell[0] ?? 0n);
  return address === 0 ? undefined : (address as Pointer);
}

const openOle = () => openLibrary("ole32.dll", { CoTaskMemFree: { args: ["ptr"], returns: "void" } }).symbols;

let ole: ReturnType<typeof openOle> | undefined;

/** Copies and frees a string that the callee made by CoTaskMemAlloc; undefined for NULL. The cell is empty afterwards. */
export function takeUtf16(cell: BigUint64Array): string | undefined {
  const address = addressIn(cell);
  if (address === undefined) return undefined;
  cell[0] = 0n;
  ole ??= openOle();
  try {
    return readUtf16(address);
  } finally {
    ole.CoTaskMemFree(address);
  }
}

/** The number of Win32 that an HRESULT carries, or the number itself. */
export const win32CodeOf = (code: number): number =>
  (code & 0x1fff_0000) === 0x0007_0000 ? code & 0xffff : code;

const hexOf = (code: number): string => `0x${(code >>> 0).toString(16).padStart(8, "0")}`;

/** Number and text of an error; the text is in the system's language. */
export function messageOf(code: number): string {
  const FROM_SYSTEM = 0x1000;
  const IGNORE_INSERTS = 0x200;
  const buffer = new Uint16Array(512);
  const length = kernel32().FormatMessageW(
    ...([FROM_SYSTEM | IGNORE_INSERTS, null, win32CodeOf(code) >>> 0, 0] as const),
    ...([buffer, buffer.length, null] as const),
  );
  const text = Buffer.from(buffer.buffer, 0, length * 2)
    .toString("utf16le")
    .trim();
  const number = code >= 0 && code < 0x10000 ? `error ${code}` : hexOf(code);
  return text === "" ? number : `${text} (${number})`;
}
