// fovea service: what it asks of the services of the platform, and what it says; with a stand-in for Windows.

import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { ServiceFacts, Services } from "../src/cli/world.ts";
import { runFovea } from "./cli.world.ts";

const stopped: ServiceFacts = { state: "stopped", exitCode: 0 };
const running: ServiceFacts = { state: "running", pid: 42, exitCode: 0 };

function fakeServices(changed: Partial<Services> = {}) {
  const asked: string[] = [];
  const services: Services = {
    checkInstall: () => undefined,
    checkConfigFile: () => undefined,
    install: ({ args, takeOver }) => {
      asked.push(`install ${args.join(" ")}${takeOver ? ", taking over" : ""}`);
      return Promise.resolve([]);
    },
    uninstall: () => Promise.resolve(true),
    start: () => Promise.resolve(running),
    stop: () => Promise.resolve(stopped),
    status: () => running,
    serve: () => Promise.resolve(0),
    logFile: "C:\\logs\\fovea.log",
    ...changed,
  };
  const run = (...words: readonly string[]) =>
    runFovea(["service", ...words], { openServices: () => Promise.resolve(services) });
  return { asked, run };
}

test.each(["install", "uninstall", "start", "stop", "status", "run"])(
  "where there are none, %s says what to use instead",
  async (verb) => {
    const { code, err } = await runFovea(["service", verb]);
    expect(code).toBe(1);
    expect(err).toBe(
      "fovea: services are of Windows alone: here the service manager of the system runs fovea run, as by " +
        "packaging/systemd/fovea.service\n",
    );
  },
);

describe("install", () => {
  test("gives the service its arguments, with paths from the root", async () => {
    const { asked, run } = fakeServices();
    const flags = [
      "--data-dir",
      "data",
      "--listen",
      "127.0.0.1:1",
      "--replay",
      "a b.ndjson",
      "--replay-loop",
    ];
    expect(await run("install", ...flags)).toMatchObject({ code: 0, err: "" });
    const paths = [
      "--data-dir",
      resolve("data"),
      "--listen",
      "127.0.0.1:1",
      "--replay",
      resolve("a b.ndjson"),
    ];
    expect(asked).toEqual([`install service run ${paths.join(" ")} --replay-loop`]);
  });

  test("takes over the service that is there when it is told to, and says where the store will be", async () => {
    const given: unknown[] = [];
    const { run } = fakeServices({
      install: ({ args, dataDir, takeOver }) => {
        given.push({ args, dataDir, takeOver });
        return Promise.resolve([]);
      },
    });
    expect(await run("install", "--take-over", "--data-dir", "/data")).toMatchObject({ code: 0, err: "" });
    const args = ["service", "run", "--data-dir", "/data"];
    expect(given).toEqual([{ args, dataDir: "/data", takeOver: true }]);
  });

  test("says what could not be set", async () => {
    const { run } = fakeServices({
      install: () => Promise.resolve(["the delayed start could not be set: why"]),
    });
    const { out } = await run("install");
    expect(out).toBe(
      "Fovea is installed and starts with Windows; start it now: fovea service start\n" +
        "but the delayed start could not be set: why\n",
    );
  });

  test("refuses a configuration that would not start", async () => {
    const { asked, run } = fakeServices();
    const directory = mkdtempSync(join(tmpdir(), "fovea-service-"));
    try {
      const file = join(directory, "fovea.yaml");
      writeFileSync(file, "tick: 1s\nlistn: 127.0.0.1:1\n");
      const { code, err } = await run("install", "--config", file);
      expect(code).toBe(1);
      expect(err).toBe(`fovea: ${file}:2: listn is no key of the configuration\n`);
      expect(await run("install", "--listen", "nowhere")).toMatchObject({ code: 2 });
    } finally {
      rmSync(directory, { recursive: true });
    }
    expect(asked).toEqual([]);
  });

  test("asks before anything is read whether the file may be believed", async () => {
    const checked: string[] = [];
    const { asked, run } = fakeServices({
      checkInstall: (file) => {
        checked.push(file);
        throw new Error("of somebody else");
      },
    });
    expect(await run("install", "--config", "nowhere.yaml")).toMatchObject({
      code: 1,
      err: "fovea: of somebody else\n",
    });
    expect({ checked, asked }).toEqual({ checked: [resolve("nowhere.yaml")], asked: [] });
  });
});

describe("start and stop", () => {
  test("say the state that was reached", async () => {
    const { run } = fakeServices();
    expect(await run("start")).toEqual({ code: 0, out: "Fovea is running, process 42\n", err: "" });
    expect(await run("stop")).toEqual({ code: 0, out: "Fovea is stopped\n", err: "" });
  });

  test("fail, and say where to look, when another state was reached", async () => {
    const ended: ServiceFacts = { state: "stopped", exitCode: 2 };
    const pending: ServiceFacts = { state: "stop-pending", pid: 42, exitCode: 0 };
    const { run } = fakeServices({
      start: () => Promise.resolve(ended),
      stop: () => Promise.resolve(pending),
    });
    const see = "see the event log (source Fovea) and C:\\logs\\fovea.log\n";
    expect(await run("start")).toEqual({
      code: 1,
      out: "",
      err: `fovea: the service does not start, it is stopped, exit code 2: ${see}`,
    });
    expect(await run("stop")).toEqual({
      code: 1,
      out: "",
      err: `fovea: the service does not stop, it is stop-pending, process 42: ${see}`,
    });
  });
});

test("status has an exit code: 0 while it runs", async () => {
  expect(await fakeServices().run("status")).toEqual({
    code: 0,
    out: "Fovea is running, process 42\n",
    err: "",
  });
  const { run } = fakeServices({ status: () => stopped });
  expect(await run("status")).toMatchObject({ code: 1, out: "Fovea is stopped\n" });
  const { code, out } = await run("status", "-o", "json");
  expect({ code, facts: JSON.parse(out) }).toEqual({ code: 1, facts: stopped });
});

test("uninstall says what stays, and that none was there", async () => {
  expect((await fakeServices().run("uninstall")).out).toContain("its store, logs and configuration stay");
  const { run } = fakeServices({ uninstall: () => Promise.resolve(false) });
  expect(await run("uninstall")).toMatchObject({ code: 0, err: "" });
});

describe("run", () => {
  const silent = () => undefined;
  const notifier = { ready: silent, reloading: silent, stopping: silent, status: silent, watchdog: silent };

  /** A service manager that asks for the stop as soon as the appliance is ready. */
  function hosting(changed: Partial<Services> = {}) {
    const told: string[] = [];
    const lines: string[] = [];
    const stop = new AbortController();
    const serve: Services["serve"] = async (work) => {
      const ready = () => {
        told.push("ready");
        stop.abort();
      };
      try {
        await work({
          stop: stop.signal,
          notifier: { ...notifier, ready },
          write: (line) => {
            lines.push(line);
          },
          running: () => {
            told.push("running");
          },
        });
        return 0;
      } catch (error) {
        told.push(String(error));
        return 2;
      }
    };
    return { told, lines, ...fakeServices({ serve, ...changed }) };
  }

  test("is running before anything is opened, logs to the service alone, and ends with the stop", async () => {
    const { told, lines, run } = hosting();
    const directory = mkdtempSync(join(tmpdir(), "fovea-service-"));
    const recording = join(import.meta.dir, "fixtures/replay/node.ndjson");
    try {
      const flags = ["--data-dir", directory, "--listen", "127.0.0.1:0", "--replay", recording];
      expect(await run("run", ...flags)).toEqual({ code: 0, out: "", err: "" });
    } finally {
      rmSync(directory, { recursive: true });
    }
    expect(told).toEqual(["running", "ready"]);
    const messages = lines.map((line) => (JSON.parse(line) as { message: string }).message);
    expect([messages[0], messages.at(-1)]).toEqual(["started", "stopped"]);
  });

  test("never runs with a configuration that is wrong, and ends with the code of the service", async () => {
    const { told, run } = hosting();
    expect(await run("run", "--config", "/nowhere/fovea.yaml")).toMatchObject({ code: 2, out: "", err: "" });
    expect(told).toEqual([expect.stringContaining("/nowhere/fovea.yaml: cannot be read: ")]);
  });

  test("never reads a configuration that may not be believed", async () => {
    const { told, run } = hosting({
      checkConfigFile: (file) => {
        throw new Error(`${file} is of somebody else`);
      },
    });
    expect(await run("run", "--config", "/nowhere/fovea.yaml")).toMatchObject({ code: 2, out: "", err: "" });
    expect(told).toEqual(["Error: /nowhere/fovea.yaml is of somebody else"]);
  });
});
