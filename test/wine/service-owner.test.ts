// fovea.exe as a service on a machine where another user was first: a configuration, a directory, a way to another place.

import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { installProgram, openWine, type Wine, windowsPath, wineLacks } from "../wine.rig.ts";

setDefaultTimeout(120_000);

const root = join(import.meta.dir, "../..");
const exe = join(root, "dist/fovea.exe");
const recording = windowsPath(join(root, "test/fixtures/replay/node.ndjson"));
const lacks = [...wineLacks, ...(process.getuid?.() === 0 ? [] : ["the rights to give files away"])];

if (lacks.length > 0) console.error(`SKIPPED: owners need wine and root; missing here: ${lacks.join(", ")}`);

/** To wine every user of the machine but its own is one: anonymous. */
const anonymous = "S-1-5-7";
const giveAway = (path: string) => chownSync(path, 65_534, 65_534);
const takeBack = (path: string) => chownSync(path, 0, 0);

describe.skipIf(lacks.length > 0)("in wine", () => {
  let wine: Wine;
  const at = { config: "", home: "", serviceHome: "", elsewhere: "", program: "" };

  beforeAll(async () => {
    wine = openWine({ stubs: [] });
    await wine.hold();
    at.config = join(wine.drive, "my config/fovea.yaml");
    at.home = join(wine.drive, "ProgramData/Fovea");
    // Wine gives services another ProgramData than programs.
    at.serviceHome = join(wine.drive, "users/Public/Fovea");
    at.elsewhere = join(wine.drive, "elsewhere");
    at.program = installProgram(wine, exe);
    mkdirSync(dirname(at.config));
    mkdirSync(at.elsewhere);
    writeFileSync(at.config, "listen: 127.0.0.1:0\n");
  });
  afterEach(async () => {
    await service("uninstall");
    takeBack(at.config);
    chmodSync(at.config, 0o644);
    for (const home of [at.home, at.serviceHome]) rmSync(home, { recursive: true, force: true });
  });
  afterAll(() => wine[Symbol.dispose]());

  const configFile = "C:\\my config\\fovea.yaml";
  const words = ["--config", configFile, "--data-dir", "C:\\my data", "--replay", recording];
  const service = (...given: readonly string[]) => wine.run([at.program, "service", ...given]);
  const isInstalled = async (): Promise<boolean> =>
    (await wine.run(["reg", "query", "HKLM\\SYSTEM\\CurrentControlSet\\Services\\Fovea"])).exitCode === 0;

  const foreign = (path: string): string =>
    `belongs to ${anonymous}, who is not for the service to obey: remove it, or read it and give it to the ` +
    `administrators by icacls "${path}" /setowner *S-1-5-32-544 and icacls "${path}" /reset`;

  async function install(): Promise<void> {
    const { errors, exitCode } = await service("install", ...words);
    expect({ errors, exitCode }).toEqual({ errors: "", exitCode: 0 });
  }

  async function refusal(): Promise<string> {
    const { errors, exitCode } = await service("install", ...words);
    expect(exitCode).toBe(1);
    expect(await isInstalled()).toBe(false);
    return errors.trimEnd();
  }

  async function until(what: string, look: () => boolean): Promise<void> {
    const giveUpAt = performance.now() + 60_000;
    while (!look()) {
      if (performance.now() > giveUpAt) throw new Error(`not within 60 s: ${what}`);
      await Bun.sleep(20);
    }
  }

  const status = async (): Promise<unknown> => JSON.parse((await service("status", "-o", "json")).out);
  const log = (): string => {
    const file = join(at.serviceHome, "logs/fovea.log");
    return existsSync(file) ? readFileSync(file, "utf8") : "";
  };

  test("a configuration of another user is not installed, and nothing is made", async () => {
    giveAway(at.config);
    expect(await refusal()).toBe(`fovea: ${configFile}: ${foreign(configFile)}`);
    expect(existsSync(at.home)).toBe(false);
    takeBack(at.config);
    await install();
  });

  test("nor into a directory that another user has made", async () => {
    mkdirSync(at.home);
    giveAway(at.home);
    const home = "C:\\ProgramData\\Fovea";
    expect(await refusal()).toBe(`fovea: ${home} ${foreign(home)}`);
    takeBack(at.home);
    await install();
  });

  test("nor where something in the directory is another user's, however deep", async () => {
    const deep = join(at.home, "data/old/fovea.db");
    mkdirSync(dirname(deep), { recursive: true });
    writeFileSync(deep, "");
    giveAway(deep);
    const path = "C:\\ProgramData\\Fovea\\data\\old\\fovea.db";
    expect(await refusal()).toBe(`fovea: ${path} ${foreign(path)}`);
    takeBack(deep);
    await install();
  });

  const everyone = "may be changed by Everyone (S-1-1-0)";

  test("nor one that others may change, or a directory on the way to it", async () => {
    chmodSync(at.config, 0o666);
    expect(await refusal()).toBe(`fovea: ${configFile}: ${everyone}`);
    chmodSync(at.config, 0o644);
    chmodSync(dirname(at.config), 0o777);
    expect(await refusal()).toBe(`fovea: ${configFile}: C:\\my config ${everyone}`);
    chmodSync(dirname(at.config), 0o755);
    await install();
  });

  test("nor from a program that others may replace, whatever on the way to it they may write", async () => {
    const program = "C:\\Program Files\\Fovea\\fovea.exe";
    const advice = "copy it to a directory Fovea in %ProgramFiles% first, and install it from there";
    const refused = (where: string, why: string) =>
      `fovea: the service would run ${program} as SYSTEM, but ${where} ${why}: ${advice}`;
    const parts = [
      [program, at.program],
      ["C:\\Program Files\\Fovea", dirname(at.program)],
      ["C:\\Program Files", dirname(dirname(at.program))],
      ["C:\\", wine.drive],
    ] as const;
    for (const [shown, path] of parts) {
      const { mode } = statSync(path);
      chmodSync(path, 0o777);
      expect(await refusal()).toBe(refused(shown, everyone));
      chmodSync(path, mode);
      giveAway(path);
      expect(await refusal()).toBe(refused(shown, foreign(shown)));
      takeBack(path);
    }
    await install();
  });

  test("a directory for the store outside of the home is closed with it, or refused where it has other things", async () => {
    const data = join(wine.drive, "my data");
    rmSync(data, { recursive: true, force: true });
    mkdirSync(data, { mode: 0o755 });
    const before = statSync(data).mode;
    writeFileSync(join(data, "letter.txt"), "");
    expect(await refusal()).toContain(
      "C:\\my data cannot be closed to other users: it is not the store's alone",
    );
    rmSync(join(data, "letter.txt"));
    await install();
    // Of a list wine keeps what a mode can say: the same for both.
    expect(statSync(data).mode).not.toBe(before);
    expect(statSync(data).mode).toBe(statSync(at.home).mode);
  });

  test("nor where the directory, or one in it, leads to another place", async () => {
    const leads = "leads to another place: look where, and remove it";
    symlinkSync(at.elsewhere, at.home);
    expect(await refusal()).toBe(`fovea: C:\\ProgramData\\Fovea ${leads}`);
    rmSync(at.home);
    mkdirSync(at.home);
    symlinkSync(at.elsewhere, join(at.home, "logs"));
    expect(await refusal()).toBe(`fovea: C:\\ProgramData\\Fovea\\logs ${leads}`);
  });

  test("one that is another user's later ends the start with the code of a configuration", async () => {
    await install();
    giveAway(at.config);
    const { errors, exitCode } = await service("start");
    expect(exitCode).toBe(1);
    expect(errors).toContain("the service does not start, it is stopped, exit code 2: see the event log");
    const last = JSON.parse(log().trimEnd().split("\n").at(-1) ?? "");
    expect(last).toMatchObject({ level: "error", message: "the service ends" });
    expect(last.error).toBe(`${configFile}: ${foreign(configFile)}`);
  });

  test("one that becomes another user's while it runs is refused, and the one before stays", async () => {
    await install();
    expect((await service("start")).exitCode).toBe(0);
    await until("it runs", () => log().includes('"message":"started"'));
    giveAway(at.config);
    writeFileSync(at.config, "listen: 127.0.0.1:0\nlog: {level: debug}\n");
    await until("the change is refused", () => log().includes("the changed configuration is refused"));
    expect(log()).toContain(`belongs to ${anonymous}`);
    expect(await status()).toMatchObject({ state: "running" });
  });

  test("a home that is another user's later, or leads away, ends the start and is not written to", async () => {
    await install();
    mkdirSync(at.serviceHome);
    giveAway(at.serviceHome);
    await service("start");
    expect(await status()).toEqual({ state: "stopped", exitCode: 1 });
    expect(readdirSync(at.serviceHome)).toEqual([]);
    rmSync(at.serviceHome, { recursive: true });
    symlinkSync(at.elsewhere, at.serviceHome);
    await service("start");
    expect(await status()).toEqual({ state: "stopped", exitCode: 1 });
    expect(readdirSync(at.elsewhere)).toEqual([]);
  });
});
