// The unit file: accepted by systemd, hardened, and with no capability that it does not explain.

import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dir, "..");
const unit = readFileSync(join(root, "packaging/systemd/fovea.service"), "utf8");

function analyze(...words: readonly string[]): { exitCode: number; said: string } {
  const directory = mkdtempSync(join(tmpdir(), "fovea-unit-test-"));
  try {
    // The program that the unit names must exist: this machine has it in dist.
    const path = join(directory, "fovea.service");
    writeFileSync(path, unit.replaceAll("/usr/bin/fovea", join(root, "dist/fovea")));
    const done = Bun.spawnSync(["systemd-analyze", ...words, path], {
      env: { ...process.env, NO_COLOR: "1" },
    });
    return { exitCode: done.exitCode, said: `${done.stdout}${done.stderr}` };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const values = (key: string): readonly string[] =>
  [...unit.matchAll(new RegExp(`^${key}=(.*)$`, "gm"))].flatMap(([, value]) => (value ?? "").split(" "));

test("systemd has nothing to say against it", () => {
  expect(analyze("verify")).toEqual({ exitCode: 0, said: "" });
});

test("systemd rates its exposure below 3 of 10", () => {
  // 2.8 with systemd 252; what is left is the network, /proc and the capabilities that the work needs.
  const { said, exitCode } = analyze("security", "--offline=true", "--no-pager", "--threshold=30");
  expect(said).toMatch(/Overall exposure level .*: \d\.\d/);
  expect({ exitCode, said: exitCode === 0 ? "" : said }).toEqual({ exitCode: 0, said: "" });
});

test("each capability says what it is for", () => {
  const capabilities = values("CapabilityBoundingSet");
  expect(capabilities.length).toBeGreaterThan(0);
  expect(values("AmbientCapabilities")).toEqual([...capabilities]);
  for (const name of capabilities) expect(unit).toMatch(new RegExp(`^#   ${name} +\\S.*Without it:`, "m"));
});

test("what the appliance does is allowed", () => {
  expect(values("RestrictNamespaces")).toEqual(["net"]); // setns into pods' network namespaces.
  expect(values("RestrictAddressFamilies")).toContain("AF_NETLINK");
  expect(values("SystemCallFilter")).toContain("bpf");
  expect(values("MemoryDenyWriteExecute")).toEqual([]); // The JavaScript engine compiles.
});
