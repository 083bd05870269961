// The shipped fovea.exe in wine: what it holds, a recording played, scraped, asked and stopped, killed and started again.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { compileStub, openWine, type Running, type Wine, windowsPath, wineLacks } from "../wine.rig.ts";

setDefaultTimeout(120_000);

const root = join(import.meta.dir, "../..");
const exe = join(root, "dist/fovea.exe");
const recording = join(root, "test/fixtures/replay/node.ndjson");
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

if (wineLacks.length > 0)
  console.error(`SKIPPED: fovea.exe needs wine; missing here: ${wineLacks.join(", ")}`);

test("holds what Windows needs, and nothing that Linux does", () => {
  const holds = (file: string) => {
    const bytes = readFileSync(join(root, "dist", file));
    const has = (text: string): boolean => bytes.includes(text);
    return {
      addons: ["linux-x64", "win32-x64"].filter((name) => has(`/root/${name}-`)),
      objects: has("/root/bpf/flows.bpf.o"),
      libraries: has("/root/lib/libbpf.so.1"),
      worker: has("/root/windows/hns-worker.js"),
    };
  };
  const none = { objects: false, libraries: false };
  expect(holds("fovea.exe")).toEqual({ addons: ["win32-x64"], ...none, worker: true });
  const linux = { objects: true, libraries: true, worker: false };
  expect(holds("fovea")).toEqual({ addons: [`linux-${process.arch}`], ...linux });
});

describe.skipIf(wineLacks.length > 0)("in wine", () => {
  let wine: Wine;
  beforeAll(async () => {
    wine = openWine({ stubs: [] });
    await wine.hold(); // Else each program starts a Windows of its own, 2 s.
  });
  afterAll(() => wine[Symbol.dispose]());

  async function until<T>(what: string, look: () => T | undefined | Promise<T | undefined>): Promise<T> {
    const giveUpAt = performance.now() + 60_000;
    for (;;) {
      const seen = await look();
      if (seen !== undefined) return seen;
      if (performance.now() > giveUpAt) throw new Error(`not within 60 s: ${what}`);
      await Bun.sleep(20);
    }
  }

  /** Plays the recording; resolves when it listens. */
  async function start(dir: string): Promise<{ readonly run: Running; readonly url: string }> {
    const words = ["run", "--data-dir", `C:\\${dir}`, "--listen", "127.0.0.1:0"];
    const run = wine.start([exe, ...words, "--replay", windowsPath(recording)]);
    const ended = run.exited.then((code) => {
      throw new Error(`ended with ${code}: ${run.errors()}`);
    });
    const url = until("it listens", () => /"message":"started".*"url":"([^"]+)"/.exec(run.errors())?.[1]);
    return { run, url: await Promise.race([url, ended]) };
  }

  async function stop(run: Running): Promise<number> {
    run.signal("SIGINT"); // Ctrl-C, to the program.
    return run.exited;
  }

  type Rows = readonly { readonly seq: number; readonly source: string; readonly packets: number }[];

  async function rowsOf(url: string): Promise<Rows> {
    const response = await fetch(`${url}/api/v1/flows?limit=1000`);
    expect(response.status).toBe(200);
    const { flows } = (await response.json()) as { flows: Rows };
    return flows;
  }

  const someRows = (url: string): Promise<Rows> =>
    until("rows", async () => {
      const rows = await rowsOf(url);
      return rows.length > 0 ? rows : undefined;
    });

  /** What the program of SQLite on this machine reads in a store that was written on Windows. */
  const sqlite = (dir: string, statement: string): string => {
    const file = join(wine.drive, dir, "fovea.db");
    const done = Bun.spawnSync(["sqlite3", "-readonly", file, statement]);
    return `${done.stdout}${done.stderr}`.trim();
  };

  test("says its version", async () => {
    const { out, errors, exitCode } = await wine.run([exe, "version"]);
    expect({ errors, exitCode }).toEqual({ errors: "", exitCode: 0 });
    expect(out.trim()).toStartWith(`fovea ${version}`);
    expect(out.trim()).toEndWith(`, win32 x64, Bun ${Bun.version}`);
  });

  test("prints its configuration, and reads no .env and no bunfig.toml where it is started", async () => {
    writeFileSync(join(wine.drive, ".env"), "FOVEA_LISTEN=127.0.0.1:1\n");
    writeFileSync(join(wine.drive, "bunfig.toml"), 'preload = ["./preload.ts"]\n');
    writeFileSync(join(wine.drive, "preload.ts"), 'console.log("preloaded");\n');
    const print = (env: Record<string, string>) => wine.run([exe, "config", "print"], { env });
    const { out, errors, exitCode } = await print({});
    expect({ errors, exitCode }).toEqual({ errors: "", exitCode: 0 });
    expect(out).toContain("\nlisten: 127.0.0.1:10093\n");
    expect(out).not.toContain("preloaded");
    const told = await print({ FOVEA_LISTEN: "127.0.0.1:2" });
    expect(told.out).toContain("\nlisten: 127.0.0.1:2\n");
  });

  test("plays a recording: scrape, rows, a clean stop, and a store that sqlite3 reads here", async () => {
    const { run, url } = await start("played");
    const rows = await someRows(url);
    const scrape = await until("a scrape with traffic", async () => {
      const text = await (await fetch(`${url}/metrics`)).text();
      return /^kappie_forward_count\{.*Direction="ingress"/m.test(text) ? text : undefined;
    });
    expect(scrape).toMatch(/^fovea_build_info\{.*os="win32",arch="x64"/m);
    expect(await (await fetch(`${url}/readyz`)).json()).toEqual({ ready: true, reasons: [] });
    expect(await stop(run)).toBe(0);
    expect(run.errors().trimEnd().split("\n").at(-1)).toContain('"message":"stopped"');

    expect(sqlite("played", "PRAGMA integrity_check")).toBe("ok");
    expect(Number(sqlite("played", "SELECT count(*) FROM flows"))).toBeGreaterThanOrEqual(rows.length);
  });

  test("the end of its container stops it in time, with its last rows kept", async () => {
    const { run, url } = await start("contained");
    const rows = await someRows(url);
    const shutdown = await wine.run([compileStub(join(import.meta.dir, "shutdown-console.c"))]);
    expect(shutdown.exitCode).toBe(0);
    expect(await run.exited).toBe(0);
    expect(run.errors().trimEnd().split("\n").at(-1)).toContain('"message":"stopped"');
    expect(sqlite("contained", "PRAGMA integrity_check")).toBe("ok");
    expect(Number(sqlite("contained", "SELECT count(*) FROM flows"))).toBeGreaterThanOrEqual(rows.length);
  });

  test("a second one on the same directory is refused, and the first goes on", async () => {
    const { run, url } = await start("taken");
    const words = ["run", "--data-dir", "C:\\taken", "--listen", "127.0.0.1:0"];
    const second = await wine.run([exe, ...words, "--replay", windowsPath(recording)]);
    expect(second.exitCode).toBe(1);
    expect(second.errors).toMatch(/C:\\taken\\fovea\.lock is held by process \d+/);
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    expect(await stop(run)).toBe(0);
  });

  test("killed at any moment, it starts again with every row that was seen", async () => {
    let seen: Rows = [];
    for (let kills = 0; kills < 3; kills++) {
      const { run, url } = await start("killed");
      const before = await someRows(url);
      expect(before).toEqual(expect.arrayContaining([...seen]));
      const count = before.length;
      seen = await until("more rows", async () => {
        const rows = await rowsOf(url);
        return rows.length > count ? rows : undefined;
      });
      run.signal("SIGKILL");
      await run.exited;
    }
    const { run, url } = await start("killed");
    expect(await rowsOf(url)).toEqual(expect.arrayContaining([...seen]));
    expect(await stop(run)).toBe(0);
    expect(sqlite("killed", "PRAGMA integrity_check")).toBe("ok");
  });
});
