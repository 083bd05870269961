// fovea config with a configuration map beside the file: what does not count is told, what is in force is printed.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runFovea } from "./cli.world.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "fovea-cli-config-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

function file(name: string, text: string): string {
  writeFileSync(join(directory, name), text);
  return join(directory, name);
}

const agent = (table: string): string => {
  file("schema-version", "v1");
  return file("agent-settings", `[agent_settings.networkflow_logs_config]\n${table}`);
};

const yaml = (rest = ""): string => file("fovea.yaml", `throttle:\n  agentConfig: ${directory}\n${rest}`);

test("check: right, and one line for each value that does not count", async () => {
  const map = agent("throttle_rate = 30000\nthrottle_burst = 'hush\\u001b'\n");
  const config = yaml('  throttle_interval: "1d\\e[31m"\n');
  const { code, out, err } = await runFovea(["config", "check", "-c", config]);
  expect({ code, out }).toEqual({ code: 0, out: `${config}: right\n` });
  expect(err.split("\n")).toEqual([
    `fovea: ${map}:2: throttle_rate 30000 is not from 1 to 25000; 5000 is in force`,
    expect.stringMatching(/^fovea: .*yaml:3: throttle_interval "1d.*31m" is no interval; .* is in force$/),
    `fovea: ${map}:3: throttle_burst is no key of this table`,
    "",
  ]);
  expect(err).not.toContain("\u001b");
});

test("check: keys that do nothing with a receiver in order alone are told, and with no other", async () => {
  const idle = "schedule: {backlogWindows: ['22:00-06:00']}, pace: {liveShare: 60%}";
  const sink = (name: string, more: string) =>
    `  - {name: ${name}, type: remote-write, url: "http://127.0.0.1:9/", ${more}}\n`;
  const config = yaml(
    `sinks:\n${sink("plain", idle)}${sink("window", `limits: {outOfOrder: 2h}, ${idle}`)}` +
      sink("victoria", `receiver: victoriametrics, ${idle}`) +
      sink("usual", "pace: {liveShare: 70%}"),
  );
  const { code, err } = await runFovea(["config", "check", "-c", config]);
  expect(code).toBe(0);
  const lines = err.split("\n").map((line) => line.split(":").slice(1).join(":"));
  expect(lines).toEqual([
    expect.stringContaining(`${config}:4: sinks.0.schedule.backlogWindows is not in force: the receiver`),
    expect.stringContaining(`${config}:4: sinks.0.pace.liveShare is not in force: the receiver`),
    "",
  ]);
});

test("check: a window that is shorter than the tick is told", async () => {
  const config = yaml("  throttle_window: 5\ntick: 10s\n");
  const { code, err } = await runFovea(["config", "check", "-c", config]);
  expect(code).toBe(0);
  expect(err).toStartWith(
    `fovea: ${config}:3: throttle_window 5 makes a window of 5s (5 x 1s), shorter than`,
  );
  expect(err).toContain("no more than 50% of throttle_rate");
});

test("check: a broken configuration map is told, a broken filter file refuses", async () => {
  const map = agent("throttle_rate = \n");
  const broken = await runFovea(["config", "check", "-c", yaml()]);
  expect(broken.code).toBe(0);
  const place = `fovea: ${map}:2: agent-settings is not the TOML that is expected: `;
  expect(broken.err).toStartWith(place);
  expect(broken.err).toMatch(/^[^\n]*; nothing of it is in force\n$/);
  const rules = file("rules.yaml", "kind: Pod\n");
  const refused = await runFovea(["config", "check", "-c", yaml(`filters: {files: [${rules}]}\n`)]);
  expect(refused).toMatchObject({ code: 1, out: "" });
  expect(refused.err).toStartWith(`fovea: ${rules}:1: `);
});

test("print: what is in force, and it may be given again", async () => {
  agent('throttle_rate = 100\nthrottle_interval = "3s"\n');
  const first = await runFovea(["config", "print", "-c", yaml("  throttle_window: 60\n")]);
  expect(first).toMatchObject({ code: 0, err: "" });
  for (const line of ["throttle_enabled: true", "throttle_rate: 100", "throttle_window: 60", "reserve: 20%"])
    expect(first.out).toContain(`  ${line}\n`);
  const again = await runFovea(["config", "print", "-c", file("again.yaml", first.out)]);
  expect(again).toEqual(first);
  const json = await runFovea(["config", "print", "-c", yaml(), "-o", "json"]);
  expect(JSON.parse(json.out).throttle).toMatchObject({ throttle_rate: 100, throttle_interval: "3s" });
});
