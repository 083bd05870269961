// The configuration of sinks: what is called like a secret is refused, values of queries are not shown, and what diverting means is told.

import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError, loadConfig } from "../src/config.ts";
import { sinkNotes } from "../src/sinks/config.ts";
import type { SinkConfig } from "../src/sinks/schema.ts";
import { secretWord } from "../src/sinks/secret-names.ts";
import { runFovea } from "./cli.world.ts";

const directory = mkdtempSync(join(tmpdir(), "fovea-sink-shown-"));
afterAll(() => rmSync(directory, { recursive: true }));

const write = (text: string): string => {
  writeFileSync(join(directory, "fovea.yaml"), text, { mode: 0o600 });
  return join(directory, "fovea.yaml");
};
const list = (...sinks: readonly string[]): string =>
  `sinks:\n${sinks.map((one) => `  - {${one}}\n`).join("")}`;
const load = (text: string): readonly SinkConfig[] => loadConfig({ file: write(text), env: {} }).sinks;
const web = (name: string, type = "loki"): string => `name: ${name}, type: ${type}, url: http://${name}`;
const divert = (to: string): string => `, divertTo: ${to}`;

function problemOf(text: string): readonly [key: string, message: string] {
  try {
    load(text);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const [problem] = error.problems;
    return [problem?.key ?? "", problem?.message ?? ""];
  }
  throw new Error("no problem was found");
}

describe("a name", () => {
  test.each(["X-Auth", "Api-Token-Value", "X-Sig-2", "XApiKey", "X-Credentials"])(
    "%s of a header is refused",
    (name) => {
      const [key, message] = problemOf(list(`${web("a")}, headers: {${name}: hush}`));
      expect(key).toBe(`sinks.0.headers.${name}`);
      expect(message).toStartWith("sounds like a secret, which belongs into a file");
      expect(message).not.toContain("hush");
    },
  );

  test.each(["X-Author", "X-Scope-OrgID", "api-version", "x-ms-keyless", "monkey", "design"])(
    "%s is none of a secret",
    (name) => {
      expect(secretWord(name)).toBeUndefined();
    },
  );
});

test("printing shows no value of a query, and what was printed so is refused until they are written", async () => {
  const entra = "auth: {entra: {kind: managed, authorityHost: 'https://login/x?c=two'}}";
  const url = "https://up/push?api-version=one&three";
  const path = write(list(`name: l, type: loki, url: '${url}', ${entra}`));
  const yaml = (await runFovea(["config", "print", "-c", path])).out;
  const json = (await runFovea(["config", "print", "-c", path, "-o", "json"])).out;
  for (const out of [yaml, json]) {
    expect(out).toContain("https://up/push?api-version=one&(hidden)");
    expect(out).toContain("https://login/x?c=(hidden)");
    expect(out).not.toMatch(/=two|&three/);
  }
  const { out, code, err } = await runFovea(["config", "check", "-c", write(yaml)]);
  expect([out, code]).toEqual(["", 1]);
  expect(err).toContain("was printed without what its query says; write the values again");
});

describe("a sink that others divert to", () => {
  test("what a sink leaves out must not be too long to go along with what it diverts", () => {
    const ips = (count: number) =>
      `, filter: {include: [{ip: [${Array.from({ length: count }, (_, at) => `"2001:db8:aaaa:bbbb:cccc:dddd:eeee:${(at + 4096).toString(16)}"`).join(", ")}]}]}`;
    const fed = "name: c, type: file, directory: /x";
    expect(load(list(web("a") + divert("c") + ips(250), fed))).toHaveLength(2);
    const two = list(web("a") + divert("c") + ips(250), web("b") + divert("c") + ips(249), fed);
    expect(problemOf(two)).toEqual([
      "sinks.0.divertTo",
      expect.stringMatching(/^"c" gets the filter along with the records, at most 16384 bytes of all/),
    ]);
  });

  test("that a sink gets nothing of a signal but what is diverted is worth a note", () => {
    const archive = "name: c, type: file, directory: /x";
    const both = list(web("a") + divert("c"), `${web("b", "remote-write")}, enabled: false`, archive);
    expect(sinkNotes(load(both))).toEqual(["sinks.2: c gets no flows but what is too old for a"]);
    const off = list(`${web("a") + divert("c")}, enabled: false`, archive);
    expect(sinkNotes(load(off))).toEqual([
      "sinks.1: c gets no flows but what is too old for a (not enabled)",
    ]);
    expect(sinkNotes(load(list(web("a"), archive)))).toEqual([]);
  });
});
