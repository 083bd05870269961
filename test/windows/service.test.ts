// A service and the service manager: early, busy, deaf and hung services, and what the manager is asked for and refuses.

import { afterAll, afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  commandLine,
  createService,
  deleteService,
  ERROR_DOES_NOT_EXIST,
  ERROR_EXISTS,
  failure,
  failureActions,
  ServiceError,
  serviceStatus,
  startService,
  stopService,
  waitForExit,
} from "../../windows/service-manager.ts";
import { controls, stateOf } from "../../windows/service-status.ts";
import { openLibrary, utf16 } from "../../windows/system.ts";

setDefaultTimeout(60_000);

const name = "FoveaTest";
const program = join(import.meta.dir, "hosted-service.ts");
// With spaces, which a command line must carry.
const directory = mkdtempSync(join(tmpdir(), "fovea service "));
const file = join(directory, "told.txt");

afterAll(() => rmSync(directory, { recursive: true, force: true }));

const definition = (oddity: string, stopMs = 20_000) => ({
  name,
  displayName: "Fovea in a test",
  description: "A service of a test.",
  commandLine: commandLine(process.execPath, [program, name, oddity, file, String(stopMs)]),
  preshutdownMs: 40_000,
});

const create = (oddity: string, stopMs?: number) => createService(definition(oddity, stopMs));

afterEach(async () => {
  try {
    await stopService(name, 10_000);
    deleteService(name);
  } catch (error) {
    if (!(error instanceof ServiceError) || error.code !== ERROR_DOES_NOT_EXIST) throw error;
  }
  rmSync(file, { force: true });
});

const told = (): string => {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return ""; // Not yet.
  }
};

async function until(what: string, look: () => boolean): Promise<void> {
  const giveUpAt = performance.now() + 30_000;
  while (!look()) {
    if (performance.now() > giveUpAt) throw new Error(`not within 30 s: ${what}; told: ${told()}`);
    await Bun.sleep(10);
  }
}

const codeOf = (call: () => unknown): number => {
  try {
    call();
  } catch (error) {
    if (error instanceof ServiceError) return error.code;
    throw error;
  }
  return 0;
};

describe("a hosted service", () => {
  test("runs at once, answers INTERROGATE, and stops", async () => {
    create("plain");
    expect(serviceStatus(name)).toEqual({ state: "stopped", exitCode: 0 });
    const startMs = performance.now();
    const started = await startService(name, 20_000);
    const tookMs = performance.now() - startMs;
    expect(started).toMatchObject({ state: "running", exitCode: 0 });
    console.log(`from start to RUNNING: ${tookMs.toFixed(0)} ms`);
    expect(tookMs).toBeLessThan(15_000);
    expect(await startService(name, 20_000)).toEqual(started); // Started already is as good.
    expect(control(name, controls.interrogate)).toBe("running");
    await until("it works", () => told() === "running");
    expect(await stopService(name, 20_000)).toEqual({ state: "stopped", exitCode: 0 });
    expect(told()).toBe("stopped");
    expect(await stopService(name, 20_000)).toMatchObject({ state: "stopped" }); // As is stopped already.
  });

  test("that is busy for seconds is STOP_PENDING at once, and stops when it is not", async () => {
    create("busy");
    await startService(name, 20_000);
    await until("it is busy", () => told() === "busy");
    expect(control(name, controls.stop)).toBe("stop-pending");
    expect(serviceStatus(name).state).toBe("stop-pending");
    expect(told()).toBe("busy"); // The answers came before it could look.
    expect(await stopService(name, 20_000)).toEqual({ state: "stopped", exitCode: 0 });
    expect(told()).toBe("stopped");
  });

  test("that does not hear the stop is given up in time, with no failure that would start it again", async () => {
    create("deaf", 1000);
    const { pid = 0 } = await startService(name, 20_000);
    await until("it works", () => told() === "running");
    const startMs = performance.now();
    expect(await stopService(name, 20_000)).toEqual({ state: "stopped", exitCode: 0 });
    expect(performance.now() - startMs).toBeLessThan(15_000);
    expect(told()).toBe("overdue");
    await waitForExit(pid, 10_000);
  });

  test("whose event loop never comes back is ended by native code", async () => {
    create("hung", 500);
    const { pid = 0 } = await startService(name, 20_000);
    await until("it is hung", () => told() === "busy");
    expect(await stopService(name, 30_000)).toEqual({ state: "stopped", exitCode: 0 });
    expect(told()).toBe("busy");
    await waitForExit(pid, 10_000);
  });

  test("that cannot start ends with its own exit code, and never runs", async () => {
    create("refuses");
    expect(await startService(name, 20_000)).toEqual({ state: "stopped", exitCode: 7 });
  });

  test("that fails later tells it by its exit code, but not after a stop", async () => {
    create("fails");
    await startService(name, 20_000);
    await until("it has failed", () => serviceStatus(name).state === "stopped");
    expect(serviceStatus(name)).toEqual({ state: "stopped", exitCode: 9 });
    deleteService(name);
    create("fails-late");
    await startService(name, 20_000);
    expect(await stopService(name, 20_000)).toEqual({ state: "stopped", exitCode: 0 });
  });
});

/** Sends a control; the state that the manager then has. */
function control(service: string, number: number): string | undefined {
  const advapi = openLibrary("advapi32.dll", {
    OpenSCManagerW: { args: ["ptr", "ptr", "u32"], returns: "ptr" },
    OpenServiceW: { args: ["ptr", "ptr", "u32"], returns: "ptr" },
    ControlService: { args: ["ptr", "u32", "ptr"], returns: "i32" },
    CloseServiceHandle: { args: ["ptr"], returns: "i32" },
  }).symbols;
  const INTERROGATE_STOP = 0xa0;
  const manager = advapi.OpenSCManagerW(null, null, 1);
  const handle = advapi.OpenServiceW(manager, utf16(service), INTERROGATE_STOP);
  const status = new Uint32Array(7);
  const taken = advapi.ControlService(handle, number, status);
  advapi.CloseServiceHandle(handle);
  advapi.CloseServiceHandle(manager);
  if (taken === 0) throw new Error(`control ${number} is refused`);
  return stateOf(status[1] ?? 0);
}

describe("the service manager", () => {
  test("knows no service twice, and none that is gone", () => {
    expect(codeOf(() => serviceStatus(name))).toBe(ERROR_DOES_NOT_EXIST);
    create("plain");
    expect(codeOf(() => create("plain"))).toBe(ERROR_EXISTS);
    deleteService(name);
    expect(codeOf(() => deleteService(name))).toBe(ERROR_DOES_NOT_EXIST);
  });

  test("keeps the command line as it was quoted, and starts the service with it", async () => {
    create("plain");
    const line = registryText(`SYSTEM\\CurrentControlSet\\Services\\${name}`, "ImagePath");
    expect(line).toStartWith(`"${process.execPath}" `);
    expect(line).toEndWith(` plain "${file}" 20000`);
    await startService(name, 20_000);
    await until("its file in a path with spaces", () => told() === "running");
  });

  test.each([
    [5, /rights of an administrator: run it from an elevated prompt \(error 5\)$/],
    [1060, /there is no service Fovea: fovea service install makes it \(error 1060\)$/],
    [1072, /another program still has it open: close services\.msc .* \(error 1072\)$/],
    [1073, /is installed already: .* fovea service uninstall first \(error 1073\)$/],
    [1058, /\(error 1058\)$/],
  ])("says in one line what to do about error %d", (code, text) => {
    const { message } = failure("installed", "Fovea", code);
    expect(message).toMatch(text);
    expect(message).not.toContain("\n");
  });

  test("is told to start it again after 5, 5 and 60 seconds, and to count anew after a day", () => {
    const bytes = failureActions();
    const words = Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readUInt32LE(4 * index));
    // Seconds, no message, no command, three actions at an address, and each: restart, milliseconds.
    expect(words.slice(0, 7)).toEqual([86_400, 0, 0, 0, 0, 0, 3]);
    expect(words.slice(10)).toEqual([1, 5000, 1, 5000, 1, 60_000]);
  });
});

function registryText(key: string, value: string): string {
  const { RegGetValueW } = openLibrary("advapi32.dll", {
    RegGetValueW: { args: ["ptr", "ptr", "ptr", "u32", "ptr", "ptr", "ptr"], returns: "i32" },
  }).symbols;
  const LOCAL_MACHINE = 0x8000_0002;
  const ANY_TEXT = 0x1000_0006; // RRF_RT_REG_SZ, RRF_RT_REG_EXPAND_SZ without expansion.
  const buffer = Buffer.alloc(2048);
  const bytes = new Uint32Array([buffer.length]);
  const where = [LOCAL_MACHINE as never, utf16(key), utf16(value)] as const;
  const code = RegGetValueW(...where, ANY_TEXT, null, buffer, bytes);
  if (code !== 0) throw new Error(`${key} ${value}: error ${code}`);
  return buffer.toString("utf16le", 0, (bytes[0] ?? 2) - 2);
}
