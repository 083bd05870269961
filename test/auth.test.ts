// Who may use the API: token files, loopback, Host headers.

import { expect, test } from "bun:test";
import { chmodSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { bearerOf, checkExposure, isLoopback, isLoopbackHost, openToken } from "../src/api/auth.ts";

const secret = "0123456789abcdef0123456789abcdef";

function tokenFile(content: string, mode = 0o600): { path: string } & Disposable {
  const directory = mkdtempSync(join(tmpdir(), "fovea-token-"));
  const path = join(directory, "token");
  writeFileSync(path, content);
  chmodSync(path, mode);
  return { path, [Symbol.dispose]: () => rmSync(directory, { recursive: true }) };
}

test("a token is its file's content, trimmed", () => {
  using file = tokenFile(`  ${secret}\r\n`);
  const token = openToken(file.path);
  expect(token.matches(secret)).toBe(true);
  expect(token.matches(`${secret} `)).toBe(false);
  expect(token.matches("")).toBe(false);
  expect(token.matches(secret.slice(1))).toBe(false);
  expect(token.problem()).toBeUndefined();
});

test.each([
  ["too short", "fifteen-letters", 0o600, /holds 15 characters, fewer than 16.*openssl rand/],
  ["empty", "\n", 0o600, /holds 0 characters/],
  ["readable by every user", secret, 0o604, /open to every user.*chmod o-rwx/],
  ["writable by every user", secret, 0o602, /open to every user/],
  ["not one word", `${secret} ${secret}`, 0o600, /spaces or characters/],
  ["not ASCII", `${secret}é`, 0o600, /spaces or characters/],
  ["another file", secret.repeat(1000), 0o600, /more than 4096; is it a token/],
])("a token file that is %s is refused", (_, content, mode, message) => {
  using file = tokenFile(content, mode);
  expect(() => openToken(file.path)).toThrow(message);
});

test("a token file that the group may read is taken", () => {
  using file = tokenFile(secret, 0o640);
  expect(openToken(file.path).matches(secret)).toBe(true);
});

test("a missing token file is told by its path", () => {
  expect(() => openToken("/nonexistent/token")).toThrow("/nonexistent/token");
});

test("a replaced token file is read again, at once", () => {
  using file = tokenFile(secret);
  const token = openToken(file.path);
  expect(token.matches(secret)).toBe(true);
  writeFileSync(`${file.path}.new`, `second-${secret}`, { mode: 0o600 });
  renameSync(`${file.path}.new`, file.path);
  expect(token.matches(secret)).toBe(false);
  expect(token.matches(`second-${secret}`)).toBe(true);
});

test("a token file that goes bad leaves the last good token in force, and is told", () => {
  using file = tokenFile(secret);
  const token = openToken(file.path);
  writeFileSync(file.path, "short");
  expect(token.matches(secret)).toBe(true);
  expect(token.matches("short")).toBe(false);
  expect(token.problem()).toContain("fewer than 16");
  rmSync(file.path);
  expect(token.matches(secret)).toBe(true);
  expect(token.problem()).toContain(file.path);
  writeFileSync(file.path, `third-${secret}`, { mode: 0o600 });
  expect(token.matches(`third-${secret}`)).toBe(true);
  expect(token.problem()).toBeUndefined();
});

test("no other text matches", () => {
  using file = tokenFile(secret);
  const token = openToken(file.path);
  fc.assert(fc.property(fc.string(), (given) => token.matches(given) === (given === secret)));
});

test.each([
  ["Bearer abc", "abc"],
  ["bearer   abc  ", "abc"],
  ["Basic abc", undefined],
  ["Bearer", undefined],
  ["Bearer a b", undefined],
  [undefined, undefined],
])("Authorization %p carries %p", (header, token) => {
  expect(bearerOf(header)).toBe(token);
});

test.each([
  ["127.0.0.1", true],
  ["127.255.255.254", true],
  ["::1", true],
  ["[::1]", true],
  ["::ffff:127.0.0.1", true],
  ["0.0.0.0", false],
  ["::", false],
  ["10.0.0.1", false],
  ["::ffff:10.0.0.1", false],
  ["localhost", false],
  ["", false],
])("address %p is loopback: %p", (address, loopback) => {
  expect(isLoopback(address)).toBe(loopback);
});

test.each([
  ["localhost", true],
  ["LOCALHOST:10093", true],
  ["localhost.", true],
  ["fovea.localhost:80", true],
  ["127.0.0.1:10093", true],
  ["127.9.9.9", true],
  ["[::1]:10093", true],
  ["[::1]", true],
  ["evil.example", false],
  ["evil.example:10093", false],
  ["localhost.evil.example", false],
  ["evillocalhost", false],
  ["127.0.0.1.evil.example", false],
  ["0.0.0.0:10093", false],
  ["localhost, evil.example", false],
  ["localhost:80@evil.example", false],
  ["::1", false],
  ["", false],
  [undefined, false],
])("Host %p names loopback: %p", (header, loopback) => {
  expect(isLoopbackHost(header)).toBe(loopback);
});

test("beyond loopback a token or mutual TLS is needed", () => {
  const open = { listen: "0.0.0.0:10093", address: "0.0.0.0", token: false, mutualTls: false };
  expect(() => checkExposure(open)).toThrow(/api\.tokenFile.*api\.tls\.clientCaFile.*127\.0\.0\.1/);
  expect(() => checkExposure({ ...open, address: "::" })).toThrow();
  expect(() => checkExposure({ ...open, address: "192.0.2.1" })).toThrow();
  expect(() => checkExposure({ ...open, token: true })).not.toThrow();
  expect(() => checkExposure({ ...open, mutualTls: true })).not.toThrow();
  expect(() => checkExposure({ ...open, address: "127.0.0.1" })).not.toThrow();
});
