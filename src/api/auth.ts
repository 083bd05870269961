// Who may use the API: the bearer token, the loopback rule, the Host guard.

import { createHash, timingSafeEqual } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import ipaddr from "ipaddr.js";
import { isOpenToAll, makeTokenFile, printToken } from "../private-file.ts";
import { decodeText } from "../text-file.ts";

const tokenLengthMin = 16;
// A token file is one line; a larger one is some other file, named by mistake.
const tokenBytesMax = 4096;

export type Token = {
  /** Compares in constant time, whatever the lengths. */
  matches(given: string): boolean;
  /** Why the file as it is now cannot be used; the last good token stays in force until it can. */
  problem(): string | undefined;
};

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();

const makeToken = `make one with: ${printToken}`;

function readToken(path: string): Buffer {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) throw new Error(`token file ${path} is not there; ${makeToken}`);
  const { mode, size } = stat;
  if (isOpenToAll(mode))
    throw new Error(`token file ${path} is open to every user of this machine; run: chmod o-rwx ${path}`);
  if (size > tokenBytesMax)
    throw new Error(`token file ${path} has ${size} bytes, more than ${tokenBytesMax}; is it a token?`);
  const token = decodeText(readFileSync(path)).trim();
  if (token.length < tokenLengthMin)
    throw new Error(
      `token file ${path} holds ${token.length} characters, fewer than ${tokenLengthMin}; ${makeToken}`,
    );
  // RFC 6750: other characters cannot stand in the header, so that no request could ever match.
  if (!/^[\x21-\x7e]+$/.test(token))
    throw new Error(`token file ${path} holds spaces or characters that an HTTP header cannot carry`);
  return digest(token);
}

/** What changes when the file is written or replaced. */
function versionOf(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat === undefined ? "absent" : `${stat.ino} ${stat.mtimeMs} ${stat.ctimeMs} ${stat.size}`;
}

/** Reads the token; throws when the file cannot be used. The file is read again when it changes. */
export function openToken(path: string): Token {
  let version = versionOf(path);
  let expected = readToken(path);
  let problem: string | undefined;
  const refresh = () => {
    const now = versionOf(path);
    if (now === version) return;
    version = now;
    try {
      expected = readToken(path);
      problem = undefined;
    } catch (error) {
      // A half-written or missing file must not lock the operator out, nor open the door.
      problem = error instanceof Error ? error.message : String(error);
    }
  };
  return {
    matches: (given) => {
      refresh();
      return timingSafeEqual(digest(given), expected);
    },
    problem: () => {
      refresh();
      return problem;
    },
  };
}

/** The token of an Authorization header; undefined when there is none of the Bearer scheme. */
export const bearerOf = (header: string | undefined): string | undefined =>
  /^bearer +(\S+) *$/i.exec(header ?? "")?.[1];

/** 127.0.0.0/8, ::1, and the first of them written as IPv6. */
export function isLoopback(address: string): boolean {
  const bare = address.replace(/^\[(.*)\]$/, "$1");
  return ipaddr.isValid(bare) && ipaddr.process(bare).range() === "loopback";
}

/**
 * Whether a Host header names this machine. A page of a foreign site can make a browser resolve its own name to
 * 127.0.0.1 and then read our answers; its requests still carry that name.
 */
export function isLoopbackHost(header: string | undefined): boolean {
  const match = /^(\[[0-9a-f:.]+\]|[^:]+)(?::\d{1,5})?$/i.exec(header ?? "");
  const host = match?.[1]?.toLowerCase().replace(/\.$/, "");
  if (host === undefined) return false;
  return host === "localhost" || host.endsWith(".localhost") || isLoopback(host);
}

/** Throws when the API would be open to other machines without a token or client certificates. */
export function checkExposure(options: {
  readonly listen: string;
  readonly address: string;
  readonly token: boolean;
  readonly mutualTls: boolean;
}): void {
  const { listen, address, token, mutualTls } = options;
  if (isLoopback(address) || token || mutualTls) return;
  throw new Error(
    `listen ${listen} can be reached from other machines: set api.tokenFile to a file with a token ` +
      `(${makeTokenFile}), or api.tls.clientCaFile for mutual TLS, ` +
      `or listen on 127.0.0.1`,
  );
}
