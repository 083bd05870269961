// A directory for the system and its administrators alone: below ProgramData, every user may make and write files else.

import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { accessList } from "./file-access.ts";
import { administrator, refuseForeign, takeOver } from "./file-owner.ts";
import { type Address, addressCell, addressIn, openLibrary, utf16, WindowsError } from "./system.ts";

/** Owned by administrators; all rights for them and the system, handed down to what is made inside; none inherited. */
const descriptor = "O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)";

const openCalls = () => ({
  ...openLibrary("advapi32.dll", {
    ConvertStringSecurityDescriptorToSecurityDescriptorW: {
      args: ["ptr", "u32", "ptr", "ptr"],
      returns: "i32",
    },
    GetSecurityDescriptorDacl: { args: ["ptr", "ptr", "ptr", "ptr"], returns: "i32" },
    GetSecurityDescriptorOwner: { args: ["ptr", "ptr", "ptr"], returns: "i32" },
    SetNamedSecurityInfoW: { args: ["ptr", "u32", "u32", "ptr", "ptr", "ptr", "ptr"], returns: "u32" },
  }).symbols,
  ...openLibrary("kernel32.dll", { LocalFree: { args: ["ptr"], returns: "ptr" } }).symbols,
});
type Calls = ReturnType<typeof openCalls>;

function parseDescriptor(calls: Calls): Address {
  const SDDL_REVISION_1 = 1;
  const cell = addressCell();
  const parse = calls.ConvertStringSecurityDescriptorToSecurityDescriptorW;
  const parsed = parse(utf16(descriptor), SDDL_REVISION_1, cell, null) === 0 ? undefined : addressIn(cell);
  if (parsed === undefined) throw new Error(`Windows does not understand ${descriptor}`);
  return parsed;
}

function apply(calls: Calls, path: string, parsed: Address): void {
  const SE_FILE_OBJECT = 1;
  const OWNER_DACL_PROTECTED = 0x8000_0005;
  const [owner, dacl] = [addressCell(), addressCell()];
  const flags = new Uint32Array(1);
  calls.GetSecurityDescriptorOwner(parsed, owner, flags);
  calls.GetSecurityDescriptorDacl(parsed, flags, dacl, flags);
  const sides = [addressIn(owner) ?? null, null, addressIn(dacl) ?? null, null] as const;
  // A NULL list would open the directory to all.
  if (sides[0] === null || sides[2] === null) throw new Error(`${descriptor} has no owner or no list`);
  const code = calls.SetNamedSecurityInfoW(utf16(path), SE_FILE_OBJECT, OWNER_DACL_PROTECTED, ...sides);
  if (code !== 0) throw new WindowsError(`${path} cannot be closed to other users`, code);
}

/** Each thing in a directory that `look` has let pass, and then what is in that: an owner is not handed down. */
function walk(path: string, look: (path: string) => void): void {
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    const inside = join(path, entry.name);
    look(inside);
    if (entry.isDirectory()) walk(inside, look);
  }
}

/** Throws if it is there and somebody else's, or leads to another place. */
export const checkDirectory = (path: string): void => refuseForeign(path, administrator());

/** Throws for the first thing in it as well. */
export function checkTree(path: string): void {
  const self = administrator();
  refuseForeign(path, self);
  if (existsSync(path)) walk(path, (inside) => refuseForeign(inside, self));
}

/** Makes the directory, or takes the one that is there with all that is in it, and closes it to everybody else. */
export function makePrivate(path: string): void {
  const self = administrator();
  mkdirSync(path, { recursive: true });
  // From here on nobody can put another in its place; and once it is closed, nothing into it.
  refuseForeign(path, self);
  const calls = openCalls();
  const parsed = parseDescriptor(calls);
  try {
    apply(calls, path, parsed);
  } finally {
    calls.LocalFree(parsed);
  }
  walk(path, (inside) => takeOver(inside, self));
}

/** Whether somebody has decided who may use the directory. */
export const isClosed = (path: string): boolean => existsSync(path) && accessList(path).isProtected;

/** What shows that a directory is a store's, and of nothing else. */
const ofStore = ["fovea.db", "fovea.lock", "native"];

/**
 * Closes the directory of a store, which is made where it is not there. One that somebody has closed before is left as it
 * is. One with other things in it is refused: to close it would lock their users out.
 */
export function closeDataDir(path: string): void {
  if (existsSync(path)) {
    checkDirectory(path);
    if (isClosed(path)) {
      checkTree(path);
      return;
    }
    const inside = readdirSync(path);
    if (dirname(path) === path || (inside.length > 0 && !ofStore.some((name) => inside.includes(name))))
      throw new Error(
        `${path} cannot be closed to other users: it is not the store's alone; name a directory of its own as dataDir`,
      );
  }
  makePrivate(path);
}

/** Whether the path is the directory or below it. */
export const isWithin = (directory: string, path: string): boolean =>
  !/^(\.\.|[A-Za-z]:|\\)/.test(relative(directory, path));
