// Loading embedded libraries: from memory, from files where memory files are refused, and never from the system's.

import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { embeddedLibraries, objectBytes, unpackPrivately } from "../bpf/native.ts";

const root = join(import.meta.dir, "..");
let scratch = "";
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "fovea-native-test-"));
});
afterEach(() => rmSync(scratch, { recursive: true }));

// What another process says that loads the libraries: the path of libbpf, its major version, and what is mapped.
const loadsLibbpf = `
  const { loadLibraries } = await import("${root}/bpf/native.ts");
  const { dlopen } = await import("bun:ffi");
  const path = loadLibraries({ fallbackDirectory: process.env.FALLBACK });
  const again = loadLibraries({ fallbackDirectory: process.env.FALLBACK });
  const { symbols } = dlopen(path, { libbpf_major_version: { args: [], returns: "u32" } });
  const maps = require("node:fs").readFileSync("/proc/self/maps", "utf8").split("\\n");
  const mapped = [...new Set(maps.filter((line) => line.includes(" r-xp ")).map((line) => line.slice(73)))];
  console.log(JSON.stringify({ path, again, major: symbols.libbpf_major_version(), mapped }));
`;

type Answer = { path: string; again: string; major: number; mapped: readonly string[] };

/** Runs a program, after `before` in a mount and process namespace of its own when given. */
function load(
  fallback: string,
  before?: string,
  program = loadsLibbpf,
): { answer: Answer | undefined; errors: string } {
  const script = ["sh", "-c", `${before ?? ":"}\nexec "$@"`, "sh", process.execPath, "-e", program];
  const namespaces = before === undefined ? [] : ["unshare", "--mount", "--pid", "--fork", "--mount-proc"];
  const env = { ...process.env, FALLBACK: fallback, NO_COLOR: "1" };
  const done = Bun.spawnSync([...namespaces, ...script], { cwd: scratch, env });
  const errors = done.stderr.toString();
  return { answer: done.exitCode === 0 ? JSON.parse(done.stdout.toString()) : undefined, errors };
}

/** Refuses executable memory files: by the setting of Linux 6.3, before it by taking away the path to them. */
const refuse =
  "if [ -e /proc/sys/vm/memfd_noexec ]; then echo 2 > /proc/sys/vm/memfd_noexec; else mount --bind /mnt /proc/$$/fd; fi";

/** Mapped code besides the C library's and the program's own. */
const libraries = ({ mapped }: Answer): readonly string[] =>
  mapped.filter(
    (path) => path !== "" && !/\/(bun(\.exe)?|ld-linux[^/]*|lib(c|m|dl|pthread|rt)\.so[^/]*)$|^\[/.test(path),
  );

const needsRoot = process.getuid?.() !== 0;

test("the list ends with libbpf and names what it needs before it", () => {
  const names = embeddedLibraries().libbpf.map(({ soname }) => soname);
  expect(names.at(-1)).toBe("libbpf.so.1");
  expect(names.indexOf("libz.so.1")).toBeLessThan(names.indexOf("libelf.so.1"));
  expect(names).not.toContain("libc.so.6");
});

test("objects are eBPF with type information and no debug information", () => {
  const bytes = Buffer.from(objectBytes("flows"));
  expect(bytes.readUInt16LE(18)).toBe(247); // EM_BPF
  expect(bytes.includes(".BTF\0")).toBe(true);
  expect(bytes.includes(".debug_info")).toBe(false);
});

test("an object that is not there names the command that builds it", () => {
  expect(() => objectBytes("nothing")).toThrow("npm run build");
});

test("libraries load from memory alone", () => {
  const { answer, errors } = load(join(scratch, "fallback"));
  expect(errors).toBe("");
  expect(answer?.path).toMatch(/^\/proc\/self\/fd\/\d+$/);
  expect(answer?.again).toBe(answer?.path ?? "");
  expect(answer?.major).toBe(1);
  const expected = embeddedLibraries().libbpf.map(({ soname }) => `/memfd:${soname} (deleted)`);
  expect(libraries(answer as Answer).toSorted()).toEqual(expected.toSorted());
  expect(readdirSync(scratch)).toEqual([]);
});

test.skipIf(needsRoot)("memory files that are not executable by default are asked to be", () => {
  const { answer, errors } = load(
    scratch,
    "! [ -e /proc/sys/vm/memfd_noexec ] || echo 1 > /proc/sys/vm/memfd_noexec",
  );
  expect(errors).toBe("");
  expect(answer?.path).toMatch(/^\/proc\/self\/fd\//);
});

test.skipIf(needsRoot)("libraries load from private files where memory files are refused", () => {
  const fallback = join(scratch, "data", "native");
  const { answer, errors } = load(fallback, refuse);
  expect(errors).toBe("");
  expect(answer?.major).toBe(1);
  const files = embeddedLibraries().libbpf.map(({ soname, sha256 }) =>
    join(fallback, `${sha256.slice(0, 16)}-${soname}`),
  );
  expect(libraries(answer as Answer).toSorted()).toEqual(files.toSorted());
  expect(lstatSync(fallback).mode & 0o777).toBe(0o700);
});

test.skipIf(needsRoot)("both refused: the error says what was tried and what to do", () => {
  const fallback = join(scratch, "noexec");
  mkdirSync(fallback);
  const { answer, errors } = load(
    join(fallback, "native"),
    `${refuse}; mount -t tmpfs -o noexec none ${fallback}`,
  );
  expect(answer).toBeUndefined();
  expect(errors).toContain("libz.so.1 loads neither from memory (");
  expect(errors).toContain("failed to map segment");
  expect(errors).toContain("vm.memfd_noexec=0");
});

// What a process says that opens a database, with and without what the addon needs from elsewhere.
const opensDatabase = (prepare: string): string => `
  const { loadAddonLibraries } = await import("${root}/bpf/native.ts");
  ${prepare}
  const { openDatabase } = await import("${root}/src/store/sqlite.ts");
  openDatabase({ path: ":memory:" }).close();
  const maps = require("node:fs").readFileSync("/proc/self/maps", "utf8").split("\\n");
  const mapped = [...new Set(maps.filter((line) => line.includes(" r-xp ")).map((line) => line.slice(73)))];
  console.log(JSON.stringify({ mapped }));
`;
const prepare = "loadAddonLibraries({ fallbackDirectory: process.env.FALLBACK });";
const cPlusPlus = ({ mapped }: Answer): readonly string[] =>
  mapped.filter((path) => path.includes("libstdc++"));

test("the addon gets the C++ library of the machine", () => {
  const { answer, errors } = load(scratch, undefined, opensDatabase(prepare + prepare));
  expect(errors).toBe("");
  expect(cPlusPlus(answer as Answer)).toEqual([expect.stringMatching(/^\/usr\/lib\/.*\/libstdc\+\+\.so/)]);
});

test.skipIf(needsRoot)("the addon gets the embedded C++ library where the machine has none", () => {
  const hide =
    "for path in $(ldconfig -p | sed -n 's/.*libstdc++.* => //p'); do mount --bind /dev/null $path; done";
  expect(load(scratch, hide, opensDatabase("")).errors).toContain("libstdc++.so.6");
  const { answer, errors } = load(scratch, hide, opensDatabase(prepare + prepare));
  expect(errors).toBe("");
  expect(cPlusPlus(answer as Answer)).toEqual(["/memfd:libstdc++.so.6 (deleted)"]);
});

const bytes = Buffer.from("a library");
const library = { soname: "libx.so.1", sha256: new Bun.CryptoHasher("sha256").update(bytes).digest("hex") };

test("a file with the right content is used as it is, one with other content is replaced", () => {
  const path = unpackPrivately(scratch, library, bytes);
  const { ino } = statSync(path);
  expect(statSync(unpackPrivately(scratch, library, bytes)).ino).toBe(ino);
  chmodSync(path, 0o600);
  writeFileSync(path, "b library");
  expect(unpackPrivately(scratch, library, bytes)).toBe(path);
  expect(readFileSync(path)).toEqual(bytes);
  expect(readdirSync(scratch)).toHaveLength(1);
});

test("an older version goes, other files stay", () => {
  for (const name of ["0123456789abcdef-libx.so.1", "0123456789abcdef-liby.so.1", "fovea.db"])
    writeFileSync(join(scratch, name), "");
  const path = unpackPrivately(scratch, library, bytes);
  const kept = ["0123456789abcdef-liby.so.1", path.slice(scratch.length + 1), "fovea.db"];
  expect(new Set(readdirSync(scratch))).toEqual(new Set(kept));
});

test("a symbolic link is replaced, what it points to is not written", () => {
  const path = unpackPrivately(scratch, library, bytes);
  const target = join(scratch, "target");
  writeFileSync(target, bytes); // Even the right content: who owns the link can change it later.
  rmSync(path);
  symlinkSync(target, path);
  unpackPrivately(scratch, library, bytes);
  expect(lstatSync(path).isSymbolicLink()).toBe(false);
  expect(readFileSync(target)).toEqual(bytes);
});

test("a directory that others can reach, or that is none, is refused", () => {
  chmodSync(scratch, 0o755);
  expect(() => unpackPrivately(scratch, library, bytes)).toThrow(`chmod 700 ${scratch}`);
  chmodSync(scratch, 0o700);
  const link = join(scratch, "link");
  mkdirSync(join(scratch, "real"), { mode: 0o700 });
  symlinkSync(join(scratch, "real"), link);
  expect(() => unpackPrivately(link, library, bytes)).toThrow("not a directory");
});
