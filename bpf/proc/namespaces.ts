// The network namespaces of this machine's processes: found by inode, read through /proc, entered for a moment.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { FatalError } from "../../src/snapshot.ts";
import { enterNetworkNamespace, LibcError, openFile } from "../libc.ts";
import { ENOENT } from "../netlink.ts";

/** A namespace, and a process through which its files are reached. */
export type Namespace = { readonly inode: number; readonly pid: number };

export type NamespaceScan = {
  /** Grows by one each time the processes were looked through anew. */
  readonly generation: number;
  readonly host: number;
  /** Other namespaces, at most `namespacesMax`. */
  readonly others: readonly Namespace[];
  /** Namespaces that did not fit. */
  readonly beyond: number;
  /** May this process enter other namespaces? */
  readonly enterable: boolean;
  readonly limits: readonly string[];
};

export type Namespaces = { scan(): NamespaceScan };

/** The thread could not go back into its own namespace: whatever it reads from now on is another one's. */
export class StrandedError extends FatalError {}

const CAP_SYS_PTRACE = 19;
const CAP_SYS_ADMIN = 21;

/** True for a process or namespace that went away, or that we may not look at. */
function vanished(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return code === "ENOENT" || code === "ESRCH" || code === "EINVAL" || code === "EACCES" || code === "EPERM";
}

function unlessVanished<Result>(read: () => Result): Result | undefined {
  try {
    return read();
  } catch (error) {
    if (vanished(error)) return undefined; // Processes end at any time, and some are not ours to read.
    throw error;
  }
}

function inodeOf(link: string): number {
  const inode = /^net:\[(\d+)\]$/.exec(readlinkSync(link))?.[1];
  if (inode === undefined) throw new Error(`${link} does not lead to a network namespace`);
  return Number(inode);
}

function holdsCapability(procDir: string, capability: number): boolean {
  const status = readFileSync(`${procDir}/self/status`, "utf8");
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0";
  return ((BigInt(`0x${effective}`) >> BigInt(capability)) & 1n) === 1n;
}

// The oldest process of a namespace (a pod's pause process) is likely to live longest, so lower numbers come first.
const processIds = (procDir: string): number[] =>
  readdirSync(procDir)
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);

type Found = { readonly others: readonly Namespace[]; readonly beyond: number };

// Namespaces that were followed before keep their place, so that a full list does not change from scan to scan.
function findNamespaces(options: {
  procDir: string;
  host: number;
  followed: ReadonlySet<number>;
  namespacesMax: number;
}): Found {
  const { procDir, host, followed, namespacesMax } = options;
  const beyondMax = 65536;
  const kept = new Map<number, Namespace>();
  const fresh = new Map<number, Namespace>();
  const beyond = new Set<number>();
  for (const pid of processIds(procDir)) {
    const inode = unlessVanished(() => inodeOf(`${procDir}/${pid}/ns/net`));
    if (inode === undefined || inode === host || kept.has(inode) || fresh.has(inode)) continue;
    if (followed.has(inode)) kept.set(inode, { inode, pid });
    else if (fresh.size < namespacesMax) fresh.set(inode, { inode, pid });
    else if (beyond.size < beyondMax) beyond.add(inode);
  }
  const all = [...kept.values(), ...fresh.values()];
  const others = all.slice(0, namespacesMax);
  return { others, beyond: beyond.size + all.length - others.length };
}

function scanLimits(options: { visible: boolean; enterable: boolean; beyond: number }): string[] {
  const limits: string[] = [];
  if (!options.visible)
    limits.push("Only the host's network namespace is counted: seeing others needs CAP_SYS_PTRACE.");
  else if (!options.enterable)
    limits.push("TCP sockets are counted in the host's network namespace alone: others need CAP_SYS_ADMIN.");
  if (options.beyond > 0)
    limits.push(`${options.beyond} network namespaces are not counted: more than sockets.namespacesMax.`);
  return limits;
}

/**
 * Looks through the processes at most every `everyMs`. Without CAP_SYS_PTRACE the kernel hides the namespaces of other
 * processes, one refused call each, so they are not looked through at all.
 */
export function openNamespaces(options: {
  namespacesMax: number;
  everyMs: number;
  procDir?: string;
  now?: () => number;
}): Namespaces {
  const { namespacesMax, everyMs, procDir = "/proc", now = performance.now.bind(performance) } = options;
  let last: { scan: NamespaceScan; at: number } | undefined;

  const scanNow = (): NamespaceScan => {
    const host = inodeOf(`${procDir}/self/ns/net`);
    const visible = holdsCapability(procDir, CAP_SYS_PTRACE);
    const enterable = visible && holdsCapability(procDir, CAP_SYS_ADMIN);
    const followed = new Set(last?.scan.others.map(({ inode }) => inode));
    const found: Found = visible
      ? findNamespaces({ procDir, host, followed, namespacesMax })
      : { others: [], beyond: 0 };
    const limits = scanLimits({ visible, enterable, beyond: found.beyond });
    return { generation: (last?.scan.generation ?? 0) + 1, host, ...found, enterable, limits };
  };

  return {
    scan() {
      const at = now();
      if (last === undefined || at - last.at >= everyMs) last = { scan: scanNow(), at };
      return last.scan;
    },
  };
}

/** The text of files of a namespace's /proc/net (undefined where there is none), or undefined when it is gone. */
export function readNetFiles<Name extends string>(
  namespace: Namespace,
  options: { procDir: string; names: readonly Name[] },
): Partial<Record<Name, string>> | undefined {
  const processDir = `${options.procDir}/${namespace.pid}`;
  const files: Partial<Record<Name, string>> = {};
  for (const name of options.names) {
    const text = unlessVanished(() => readFileSync(`${processDir}/net/${name}`, "utf8"));
    if (text !== undefined) files[name] = text;
  }
  // The process may have ended meanwhile, and its number may be another's now.
  const inode = unlessVanished(() => inodeOf(`${processDir}/ns/net`));
  return inode === namespace.inode ? files : undefined;
}

function goBack(homeFd: number): void {
  try {
    enterNetworkNamespace(homeFd);
  } catch (error) {
    throw new StrandedError("cannot go back into the own network namespace; restart the process", {
      cause: error,
    });
  }
}

function openNamespace(path: string): ReturnType<typeof openFile> | undefined {
  const ESRCH = 3;
  const EACCES = 13;
  try {
    return openFile(path);
  } catch (error) {
    if (error instanceof LibcError && [ENOENT, ESRCH, EACCES].includes(error.errno)) return undefined;
    throw error;
  }
}

/**
 * Does `action` inside the namespace and comes straight back; undefined when the namespace is gone. `action` must be
 * short and must not wait: the whole thread is inside. No descriptor of the namespace stays open.
 */
export function insideNamespace<Result>(
  namespace: Namespace,
  options: { procDir: string; action: () => Result },
): Result | undefined {
  using target = openNamespace(`${options.procDir}/${namespace.pid}/ns/net`);
  if (target === undefined || inodeOf(`/proc/self/fd/${target.fd}`) !== namespace.inode) return undefined;
  using home = openFile("/proc/thread-self/ns/net");
  enterNetworkNamespace(target.fd);
  try {
    return options.action();
  } finally {
    goBack(home.fd);
  }
}
