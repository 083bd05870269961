// Network namespaces for tests, and their removal.

import { readlinkSync } from "node:fs";
import { enterNetworkNamespace, openFile } from "../../bpf/libc.ts";

export const mayMakeNamespaces = process.getuid?.() === 0;
if (!mayMakeNamespaces) console.error("SKIPPED: tests in network namespaces need root");

/** What a command printed; throws with its complaint when it fails. */
export function run(...command: string[]): string {
  const done = Bun.spawnSync(command);
  if (done.exitCode !== 0) throw new Error(`${command.join(" ")}: ${done.stderr}`);
  return done.stdout.toString();
}

/** Waits, with the event loop standing still, until something is so. */
export function until(isSo: () => boolean): void {
  const giveUpAt = performance.now() + 4_000;
  while (!isSo()) {
    if (performance.now() > giveUpAt) throw new Error(`not so after 4 s: ${isSo}`);
    Bun.sleepSync(2);
  }
}

export type TestNamespace = Disposable & {
  readonly name: string;
  /** Runs `ip` in the namespace. */
  ip(...words: string[]): string;
  /** Runs many lines of `ip` at once. */
  batch(lines: readonly string[]): void;
  run(...command: string[]): string;
  /** Does something with this thread inside the namespace. */
  inside<Result>(action: () => Result): Result;
  /** The same, for as long as a promise takes; nothing else may run meanwhile. */
  insideWhile<Result>(action: () => Promise<Result>): Promise<Result>;
  /** Starts a process inside that ends with the namespace. */
  spawn(...command: string[]): Bun.Subprocess;
  /** Starts one that does nothing, so that the namespace is seen in /proc; its number. */
  sleeper(): number;
};

let made = 0;

export function makeNamespace(): TestNamespace {
  made += 1;
  const name = `fovea-proc-${process.pid}-${made}`;
  const children: Bun.Subprocess[] = [];
  run("ip", "netns", "add", name);
  run("ip", "-n", name, "link", "set", "lo", "up");
  const enter = () => {
    const home = openFile("/proc/thread-self/ns/net");
    using target = openFile(`/run/netns/${name}`);
    enterNetworkNamespace(target.fd);
    return {
      [Symbol.dispose]: () => {
        enterNetworkNamespace(home.fd);
        home[Symbol.dispose]();
      },
    };
  };
  const spawn = (...command: string[]): Bun.Subprocess => {
    const child = Bun.spawn(["ip", "netns", "exec", name, ...command], {
      stdio: ["ignore", "ignore", "ignore"],
    });
    children.push(child);
    return child;
  };
  return {
    name,
    ip: (...words) => run("ip", "-n", name, ...words),
    batch(lines) {
      const done = Bun.spawnSync(["ip", "-n", name, "-batch", "-"], { stdin: Buffer.from(lines.join("\n")) });
      if (done.exitCode !== 0) throw new Error(`ip -batch: ${done.stderr}`);
    },
    run: (...command) => run("ip", "netns", "exec", name, ...command),
    inside(action) {
      using _home = enter();
      return action();
    },
    async insideWhile(action) {
      using _home = enter();
      return await action();
    },
    spawn,
    sleeper() {
      const { pid } = spawn("sleep", "600");
      until(() => readlinkSync(`/proc/${pid}/exe`).includes("sleep"));
      return pid;
    },
    [Symbol.dispose]() {
      for (const child of children) child.kill("SIGKILL");
      run("ip", "netns", "delete", name);
    },
  };
}
