// Windows in a directory: a wine prefix of its own with stand-ins for what wine lacks, and programs run in it.

import { createHash } from "node:crypto";
import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  globSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

const root = join(import.meta.dir, "..");
const tools = join(root, "node_modules/.fovea-tools");

const wine64 = "/usr/lib/wine/wine64";
const wineserver = "/usr/lib/wine/wineserver64";
const compiler = "x86_64-w64-mingw32-gcc";

/** Bun for Windows, which packaging/setup.sh fetches. */
export const bunExe = join(tools, "bun-windows/package/bin/bun.exe");

/** What this machine would need besides; empty where tests can run in wine. */
export const wineLacks: readonly string[] = [
  ...[wine64, wineserver, bunExe].filter((path) => !existsSync(path)),
  ...(Bun.which(compiler) === null ? [compiler] : []),
  ...(process.arch === "x64" ? [] : ["a processor that runs x64 programs"]),
];

/** A path of this machine as programs in wine know it. */
export const windowsPath = (path: string): string => `Z:${path.replaceAll("/", "\\")}`;

const environment = (prefix: string): Record<string, string> => ({
  PATH: process.env["PATH"] ?? "",
  HOME: prefix,
  WINEPREFIX: prefix,
  WINEARCH: "win64",
  WINEDLLOVERRIDES: "mscoree,mshtml=", // Wine offers to download these two.
  WINEDEBUG: "-all",
  DISPLAY: "",
});

function runOrThrow(command: readonly string[], env: Record<string, string>): void {
  const done = Bun.spawnSync([...command], {
    env,
    stdio: ["ignore", "ignore", "pipe"],
    timeout: 120_000,
  });
  if (done.exitCode !== 0) throw new Error(`failed (${done.exitCode}): ${command.join(" ")}: ${done.stderr}`);
}

/** Ends all processes of the prefix, services too. */
function endAll(prefix: string): void {
  // Without a server there is nothing to end, which -k reports as a failure.
  Bun.spawnSync([wineserver, "-k"], { env: environment(prefix), stdio: ["ignore", "ignore", "ignore"] });
  runOrThrow([wineserver, "-w"], environment(prefix));
}

const markAt = 0x40;
const builtIn = "Wine builtin DLL";
const placeholder = "Wine placeholder DLL\0";

/**
 * A prefix is 700 MB, copies of wine's own libraries: wine finds those by itself where the file says that it is a
 * placeholder, and of such a file it reads the head alone.
 */
function shrinkLibrary(path: string): void {
  const head = Buffer.alloc(4096);
  const fd = openSync(path, "r");
  try {
    readSync(fd, head, 0, head.length, 0);
  } finally {
    closeSync(fd);
  }
  if (head.toString("latin1", markAt, markAt + builtIn.length) !== builtIn) return;
  head.write(placeholder, markAt, "latin1");
  writeFileSync(path, head);
}

function shrink(directory: string): void {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) shrink(path);
    else if (entry.isFile()) shrinkLibrary(path);
    else if (entry.isSymbolicLink()) {
      unlinkSync(path); // The user's directories lead out of the prefix.
      mkdirSync(path);
    }
  }
}

/** What a prefix is made of; another number for another recipe. */
const recipe = 1;

/** Made once for each version of wine: 15 s, 16 MB. */
function template(): string {
  const version = Bun.spawnSync([wine64, "--version"]).stdout.toString();
  const key = createHash("sha256").update(`${recipe} ${version}`).digest("hex").slice(0, 12);
  const made = join(tools, `wine-prefix-${key}`);
  if (existsSync(made)) return made;
  mkdirSync(tools, { recursive: true });
  const fresh = mkdtempSync(join(tools, "wine-fresh-"));
  try {
    runOrThrow([wine64, "wineboot", "-i"], environment(fresh));
    runOrThrow([wine64, "winecfg", "-v", "win10"], environment(fresh));
    endAll(fresh);
    shrink(join(fresh, "drive_c"));
    writeFileSync(join(fresh, ".update-timestamp"), "disable\n"); // Else a later wine fills it up again.
    if (!existsSync(made)) renameSync(fresh, made);
    for (const old of globSync("wine-prefix-*", { cwd: tools }))
      if (join(tools, old) !== made) rmSync(join(tools, old), { recursive: true });
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  return made;
}

const stubSources = (): readonly string[] => globSync(join(root, "test/windows/stubs/*.c")).toSorted();

/** Libraries that may be used; the linker takes what a stub calls. */
const linked = ["-ladvapi32", "-lole32", "-lws2_32"];

/** The compiled stand-in: x.c is x.dll when its first line begins with "// dll", else x.exe. */
export function compileStub(source: string): string {
  const text = readFileSync(source, "utf8");
  const name = basename(source, ".c");
  const library = text.startsWith("// dll");
  const options = [
    ...["-O2", "-s", "-Wall", "-Wextra", "-Werror", "-static"],
    ...(library ? ["-shared"] : []),
    ...(/\bwmain\(/.test(text) ? ["-municode"] : []),
  ];
  const key = createHash("sha256")
    .update(JSON.stringify([text, options, linked]))
    .digest("hex");
  const directory = join(tools, "wine-stubs", key.slice(0, 16));
  const made = join(directory, `${name}.${library ? "dll" : "exe"}`);
  if (existsSync(made)) return made;
  mkdirSync(directory, { recursive: true });
  const fresh = `${made}.${process.pid}.part`;
  runOrThrow([compiler, ...options, "-o", fresh, source, ...linked], { PATH: process.env["PATH"] ?? "" });
  renameSync(fresh, made);
  return made;
}

/** Replaces a file; one that is there may be a link, or open. */
function place(from: string, to: string): void {
  if (lstatSync(to, { throwIfNoEntry: false }) !== undefined) unlinkSync(to);
  copyFileSync(from, to);
}

/** Where a service may be run from: the way to the checkout may be open to all users. Returns its path on this machine. */
export function installProgram(wine: Pick<Wine, "drive">, exe: string): string {
  const directory = join(wine.drive, "Program Files/Fovea");
  mkdirSync(directory, { recursive: true });
  const made = join(directory, basename(exe));
  copyFileSync(exe, made, constants.COPYFILE_FICLONE);
  return made;
}

type RunOptions = {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Default 60 s; then the program is killed. */
  readonly timeoutMs?: number;
};

export type Finished = { readonly exitCode: number | null; readonly out: string; readonly errors: string };

export type Running = {
  /** Of this machine; the program of Windows is this very process. */
  readonly pid: number;
  readonly exited: Promise<number>;
  /** What it wrote to standard error until now. */
  errors(): string;
  signal(name: "SIGINT" | "SIGKILL"): void;
};

export type Wine = Disposable & {
  readonly prefix: string;
  /** C:\ */
  readonly drive: string;
  /** C:\Windows\System32 */
  readonly system: string;
  /** What runs a program in the prefix, with `env`. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** A program of wine by its name ("sc", "net", "msiexec"), or any by its path on this machine. */
  run(command: readonly string[], options?: RunOptions): Promise<Finished>;
  start(command: readonly string[], options?: Omit<RunOptions, "timeoutMs">): Running;
  /** Keeps services running while no ordinary process runs. Ends with the prefix. */
  hold(): Promise<void>;
};

type WineOptions = {
  /** Names of stubs to put into System32, without extension. Default: all. */
  readonly stubs?: readonly string[];
};

function installStubs(system: string, wanted: readonly string[] | undefined): void {
  const needed = ["bcryptprimitives", "hold"];
  for (const source of stubSources()) {
    const name = basename(source, ".c");
    if (wanted !== undefined && !wanted.includes(name) && !needed.includes(name)) continue;
    const made = compileStub(source);
    place(made, join(system, basename(made)));
  }
}

/** A prefix in a temporary directory, 0.1 s. Dispose of it: that ends what runs in it. */
export function openWine({ stubs }: WineOptions = {}): Wine {
  if (wineLacks.length > 0) throw new Error(`wine cannot run here: ${wineLacks.join(", ")} missing`);
  const from = template();
  using undo = new DisposableStack();
  const scratch = mkdtempSync(join(tmpdir(), "fovea-wine-"));
  undo.defer(() => rmSync(scratch, { recursive: true, force: true, maxRetries: 5 }));
  const prefix = join(scratch, "prefix");
  runOrThrow(["cp", "-a", "--reflink=auto", from, prefix], { PATH: process.env["PATH"] ?? "" });
  undo.defer(() => endAll(prefix));
  const drive = join(prefix, "drive_c");
  const system = join(drive, "windows/system32");
  installStubs(system, stubs);
  const env = environment(prefix);

  const spawn = (command: readonly string[], options: RunOptions) =>
    Bun.spawn([wine64, ...command], {
      env: { ...env, ...options.env },
      cwd: options.cwd ?? drive,
      stdio: ["ignore", "pipe", "pipe"],
      ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs, killSignal: "SIGKILL" }),
    });
  const open = undo.move();
  return {
    prefix,
    drive,
    system,
    command: [wine64],
    env,
    async run(command, options = {}) {
      const child = spawn(command, { timeoutMs: 60_000, ...options });
      const [out, errors] = await Promise.all([child.stdout.text(), child.stderr.text()]);
      await child.exited;
      return { exitCode: child.exitCode, out, errors };
    },
    start: (command, options = {}) => running(spawn(command, options)),
    async hold() {
      const child = spawn([join(system, "hold.exe")], {});
      for await (const bytes of child.stdout) if (bytes.includes(0x0a)) return;
      throw new Error("hold.exe ended");
    },
    [Symbol.dispose]: () => open.dispose(),
  };
}

const pipesMsMax = 2000;

function running(child: Bun.Subprocess<"ignore", "pipe", "pipe">): Running {
  let errors = "";
  const drain = async (stream: ReadableStream<Uint8Array>, take: (text: string) => void): Promise<void> => {
    const decoder = new TextDecoder();
    for await (const bytes of stream) take(decoder.decode(bytes, { stream: true }));
  };
  const done = Promise.all([
    drain(child.stdout, () => undefined),
    drain(child.stderr, (text) => {
      errors += text;
    }),
  ]);
  return {
    pid: child.pid,
    // What wine leaves behind a program may hold its pipes open: whoever waits for the program waits no longer for them.
    exited: child.exited.then(async (code) => {
      await Promise.race([done, Bun.sleep(pipesMsMax)]);
      return code;
    }),
    errors: () => errors,
    signal: (name) => child.kill(name),
  };
}
