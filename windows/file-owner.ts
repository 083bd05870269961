// Whose a file is, and whether a service that may do everything can believe what stands in it.

import { ptr } from "bun:ffi";
import {
  addressCell,
  addressIn,
  openLibrary,
  type Pointer,
  readUtf16,
  utf16,
  WindowsError,
} from "./system.ts";

// By their numbers: names of accounts are translated.
const system = "S-1-5-18";
const administrators = "S-1-5-32-544";
const trustedInstaller = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";

const SE_FILE_OBJECT = 1;
const OWNER_SECURITY_INFORMATION = 1;
const ERROR_FILE_NOT_FOUND = 2;
const ERROR_PATH_NOT_FOUND = 3;
/** SECURITY_MAX_SID_SIZE. */
const sidBytesMax = 68;

const openCalls = () => ({
  ...openLibrary("advapi32.dll", {
    GetNamedSecurityInfoW: {
      args: ["ptr", "u32", "u32", "ptr", "ptr", "ptr", "ptr", "ptr"],
      returns: "u32",
    },
    SetNamedSecurityInfoW: { args: ["ptr", "u32", "u32", "ptr", "ptr", "ptr", "ptr"], returns: "u32" },
    ConvertSidToStringSidW: { args: ["ptr", "ptr"], returns: "i32" },
    CreateWellKnownSid: { args: ["u32", "ptr", "ptr", "ptr"], returns: "i32" },
    CheckTokenMembership: { args: ["ptr", "ptr", "ptr"], returns: "i32" },
    OpenProcessToken: { args: ["i64", "u32", "ptr"], returns: "i32" },
    GetTokenInformation: { args: ["ptr", "u32", "ptr", "u32", "ptr"], returns: "i32" },
  }).symbols,
  ...openLibrary("kernel32.dll", {
    CloseHandle: { args: ["ptr"], returns: "i32" },
    GetCurrentProcess: { args: [], returns: "i64" },
    GetFileAttributesW: { args: ["ptr"], returns: "u32" },
    GetLastError: { args: [], returns: "u32" },
    LocalFree: { args: ["ptr"], returns: "ptr" },
  }).symbols,
});

let calls: ReturnType<typeof openCalls> | undefined;

/** Opened once: a tree has many files. */
function native(): ReturnType<typeof openCalls> {
  calls ??= openCalls();
  return calls;
}

/** Throws for FALSE. */
function check(result: number, what: string): void {
  if (result === 0) throw new WindowsError(what, native().GetLastError());
}

function sidText(sid: Pointer | Buffer): string {
  const cell = addressCell();
  check(native().ConvertSidToStringSidW(sid, cell), "a SID cannot be written as text");
  const text = addressIn(cell);
  if (text === undefined) throw new Error("a SID has no text");
  try {
    return readUtf16(text);
  } finally {
    native().LocalFree(text);
  }
}

function administratorsSid(): Buffer {
  const WinBuiltinAdministratorsSid = 26;
  const sid = Buffer.alloc(sidBytesMax);
  const made = native().CreateWellKnownSid(
    WinBuiltinAdministratorsSid,
    null,
    sid,
    new Uint32Array([sid.length]),
  );
  check(made, "the SID of the administrators cannot be made");
  return sid;
}

/** The SID of the owner, as text. Where the path leads to another place, of what is there. */
export function ownerOf(path: string): string {
  const [owner, descriptor] = [addressCell(), addressCell()];
  const code = native().GetNamedSecurityInfoW(
    ...([utf16(path), SE_FILE_OBJECT, OWNER_SECURITY_INFORMATION] as const),
    ...([owner, null, null, null, descriptor] as const),
  );
  if (code !== 0) throw new WindowsError(`the owner of ${path} cannot be read`, code);
  try {
    const sid = addressIn(owner);
    if (sid === undefined) throw new Error(`${path} has no owner`);
    return sidText(sid);
  } finally {
    native().LocalFree(addressIn(descriptor) ?? null);
  }
}

/** The user of this process. */
function tokenUser(): string {
  const TOKEN_QUERY = 8;
  const TokenUser = 1;
  const what = "the user of this process cannot be read";
  const cell = addressCell();
  check(native().OpenProcessToken(native().GetCurrentProcess(), TOKEN_QUERY, cell), what);
  const token = addressIn(cell) ?? null;
  try {
    // TOKEN_USER: an address, the attributes, and behind them what is at the address.
    const buffer = Buffer.alloc(16 + sidBytesMax);
    check(native().GetTokenInformation(token, TokenUser, buffer, buffer.length, new Uint32Array(1)), what);
    return sidText(buffer.subarray(Number(buffer.readBigUInt64LE()) - ptr(buffer)));
  } finally {
    native().CloseHandle(token);
  }
}

/** The user of this process where it has the rights of an administrator: elevated, with user account control. */
export function administrator(): string | undefined {
  const member = new Int32Array(1);
  check(
    native().CheckTokenMembership(null, administratorsSid(), member),
    "the rights of this process cannot be read",
  );
  return member[0] === 0 ? undefined : tokenUser();
}

/** A service without an account of its own, or a HostProcess container. */
export const isSystem = (sid: string | undefined): boolean => sid === system;

/** `self` is administrator(): the user of this process, if that may do everything anyway. */
export const trustedOwner = (sid: string, self: string | undefined): boolean =>
  [system, administrators, trustedInstaller].includes(sid) || sid === self;

/** A junction or a symbolic link, however it was made. What cannot be looked at is left to the question for its owner. */
function leadsElsewhere(path: string): boolean {
  const INVALID = 0xffff_ffff;
  const REPARSE_POINT = 0x400;
  const attributes = native().GetFileAttributesW(utf16(path));
  return attributes !== INVALID && (attributes & REPARSE_POINT) !== 0;
}

function ownerIfThere(path: string): string | undefined {
  try {
    return ownerOf(path);
  } catch (error) {
    const code = error instanceof WindowsError ? error.code : undefined;
    if (code === ERROR_FILE_NOT_FOUND || code === ERROR_PATH_NOT_FOUND) return undefined;
    throw error;
  }
}

/** Why a service must not follow what is at the path, and what to do; undefined where it may, or nothing is there. */
export function ownerProblem(path: string, self: string | undefined): string | undefined {
  if (leadsElsewhere(path)) return "leads to another place: look where, and remove it";
  const owner = ownerIfThere(path);
  if (owner === undefined || trustedOwner(owner, self)) return undefined;
  // The owner may have given himself rights of which the new one would not know.
  return (
    `belongs to ${owner}, who is not for the service to obey: remove it, or read it and give it to the administrators ` +
    `by icacls "${path}" /setowner *${administrators} and icacls "${path}" /reset`
  );
}

/** What an administrator has made under his own name: to a service he would be a user like any other. */
export function giveToAdministrators(path: string): void {
  const code = native().SetNamedSecurityInfoW(
    ...([utf16(path), SE_FILE_OBJECT, OWNER_SECURITY_INFORMATION] as const),
    ...([administratorsSid(), null, null, null] as const),
  );
  if (code !== 0) throw new WindowsError(`${path} cannot be given to the administrators`, code);
}

/** Throws what ownerProblem says. */
export function refuseForeign(path: string, self: string | undefined): void {
  const problem = ownerProblem(path, self);
  if (problem !== undefined) throw new Error(`${path} ${problem}`);
}

/** Gives it to the administrators if it is our own by name; throws for what is somebody else's. */
export function takeOver(path: string, self: string | undefined): void {
  refuseForeign(path, self);
  if (self !== undefined && self !== system && ownerIfThere(path) === self) giveToAdministrators(path);
}
