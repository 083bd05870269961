// A machine in QEMU without KVM: a kernel, some of its modules, and a root file system in memory of what we give it.

import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";

const tools = join(import.meta.dir, "../../node_modules/.fovea-tools");
const emulator = "qemu-system-x86_64";
const places = ["bin", "usr/bin"].map((directory) => join(tools, "busybox-static", directory, "busybox"));
const busybox = places.find((path) => existsSync(path)) ?? "";

export type Kernel = {
  /** As uname -r says. */
  readonly release: string;
  readonly image: string;
  /** lib/modules/<release> of its package. */
  readonly modules: string;
};

/** The distribution's own kernel, which packaging/setup.sh unpacks; undefined where it has none for us. */
export function findKernel(directory = join(tools, "linux-image-cloud-amd64")): Kernel | undefined {
  const [image] = globSync(join(directory, "boot/vmlinuz-*"));
  if (image === undefined) return undefined;
  const release = basename(image).slice("vmlinuz-".length);
  const inside = ["lib/modules", "usr/lib/modules"].map((path) => join(directory, path, release));
  const modules = inside.find((path) => existsSync(path));
  return modules === undefined ? undefined : { release, image, modules };
}

/** What this machine would need besides a kernel; empty where one can be booted. */
export const machineLacks: readonly string[] = [
  ...(process.arch === "x64" ? [] : ["a processor that runs x64 programs"]),
  ...(Bun.which(emulator) === null ? [emulator] : []),
  ...(busybox === "" ? ["busybox-static"] : []),
];

/** Path inside the machine to what stands there: a program, a file, or the target of a symbolic link. */
export type Tree = ReadonlyMap<string, { readonly bytes: Uint8Array } | { readonly link: string }>;

/** A program with the libraries that it is linked with, where it looks for them. */
function withLibraries(path: string, source: string): [string, { bytes: Uint8Array }][] {
  const listed = Bun.spawnSync(["ldd", source]).stdout.toString();
  const libraries = [...listed.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm)].flatMap(
    ([, library]) => library ?? [],
  );
  return [[path, source] as const, ...libraries.map((library) => [library, library] as const)].map(
    ([inside, outside]) => [inside, { bytes: readFileSync(outside) }],
  );
}

/** The names of modules that a module's own description says it needs. */
const neededBy = (bytes: Buffer): readonly string[] =>
  (/\0depends=([^\0]*)/.exec(bytes.toString("latin1"))?.[1] ?? "").split(",").filter((name) => name !== "");

/** Modules by name with all they need; one that is built into the kernel has no file. */
function modulesOf(kernel: Kernel, names: readonly string[]): Tree {
  const files = new Map(
    globSync("kernel/**/*.ko", { cwd: kernel.modules }).map((path) => [
      basename(path, ".ko").replaceAll("-", "_"),
      path,
    ]),
  );
  const tree = new Map<string, { bytes: Uint8Array }>();
  const add = (name: string): void => {
    const path = files.get(name);
    if (path === undefined || tree.has(path)) return;
    const bytes = readFileSync(join(kernel.modules, path));
    tree.set(path, { bytes });
    for (const needed of neededBy(bytes)) add(needed);
  };
  for (const name of names) add(name);
  for (const list of ["modules.order", "modules.builtin"])
    tree.set(list, { bytes: readFileSync(join(kernel.modules, list)) });
  return new Map([...tree].map(([path, file]) => [`/lib/modules/${kernel.release}/${path}`, file]));
}

/** Applets of busybox, the given programs (path inside to path here), modules, and /init. */
export function makeTree(options: {
  readonly kernel: Kernel;
  readonly init: string;
  readonly programs: Readonly<Record<string, string>>;
  readonly modules: readonly string[];
}): Tree {
  const applets = Bun.spawnSync([busybox, "--list"]).stdout.toString().trim().split("\n");
  return new Map([
    ...applets.map((applet) => [`/bin/${applet}`, { link: "busybox" }] as const),
    ["/bin/busybox", { bytes: readFileSync(busybox) }],
    ["/sbin/modprobe", { link: "/bin/busybox" }],
    ...Object.entries(options.programs).flatMap(([path, source]) => withLibraries(path, source)),
    ...modulesOf(options.kernel, options.modules),
    ["/init", { bytes: readFileSync(options.init) }],
  ]);
}

const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;

/** The format "newc" of cpio, which the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst). */
function archiveOf(tree: Tree): Blob {
  const parts: (string | Uint8Array)[] = [];
  let inode = 0;
  const pad = (length: number): string => "\0".repeat((4 - (length % 4)) % 4);
  const add = (path: string, mode: number, content: string | Uint8Array): void => {
    const name = `${path.slice(1)}\0`;
    const size = Buffer.byteLength(content);
    const fields = [++inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, Buffer.byteLength(name), 0];
    const head = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}${name}`;
    parts.push(head, pad(Buffer.byteLength(head)), content, pad(size));
  };
  const directories = new Set<string>();
  const addDirectory = (path: string): void => {
    if (path === "/" || directories.has(path)) return;
    addDirectory(dirname(path));
    directories.add(path);
    add(path, S_IFDIR | 0o755, "");
  };
  for (const [path, file] of tree) {
    addDirectory(dirname(path));
    if ("link" in file) add(path, S_IFLNK | 0o777, file.link);
    else add(path, S_IFREG | 0o755, file.bytes);
  }
  add("/TRAILER!!!", 0, "");
  return new Blob(parts);
}

/** Boots, waits until the machine turns itself off, and gives what it has written to its serial console. */
export async function boot(
  kernel: Kernel,
  tree: Tree,
  options: { env: string; msMax: number },
): Promise<string> {
  const scratch = mkdtempSync(join(tmpdir(), "fovea-machine-"));
  const root = join(scratch, "root.cpio");
  try {
    writeFileSync(root, await archiveOf(tree).bytes());
    const child = Bun.spawn(
      [
        // QEMU 7.2 spoils the flags in some runs of cmpxchg16b, which the kernel's allocator does not need.
        ...[emulator, "-accel", "tcg,thread=multi", "-cpu", "max,-cx16", "-smp", "2", "-m", "1536"],
        ...["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"],
        ...["-kernel", kernel.image, "-initrd", root],
        // Words that the kernel does not know become the environment of /init.
        ...["-append", `console=ttyS0 quiet panic=-1 ipv6.disable=1 ${options.env}`],
      ],
      { stdio: ["ignore", "pipe", "inherit"], timeout: options.msMax, killSignal: "SIGKILL" },
    );
    const printed = await new Response(child.stdout).text();
    await child.exited;
    return printed.replaceAll("\r", "");
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
