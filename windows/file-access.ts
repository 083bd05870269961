// Who else may write: the access lists of a file and of the directories that lead to it.

import { toArrayBuffer } from "bun:ffi";
import { dirname } from "node:path";
import { ownerProblem, trustedOwner } from "./file-owner.ts";
import { addressCell, addressIn, openLibrary, utf16, WindowsError } from "./system.ts";

/** For messages; what Windows itself calls them depends on its language. */
const names: Readonly<Record<string, string>> = {
  "S-1-1-0": "Everyone",
  "S-1-5-4": "Interactive",
  "S-1-5-7": "Anonymous",
  "S-1-5-11": "Authenticated Users",
  "S-1-5-32-545": "Users",
};

const everyone = "S-1-1-0";
/** They stand for the owner, who is looked at himself. */
const ownerRights = ["S-1-3-0", "S-1-3-4"];

const DELETE = 0x1_0000;
const WRITE_DAC = 0x4_0000;
const WRITE_OWNER = 0x8_0000;
const GENERIC_WRITE = 0x4000_0000;
const GENERIC_ALL = 0x1000_0000;
const FILE_WRITE_DATA = 0x2;
const FILE_APPEND_DATA = 0x4;
const FILE_DELETE_CHILD = 0x40;

/** To take it away, or to give oneself every other right. */
const replacing = DELETE | WRITE_DAC | WRITE_OWNER | GENERIC_ALL;
export const fileRights = replacing | GENERIC_WRITE | FILE_WRITE_DATA | FILE_APPEND_DATA;
/** To put another thing in the place of one that is in it. Every user may make new directories at the top of a drive. */
export const passedRights = replacing | FILE_DELETE_CHILD;
/** To put a file beside the others as well: libraries are looked for beside the program. */
export const directoryRights = passedRights | GENERIC_WRITE | FILE_WRITE_DATA;

/** S-1-5-32-545, from its bytes: revision, count of the numbers at the end, authority. */
function sidText(bytes: Buffer): string {
  const numbers = Array.from({ length: bytes.readUInt8(1) }, (_, at) => bytes.readUInt32LE(8 + 4 * at));
  return ["S", bytes.readUInt8(0), bytes.readUIntBE(2, 6), ...numbers].join("-");
}

/** Whom an entry of the list allows what; undefined for one that allows nothing here. */
function readEntry(entry: Buffer): { readonly sid: string; readonly mask: number } | undefined {
  const INHERIT_ONLY = 0x8;
  const allowing = [0, 9]; // The second under a condition.
  const denying = [1, 6, 10, 12];
  const type = entry.readUInt8(0);
  if ((entry.readUInt8(1) & INHERIT_ONLY) !== 0 || denying.includes(type)) return undefined;
  const mask = entry.readUInt32LE(4);
  if (!allowing.includes(type)) return { sid: `an entry of type ${type}`, mask };
  return { sid: sidText(entry.subarray(8)), mask };
}

/** The accounts that an access list (ACL) gives one of the rights, each once. What it denies is passed over. */
export function allowedIn(acl: Buffer, rights: number): readonly string[] {
  const found = new Set<string>();
  for (let left = acl.readUInt16LE(4), at = 8; left > 0; left--) {
    const bytes = acl.readUInt16LE(at + 2);
    const allowed = readEntry(acl.subarray(at, at + bytes));
    if (allowed !== undefined && (allowed.mask & rights) !== 0) found.add(allowed.sid);
    at += bytes;
  }
  return [...found];
}

const openCalls = () => ({
  ...openLibrary("advapi32.dll", {
    GetNamedSecurityInfoW: {
      args: ["ptr", "u32", "u32", "ptr", "ptr", "ptr", "ptr", "ptr"],
      returns: "u32",
    },
  }).symbols,
  ...openLibrary("kernel32.dll", { LocalFree: { args: ["ptr"], returns: "ptr" } }).symbols,
});

let calls: ReturnType<typeof openCalls> | undefined;

type AccessList = {
  /** Absent: nothing is refused to anybody. */
  readonly acl?: Buffer;
  /** What the directory above hands down does not reach it: somebody has decided who may. */
  readonly isProtected: boolean;
};

/** A copy of the list. Throws WindowsError where nothing is at the path. */
export function accessList(path: string): AccessList {
  const SE_FILE_OBJECT = 1;
  const DACL_SECURITY_INFORMATION = 4;
  const SE_DACL_PROTECTED = 0x1000;
  calls ??= openCalls();
  const [list, descriptor] = [addressCell(), addressCell()];
  const code = calls.GetNamedSecurityInfoW(
    ...([utf16(path), SE_FILE_OBJECT, DACL_SECURITY_INFORMATION] as const),
    ...([null, null, list, null, descriptor] as const),
  );
  if (code !== 0) throw new WindowsError(`who may write ${path} cannot be read`, code);
  const [acl, whole] = [addressIn(list), addressIn(descriptor)];
  try {
    const control = whole === undefined ? 0 : new DataView(toArrayBuffer(whole, 0, 4)).getUint16(2, true);
    const isProtected = (control & SE_DACL_PROTECTED) !== 0;
    if (acl === undefined) return { isProtected };
    const bytes = new DataView(toArrayBuffer(acl, 0, 8)).getUint16(2, true);
    return { acl: Buffer.from(toArrayBuffer(acl, 0, bytes).slice(0)), isProtected };
  } finally {
    calls.LocalFree(whole ?? null);
  }
}

/** Who has one of the rights and is neither the system, nor an administrator, nor `self`. */
export function strangersAt(path: string, rights: number, self: string | undefined): readonly string[] {
  const { acl } = accessList(path);
  const allowed = acl === undefined ? [everyone] : allowedIn(acl, rights);
  return allowed.filter((sid) => !trustedOwner(sid, self) && !ownerRights.includes(sid));
}

/** What somebody else may do to what is at the path; undefined where nobody may. */
function writersProblem(path: string, rights: number, self: string | undefined): string | undefined {
  const strangers = strangersAt(path, rights, self);
  if (strangers.length === 0) return undefined;
  const shown = strangers.map((sid) => (names[sid] === undefined ? sid : `${names[sid]} (${sid})`));
  return `may be changed by ${shown.join(", ")}`;
}

/** The path and all that leads to it, from the inside. */
export function pathsTo(path: string): readonly string[] {
  const above = dirname(path);
  return above === path ? [path] : [path, ...pathsTo(above)];
}

export type PathProblem = { readonly path: string; readonly problem: string };

/**
 * The first thing on the way to what is there, from the inside, that somebody else has or may change, so that it could
 * become another. `self` is administrator(). `beside`: whether a file that is made beside it does harm, too.
 */
export function pathProblem(
  path: string,
  { self, directory = false, beside = false }: PathQuestion,
): PathProblem | undefined {
  for (const [depth, part] of pathsTo(path).entries()) {
    // The top of a drive cannot be taken away, though on client editions every user has the right to.
    const rights = rightsAt(depth, { directory, beside }) & ~(dirname(part) === part ? DELETE : 0);
    const problem = ownerProblem(part, self) ?? writersProblem(part, rights, self);
    if (problem !== undefined) return { path: part, problem };
  }
  return undefined;
}

type PathQuestion = {
  readonly self: string | undefined;
  /** What is at the path is one, and what is in it counts. */
  readonly directory?: boolean;
  readonly beside?: boolean;
};

function rightsAt(depth: number, { directory, beside }: Required<Omit<PathQuestion, "self">>): number {
  if (depth === 0) return directory ? directoryRights : fileRights;
  return depth === 1 && beside ? directoryRights : passedRights;
}
