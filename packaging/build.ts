// Builds everything that ships: eBPF objects, the libraries they load with, the binary that holds them, and Windows' own.
// `bun packaging/build.ts` builds all, `... linux` leaves Windows out, `... objects` makes what running from source needs,
// `... installer` makes the MSI as well. With FOVEA_SIGN_CERTIFICATE and FOVEA_SIGN_KEY what is for Windows is signed.

import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  globSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import type { Libraries, Library } from "../bpf/native.ts";
import { buildMsi } from "./windows/msi.ts";
import { sign, signingOf } from "./windows/sign.ts";
import { stampFile } from "./windows/version-info.ts";

const root = join(import.meta.dir, "..");
const dist = join(root, "dist");

function run(command: readonly string[]): string {
  const done = Bun.spawnSync([...command], { cwd: root, stdout: "pipe", stderr: "inherit" });
  if (done.exitCode !== 0) throw new Error(`failed (${done.exitCode}): ${command.join(" ")}`);
  return done.stdout.toString();
}

const version = (): string => JSON.parse(readFileSync(join(root, "package.json"), "utf8")).version;

const kib = (path: string): string => `${Math.ceil(statSync(path).size / 1024)} KiB`;

/** What the kernel's headers call the machine that we build on, and where Debian keeps its headers. */
const machine = process.arch === "arm64" ? "arm64" : "x86";
const multiarch = process.arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";

/**
 * Fills dist/<name> through a directory beside it, file by file: what runs from source meanwhile always finds whole
 * files, and a failed build leaves the last one.
 */
function fillDirectory(name: string, fill: (fresh: string) => void): void {
  const target = join(dist, name);
  const fresh = join(dist, `${name}.part`);
  rmSync(fresh, { recursive: true, force: true });
  for (const directory of [fresh, target]) mkdirSync(directory, { recursive: true });
  fill(fresh);
  const files = readdirSync(fresh);
  for (const file of files) renameSync(join(fresh, file), join(target, file));
  for (const file of readdirSync(target)) if (!files.includes(file)) rmSync(join(target, file));
  rmSync(fresh, { recursive: true });
}

function compileObject(source: string, object: string): void {
  run([
    "clang",
    ...["-O2", "-g", "-target", "bpf", "-mcpu=v3", `-D__TARGET_ARCH_${machine}`],
    ...["-Wall", "-Wextra", "-Werror"],
    ...["-Wno-unused-parameter", "-Wno-unused-function"], // BPF_PROG's context; a header's functions suit many.
    ...["-Ibpf", "-idirafter", `/usr/include/${multiarch}`],
    ...["-c", source, "-o", object],
  ]);
  run(["llvm-strip", "-g", object]); // DWARF goes, BTF stays: the kernel reads BTF.
  console.log(`  ${basename(object)} ${kib(object)}`);
}

function buildObjects(): void {
  fillDirectory("bpf", (fresh) => {
    for (const source of globSync("bpf/*.bpf.c", { cwd: root }).toSorted())
      compileObject(source, join(fresh, `${basename(source, ".c")}.o`));
  });
}

/** The committed layouts must be those of the objects: wrong offsets read wrong numbers. */
function checkContract(): void {
  const made = run([process.execPath, "bpf/gen.ts", "dist/bpf/contract.bpf.o"]);
  if (made !== readFileSync(join(root, "bpf/contract.gen.ts"), "utf8"))
    throw new Error("bpf/contract.gen.ts is not what bpf/contract.h says: npm run gen");
}

/** Parts of the C library: every machine that runs Bun has its own. */
const fromHost = /^(libc|libm|libpthread|libdl|librt|ld-linux.*)\.so\.\d+$/;

/** Where the loader's cache says each SONAME lies. */
function libraryPaths(): ReadonlyMap<string, string> {
  const architecture = process.arch === "arm64" ? "AArch64" : "x86-64";
  const found = new Map<string, string>();
  for (const line of run(["/sbin/ldconfig", "-p"]).split("\n")) {
    const match = /^\s+(\S+) \(([^)]*)\) => (\S+)$/.exec(line);
    const [, soname, kind, path] = match ?? [];
    if (soname === undefined || path === undefined || !kind?.includes(architecture)) continue;
    if (!found.has(soname)) found.set(soname, path);
  }
  return found;
}

function neededBy(path: string): readonly string[] {
  const text = run(["llvm-readelf", "--needed-libs", path]);
  return [...text.matchAll(/^\s+(\S+\.so\S*)$/gm)].flatMap(([, soname]) => soname ?? []);
}

/** The libraries and all they need besides the C library, what is needed first. */
function loadingOrder(sonames: readonly string[], paths: ReadonlyMap<string, string>): readonly string[] {
  const order = sonames.flatMap((soname) => {
    const path = paths.get(soname);
    if (path === undefined) throw new Error(`${soname} is not installed: see packaging/packages.txt`);
    const needed = neededBy(path).filter((name) => !fromHost.test(name));
    return [...loadingOrder(needed, paths), soname];
  });
  return [...new Set(order)];
}

function copyLibrary(soname: string, path: string, directory: string): Library {
  const copy = join(directory, soname);
  copyFileSync(path, copy);
  console.log(`  ${soname} ${kib(copy)} (${basename(path)})`);
  return { soname, sha256: createHash("sha256").update(readFileSync(copy)).digest("hex") };
}

function copyLibraries(): void {
  const paths = libraryPaths();
  if (!paths.has("libbpf.so.1") && paths.has("libbpf.so.0"))
    throw new Error("this distribution's libbpf is older than 1.0: build on Debian 12, its binary runs here");
  const needed = neededBy(join(root, `node_modules/better-sqlite3/prebuilds/linux-${process.arch}.node`));
  fillDirectory("lib", (fresh) => {
    const copyAll = (sonames: readonly string[]): readonly Library[] =>
      loadingOrder(sonames, paths).map((soname) =>
        copyLibrary(soname, realpathSync(paths.get(soname) ?? ""), fresh),
      );
    const libraries: Libraries = {
      libbpf: copyAll(["libbpf.so.1"]),
      addon: copyAll(needed.filter((name) => !fromHost.test(name))),
    };
    writeFileSync(join(fresh, "libraries.json"), `${JSON.stringify(libraries, null, 2)}\n`);
  });
}

/** The commit that is built, marked when files differ from it; empty where git cannot tell, as in an archive. */
function commit(): string {
  const git = Bun.which("git");
  if (git === null || !existsSync(join(root, ".git"))) return "";
  // Under sudo the checkout belongs to someone else than root, which git refuses to read unless told.
  const command = [git, "-c", `safe.directory=${root}`, "describe", "--always", "--dirty", "--exclude=*"];
  const done = Bun.spawnSync(command, { cwd: root, stderr: "ignore" });
  return done.exitCode === 0 ? done.stdout.toString().trim() : "";
}

type Binary = {
  readonly file: string;
  /** The first is what runs; the others are workers. Inside the binary each lies where it does in the checkout. */
  readonly entries: readonly string[];
  readonly options: readonly string[];
};

const forThisMachine: Binary = {
  file: "fovea",
  entries: ["src/main.ts", "src/store/query-worker.ts"],
  options: ["--asset", "dist/bpf", "--asset", "dist/lib"],
};

/** Bun's own program for Windows, which packaging/setup.sh fetched: without it Bun would download one by itself. */
const bunExe = "node_modules/.fovea-tools/bun-windows/package/bin/bun.exe";

const forWindows: Binary = {
  file: "fovea.exe",
  entries: [...forThisMachine.entries, "windows/hns-worker.ts", "windows/performance-worker.ts"],
  options: ["--target=bun-windows-x64", `--compile-executable-path=${bunExe}`],
};

function compile({ file, entries, options }: Binary): void {
  const fresh = join(dist, `${file}.part`, file);
  run([
    ...[process.execPath, "build", "--compile", "--root=.", ...entries, "--outfile", fresh],
    // A service of Windows starts in its system directory, any other where it was started: nothing is read there.
    ...["--no-compile-autoload-dotenv", "--no-compile-autoload-bunfig"],
    "--compile-exec-argv=--smol", // The heap is collected sooner: some 10 MB less resident under scrapes.
    // Bytecode: 420 ms from start to ready instead of 600, for 5 MB. The map: an error names our files and lines.
    ...["--bytecode", "--format=esm", "--sourcemap=linked"],
    ...["--define", `FOVEA_VERSION=${JSON.stringify(version())}`],
    ...["--define", `FOVEA_COMMIT=${JSON.stringify(commit())}`],
    ...options,
  ]);
  renameSync(fresh, join(dist, file)); // One that runs keeps its file.
  rmSync(dirname(fresh), { recursive: true });
}

function buildBinary(): void {
  compile(forThisMachine);
  console.log(`  fovea ${kib(join(dist, "fovea"))}, ${run([join(dist, "fovea"), "version"]).trim()}`);
}

function buildWindowsBinary(): void {
  if (!existsSync(join(root, bunExe))) throw new Error(`${bunExe} is missing: npm run build fetches it`);
  compile(forWindows);
  const exe = join(dist, "fovea.exe");
  stampFile(exe, version());
  signIfAsked(exe);
  console.log(`  fovea.exe ${kib(exe)}`);
}

function signIfAsked(path: string): void {
  const signing = signingOf(process.env);
  if (signing !== undefined) sign(path, signing);
}

function buildInstaller(): void {
  for (const tool of ["wixl", "msibuild"])
    if (Bun.which(tool) === null)
      throw new Error(`${tool} is missing: install the packages wixl and msitools`);
  const msi = buildMsi();
  signIfAsked(msi);
  console.log(`  ${basename(msi)} ${kib(msi)}`);
}

function step(name: string, work: () => void): void {
  const startMs = performance.now();
  console.log(`build: ${name}`);
  work();
  console.log(`  ${((performance.now() - startMs) / 1000).toFixed(1)} s`);
}

const words = ["objects", "linux", "all", "installer"];

try {
  const what = process.argv[2] ?? "all";
  if (!words.includes(what)) throw new Error(`${what} is none of ${words.join(", ")}`);
  step("eBPF objects", buildObjects);
  step("libraries", copyLibraries);
  if (what !== "objects") {
    step("contract", checkContract);
    step("binary", buildBinary);
  }
  if (what === "all" || what === "installer") step("binary for Windows", buildWindowsBinary);
  if (what === "installer") step("installer for Windows", buildInstaller);
} catch (error) {
  console.error(`build: ${error instanceof Error ? error.message : error}`);
  process.exit(1);
}
