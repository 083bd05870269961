// Compiles the C that tests bring along, for this machine or for the kernel, into a directory of its own.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "./proc-namespace.ts";

export type Scratch = Disposable & {
  /** Compiles test/kernel/<name>.c; returns the program's path. */
  program(name: string): string;
  /** Compiles test/kernel/<name>.bpf.c; returns the object. */
  object(name: string): Uint8Array;
};

const headers = process.arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
const strict = ["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"];

export function openScratch(): Scratch {
  const directory = mkdtempSync(join(tmpdir(), "fovea-kernel-test-"));
  const source = (name: string): string => join(import.meta.dir, name);
  return {
    program(name) {
      const path = join(directory, name);
      run("clang", ...strict, source(`${name}.c`), "-o", path);
      return path;
    },
    object(name) {
      const path = join(directory, `${name}.bpf.o`);
      const target = ["-target", "bpf", "-mcpu=v3", "-idirafter", `/usr/include/${headers}`];
      run("clang", ...strict, ...target, "-c", source(`${name}.bpf.c`), "-o", path);
      run("llvm-strip", "-g", path);
      return readFileSync(path);
    },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  };
}
