// What stands around a service: its command line, its keys in the registry, its events, its log, its directory.

import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { registerEventSource, removeEventSource, writeEvent } from "../../windows/event-log.ts";
import { makePrivate } from "../../windows/private-directory.ts";
import { openServiceLog } from "../../windows/service-log.ts";
import { commandLine } from "../../windows/service-manager.ts";
import { openLibrary, type Pointer, readUtf16, utf16 } from "../../windows/system.ts";

const directory = mkdtempSync(join(tmpdir(), "fovea-around-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe("the command line", () => {
  const { CommandLineToArgvW } = openLibrary("shell32.dll", {
    CommandLineToArgvW: { args: ["ptr", "ptr"], returns: "ptr" },
  }).symbols;
  const taken = (line: string): readonly string[] => {
    const count = new Int32Array(1);
    const list = Number(CommandLineToArgvW(utf16(line), count));
    const cells = new BigUint64Array(pointersAt(list, count[0] ?? 0));
    return [...cells].map((address) => readUtf16(Number(address) as Pointer));
  };

  test("is what Windows takes apart into the same arguments", () => {
    const text = fc.array(fc.constantFrom("a", " ", '"', "\\", "\t", "ü", "-", ":"), { maxLength: 8 });
    const argument = text.map((parts) => parts.join(""));
    fc.assert(
      fc.property(fc.array(argument, { maxLength: 4 }), (args) => {
        const line = commandLine("C:\\Program Files\\Fovea\\fovea.exe", args);
        expect(taken(line)).toEqual(["C:\\Program Files\\Fovea\\fovea.exe", ...args]);
      }),
      { numRuns: 500 },
    );
  });

  test("has its program in quotation marks whatever its path", () => {
    expect(commandLine("C:\\fovea.exe", ["service", "run"])).toBe('"C:\\fovea.exe" service run');
  });
});

const pointersAt = (address: number, count: number): ArrayBuffer => {
  const { RtlMoveMemory } = openLibrary("kernel32.dll", {
    RtlMoveMemory: { args: ["ptr", "ptr", "usize"], returns: "void" },
  }).symbols;
  const copy = new Uint8Array(8 * count);
  if (count > 0) RtlMoveMemory(copy, address as Pointer, copy.length);
  return copy.buffer;
};

describe("the event source", () => {
  const source = "FoveaTestEvents";
  const key = `HKLM\\SYSTEM\\CurrentControlSet\\Services\\EventLog\\Application\\${source}`;
  const query = () => {
    const { exitCode, stdout } = Bun.spawnSync(["C:\\windows\\system32\\reg.exe", "query", key]);
    return { exitCode, text: stdout.toString() };
  };

  test("is registered with messages that Windows has, and removed whole", () => {
    registerEventSource(source);
    registerEventSource(source);
    const { text } = query();
    expect(text).toMatch(/EventMessageFile\s+REG_EXPAND_SZ\s+%SystemRoot%\\System32\\EventCreate\.exe/);
    expect(text).toMatch(/TypesSupported\s+REG_DWORD\s+0x7/);
    removeEventSource(source);
    expect(query().exitCode).toBe(1);
    removeEventSource(source);
  });

  test("takes events of any text", () => {
    for (const text of ["started", "", "grüße\nzwei 100%1", "x".repeat(40_000)])
      expect(() => writeEvent(source, "failed", text)).not.toThrow();
  });
});

describe("the log of a service", () => {
  const open = (file: string) => openServiceLog({ file, bytesMax: 1000, filesMax: 2, now: Date.now });
  const line = (number: number): string => `${JSON.stringify({ number, filler: "x".repeat(80) })}\n`;

  test("is rotated by size, and keeps so many files and the newest lines", () => {
    const logs = join(directory, "rotated");
    {
      using log = open(join(logs, "fovea.log"));
      for (let number = 0; number < 100; number++) log.write(line(number));
    }
    const files = readdirSync(logs).toSorted();
    expect(files).toHaveLength(3);
    for (const file of files) expect(statSync(join(logs, file)).size).toBeLessThanOrEqual(1000);
    const numbers = files
      .flatMap((file) => readFileSync(join(logs, file), "utf8").trimEnd().split("\n"))
      .map((text) => (JSON.parse(text) as { number: number }).number);
    expect(numbers).toEqual(Array.from({ length: numbers.length }, (_, at) => 100 - numbers.length + at));
    expect(numbers.length).toBe(19);
  });

  test("goes on where the process before has ended, in the middle of a line too", () => {
    const file = join(directory, "again", "fovea.log");
    {
      using log = open(file);
      log.write(line(1));
    }
    writeFileSync(file, '{"torn":', { flag: "a" });
    using log = open(file);
    log.write(line(2));
    expect(readFileSync(file, "utf8")).toBe(line(1) + line(2));
  });

  test("throws where it cannot be written, and works again when it can", () => {
    const blocked = join(directory, "blocked");
    writeFileSync(blocked, "a file where a directory should be");
    using log = open(join(blocked, "fovea.log"));
    expect(() => log.write(line(1))).toThrow();
    rmSync(blocked);
    log.write(line(2));
    expect(readFileSync(join(blocked, "fovea.log"), "utf8")).toBe(line(2));
  });
});

test("the directory of a service is made, or taken, and can be used by the system", () => {
  // Whom it keeps out cannot be seen here: wine knows the rights of files by the mode alone.
  const path = join(directory, "private", "deep");
  makePrivate(path);
  makePrivate(path);
  writeFileSync(join(path, "a.txt"), "a");
  expect(readFileSync(join(path, "a.txt"), "utf8")).toBe("a");
  const blocked = join(directory, "a-file");
  writeFileSync(blocked, "");
  expect(() => makePrivate(join(blocked, "below"))).toThrow();
});
