// Settings that change while they are in force: what is seen, when it is read, and what refuses it.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { renameSync, rmSync, symlinkSync } from "node:fs";
import { ConfigError } from "../src/config.ts";
import { type SettingsWatch, watchSettings } from "../src/settings.ts";
import { agent, load, makeDirectory, network, path, removeDirectory, write, yaml } from "./settings.rig.ts";

beforeEach(makeDirectory);
afterEach(removeDirectory);

describe("a running appliance", () => {
  const watch = (files = [path("fovea.yaml")]) => {
    let loads = 0;
    const watched = watchSettings({
      files,
      load: (time) => {
        loads += 1;
        return load(time);
      },
    });
    return { ...watched, loads: () => loads };
  };
  const settled = ({ poll }: ReturnType<typeof watch>) => expect(poll()).toBeUndefined();
  /** A change is read when a second poll finds it as the first one did. */
  const next = (run: Pick<SettingsWatch, "poll">) => {
    expect(run.poll()).toBeUndefined();
    return run.poll();
  };

  test("tells each change once, good or bad, and reads nothing in between", () => {
    const file = yaml("tick: 1s\n");
    const run = watch();
    const start = run.loads();
    settled(run);
    settled(run);
    expect(run.loads()).toBe(start);
    yaml("tick: 20s\n");
    expect(next(run)).toMatchObject({ settings: { config: { tick: 20_000 } } });
    settled(run);
    yaml("tick: never\n");
    expect(next(run)).toMatchObject({ error: { problems: [{ file, line: 3, key: "tick" }] } });
    settled(run);
    rmSync(file);
    expect(next(run)).toMatchObject({ error: { problems: [{ file }] } });
    settled(run);
    yaml("tick: 30s\n");
    expect(next(run)).toMatchObject({ settings: { config: { tick: 30_000 } } });
    settled(run);
    expect(run.loads()).toBe(start + 4);
  });

  test("does not read a file while it is written, nor the half of it", () => {
    yaml("tick: 20s\nstore: {bytesMax: 10GiB}\n");
    const run = watch();
    const start = run.loads();
    const whole = `throttle:\n  agentConfig: ${path("agent")}\nstore: {bytesMax: 20GiB}\ntick: 30s\n`;
    for (const part of ["", whole.slice(0, -30), whole.slice(0, -10), whole]) {
      write("fovea.yaml", part);
      settled(run);
    }
    expect(run.loads()).toBe(start);
    expect(run.poll()).toMatchObject({
      settings: { config: { tick: 30_000, store: { bytesMax: 20 * 2 ** 30 } } },
    });
    settled(run);
  });

  test("reads a file that never comes to rest all the same", () => {
    yaml();
    const run = watch();
    for (let poll = 1; poll <= 10; poll++) {
      yaml(`# ${"x".repeat(poll)}\ntick: 20s\n`);
      settled(run);
    }
    yaml("tick: 20s\n");
    expect(run.poll()).toMatchObject({ settings: { config: { tick: 20_000 } } });
  });

  test("refuses a file that became empty or went, until something stands in it", () => {
    const file = yaml("tick: 20s\n", "  throttle_rate: 200\n");
    const run = watch();
    const refused = (message: string) => ({ error: { problems: [{ file, key: "", message }] } });
    const way = "what was in force stays. For the defaults write {} into it";
    for (const text of ["", " \n\t\n", "\ufeff"]) {
      write("fovea.yaml", text);
      expect(next(run)).toMatchObject(refused(`is empty; ${way}`));
      settled(run);
    }
    rmSync(file);
    expect(next(run)).toMatchObject(refused(`is gone; ${way}`));
    settled(run);
    write("fovea.yaml", "");
    expect(next(run)).toMatchObject(refused(`is empty; ${way}`));
    write("fovea.yaml", "{}\n");
    expect(next(run)).toMatchObject({ settings: { throttle: { rate: 5000 }, config: { tick: 1000 } } });
    write("fovea.yaml", "# tick: 2s\n");
    expect(next(run)).toMatchObject({ settings: { config: { tick: 1000 } } });
  });

  test("takes an empty file for the defaults where none had content before", () => {
    write("fovea.yaml", "");
    const run = watch();
    write("fovea.yaml", "\n");
    expect(next(run)).toMatchObject({ settings: { config: { tick: 1000 } } });
    write("fovea.yaml", "tick: 2s\n");
    expect(next(run)).toMatchObject({ settings: { config: { tick: 2000 } } });
    write("fovea.yaml", "\n");
    expect(next(run)).toMatchObject({ error: { problems: [{ file: path("fovea.yaml") }] } });
  });

  test("refuses settings of a configuration map that became empty, and takes a map that is deleted", () => {
    yaml();
    agent("throttle_rate = 100\n");
    const run = watch();
    write("agent/agent-settings", "\n");
    const [file, message] = [path("agent/agent-settings"), expect.stringContaining("is empty; what was")];
    expect(next(run)).toMatchObject({ error: { problems: [{ file, message }] } });
    write("agent/agent-settings", "[agent_settings]\n");
    expect(next(run)).toMatchObject({ settings: { throttle: { rate: 5000 } } });
    agent("throttle_rate = 300\n");
    expect(next(run)).toMatchObject({ settings: { throttle: { rate: 300 } } });
    rmSync(path("agent"), { recursive: true });
    expect(next(run)).toMatchObject({ settings: { throttle: { rate: 5000 } } });
  });

  test("passes a broken map over again while it was passed over, and refuses one that was good", () => {
    agent("throttle_rate = \n");
    yaml();
    const run = watch();
    const told = [{ file: path("agent/agent-settings"), key: "agent-settings" }];
    expect(run.first.rejected).toMatchObject(told);
    yaml("tick: 20s\n");
    expect(next(run)).toMatchObject({ settings: { config: { tick: 20_000 }, rejected: told } });
    agent("throttle_rate = = \n");
    expect(next(run)).toMatchObject({ settings: { config: { tick: 20_000 }, rejected: told } });
    agent("throttle_rate = 100\n");
    expect(next(run)).toMatchObject({ settings: { throttle: { rate: 100 }, rejected: [] } });
    agent("throttle_rate = \n");
    expect(next(run)).toMatchObject({ error: { problems: told } });
    yaml("tick: 30s\n");
    expect(next(run)).toMatchObject({ error: { problems: told } });
  });

  test("sees a file that is replaced by another of the same size", () => {
    yaml("tick: 1s\n");
    const run = watch();
    write("other", `throttle:\n  agentConfig: ${path("agent")}\ntick: 2s\n`);
    renameSync(path("other"), path("fovea.yaml"));
    expect(next(run)).toMatchObject({ settings: { config: { tick: 2000 } } });
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
    expect(next(run)).toMatchObject({ settings: { throttle: { rate: 100 }, agentConfig: { found: true } } });
    settled(run);
    version("..two", "200");
    expect(next(run)).toMatchObject({ settings: { throttle: { rate: 200 } } });
    settled(run);
    version("..three", "[");
    expect(next(run)).toMatchObject({
      error: { problems: [{ file: path("agent/agent-settings"), key: "agent-settings" }] },
    });
    settled(run);
    version("..four", "99999");
    expect(next(run)).toMatchObject({
      settings: { throttle: { rate: 5000 }, rejected: [{ line: 2, key: "throttle_rate" }] },
    });
    rmSync(path("agent"), { recursive: true });
    expect(next(run)).toMatchObject({ settings: { agentConfig: { found: false }, rejected: [] } });
  });

  test("follows filter files that a change names, also when it is refused for them", () => {
    yaml();
    const run = watch();
    yaml(`filters: {files: [${path("a.yaml")}]}\n`);
    expect(next(run)).toMatchObject({ error: { problems: [{ file: path("a.yaml") }] } });
    settled(run);
    write("a.yaml", network("vrdict: dropped"));
    expect(next(run)).toMatchObject({ error: { problems: [{ file: path("a.yaml"), line: 6 }] } });
    settled(run);
    write("a.yaml", network("verdict: dropped"));
    expect(next(run)).toMatchObject({ settings: { filters: { include: [{ verdict: ["dropped"] }] } } });
    settled(run);
    yaml();
    expect(next(run)).toMatchObject({ settings: { filters: { include: [] } } });
    rmSync(path("a.yaml"));
    settled(run);
  });

  test("watches no file for what stands in none", () => {
    const before = process.cwd();
    process.chdir(path("."));
    using _back = { [Symbol.dispose]: () => process.chdir(before) };
    yaml();
    const env = { FOVEA_FLOWS_ACTIVE: "20s" };
    const run = watchSettings({ files: [path("fovea.yaml")], load: (time) => load({ ...time, env }) });
    yaml("flows: {idle: 30s}\n");
    expect(next(run)).toMatchObject({ error: { problems: [{ file: "environment" }] } });
    write("environment", "x");
    expect(run.poll()).toBeUndefined();
  });

  test("sees what is written while it reads", () => {
    yaml(`filters: {files: [${path("a.yaml")}]}\n`);
    write("a.yaml", network("port: 1"));
    let meanwhile = () => {};
    const run = watchSettings({
      files: [path("fovea.yaml")],
      load: (time) => {
        const settings = load(time);
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
    expect(next(run)).toMatchObject({ settings: { filters: { include: [{ port: [22] }] } } });
    expect(next(run)).toMatchObject({ settings: { filters: { include: [{ port: [333] }] } } });
    expect(run.poll()).toBeUndefined();
    // A file that this very load names for the first time.
    write("b.yaml", network("port: 4"));
    port = 55;
    yaml(`filters: {files: [${path("b.yaml")}]}\n`);
    meanwhile = () => {
      meanwhile = () => {};
      write("b.yaml", network(`port: ${port}`));
    };
    expect(next(run)).toMatchObject({ settings: { filters: { include: [{ port: [55] }] } } });
    expect(run.poll()).toBeUndefined();
  });

  test("a start that is refused throws; a fault of a later load leaves all as it was", () => {
    yaml("tick: never\n");
    expect(() => watch()).toThrow(ConfigError);
    yaml();
    let fault: Error | undefined;
    const run = watchSettings({
      files: [path("fovea.yaml")],
      load: (time) => {
        if (fault !== undefined) throw fault;
        return load(time);
      },
    });
    fault = new Error("out of files");
    yaml("tick: 2s\n");
    expect(next(run)).toEqual({ error: fault });
    expect(run.poll()).toBeUndefined();
    fault = undefined;
    yaml("tick: 30s\n");
    expect(next(run)).toMatchObject({ settings: { config: { tick: 30_000 } } });
  });
});
