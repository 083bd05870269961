// The installer in wine, with the shipped program: installed, scraped, stopped, killed, upgraded to a signed one, removed.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildMsi } from "../../packaging/windows/msi.ts";
import { sign } from "../../packaging/windows/sign.ts";
import { stampFile } from "../../packaging/windows/version-info.ts";
import { makeSigner, signatureHolds } from "../signing.rig.ts";
import {
  compileStub,
  installProgram,
  openWine,
  type Running,
  type Wine,
  windowsPath,
  wineLacks,
} from "../wine.rig.ts";

setDefaultTimeout(180_000);

const root = join(import.meta.dir, "../..");
const exe = join(root, "dist/fovea.exe");
const recording = join(root, "test/fixtures/replay/node.ndjson");
const wineserver = "/usr/lib/wine/wineserver64";
const lacks = [
  ...wineLacks,
  ...["wixl", "msibuild", "osslsigncode"].filter((tool) => Bun.which(tool) === null),
];

if (lacks.length > 0) console.error(`SKIPPED: the installer needs ${lacks.join(", ")}`);

const sha256 = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");

async function until<T>(what: string, look: () => T | undefined | Promise<T | undefined>): Promise<T> {
  const giveUpAt = performance.now() + 60_000;
  for (;;) {
    const seen = await look();
    if (seen !== undefined) return seen;
    if (performance.now() > giveUpAt) throw new Error(`not within 60 s: ${what}`);
    await Bun.sleep(50);
  }
}

/** What Windows Installer ends with, as much of it as an exit code of this machine holds. */
const failed = (code: number): number => code & 0xff;
const installFailure = 1603;

describe.skipIf(lacks.length > 0)("the installer", () => {
  let wine: Wine;
  let scratch: string;
  let signer: ReturnType<typeof makeSigner>;
  const at = { old: "", next: "", program: "", data: "", config: "", log: "" };

  beforeAll(async () => {
    scratch = mkdtempSync(join(tmpdir(), "fovea-msi-test-"));
    wine = openWine();
    at.program = join(wine.drive, "Program Files/Fovea/fovea.exe");
    at.data = join(wine.drive, "ProgramData/Fovea");
    at.config = join(at.data, "fovea.yaml");
    // Wine gives services another ProgramData than programs and installers.
    at.log = join(wine.drive, "users/Public/Fovea/logs/fovea.log");
    await wine.hold();
    signer = makeSigner(scratch);
    at.old = buildMsi({ exe, version: "0.1.0", directory: scratch });
    const signed = join(scratch, "fovea.exe");
    copyFileSync(exe, signed);
    stampFile(signed, "0.2.0");
    sign(signed, signer);
    at.next = buildMsi({ exe: signed, version: "0.2.0", directory: scratch });
    sign(at.next, signer);
  });
  afterAll(() => {
    wine[Symbol.dispose]();
    rmSync(scratch, { recursive: true });
  });

  const msiexec = async (...words: readonly string[]): Promise<number | null> =>
    (await wine.run(["msiexec", ...words, "/qn"], { timeoutMs: 120_000 })).exitCode;

  /** What a key holds, with all below it; empty where it is not there. */
  async function registry(key: string): Promise<string> {
    const { out, exitCode } = await wine.run(["reg", "query", `HKLM\\${key}`, "/s"]);
    return exitCode === 0 ? out : "";
  }
  const serviceKey = "SYSTEM\\CurrentControlSet\\Services\\Fovea";
  const sourceKey = "SYSTEM\\CurrentControlSet\\Services\\EventLog\\Application\\Fovea";

  /** Versions of what is installed under our name. */
  async function products(): Promise<readonly string[]> {
    const found = await registry("SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Uninstall");
    const ours = found
      .split("HKEY_LOCAL_MACHINE")
      .filter((part) => /DisplayName +REG_SZ +Fovea\s/.test(part));
    return ours.map((part) => /DisplayVersion +REG_SZ +(\S+)/.exec(part)?.[1] ?? "");
  }

  type Facts = { readonly state: string; readonly pid?: number };

  /** Asked by the program that was built, which needs not be the one that is installed. Undefined: there is none. */
  async function service(): Promise<Facts | undefined> {
    const { out, errors } = await wine.run([exe, "service", "status", "--output", "json"]);
    if (errors.includes("there is no service Fovea")) return undefined;
    expect(errors).toBe("");
    return JSON.parse(out);
  }

  const inState = (wanted: string): Promise<Facts> =>
    until(`the service is ${wanted}`, async () => {
      const facts = await service();
      return facts?.state === wanted ? facts : undefined;
    });

  const starts = (): readonly string[] =>
    existsSync(at.log)
      ? [...readFileSync(at.log, "utf8").matchAll(/"message":"started".*"url":"([^"]+)"/g)].map(
          ([, url]) => url ?? "",
        )
      : [];

  /** Where the API of the nth start listens. */
  const urlOfStart = (count: number): Promise<string> => until("it listens", () => starts()[count - 1]);

  type Rows = readonly { readonly seq: number }[];

  async function rowsOf(url: string): Promise<Rows> {
    const response = await fetch(`${url}/api/v1/flows?limit=1000`);
    expect(response.status).toBe(200);
    return ((await response.json()) as { flows: Rows }).flows;
  }

  /** Fills a store where the service will look for its own: Windows itself gives counts, and no rows. */
  async function record(): Promise<void> {
    const run = wine.start([exe, "run", "--replay", windowsPath(recording)]);
    const url = await until(
      "it listens",
      () => /"message":"started".*"url":"([^"]+)"/.exec(run.errors())?.[1],
    );
    await until("rows", async () => ((await rowsOf(url)).length > 0 ? true : undefined));
    run.signal("SIGINT");
    expect(await run.exited).toBe(0);
  }

  const sqlite = (statement: string): string => {
    const file = join(at.data, "data/fovea.db");
    return Bun.spawnSync(["sqlite3", "-readonly", file, statement]).stdout.toString().trim();
  };

  const ownConfig = "# of the administrator\nlisten: 127.0.0.1:0\ndataDir: C:\\ProgramData\\Fovea\\data\n";
  let rows: Rows;

  test("installs the program, its service with a quoted path, and the source of its events", async () => {
    mkdirSync(at.data, { recursive: true });
    writeFileSync(at.config, ownConfig);
    await record();
    // As install.ps1 makes it; the installer takes over what has the name.
    const { exitCode } = await wine.run([installProgram(wine, exe), "service", "install"]);
    expect(exitCode).toBe(0);

    expect(await msiexec("/i", windowsPath(at.old))).toBe(0);

    expect(sha256(at.program)).toBe(sha256(exe));
    expect(readFileSync(at.config, "utf8")).toBe(ownConfig);
    expect(await products()).toEqual(["0.1.0"]);
    const key = await registry(serviceKey);
    const program = '"C:\\Program Files\\Fovea\\fovea.exe"';
    expect(key).toContain(`${program} service run --config "C:\\ProgramData\\Fovea\\fovea.yaml"`);
    expect(key).toMatch(/DisplayName +REG_SZ +Fovea network observability/);
    expect(key).toMatch(/ObjectName +REG_SZ +LocalSystem/);
    expect(key).toMatch(/Start +REG_DWORD +0x2/);
    const source = await registry(sourceKey);
    expect(source).toMatch(/EventMessageFile +REG_\w+ +\S+\\System32\\EventCreate\.exe/i);
    expect(source).toMatch(/TypesSupported +REG_DWORD +0x7/);
  });

  test("has started it: it is scraped, and has the rows that were there", async () => {
    expect((await inState("running")).pid).toBeGreaterThan(0);
    const url = await urlOfStart(1);
    expect(await (await fetch(`${url}/metrics`)).text()).toMatch(/^fovea_build_info\{.*os="win32"/m);
    rows = await rowsOf(url);
    expect(rows.length).toBeGreaterThan(0);
    expect(rows.length).toBe(Number(sqlite("SELECT count(*) FROM flows")));
  });

  test("the service stops, starts, is killed with the machine, and starts with Windows, with all rows", async () => {
    expect((await wine.run(["net", "stop", "Fovea"])).exitCode).toBe(0);
    await inState("stopped");
    expect((await wine.run(["net", "start", "Fovea"])).exitCode).toBe(0);
    expect(await rowsOf(await urlOfStart(2))).toEqual(rows);

    const { pid } = await inState("running");
    expect((await wine.run(["taskkill", "/f", "/pid", String(pid)])).exitCode).toBe(0);
    // Wine's service manager does not notice the end of a service: it goes down, and up again with all that starts with it.
    Bun.spawnSync([wineserver, "-k"], { env: wine.env });
    Bun.spawnSync([wineserver, "-w"], { env: wine.env });
    await wine.hold();
    expect(await rowsOf(await urlOfStart(3))).toEqual(rows);
  });

  /** A process that has the service open, and keeps it from being deleted. */
  async function hold(): Promise<Running> {
    const holding = wine.start([compileStub(join(import.meta.dir, "service-holder.c")), "Fovea"]);
    await until("it is open", () => (holding.errors().includes("open") ? true : undefined));
    return holding;
  }

  async function letGo(holding: Running): Promise<void> {
    holding.signal("SIGKILL");
    await holding.exited;
  }

  test("is repaired while another program has the service open, which is never deleted", async () => {
    const holding = await hold();
    expect(await msiexec("/i", windowsPath(at.old), "REINSTALL=ALL")).toBe(0);
    await letGo(holding);
    expect(sha256(at.program)).toBe(sha256(exe));
    await inState("running");
    expect(await rowsOf(await urlOfStart(4))).toEqual(rows);
  });

  test("removed for a newer version while another program has it open, the service stays and is taken over", async () => {
    const holding = await hold();
    // What Windows does when it replaces a product; wine removes the old one without saying what for.
    const newer = "UPGRADINGPRODUCTCODE={00000000-0000-0000-0000-000000000001}";
    expect(await msiexec("/x", windowsPath(at.old), newer)).toBe(0);
    expect(existsSync(at.program)).toBe(false);
    expect(await service()).toMatchObject({ state: "stopped" });
    expect(await msiexec("/i", windowsPath(at.old))).toBe(0);
    await letGo(holding);
    expect(await products()).toEqual(["0.1.0"]);
    expect((await inState("running")).pid).toBeGreaterThan(0);
    expect(await rowsOf(await urlOfStart(5))).toEqual(rows);
  });

  test("a newer one replaces it: one product is left, the signed program runs, data and configuration are kept", async () => {
    expect(await msiexec("/i", windowsPath(at.next))).toBe(0);
    expect(await products()).toEqual(["0.2.0"]);
    expect(sha256(at.program)).toBe(sha256(join(scratch, "fovea.exe")));
    expect(readFileSync(at.config, "utf8")).toBe(ownConfig);
    await inState("running");
    const url = await urlOfStart(6); // Of the program that was just read: nothing else was started.
    expect((await fetch(`${url}/metrics`)).status).toBe(200);
    expect(await rowsOf(url)).toEqual(rows);
  });

  test("an older one is refused, and the newer goes on", async () => {
    const before = await inState("running");
    expect(await msiexec("/i", windowsPath(at.old))).toBe(failed(installFailure));
    expect(await products()).toEqual(["0.2.0"]);
    expect(await service()).toEqual(before);
  });

  test("the program says its own version, and not that of Bun", async () => {
    const reader = compileStub(join(import.meta.dir, "file-version.c"));
    const { out, exitCode } = await wine.run([reader, windowsPath(at.program)]);
    expect({ exitCode, out: out.trim() }).toEqual({ exitCode: 0, out: "0.2.0.0 Fovea 0.2.0" });
  });

  test("what is installed is signed: program and installer", () => {
    expect(signatureHolds(at.program, signer)).toBe(true);
    expect(signatureHolds(at.next, signer)).toBe(true);
    expect(signatureHolds(exe, signer)).toBe(false);
  });

  test("removed, it leaves the data, and nothing else", async () => {
    expect(await msiexec("/x", windowsPath(at.next))).toBe(0);
    expect(await products()).toEqual([]);
    expect(await service()).toBeUndefined();
    expect(await registry(serviceKey)).toBe("");
    expect(await registry(sourceKey)).toBe("");
    expect(existsSync(join(wine.drive, "Program Files/Fovea"))).toBe(false);
    expect(readFileSync(at.config, "utf8")).toBe(ownConfig);
    expect(sqlite("PRAGMA integrity_check")).toBe("ok");
    expect(sqlite("SELECT count(*) FROM flows")).toBe(String(rows.length));
  });

  test("a service that cannot start is not installed, and nothing of it stays", async () => {
    writeFileSync(at.config, "listen: nowhere\n");
    expect(await msiexec("/i", windowsPath(at.old))).not.toBe(0);
    expect(await products()).toEqual([]);
    expect(await service()).toBeUndefined();
    expect(existsSync(at.program)).toBe(false);
    expect(readFileSync(at.config, "utf8")).toBe("listen: nowhere\n");
  });
});
