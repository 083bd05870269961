// Settings out of all their files: precedence, what refuses, what is passed over, and changes while running.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError, type ConfigProblem, printConfig } from "../src/config.ts";
import { type LoadOptions, loadSettings, type Settings, watchSettings } from "../src/settings.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "fovea-settings-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

const path = (name: string) => join(directory, name);

function write(name: string, text: string): string {
  mkdirSync(join(path(name), ".."), { recursive: true });
  writeFileSync(path(name), text);
  return path(name);
}

/** The YAML of a run whose configuration map is, or would be, in this directory. */
const yaml = (text = "", throttle = ""): string =>
  write("fovea.yaml", `throttle:\n  agentConfig: ${path("agent")}\n${throttle}${text}`);

function agent(table: string, schema = "v1"): void {
  write("agent/schema-version", schema);
  write("agent/agent-settings", `[agent_settings.networkflow_logs_config]\n${table}`);
}

const load = (changed: Partial<LoadOptions> = {}): Settings =>
  loadSettings({ file: path("fovea.yaml"), env: {}, starting: true, ...changed });

function problemsOf(run: () => unknown): readonly ConfigProblem[] {
  try {
    run();
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  throw new Error("no problem was found");
}

const network = (term: string) =>
  `apiVersion: acn.azure.com/v1alpha1\nkind: ContainerNetworkLog\nmetadata: {name: a}\nspec:\n  includefilters:\n    - ${term}\n`;

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

describe("a running appliance", () => {
  const watch = (files = [path("fovea.yaml")]) => {
    let loads = 0;
    const watched = watchSettings({
      files,
      load: ({ starting }) => {
        loads += 1;
        return load({ starting });
      },
    });
    return { ...watched, loads: () => loads };
  };
  const settled = ({ poll }: ReturnType<typeof watch>) => expect(poll()).toBeUndefined();

  test("tells each change once, good or bad, and reads nothing in between", () => {
    const file = yaml("tick: 1s\n");
    const run = watch();
    const start = run.loads();
    settled(run);
    settled(run);
    expect(run.loads()).toBe(start);
    yaml("tick: 20s\n");
    expect(run.poll()).toMatchObject({ settings: { config: { tick: 20_000 } } });
    settled(run);
    yaml("tick: never\n");
    expect(run.poll()).toMatchObject({ error: { problems: [{ file, line: 3, key: "tick" }] } });
    settled(run);
    rmSync(file);
    expect(run.poll()).toMatchObject({ error: { problems: [{ file }] } });
    settled(run);
    yaml("tick: 30s\n");
    expect(run.poll()).toMatchObject({ settings: { config: { tick: 30_000 } } });
    settled(run);
    expect(run.loads()).toBe(start + 4);
  });

  test("sees a file that is replaced by another of the same size", () => {
    yaml("tick: 1s\n");
    const run = watch();
    write("other", `throttle:\n  agentConfig: ${path("agent")}\ntick: 2s\n`);
    renameSync(path("other"), path("fovea.yaml"));
    expect(run.poll()).toMatchObject({ settings: { config: { tick: 2000 } } });
  });

  test("sees a configuration map that appears, is swapped by its link, breaks, and goes", () => {
    yaml();
    const run = watch();
    expect(run.first.agentConfig.found).toBe(false);
    // As Kubernetes mounts it: the names are links through ..data, which is swapped as a whole.
    const version = (name: string, rate: string) => {
      write(`agent/${name}/schema-version`, "v1");
      write(
        `agent/${name}/agent-settings`,
        `[agent_settings.networkflow_logs_config]\nthrottle_rate = ${rate}\n`,
      );
      symlinkSync(name, path("agent/..data_tmp"));
      renameSync(path("agent/..data_tmp"), path("agent/..data"));
    };
    version("..one", "100");
    for (const name of ["schema-version", "agent-settings"])
      symlinkSync(`..data/${name}`, path(`agent/${name}`));
    expect(run.poll()).toMatchObject({ settings: { throttle: { rate: 100 }, agentConfig: { found: true } } });
    settled(run);
    version("..two", "200");
    expect(run.poll()).toMatchObject({ settings: { throttle: { rate: 200 } } });
    settled(run);
    version("..three", "[");
    expect(run.poll()).toMatchObject({
      error: { problems: [{ file: path("agent/agent-settings"), key: "agent-settings" }] },
    });
    settled(run);
    version("..four", "99999");
    expect(run.poll()).toMatchObject({
      settings: { throttle: { rate: 5000 }, rejected: [{ line: 2, key: "throttle_rate" }] },
    });
    rmSync(path("agent"), { recursive: true });
    expect(run.poll()).toMatchObject({ settings: { agentConfig: { found: false }, rejected: [] } });
  });

  test("follows filter files that a change names, also when it is refused for them", () => {
    yaml();
    const run = watch();
    yaml(`filters: {files: [${path("a.yaml")}]}\n`);
    expect(run.poll()).toMatchObject({ error: { problems: [{ file: path("a.yaml") }] } });
    settled(run);
    write("a.yaml", network("vrdict: dropped"));
    expect(run.poll()).toMatchObject({ error: { problems: [{ file: path("a.yaml"), line: 6 }] } });
    settled(run);
    write("a.yaml", network("verdict: dropped"));
    expect(run.poll()).toMatchObject({ settings: { filters: { include: [{ verdict: ["dropped"] }] } } });
    settled(run);
    yaml();
    expect(run.poll()).toMatchObject({ settings: { filters: { include: [] } } });
    rmSync(path("a.yaml"));
    settled(run);
  });

  test("watches no file for what stands in none", () => {
    const before = process.cwd();
    process.chdir(directory);
    using _back = { [Symbol.dispose]: () => process.chdir(before) };
    yaml();
    const env = { FOVEA_FLOWS_ACTIVE: "20s" };
    const run = watchSettings({ files: [path("fovea.yaml")], load: (how) => load({ ...how, env }) });
    yaml("flows: {idle: 30s}\n");
    expect(run.poll()).toMatchObject({ error: { problems: [{ file: "environment" }] } });
    write("environment", "x");
    expect(run.poll()).toBeUndefined();
  });

  test("sees what is written while it reads", () => {
    yaml(`filters: {files: [${path("a.yaml")}]}\n`);
    write("a.yaml", network("port: 1"));
    let meanwhile = () => {};
    const run = watchSettings({
      files: [path("fovea.yaml")],
      load: ({ starting }) => {
        const settings = load({ starting });
        meanwhile();
        return settings;
      },
    });
    write("a.yaml", network("port: 22"));
    let port = 333;
    meanwhile = () => {
      meanwhile = () => {};
      write("a.yaml", network(`port: ${port}`));
    };
    expect(run.poll()).toMatchObject({ settings: { filters: { include: [{ port: [22] }] } } });
    expect(run.poll()).toMatchObject({ settings: { filters: { include: [{ port: [333] }] } } });
    expect(run.poll()).toBeUndefined();
    // A file that this very load names for the first time.
    write("b.yaml", network("port: 4"));
    port = 55;
    yaml(`filters: {files: [${path("b.yaml")}]}\n`);
    meanwhile = () => {
      meanwhile = () => {};
      write("b.yaml", network(`port: ${port}`));
    };
    expect(run.poll()).toMatchObject({ settings: { filters: { include: [{ port: [55] }] } } });
    expect(run.poll()).toBeUndefined();
  });

  test("a start that is refused throws; a fault of a later load leaves all as it was", () => {
    yaml("tick: never\n");
    expect(() => watch()).toThrow(ConfigError);
    yaml();
    let fault: Error | undefined;
    const run = watchSettings({
      files: [path("fovea.yaml")],
      load: ({ starting }) => {
        if (fault !== undefined) throw fault;
        return load({ starting });
      },
    });
    fault = new Error("out of files");
    yaml("tick: 2s\n");
    expect(run.poll()).toEqual({ error: fault });
    expect(run.poll()).toBeUndefined();
    fault = undefined;
    yaml("tick: 30s\n");
    expect(run.poll()).toMatchObject({ settings: { config: { tick: 30_000 } } });
  });
});
