// The configuration on Windows: its places, its paths and its files, as programs there write them.

import "./remove-trees.ts";
import "../cli-config.test.ts";
import "../config-units.test.ts";
import "../sink-config.test.ts";
import "../throttle-settings.test.ts";
import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openToken } from "../../src/api/auth.ts";
import { loadConfig, printConfig } from "../../src/config.ts";
import { loadSettings } from "../../src/settings.ts";
import { readToken } from "../../src/sinks/secret-file.ts";
import { runFovea } from "../cli.world.ts";

const dir = mkdtempSync(join(tmpdir(), "fovea config "));
afterAll(() => rmSync(dir, { recursive: true }));

const write = (name: string, content: string | Buffer): string => {
  const file = join(dir, name);
  writeFileSync(file, content);
  return file;
};

const home = "C:\\ProgramData\\Fovea";

test("without a configuration everything is below ProgramData", () => {
  const { dataDir, flowLog, throttle } = loadConfig({ env: {} });
  expect([dataDir, flowLog.file, throttle.agentConfig]).toEqual([
    `${home}\\data`,
    `${home}\\flows.log`,
    `${home}\\settings`,
  ]);
});

test("the help names the places of this system", async () => {
  const { out } = await runFovea(["run", "--help"]);
  expect(out).toContain(`${home}\\fovea.yaml`);
  expect(out).not.toContain("/etc");
});

// Of each, some character means something in YAML where it stands unquoted.
const paths = [
  "C:\\ProgramData\\Fovea\\data",
  "E:\\carried",
  "E:\\",
  "e:/carried away",
  "\\\\server\\share$\\flows",
  "\\\\?\\D:\\deep",
  "C:\\# 1\\[a]{b}",
  "C:\\Users\\Élodie\\AppData: old",
  "C:\\x\\new\ttab",
];

test.each(paths)("%j as a path is what it was, printed and read again", (path) => {
  const sinks = [{ name: "disk", type: "file", directory: path }];
  const given = {
    ...{ dataDir: path, sinks, flowLog: { file: path }, api: { tokenFile: path } },
    ...{ filters: { files: [path] }, throttle: { agentConfig: path } },
  };
  const config = loadConfig({ file: write("given.yaml", JSON.stringify(given)), env: {} });
  expect([config.dataDir, config.flowLog.file, config.filters.files[0]]).toEqual([path, path, path]);
  expect(loadConfig({ file: write("printed.yaml", printConfig(config)), env: {} })).toEqual(config);
});

test("a path in a variable is one, whatever its drive", () => {
  for (const path of ["E:\\carried", "E:", "C:\\a: b\\c"])
    expect(loadConfig({ env: { FOVEA_DATA_DIR: path } }).dataDir).toBe(path);
  const files = "C:\\rules\\a.yaml, D:\\b.yaml";
  expect(loadConfig({ env: { FOVEA_FILTERS_FILES: files } }).filters.files).toEqual([
    "C:\\rules\\a.yaml",
    "D:\\b.yaml",
  ]);
});

describe.each([
  ["with line ends of Windows", (text: string) => Buffer.from(text.replaceAll("\n", "\r\n"))],
  ["with the mark of Notepad", (text: string) => Buffer.from(`\ufeff${text}`)],
  ["as PowerShell writes it", (text: string) => Buffer.from(`\ufeff${text}`, "utf16le")],
])("a file %s", (_, encode) => {
  test("is a configuration, whose mistakes have their lines", () => {
    expect(loadConfig({ file: write("c.yaml", encode("cluster: Süd\ntick: 2s\n")), env: {} })).toMatchObject({
      cluster: "Süd",
      tick: 2000,
    });
    const file = write("wrong.yaml", encode("cluster: a\n\nclustr: b\n"));
    expect(() => loadConfig({ file, env: {} })).toThrow(`${file}:3: clustr is no key`);
  });

  test("is a configuration map of Container Insights", () => {
    const agentConfig = join(dir, "settings");
    mkdirSync(agentConfig, { recursive: true });
    const texts = {
      "schema-version": "v1\n",
      "config-version": "ver1\n",
      "agent-settings":
        "[agent_settings.networkflow_logs_config]\n# of this node\nthrottle_enabled = true\nthrottle_rate = 77\n",
    };
    for (const [name, text] of Object.entries(texts)) write(join("settings", name), encode(text));
    const settings = loadSettings({
      ...{ env: {}, overrides: { throttle: { agentConfig } }, starting: false },
    });
    expect(settings).toMatchObject({ agentConfig: { found: true, configVersion: "ver1" }, rejected: [] });
    expect(settings.config.throttle).toMatchObject({ throttle_enabled: true, throttle_rate: 77 });
  });

  test("holds a token, of the API and of a sink", () => {
    const text = "0123456789abcdef0123456789abcdef";
    const file = write("token", encode(`${text}\n`));
    expect(openToken(file).matches(text)).toBe(true);
    expect(openToken(file).problem()).toBeUndefined();
    expect(readToken("auth.bearerFile", file)).toBe(text);
  });
});

test("what is missing is told with what helps on Windows", () => {
  expect(() => openToken(join(dir, "nothing"))).toThrow("PowerShell");
  const listening = () => loadConfig({ env: { FOVEA_LISTEN: "0.0.0.0:10093" } });
  expect(listening).toThrow("icacls FILE");
  expect(listening).not.toThrow("chmod");
});
