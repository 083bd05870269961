// The mounted configuration map of Container Insights: what is taken from it, and where it is wrong.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { agentConfigFiles, readAgentConfig } from "../src/agent-config.ts";
import { throttleKeys } from "../src/throttle-settings.ts";

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "fovea-agent-"));
});
afterEach(() => rmSync(dir, { recursive: true }));

const settingsFile = () => join(dir, "agent-settings");

/** What the directory says with this text as its settings. */
function readWith(text: string, versions: { schema?: string; config?: string } = {}) {
  writeFileSync(join(dir, "schema-version"), versions.schema ?? "v1\n");
  if (versions.config !== undefined) writeFileSync(join(dir, "config-version"), versions.config);
  writeFileSync(settingsFile(), text);
  return readAgentConfig(dir);
}

const linesOf = (text: string) => readWith(text).rejected.map(({ line, key }) => [line, key]);

// In the form in which it is shipped, with tables of other agents.
const shipped = `[agent_settings.proxy_config]
    ignore_proxy_settings = "false"  # throttle_rate = 1

[agent_settings.networkflow_logs_config]
  # throttle_rate = 5000
    throttle_enabled = true
    throttle_rate = 1200
    throttle_window = "60"
    throttle_interval = "3s"
    throttle_print = false

[agent_settings.fbit_config]
    enable_internal_metrics = "true"
    storage_type = "memory"
`;

describe("what is there", () => {
  test("is read with its lines", () => {
    const read = readWith(shipped, { schema: " V1 \n", config: "ver 1\n" });
    expect(read).toMatchObject({
      dir,
      found: true,
      schemaVersion: "V1",
      configVersion: "ver1",
      internalMetrics: true,
      rejected: [],
    });
    expect(read.problem).toBeUndefined();
    const file = settingsFile();
    expect(throttleKeys.flatMap(read.written)).toEqual([
      { value: true, file, line: 6 },
      { value: 1200n, file, line: 7 },
      { value: "60", file, line: 8 },
      { value: "3s", file, line: 9 },
      { value: false, file, line: 10 },
    ]);
  });

  test("in other forms of TOML too", () => {
    const rate = (text: string) => readWith(text).written("throttle_rate");
    const file = settingsFile();
    for (const [text, line] of [
      ["[agent_settings]\nnetworkflow_logs_config.throttle_rate = 7\n", 2],
      ["agent_settings.networkflow_logs_config.throttle_rate = 7\r\n", 1],
      ["[agent_settings]\n\nnetworkflow_logs_config = { throttle_rate = 7 }\n", 3],
      ['[ "agent_settings" . networkflow_logs_config ]\n\n"throttle_rate" = 7\n', 3],
    ] as const)
      expect(rate(text)).toEqual([{ value: 7n, file, line }]);
  });

  test("a number with a fraction is no whole one", () => {
    const text = "[agent_settings.networkflow_logs_config]\nthrottle_rate = 5000.0\nthrottle_window = 5000\n";
    const { written } = readWith(text);
    expect(written("throttle_rate").map(({ value }) => typeof value)).toEqual(["number"]);
    expect(written("throttle_window").map(({ value }) => typeof value)).toEqual(["bigint"]);
  });

  test.each([
    ["true", true, 0],
    ['"TRUE"', true, 0],
    ["false", false, 0],
    ['"false"', false, 0],
    ["1", false, 1],
    ['"yes"', false, 1],
  ] as const)("enable_internal_metrics = %s", (text, internalMetrics, rejections) => {
    const read = readWith(`[agent_settings.fbit_config]\nenable_internal_metrics = ${text}\n`);
    expect(read.internalMetrics).toBe(internalMetrics);
    expect(read.rejected).toHaveLength(rejections);
    if (rejections > 0)
      expect(read.rejected[0]).toMatchObject({
        file: settingsFile(),
        line: 2,
        key: "enable_internal_metrics",
        message: "is neither true nor false; false is in force",
      });
  });
});

describe("what is not there", () => {
  test("configures nothing, and is no problem", () => {
    const nothing = { internalMetrics: false, rejected: [] };
    for (const absent of [join(dir, "absent"), dir]) {
      const read = readAgentConfig(absent);
      expect(read).toMatchObject({ ...nothing, dir: absent, found: false });
      expect(read.problem).toBeUndefined();
      expect(throttleKeys.flatMap(read.written)).toEqual([]);
    }
    writeFileSync(join(dir, "schema-version"), "v1");
    expect(readAgentConfig(dir)).toMatchObject({ ...nothing, found: true, schemaVersion: "v1" });
    for (const text of ["", "# nothing\n", "[agent_settings]\n", "[other]\nthrottle_rate = 5\n"]) {
      const read = readWith(text);
      expect(read).toMatchObject(nothing);
      expect(read.problem).toBeUndefined();
      expect(throttleKeys.flatMap(read.written)).toEqual([]);
    }
  });

  test("keys of prototypes are none of the table", () => {
    const { written } = readWith("[agent_settings.networkflow_logs_config]\n__proto__ = 5\n");
    expect(throttleKeys.flatMap(written)).toEqual([]);
    expect(linesOf("[agent_settings.networkflow_logs_config]\n__proto__ = 5\n")).toEqual([[2, "__proto__"]]);
  });
});

describe("what is wrong", () => {
  test.each([
    ["[agent_settings]\nthrottle_rate = \n", 2],
    ["[agent_settings.networkflow_logs_config]\nthrottle_rate = 5\nthrottle_rate = 6\n", 3],
    ["[agent_settings", 1],
    ["\n\nx = [1,\n", 4],
  ] as const)("%p: nothing of it is used, and the line is told", (text, line) => {
    const { problem, written, rejected } = readWith(text);
    expect(problem).toMatchObject({ file: settingsFile(), line, key: "agent-settings" });
    expect(problem?.message).toStartWith("is not the TOML that is expected: ");
    expect(problem?.message).not.toContain("\n");
    expect([throttleKeys.flatMap(written), rejected]).toEqual([[], []]);
  });

  test.each([
    ["v2", 'is "v2", and v1 is the one that is known'],
    ["v1beta1-and-more", 'is "v1beta1-an", and v1 is the one that is known'],
    [" \n", "is missing, and v1 is the one that is known"],
  ])("schema-version %j", (schema, message) => {
    const read = readWith(shipped, { schema });
    const file = join(dir, "schema-version");
    expect(read.problem).toEqual({ file, key: "schema-version", message });
    expect([throttleKeys.flatMap(read.written), read.internalMetrics]).toEqual([[], false]);
  });

  test("a schema-version that is not there, beside settings that are", () => {
    writeFileSync(settingsFile(), shipped);
    expect(readAgentConfig(dir).problem?.message).toStartWith("is missing");
  });

  test("a file that cannot be read, or is too long", () => {
    const long = readWith(`# ${"x".repeat(2 ** 20)}`);
    expect(long).toMatchObject({ found: true, problem: { file: settingsFile(), key: "agent-settings" } });
    expect(long.problem?.message).toContain("more than 1048576");
    rmSync(settingsFile());
    mkdirSync(settingsFile());
    expect(readAgentConfig(dir).problem?.message).toStartWith("cannot be read: ");
  });

  test("what should be a table and is none", () => {
    expect(linesOf("\nagent_settings = 5\n")).toEqual([[2, "agent_settings"]]);
    expect(linesOf("[agent_settings]\nnetworkflow_logs_config = true\nfbit_config = 'x'\n")).toEqual([
      [2, "networkflow_logs_config"],
      [3, "fbit_config"],
    ]);
    expect(linesOf("[[agent_settings.networkflow_logs_config]]\nthrottle_rate = 5\n")).toEqual([
      [1, "networkflow_logs_config"],
    ]);
  });

  test("keys that the throttle's table does not have, without their values; those of others are theirs", () => {
    const text = `${shipped}\n[agent_settings.networkflow_logs_config_2]\nx = 1\n`;
    expect(linesOf(text)).toEqual([]);
    const wrong = "[agent_settings.networkflow_logs_config]\nthrottle_rat = 'hush'\n";
    expect(readWith(wrong).rejected).toEqual([
      {
        file: settingsFile(),
        line: 2,
        key: "throttle_rat",
        value: "",
        message: "is no key of this table",
      },
    ]);
    const many = Array.from({ length: 1000 }, (_, at) => `k${at} = 1`);
    const { rejected } = readWith(["[agent_settings.networkflow_logs_config]", ...many].join("\n"));
    expect(rejected).toHaveLength(17);
    expect(rejected.at(-1)).toMatchObject({
      line: 1,
      message: "has 984 more keys that are no keys of this table",
    });
  });

  test("whatever stands in the files, reading them never throws", () => {
    const pieces = fc.constantFrom(
      ...["[agent_settings.networkflow_logs_config]\n", "throttle_rate = ", "throttle_print = ", "[x]\n"],
      ...["5\n", '"a', "true\n", "{", "}\n", "[[", "\u0000", "=", "#", "\n", "'", "2026-01-01\n", "é", "🙂"],
    );
    const text = fc.oneof(
      fc.string(),
      fc.array(pieces, { maxLength: 12 }).map((parts) => parts.join("")),
    );
    fc.assert(
      fc.property(text, fc.constantFrom("v1", "v2"), (settings, schema) => {
        const { problem, rejected, written } = readWith(settings, { schema });
        for (const { file, line = 1 } of [...rejected, ...throttleKeys.flatMap(written)]) {
          expect(file).toBe(settingsFile());
          expect(line).toBeLessThanOrEqual(settings.split("\n").length);
        }
        if (schema === "v2") expect(problem).toBeDefined();
      }),
      { numRuns: 300 },
    );
  });
});

test("its files are named, so that they can be watched before they are there", () => {
  expect(agentConfigFiles("/x")).toEqual(["/x/schema-version", "/x/config-version", "/x/agent-settings"]);
});
