// The SQLite addon inside a compiled binary: unpacked by us, privately, checked, and loaded from there alone.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { addonDirs, unpackAddon, unpackBytes } from "../src/store/sqlite.ts";

setDefaultTimeout(60_000); // Each write is synced; a busy disk takes its time.

const root = mkdtempSync(join(tmpdir(), "fovea-sqlite-"));
const mounts: string[] = [];
afterAll(() => {
  for (const path of mounts) Bun.spawnSync(["umount", path]);
  rmSync(root, { recursive: true });
});

const source = (file: string): string => JSON.stringify(join(import.meta.dir, "../src/store", file));
const prebuilt = (name: string): string =>
  join(import.meta.dir, "../node_modules/better-sqlite3/prebuilds", `${name}.node`);

const program = `
import { addonDirs, unpackAddon } from ${source("sqlite.ts")};
import { openStore } from ${source("store.ts")};
const [, , dir, ...dirs] = process.argv;
const nativeBinding = await unpackAddon({ dirs: dirs.length > 0 ? dirs : addonDirs({ dataDir: dir }) });
const store = openStore({ dir, bytesMax: 1e7, ageMaxMs: 1e9, nativeBinding });
const at = Date.now();
store.append({ rows: [{
  startAt: at, endAt: at, source: "10.0.0.1", destination: "2001:db8::1", sourcePort: 1, destinationPort: 2,
  protocol: 6, direction: "egress", verdict: "forwarded", packets: 3, bytes: 4, tcpFlags: 2, interface: "eth0",
  evictReason: "fin",
}] });
console.log(JSON.stringify({ nativeBinding, rows: store.queryFlows({}).flows.length, mode: store.stats().mode }));
store.close();
`;

function build(...options: string[]): void {
  const entry = join(root, "program.ts");
  writeFileSync(entry, program);
  const { stderr, exitCode } = Bun.spawnSync([process.execPath, "build", "--target=bun", entry, ...options]);
  if (exitCode !== 0) throw new Error(`bun build: ${stderr}`);
}

type Output = { readonly nativeBinding: string; readonly rows: number; readonly mode: string };

/** Runs the compiled program where no package can be found, with an own directory for temporary files. */
function runBinary(...argv: string[]): Output & { readonly temporary: readonly string[] } {
  const temporary = mkdtempSync(join(root, "tmp-"));
  const { stdout, stderr, exitCode } = Bun.spawnSync([join(root, "program"), ...argv], {
    cwd: temporary,
    env: { TMPDIR: temporary, BUN_TMPDIR: temporary },
  });
  if (exitCode !== 0) throw new Error(`${argv.join(" ")}: ${stderr}`);
  return { ...JSON.parse(stdout.toString()), temporary: readdirSync(temporary) };
}

const mode = (path: string): number => lstatSync(path).mode & 0o777;

describe("a compiled binary", () => {
  build(
    "--compile",
    "--no-compile-autoload-dotenv",
    "--no-compile-autoload-bunfig",
    `--outfile=${join(root, "program")}`,
  );

  test("loads the addon from a private directory under its data and leaves nothing in the temporary one", () => {
    const dir = join(root, "data");
    const { nativeBinding, temporary, ...rest } = runBinary(dir);
    expect(rest).toEqual({ rows: 1, mode: "disk" });
    expect(nativeBinding).toMatch(new RegExp(`^${dir}/native/better-sqlite3-[0-9a-f]{16}\\.node$`));
    expect(temporary).toEqual([]);
    expect(mode(join(dir, "native"))).toBe(0o700);
    expect(readFileSync(nativeBinding).equals(readFileSync(prebuilt(`linux-${process.arch}`)))).toBe(true);
    // Again: the same file, and one more row.
    expect(runBinary(dir)).toEqual({ nativeBinding, rows: 2, mode: "disk", temporary: [] });
    expect(readdirSync(join(dir, "native"))).toHaveLength(1);
  });

  test("passes over a directory that nothing can be loaded from", () => {
    const noexec = join(root, "noexec");
    mkdirSync(noexec);
    const mounted = Bun.spawnSync(["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", noexec]);
    expect(mounted.exitCode).toBe(0);
    mounts.push(noexec);
    const { nativeBinding } = runBinary(join(root, "data2"), join(noexec, "native"), join(root, "second"));
    expect(nativeBinding).toStartWith(join(root, "second"));
    expect(() => runBinary(join(root, "data3"), join(noexec, "native"))).toThrow("not mounted noexec");
  });
});

describe("each platform", () => {
  test.each([
    ["linux", "x64"],
    ["linux", "arm64"],
    ["win32", "x64"],
  ])("%s-%s embeds its own addon alone", (platform, arch) => {
    const out = join(root, `${platform}-${arch}`);
    const define = (name: string, value: string) => `--define=process.${name}="${value}"`;
    build(define("platform", platform), define("arch", arch), `--outdir=${out}`);
    const addons = readdirSync(out).filter((name) => name.endsWith(".node"));
    expect(addons).toHaveLength(1);
    expect(readFileSync(join(out, addons[0]!)).equals(readFileSync(prebuilt(`${platform}-${arch}`)))).toBe(
      true,
    );
  });
});

describe("unpacking", () => {
  const bytes = Buffer.from("an addon");
  const accept = (): void => undefined;
  const fresh = (): string => join(mkdtempSync(join(root, "unpack-")), "native");

  test("is not needed from source", async () => {
    expect(await unpackAddon({ dirs: [fresh()] })).toBeUndefined();
  });

  test("puts back what was changed, and removes what another version left", () => {
    const dir = fresh();
    const path = unpackBytes({ bytes, dirs: [dir], check: accept });
    chmodSync(path, 0o700);
    writeFileSync(path, "evil");
    writeFileSync(join(dir, "better-sqlite3-0123456789abcdef.node"), "old");
    writeFileSync(join(dir, "notes.txt"), "mine");
    expect(unpackBytes({ bytes, dirs: [dir], check: accept })).toBe(path);
    expect(readFileSync(path).equals(bytes)).toBe(true);
    expect(readdirSync(dir)).toHaveLength(2);
  });

  test("follows no link, neither for the directory nor for the file", () => {
    const dir = fresh();
    const elsewhere = fresh();
    mkdirSync(elsewhere);
    symlinkSync(elsewhere, dir);
    expect(() => unpackBytes({ bytes, dirs: [dir], check: accept })).toThrow("is not a directory");
    const plain = fresh();
    const path = unpackBytes({ bytes, dirs: [plain], check: accept });
    rmSync(path);
    writeFileSync(join(elsewhere, "target"), bytes);
    symlinkSync(join(elsewhere, "target"), path);
    unpackBytes({ bytes, dirs: [plain], check: accept });
    expect(lstatSync(path).isSymbolicLink()).toBe(false);
  });

  test("replaces a file that somebody else made", () => {
    const dir = fresh();
    const path = unpackBytes({ bytes, dirs: [dir], check: accept });
    chownSync(path, 12_345, 12_345);
    unpackBytes({ bytes, dirs: [dir], check: accept });
    expect(lstatSync(path).uid).toBe(0);
  });

  test("closes a directory that is too open and refuses one of somebody else", () => {
    const dir = fresh();
    mkdirSync(dir);
    chmodSync(dir, 0o777);
    unpackBytes({ bytes, dirs: [dir], check: accept });
    expect(mode(dir)).toBe(0o700);
    chownSync(dir, 12_345, 12_345);
    expect(() => unpackBytes({ bytes, dirs: [dir], check: accept })).toThrow("belongs to user 12345");
  });

  test("takes the first directory that the check accepts", () => {
    const dirs = [fresh(), fresh()];
    const check = (path: string): void => {
      if (path.startsWith(dirs[0]!)) throw new Error("cannot map");
    };
    expect(unpackBytes({ bytes, dirs, check })).toStartWith(dirs[1]!);
  });

  test("prefers the data directory", () => {
    expect(addonDirs({ dataDir: "/d", runtimeDir: "/run/fovea" }).slice(0, 2)).toEqual([
      "/d/native",
      "/run/fovea/native",
    ]);
    expect(addonDirs({ dataDir: "/d" })).toHaveLength(2);
  });
});
