// fovea.exe as a service in wine: installed, started, scraped, stopped, killed, started again, wrongly configured, gone.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { controlBytes } from "../../windows/console-control.ts";
import { thunkBytes } from "../../windows/service-thunk.ts";
import {
  compileStub,
  installProgram,
  openWine,
  type Running,
  type Wine,
  windowsPath,
  wineLacks,
} from "../wine.rig.ts";

setDefaultTimeout(120_000);

const root = join(import.meta.dir, "../..");
const exe = join(root, "dist/fovea.exe");
const recording = windowsPath(join(root, "test/fixtures/replay/node.ndjson"));

/** One that nobody listens on; the service must be told a number, so that it is found again after each start. */
function freeUrl(): string {
  using server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
  return `http://127.0.0.1:${server.port}`;
}
const url = freeUrl();
const wineserver = "/usr/lib/wine/wineserver64";
const disassembler = "x86_64-w64-mingw32-objdump";

if (wineLacks.length > 0)
  console.error(`SKIPPED: the service needs wine; missing here: ${wineLacks.join(", ")}`);

/** `mov rcx,QWORD PTR [rip+0xff5]        # 0x1000` and `mov rcx,[0x1000]` are one. */
const plain = (assembly: string): string =>
  assembly
    .replace(/\[rip\+0x[0-9a-f]+\](.*)\s+# (0x[0-9a-f]+)/, "[$2]$1")
    .replace(/(QWORD|DWORD) PTR |dword /g, "")
    .replace(/0xffffffffffffffff/, "-1")
    .replace(/\b0x([0-9a-f]+)\b/g, (_, digits: string) => String(Number.parseInt(digits, 16)))
    .replace(/\s+/g, " ")
    .trim();

describe.skipIf(wineLacks.length > 0)("the machine code", () => {
  test.each([
    ["service-thunk.ts", thunkBytes],
    ["console-control.ts", controlBytes],
  ])("of %s is what its listing says", (name, bytes) => {
    const source = readFileSync(join(root, "windows", name), "utf8");
    const listed = [...source.matchAll(/^ {2}"(?:[0-9a-f]{2} ?)+", \/\/ +(?:0x[0-9a-f]+: )?(.+)$/gm)]
      .map(([, text = ""]) => text.split(/\s{2,}/)[0] ?? "")
      .filter((text) => !text.startsWith("nop"));
    const scratch = mkdtempSync(join(tmpdir(), "fovea-thunk-"));
    const file = join(scratch, "thunk.bin");
    writeFileSync(file, bytes);
    const words = ["-D", "-b", "binary", "-m", "i386:x86-64", "-M", "intel", "--no-show-raw-insn", file];
    const done = Bun.spawnSync([disassembler, ...words]);
    rmSync(scratch, { recursive: true });
    const made = done.stdout
      .toString()
      .split("\n")
      .flatMap((line) => /^\s+[0-9a-f]+:\t(.*)$/.exec(line)?.[1] ?? [])
      .filter((text) => text.trim() !== "nop");
    expect(made.length).toBeGreaterThan(10);
    expect(made.map(plain)).toEqual(listed.map(plain));
  });
});

type Rows = readonly { readonly seq: number; readonly source: string; readonly packets: number }[];

describe.skipIf(wineLacks.length > 0)("in wine", () => {
  let wine: Wine;
  let program: string;
  beforeAll(async () => {
    wine = openWine({ stubs: [] });
    program = installProgram(wine, exe);
    await wine.hold();
    mkdirSync(join(wine.drive, "my config"));
  });
  afterAll(() => wine[Symbol.dispose]());

  const service = (...words: readonly string[]) => wine.run([program, "service", ...words]);

  async function done(...words: readonly string[]): Promise<string> {
    const { out, errors, exitCode } = await service(...words);
    expect({ errors, exitCode }).toEqual({ errors: "", exitCode: 0 });
    return out.trim();
  }

  type Facts = { readonly state: string; readonly pid?: number; readonly exitCode: number };
  const status = async (): Promise<Facts> => JSON.parse((await service("status", "-o", "json")).out);

  async function until<T>(what: string, look: () => T | undefined | Promise<T | undefined>): Promise<T> {
    const giveUpAt = performance.now() + 60_000;
    for (;;) {
      const seen = await look();
      if (seen !== undefined) return seen;
      if (performance.now() > giveUpAt) throw new Error(`not within 60 s: ${what}`);
      await Bun.sleep(20);
    }
  }

  const answer = async (path: string): Promise<string | undefined> => {
    try {
      const response = await fetch(`${url}${path}`);
      return response.status === 200 ? await response.text() : undefined;
    } catch {
      return undefined; // It does not listen yet.
    }
  };

  async function rows(): Promise<Rows> {
    const text = await until("an answer", () => answer("/api/v1/flows?limit=1000"));
    return (JSON.parse(text) as { flows: Rows }).flows;
  }

  const someRows = (count: number): Promise<Rows> =>
    until("rows", async () => {
      const found = await rows();
      return found.length >= count ? found : undefined;
    });

  const sqlite = (statement: string): string => {
    const file = join(wine.drive, "my data/fovea.db");
    const run = Bun.spawnSync(["sqlite3", "-readonly", file, statement]);
    return `${run.stdout}${run.stderr}`.trim();
  };

  const registry = async (key: string): Promise<string> => {
    const { out, exitCode } = await wine.run([
      "reg",
      "query",
      `HKLM\\SYSTEM\\CurrentControlSet\\${key}`,
      "/s",
    ]);
    return exitCode === 0 ? out : "";
  };

  const configFile = "C:\\my config\\fovea.yaml";
  const configure = (text: string) => writeFileSync(join(wine.drive, "my config/fovea.yaml"), text);
  const words = ["--config", configFile, "--data-dir", "C:\\my data", "--replay", recording];

  // Wine gives services another ProgramData than programs.
  const logs = join("users/Public/Fovea/logs/fovea.log");
  const log = (): string => readFileSync(join(wine.drive, logs), "utf8");

  /** A process that has the service open. */
  async function hold(): Promise<Running> {
    const holding = wine.start([compileStub(join(import.meta.dir, "service-holder.c")), "Fovea"]);
    await until("it is open", () => (holding.errors().includes("open") ? true : undefined));
    return holding;
  }

  test("where there is no service, each verb says so in one line, and uninstall has nothing to do", async () => {
    for (const verb of ["start", "stop", "status"]) {
      const { errors, exitCode } = await service(verb);
      expect({ verb, exitCode }).toEqual({ verb, exitCode: 1 });
      expect(errors.trim()).toMatch(
        /^fovea: the service cannot be .*: there is no service Fovea: fovea service install makes it \(error 1060\)$/,
      );
    }
    expect(await done("uninstall")).toContain("is not installed as a service");
  });

  test("in a console, run says what to use instead", async () => {
    const { errors, exitCode } = await service("run");
    expect(exitCode).toBe(1);
    expect(errors.trim()).toBe(
      "fovea: service run is for the service manager alone: use fovea service start, or fovea run in a console",
    );
  });

  test("a configuration that is wrong is not installed", async () => {
    configure("listen: nowhere\n");
    const { errors, exitCode } = await service("install", ...words);
    expect(exitCode).toBe(1);
    expect(errors).toContain(`${configFile}:1: listen `);
    expect(await registry("Services\\Fovea")).toBe("");
  });

  test("is installed with its path in quotation marks, and once", async () => {
    configure(`listen: ${new URL(url).host}\n`);
    expect(await done("install", ...words)).toStartWith("Fovea is installed and starts with Windows");
    const key = await registry("Services\\Fovea");
    expect(key).toContain(
      `ImagePath    REG_SZ    "C:\\Program Files\\Fovea\\fovea.exe" service run --config "${configFile}" --data-dir "C:\\my data" `,
    );
    expect(key).toMatch(/ObjectName +REG_SZ +LocalSystem/);
    expect(key).toMatch(/Start +REG_DWORD +0x2/);
    expect(key).toMatch(/PreshutdownTimeout +REG_DWORD +0x9c40/);
    expect(await registry("Services\\EventLog\\Application\\Fovea")).toContain("EventCreate.exe");
    const { errors, exitCode } = await service("install", ...words);
    expect(exitCode).toBe(1);
    expect(errors.trim()).toBe(
      "fovea: the service cannot be installed: Fovea is installed already: " +
        "to install it differently, fovea service uninstall first (error 1073)",
    );
  });

  test("is taken over when that is asked for, while another program has it open", async () => {
    const holding = await hold();
    await wine.run(["sc", "config", "Fovea", "binPath=", "C:\\another.exe"]);
    expect(await done("install", "--take-over", ...words)).toStartWith("Fovea is installed");
    const key = await registry("Services\\Fovea");
    expect(key).toContain(`"C:\\Program Files\\Fovea\\fovea.exe" service run --config "${configFile}"`);
    holding.signal("SIGKILL");
    await holding.exited;
  });

  test("deleted while another program has it open, it is waited for, and then told of in one line", async () => {
    const holding = await hold();
    await done("uninstall");
    const { errors, exitCode } = await service("install", "--take-over", ...words);
    expect(exitCode).toBe(1);
    expect(errors.trim()).toBe(
      "fovea: the service cannot be installed: Fovea was deleted, but another program still has it open: " +
        "close services.msc and the like, or restart Windows (error 1072)",
    );
    const installing = done("install", ...words);
    holding.signal("SIGKILL");
    expect(await installing).toStartWith("Fovea is installed");
  });

  test("runs, is scraped, and stops with its last rows kept", async () => {
    expect(await done("start")).toMatch(/^Fovea is running, process \d+$/);
    expect(await done("start")).toMatch(/^Fovea is running, process \d+$/); // As good.
    expect(await status()).toMatchObject({ state: "running", exitCode: 0 });
    const seen = await someRows(2);
    const scrape = await until("a scrape", () => answer("/metrics"));
    expect(scrape).toMatch(/^fovea_build_info\{.*os="win32"/m);
    expect(await done("stop")).toBe("Fovea is stopped");
    expect(await done("stop")).toBe("Fovea is stopped");
    expect(await status()).toEqual({ state: "stopped", exitCode: 0 });
    expect(log().trimEnd().split("\n").at(-1)).toContain('"message":"stopped"');
    expect(sqlite("PRAGMA integrity_check")).toBe("ok");
    expect(Number(sqlite("SELECT count(*) FROM flows"))).toBeGreaterThanOrEqual(seen.length);
  });

  test("killed like the whole machine, it starts with Windows, with the rows that were there", async () => {
    const before = Number(sqlite("SELECT count(*) FROM flows"));
    await done("start");
    const seen = await someRows(before + 1);
    const { pid } = await status();
    expect((await wine.run(["taskkill", "/f", "/pid", String(pid)])).exitCode).toBe(0);
    await until("its end", async () => ((await answer("/healthz")) === undefined ? true : undefined));
    expect(log().trimEnd().split("\n").at(-1)).not.toContain('"message":"stopped"');
    // Wine's service manager does not notice, and would not start it: it goes down as well.
    Bun.spawnSync([wineserver, "-k"], { env: wine.env });
    Bun.spawnSync([wineserver, "-w"], { env: wine.env });
    await wine.hold();
    expect(await someRows(seen.length)).toEqual(expect.arrayContaining([...seen]));
    expect((await status()).state).toBe("running");
    await done("stop");
    expect(sqlite("PRAGMA integrity_check")).toBe("ok");
  });

  test("a wrong configuration ends it with a code, and the log says file, line and key", async () => {
    configure(`listen: ${new URL(url).host}\nstore:\n  bytesMax: much\n`);
    const { errors, exitCode } = await service("start");
    expect(exitCode).toBe(1);
    expect(errors).toContain("the service does not start, it is stopped, exit code 2: see the event log");
    expect(await status()).toEqual({ state: "stopped", exitCode: 2 });
    const last = log().trimEnd().split("\n").at(-1) ?? "";
    expect(JSON.parse(last)).toMatchObject({ level: "error", message: "the service ends" });
    expect(JSON.parse(last).error).toStartWith(`${configFile}:3: store.bytesMax `);
    configure(`listen: ${new URL(url).host}\n`);
  });

  test("a port that is taken ends it with another code", async () => {
    using other = Bun.serve({
      port: Number(new URL(url).port),
      hostname: "127.0.0.1",
      fetch: () => new Response(),
    });
    await service("start");
    const facts = await until("its end", async () => {
      const found = await status();
      return found.state === "stopped" ? found : undefined;
    });
    expect(facts.exitCode).toBe(1);
    expect(log()).toContain(`127.0.0.1:${other.port}`);
  });

  test("uninstalled while it runs, it stops first and leaves no key behind", async () => {
    await done("start");
    await until("it listens", () => answer("/healthz"));
    expect(await done("uninstall")).toContain("is uninstalled as a service; its store");
    expect(await answer("/healthz")).toBeUndefined();
    expect(log().trimEnd().split("\n").at(-1)).toContain('"message":"stopped"');
    expect(await registry("Services\\Fovea")).toBe("");
    expect(await registry("Services\\EventLog\\Application\\Fovea")).toBe("");
    expect(sqlite("PRAGMA integrity_check")).toBe("ok");
    expect(await done("uninstall")).toContain("there is nothing to do");
  });
});
