// The files by which the stand-ins for vfpctrl, pktmon and pdh are told what to answer, and tell what they were asked.

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { whenFree } from "./when-free.ts";

export type StubCall = {
  readonly pid: number;
  readonly arguments: string;
  /** It ran beside another one. */
  readonly concurrent: boolean;
};

export type Stub = Disposable & {
  /** Undefined removes the file. */
  write(name: string, text: string | Uint8Array | undefined): void;
  has(name: string): boolean;
  /** Whether anything was called since the log was taken last. */
  logged(): boolean;
  /** What was called since it was asked for last, in order. */
  takeLog(): readonly StubCall[];
};

/** Empty at first and at the end: without files each stand-in behaves well. */
export function openStub(name: "vfpctrl" | "pktmon" | "pdh"): Stub {
  const directory = join("C:\\fovea-stubs", name);
  mkdirSync(directory, { recursive: true });
  // One by one: removing a directory with what is in it does not work in every wine.
  const remove = (file: string): void => whenFree(() => rmSync(join(directory, file), { force: true }));
  const empty = (): void => readdirSync(directory).forEach(remove);
  empty();
  const write = (file: string, text: string | Uint8Array | undefined): void => {
    if (text === undefined) remove(file);
    else whenFree(() => writeFileSync(join(directory, file), text));
  };
  return {
    write,
    has: (file) => existsSync(join(directory, file)),
    logged: () =>
      existsSync(join(directory, "log")) && readFileSync(join(directory, "log"), "utf8").endsWith("\n"),
    takeLog() {
      const log = join(directory, "log");
      const text = existsSync(log) ? readFileSync(log, "utf8") : "";
      write("log", undefined);
      return [...text.matchAll(/^(CONCURRENT )?(\d+) ?(.*)\r$/gm)].map(([, beside, pid, words = ""]) => ({
        pid: Number(pid),
        arguments: words,
        concurrent: beside !== undefined,
      }));
    },
    [Symbol.dispose]: empty,
  };
}

/** Whether the process of that number is there. */
export function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Waits for a condition, not for a time; the test's own limit ends it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await Bun.sleep(5);
}
