// The rig itself: small prefixes that know nothing of each other, with services, and nothing left behind.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, globSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bunExe, openWine, windowsPath, wineLacks } from "../wine.rig.ts";

setDefaultTimeout(120_000);

/** Processes of this machine that belong to a prefix. */
const processesOf = (prefix: string): readonly string[] =>
  globSync("/proc/[0-9]*/environ").filter((file) => {
    try {
      return readFileSync(file, "utf8").split("\0").includes(`WINEPREFIX=${prefix}`);
    } catch {
      return false; // It ended just now.
    }
  });

const bytesOf = (prefix: string): number =>
  Number(Bun.spawnSync(["du", "-sk", prefix]).stdout.toString().split("\t")[0]) * 1024;

describe.skipIf(wineLacks.length > 0)("a prefix", () => {
  test("is small, runs Bun as Windows 10, and leaves nothing behind", async () => {
    let prefix: string;
    {
      using wine = openWine({ stubs: [] });
      prefix = wine.prefix;
      expect(bytesOf(prefix)).toBeLessThan(40e6);
      const script = "console.log(process.platform, require('os').release(), process.cwd())";
      const { out, errors, exitCode } = await wine.run([bunExe, "-e", script]);
      expect({ out, errors, exitCode }).toEqual({ out: "win32 10.0.18362 C:\\\n", errors: "", exitCode: 0 });
      await wine.hold();
      expect(processesOf(prefix).length).toBeGreaterThan(1);
    }
    expect(processesOf(prefix)).toEqual([]);
    expect(existsSync(prefix)).toBe(false);
  });

  test("leads to no directory of this user", async () => {
    using wine = openWine({ stubs: [] });
    await wine.run(["cmd", "/c", "ver"]);
    const entries = readdirSync(join(wine.drive, "users"), { recursive: true, withFileTypes: true });
    expect(entries.length).toBeGreaterThan(10);
    expect(entries.filter((entry) => entry.isSymbolicLink())).toEqual([]);
  });

  test("has its services, and ends what it started", async () => {
    using wine = openWine({ stubs: [] });
    await wine.hold();
    const { out } = await wine.run(["sc", "query", "eventlog"]);
    expect(out).toMatch(/STATE +: \d +RUNNING/);
    const sleeper = wine.start([bunExe, "-e", "setTimeout(() => undefined, 60_000)"]);
    sleeper.signal("SIGKILL");
    expect(await sleeper.exited).not.toBe(0);
  });

  test("removes trees, as Bun does on Windows", async () => {
    const script = join(tmpdir(), `fovea-remove-${process.pid}.ts`);
    writeFileSync(
      script,
      `import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
       mkdirSync("C:\\\\a\\\\b", { recursive: true });
       writeFileSync("C:\\\\a\\\\b\\\\c.txt", "");
       rmSync("C:\\\\a", { recursive: true });
       console.log(existsSync("C:\\\\a"));`,
    );
    try {
      using wine = openWine({ stubs: [] });
      expect(await wine.run([bunExe, windowsPath(script)])).toEqual({
        exitCode: 0,
        out: "false\n",
        errors: "",
      });
    } finally {
      rmSync(script);
    }
  });
});
