// Secrets in files: read at use, and again when the file has changed.

import { readText, versionOf } from "../text-file.ts";

// A token of an identity provider has a few thousand characters; more is some other file, named by mistake.
const lengthMax = 65_536;

/** A credential that cannot be had: the message is one line, names the file and holds no secret. */
export class CredentialError extends Error {}

export const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** The system's own words, without the path that the caller names anyway. */
export const readReason = (error: unknown): string => {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const told: Record<string, string> = {
    ENOENT: "is not there",
    ENOTDIR: "is not there",
    EACCES: "may not be read by this user",
    EPERM: "may not be read by this user",
    EISDIR: "is a directory",
  };
  return told[code] ?? `cannot be read (${code || reasonOf(error)})`;
};

/** Without the end of its line, which editors and `echo` add. */
export function readSecret(what: string, file: string): string {
  let text: string;
  try {
    text = readText(file);
  } catch (error) {
    throw new CredentialError(`${what} ${file} ${readReason(error)}`, { cause: error });
  }
  const secret = text.replace(/^\uFEFF/, "").replace(/\r?\n$/, "");
  if (secret.trim() === "") throw new CredentialError(`${what} ${file} is empty`);
  if (secret.length > lengthMax)
    throw new CredentialError(`${what} ${file} holds ${secret.length} characters; is it a secret?`);
  return secret;
}

/** A token as it stands in a header (RFC 6750): other characters would split it. */
export function readToken(what: string, file: string): string {
  const token = readSecret(what, file).trim();
  if (!/^[\x21-\x7e]+$/.test(token))
    throw new CredentialError(`${what} ${file} holds spaces or characters that an HTTP header cannot carry`);
  return token;
}

/** When a token says that it ends (JWT, RFC 7519), epoch milliseconds; undefined for one that does not say. */
export function tokenEndsAt(token: string): number | undefined {
  const [, payload = "", signature] = token.split(".");
  if (signature === undefined) return undefined;
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, "base64url").toString());
    const exp = typeof claims === "object" && claims !== null && "exp" in claims ? claims.exp : undefined;
    return typeof exp === "number" ? exp * 1000 : undefined;
  } catch {
    return undefined; // Three parts and no JSON: some other kind of token.
  }
}

/** What `load` made of the files, made again when one of them is another. What throws is tried again at the next use. */
export function whileUnchanged<T>(files: readonly string[], load: () => T): () => T {
  let last: { readonly version: string; readonly value: T } | undefined;
  return () => {
    // Taken before reading: what changes meanwhile is read again.
    const version = files.map(versionOf).join("\n");
    if (last?.version !== version) last = { version, value: load() };
    return last.value;
  };
}
