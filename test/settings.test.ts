// Settings out of all their files: precedence, what refuses, and what is passed over.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { ConfigError, type ConfigProblem, printConfig } from "../src/config.ts";
import { loadSettings, type Settings } from "../src/settings.ts";
import { agent, load, makeDirectory, network, path, removeDirectory, write, yaml } from "./settings.rig.ts";

beforeEach(makeDirectory);
afterEach(removeDirectory);

function problemsOf(run: () => unknown): readonly ConfigProblem[] {
  try {
    run();
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  throw new Error("no problem was found");
}

describe("one load", () => {
  test("without any file: defaults, and the places to watch", () => {
    const settings = loadSettings({
      env: { FOVEA_THROTTLE_AGENT_CONFIG: path("agent") },
      starting: true,
    });
    expect(settings).toMatchObject({
      config: { tick: 1000, throttle: { throttle_enabled: true, throttle_rate: 5000 } },
      throttle: { enabled: true, mode: "window", rate: 5000, window: 300, intervalMs: 1000, reserve: 0.2 },
      filters: { include: [], exclude: [] },
      internalMetrics: false,
      agentConfig: { dir: path("agent"), found: false },
      rejected: [],
    });
    expect(settings.files).toEqual(
      ["schema-version", "config-version", "agent-settings"].map((name) => path(`agent/${name}`)),
    );
  });

  test("command line over environment over YAML over configuration map over default, key by key", () => {
    agent('throttle_rate = 1\nthrottle_window = 11\nthrottle_interval = "11s"\nthrottle_print = true\n');
    write("agent/config-version", "ver1");
    yaml("", "  throttle_rate: 2\n  throttle_window: 22\n  throttle_interval: 22s\n");
    const settings = load({
      env: { FOVEA_THROTTLE_RATE: "3", FOVEA_THROTTLE_WINDOW: "33" },
      overrides: { throttle: { throttle_rate: 4 } },
    });
    expect(settings.throttle).toEqual({
      enabled: true,
      mode: "window",
      rate: 4,
      window: 33,
      intervalMs: 22_000,
      reserve: 0.2,
      print: true,
      tickMs: 1000,
    });
    expect(settings.agentConfig).toEqual({
      ...{ dir: path("agent"), found: true, schemaVersion: "v1", configVersion: "ver1" },
    });
    expect(settings.rejected).toEqual([]);
  });

  test("what is written in YAML counts even where it is the default", () => {
    agent("throttle_enabled = false\nthrottle_rate = 100\n");
    yaml("", "  throttle_enabled: true\n");
    expect(load().throttle).toMatchObject({ enabled: true, rate: 100 });
    yaml("", "  throttle_enabled:\n");
    expect(load().throttle).toMatchObject({ enabled: false, rate: 5000 });
  });

  test("values that do not count are told with file and line, and refuse nothing", () => {
    agent("throttle_rate = 30000\nthrottle_burst = 5\nthrottle_window = 5.0\n");
    const file = yaml("", "  throttle_interval: 1d\n  throttle_print: [yes]\n  throttle_window: 1\n");
    const { rejected, throttle } = load({ env: { FOVEA_THROTTLE_ENABLED: "TRUE" }, starting: false });
    expect(throttle).toMatchObject({ enabled: true, rate: 5000, window: 5, intervalMs: 1000, print: false });
    const map = path("agent/agent-settings");
    expect(rejected.map((value) => [value.file, value.line, value.key, value.value])).toEqual([
      [map, 2, "throttle_rate", "30000"],
      [file, 5, "throttle_window", "1"],
      [map, 4, "throttle_window", "5.0"],
      [file, 3, "throttle_interval", '"1d"'],
      [file, 4, "throttle_print", '["yes"]'],
      [map, 3, "throttle_burst", ""],
    ]);
  });

  test("the printed configuration has what is in force, and reads back so", () => {
    agent('throttle_rate = 123\nthrottle_window = 1\nthrottle_interval = "0.5h"\n');
    yaml("filters: {include: [{verdict: dropped}]}\n", "  reserve: 33.3%\n");
    const first = load();
    const text = printConfig(first.config);
    expect(text).toMatch(/throttle_rate: 123\n {2}throttle_window: 5\n {2}throttle_interval: 0.5h\n/);
    write("again.yaml", text);
    const again = load({ file: path("again.yaml") });
    expect(again.config).toEqual(first.config);
    expect(again.throttle).toEqual(first.throttle);
    expect(again.rejected.map(({ file, key }) => [file, key])).toEqual([
      [path("agent/agent-settings"), "throttle_window"],
    ]);
    rmSync(path("agent"), { recursive: true });
    const off = load({ env: { FOVEA_THROTTLE_ENABLED: "off" } });
    expect(off.rejected).toMatchObject([{ file: "environment", key: "throttle_enabled", value: '"off"' }]);
    write("again.yaml", printConfig(off.config));
    expect(load({ file: path("again.yaml") })).toMatchObject({ throttle: off.throttle, rejected: [] });
  });

  test("rules of filter files join those of the configuration", () => {
    write("a.yaml", `${network("verdict: dropped")}---\n${network("port: 53")}`);
    write("b.yaml", network("protocol: udp"));
    yaml(
      `filters:\n  include: [{direction: egress}]\n  exclude: [{to: {ip: 10.0.0.1}}]\n  files: [${path("a.yaml")}, ${path("b.yaml")}]\n`,
    );
    const { filters, files } = load();
    expect(filters).toEqual({
      include: [{ direction: ["egress"] }, { verdict: ["dropped"] }, { port: [53] }, { protocol: ["udp"] }],
      exclude: [{ to: { ip: ["10.0.0.1"] } }],
    } as unknown as Settings["filters"]);
    expect(files).toContain(path("a.yaml"));
    expect(files).toContain(path("b.yaml"));
    expect(files).toContain(path("fovea.yaml"));
  });

  test("filter files that are broken, missing, or too many rules refuse it, all at once", () => {
    write("a.yaml", network("vrdict: dropped"));
    yaml(`filters:\n  files: [${path("a.yaml")}, ${path("absent.yaml")}]\n`);
    for (const starting of [true, false]) {
      const problems = problemsOf(() => load({ starting }));
      expect(problems.map(({ file, line, key }) => [file, line, key])).toEqual([
        [path("a.yaml"), 6, "spec.includefilters.0.vrdict"],
        [path("absent.yaml"), undefined, ""],
      ]);
    }
    write("a.yaml", network(Array(200).fill("port: 1").join("\n    - ")));
    write("b.yaml", network(Array(57).fill("port: 1").join("\n    - ")));
    yaml(`filters:\n  files: [${path("a.yaml")}, ${path("b.yaml")}]\n`);
    expect(problemsOf(load)[0]?.message).toContain("257 include rules");
  });

  test("a broken configuration map is passed over at a start, and refuses a change", () => {
    yaml("", "  throttle_window: 60\n");
    for (const [table, schema, file, line, key] of [
      ["throttle_rate = \n", "v1", "agent-settings", 2, "agent-settings"],
      ["throttle_rate = 5\n", "v2", "schema-version", undefined, "schema-version"],
    ] as const) {
      agent(table, schema);
      const { throttle, rejected, agentConfig } = load();
      expect(throttle).toMatchObject({ rate: 5000, window: 60 });
      expect(agentConfig).toMatchObject({ found: true, schemaVersion: schema });
      expect(rejected.map((value) => [value.file, value.line, value.key])).toEqual([
        [path(`agent/${file}`), line, key],
      ]);
      expect(problemsOf(() => load({ starting: false }))).toMatchObject([
        { file: path(`agent/${file}`), key },
      ]);
    }
  });
});
