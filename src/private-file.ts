// Files that hold secrets: whether every user of the machine may open them, and how one is made.

/** Bits of the mode that let every user of the machine read or replace the file. */
const othersAccess = 0o007;

/** Windows has access lists, and no such bits: there Node makes them up, and nothing can be told by them. */
export const isOpenToAll = (mode: number): boolean =>
  process.platform !== "win32" && (mode & othersAccess) !== 0;

/** With what access list a file is of its owner's alone: that of the system and of administrators. */
const aclOnly = "icacls FILE /inheritance:r /grant:r *S-1-5-18:F *S-1-5-32-544:F";

/** What prints a token. */
export const printToken =
  process.platform === "win32" ? "(New-Guid).Guid in PowerShell" : "openssl rand -hex 32";

/** What makes a file with a token that others may not read. */
export const makeTokenFile =
  process.platform === "win32"
    ? `PowerShell: (New-Guid).Guid > FILE; ${aclOnly}`
    : "openssl rand -hex 32 > FILE; chmod 600 FILE";
