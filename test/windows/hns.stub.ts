// Steers the stand-in of vmcompute.dll, which stubs/vmcompute.c describes, for the tests of one file.

import { mkdtempSync, renameSync, rmdirSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openLibrary, utf16 } from "../../windows/system.ts";
import { whenFree } from "./when-free.ts";

export type StubSettings = Readonly<Record<string, string | number>>;

export type HnsStub = Disposable & {
  /** What is not named has its default. Holds from the next list on, and ends a call that hangs. */
  set(settings: StubSettings): void;
  /** For the environment of another process. */
  readonly file: string;
};

/** Of Windows: what is set by process.env reaches children alone. */
function setEnvironment(name: string, value: string): void {
  const { symbols } = openLibrary("kernel32.dll", {
    SetEnvironmentVariableW: { args: ["ptr", "ptr"], returns: "i32" },
  });
  if (symbols.SetEnvironmentVariableW(utf16(name), utf16(value)) === 0) throw new Error(`cannot set ${name}`);
}

export function openHnsStub(): HnsStub {
  const dir = mkdtempSync(join(tmpdir(), "fovea-hns-"));
  const file = join(dir, "hns.txt");
  const set = (settings: StubSettings): void => {
    const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`);
    writeFileSync(`${file}.part`, lines.join(""));
    whenFree(() => renameSync(`${file}.part`, file)); // A thread that nobody waits for may be reading it.
  };
  set({});
  setEnvironment("FOVEA_STUB_HNS", file);
  return {
    set,
    file,
    [Symbol.dispose]() {
      whenFree(() => unlinkSync(file));
      rmdirSync(dir); // Not rmSync, whose way to remove a tree wine does not have.
    },
  };
}
