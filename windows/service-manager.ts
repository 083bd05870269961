// The service manager (SCM): a service is made, started, stopped, asked and deleted.

import { ptr } from "bun:ffi";
import { setTimeout as wait } from "node:timers/promises";
import { exitCodeOf, type ServiceState, stateOf } from "./service-status.ts";
import { type Address, messageOf, openLibrary, utf16, utf16Pointer } from "./system.ts";

export type ServiceDefinition = {
  readonly name: string;
  readonly displayName: string;
  readonly description: string;
  /** As the service manager runs it, quoted: see commandLine. */
  readonly commandLine: string;
  /** How long Windows waits for the service when it shuts down. */
  readonly preshutdownMs: number;
};

export type ServiceStatus = {
  readonly state: ServiceState;
  /** Absent while it is stopped. */
  readonly pid?: number;
  /** Of its last end; zero while it runs. */
  readonly exitCode: number;
};

/** `code` is the number of Win32. */
export class ServiceError extends Error {
  readonly code: number;
  constructor(message: string, code: number) {
    super(message);
    this.code = code;
  }
}

export const ERROR_ACCESS_DENIED = 5;
const ERROR_ALREADY_RUNNING = 1056;
const ERROR_CANNOT_ACCEPT_CONTROL = 1061;
const ERROR_NOT_ACTIVE = 1062;
export const ERROR_DOES_NOT_EXIST = 1060;
const ERROR_MARKED_FOR_DELETE = 1072;
export const ERROR_EXISTS = 1073;

const advice: Readonly<Record<number, (name: string) => string>> = {
  [ERROR_ACCESS_DENIED]: () => "that takes the rights of an administrator: run it from an elevated prompt",
  [ERROR_DOES_NOT_EXIST]: (name) => `there is no service ${name}: fovea service install makes it`,
  [ERROR_MARKED_FOR_DELETE]: (name) =>
    `${name} was deleted, but another program still has it open: close services.msc and the like, or restart Windows`,
  [ERROR_EXISTS]: (name) =>
    `${name} is installed already: to install it differently, fovea service uninstall first`,
};

export function failure(what: string, name: string, code: number): ServiceError {
  const known = advice[code]?.(name);
  const text = known === undefined ? messageOf(code) : `${known} (error ${code})`;
  return new ServiceError(`the service cannot be ${what}: ${text}`, code);
}

/** Quoted as CommandLineToArgvW takes it apart: backslashes count only before a quotation mark. */
export const quoted = (argument: string): string =>
  `"${argument.replace(/(\\*)"/g, '$1$1\\"').replace(/(\\+)$/, "$1$1")}"`;

/** Every part is quoted. Of a path with a space that is not, Windows would run what stands before the space. */
export const commandLine = (program: string, args: readonly string[]): string =>
  [program, ...args]
    .map((part, index) => (index > 0 && /^[\w./:-]+$/.test(part) ? part : quoted(part)))
    .join(" ");

const openCalls = () => ({
  ...openLibrary("advapi32.dll", {
    OpenSCManagerW: { args: ["ptr", "ptr", "u32"], returns: "ptr" },
    OpenServiceW: { args: ["ptr", "ptr", "u32"], returns: "ptr" },
    CreateServiceW: {
      args: ["ptr", "ptr", "ptr", "u32", "u32", "u32", "u32", "ptr", "ptr", "ptr", "ptr", "ptr", "ptr"],
      returns: "ptr",
    },
    ChangeServiceConfigW: {
      args: ["ptr", "u32", "u32", "u32", "ptr", "ptr", "ptr", "ptr", "ptr", "ptr", "ptr"],
      returns: "i32",
    },
    QueryServiceConfig2W: { args: ["ptr", "u32", "ptr", "u32", "ptr"], returns: "i32" },
    ChangeServiceConfig2W: { args: ["ptr", "u32", "ptr"], returns: "i32" },
    DeleteService: { args: ["ptr"], returns: "i32" },
    StartServiceW: { args: ["ptr", "u32", "ptr"], returns: "i32" },
    ControlService: { args: ["ptr", "u32", "ptr"], returns: "i32" },
    QueryServiceStatusEx: { args: ["ptr", "u32", "ptr", "u32", "ptr"], returns: "i32" },
    CloseServiceHandle: { args: ["ptr"], returns: "i32" },
  }).symbols,
  ...openLibrary("kernel32.dll", { GetLastError: { args: [], returns: "u32" } }).symbols,
});
type Calls = ReturnType<typeof openCalls>;

const rights = {
  connect: 0x1,
  createService: 0x2,
  queryConfig: 0x1,
  changeConfig: 0x2,
  queryStatus: 0x4,
  start: 0x10,
  stop: 0x20,
  delete: 0x1_0000,
} as const;

type Opened = Disposable & { readonly handle: Address };

/** Throws for NULL. Nothing may be called before the error's number is read. */
function opened(calls: Calls, handle: Address | null, what: string, name: string): Opened {
  if (handle === null) throw failure(what, name, calls.GetLastError());
  return { handle, [Symbol.dispose]: () => void calls.CloseServiceHandle(handle) };
}

function check(calls: Calls, result: number, what: string, name: string): void {
  if (result === 0) throw failure(what, name, calls.GetLastError());
}

function openService(calls: Calls, name: string, access: number, what: string): Opened {
  const wide = utf16(name);
  using manager = opened(calls, calls.OpenSCManagerW(null, null, rights.connect), what, name);
  return opened(calls, calls.OpenServiceW(manager.handle, wide, access), what, name);
}

/** SERVICE_FAILURE_ACTIONSW, and behind it the actions: started again after 5 s, 5 s and then each 60 s. */
export function failureActions(): Buffer {
  const RESTART = 1;
  const headBytes = 40;
  const delaysMs = [5000, 5000, 60_000];
  const buffer = Buffer.alloc(headBytes + 8 * delaysMs.length);
  buffer.writeUInt32LE(86_400, 0); // After a day without a failure the count begins again.
  buffer.writeUInt32LE(delaysMs.length, 24);
  buffer.writeBigUInt64LE(BigInt(ptr(buffer) + headBytes), 32);
  for (const [index, delayMs] of delaysMs.entries()) {
    buffer.writeUInt32LE(RESTART, headBytes + 8 * index);
    buffer.writeUInt32LE(delayMs, headBytes + 8 * index + 4);
  }
  return buffer;
}

const pollMs = 50;

const dword = (value: number): Uint32Array => new Uint32Array([value]);

const recovery = [2, 4];

/** What CreateServiceW does not take; by the levels of ChangeServiceConfig2W. */
const settingsOf = ({ description, preshutdownMs }: ServiceDefinition) => [
  { level: 1, what: "its description", data: utf16Pointer(description) },
  { level: 2, what: "the restart after a failure", data: failureActions() },
  { level: 4, what: "the restart after an end with an error", data: dword(1) },
  { level: 3, what: "the delayed start", data: dword(1) },
  { level: 7, what: "the time for a shutdown", data: dword(preshutdownMs) },
];

type Setting = ReturnType<typeof settingsOf>[number];

/** Returns what could not be set, each a sentence; the service is there all the same. */
const set = (calls: Calls, { handle }: Opened, settings: readonly Setting[]): readonly string[] =>
  settings.flatMap(({ level, what, data }) =>
    calls.ChangeServiceConfig2W(handle, level, data) === 0
      ? [`${what} could not be set: ${messageOf(calls.GetLastError())}`]
      : [],
  );

const OWN_PROCESS = 0x10;
const AUTO_START = 2;
const ERROR_NORMAL = 1;

/** Starts with Windows, soon after it. Returns what could not be set. */
export function createService(definition: ServiceDefinition): readonly string[] {
  const { name, displayName } = definition;
  const what = "installed";
  const calls = openCalls();
  const texts = [utf16(name), utf16(displayName)] as const;
  const path = utf16(definition.commandLine);
  const wanted = rights.connect | rights.createService;
  using manager = opened(calls, calls.OpenSCManagerW(null, null, wanted), what, name);
  const access = rights.changeConfig | rights.start;
  const kind = [access, OWN_PROCESS, AUTO_START, ERROR_NORMAL] as const;
  // Neither group, tag, dependency, account nor password: LocalSystem.
  const made = calls.CreateServiceW(manager.handle, ...texts, ...kind, path, null, null, null, null, null);
  using service = opened(calls, made, what, name);
  return set(calls, service, settingsOf(definition));
}

/** Whether somebody has decided what is done when the service fails. */
function hasRecovery(calls: Calls, { handle }: Opened): boolean {
  const FAILURE_ACTIONS = 2;
  const countAt = 24;
  const buffer = Buffer.alloc(8192); // As much as it may take.
  const read = calls.QueryServiceConfig2W(handle, FAILURE_ACTIONS, buffer, buffer.length, dword(0));
  return read !== 0 && buffer.readUInt32LE(countAt) > 0;
}

/** Makes the one that is there as createService would have, but for what is done when it fails: that is its administrators'. */
function changeService(definition: ServiceDefinition): readonly string[] {
  const { name, displayName } = definition;
  const what = "installed";
  const calls = openCalls();
  // To restart it after a failure takes the right to start it.
  const access = rights.queryConfig | rights.changeConfig | rights.start;
  using service = openService(calls, name, access, what);
  const kind = [OWN_PROCESS, AUTO_START, ERROR_NORMAL] as const;
  const account = [utf16("LocalSystem"), utf16("")] as const;
  const changed = calls.ChangeServiceConfigW(
    ...([service.handle, ...kind, utf16(definition.commandLine)] as const),
    ...([null, null, null, ...account, utf16(displayName)] as const),
  );
  check(calls, changed, what, name);
  const kept = hasRecovery(calls, service) ? recovery : [];
  return set(
    calls,
    service,
    settingsOf(definition).filter(({ level }) => !kept.includes(level)),
  );
}

export type Created = { readonly isNew: boolean; readonly unset: readonly string[] };

function createOrChange(definition: ServiceDefinition, takeOver: boolean): Created {
  try {
    return { isNew: true, unset: createService(definition) };
  } catch (error) {
    if (!takeOver || !(error instanceof ServiceError) || error.code !== ERROR_EXISTS) throw error;
    return { isNew: false, unset: changeService(definition) };
  }
}

/** One that was deleted stays for as long as somebody has it open, and is waited for. */
export async function createServiceWithin(
  definition: ServiceDefinition,
  { takeOver, withinMs }: { readonly takeOver: boolean; readonly withinMs: number },
): Promise<Created> {
  const startMs = performance.now();
  for (;;) {
    try {
      return createOrChange(definition, takeOver);
    } catch (error) {
      const isLeaving = error instanceof ServiceError && error.code === ERROR_MARKED_FOR_DELETE;
      if (!isLeaving || performance.now() - startMs > withinMs) throw error;
      await wait(pollMs);
    }
  }
}

export function deleteService(name: string): void {
  const calls = openCalls();
  using service = openService(calls, name, rights.delete, "uninstalled");
  check(calls, calls.DeleteService(service.handle), "uninstalled", name);
}

/** SERVICE_STATUS_PROCESS. */
function queryStatus(calls: Calls, { handle }: Opened, name: string): ServiceStatus {
  const words = new Uint32Array(9);
  const needed = dword(0);
  check(
    calls,
    calls.QueryServiceStatusEx(handle, 0, words, words.byteLength, needed),
    "asked for its state",
    name,
  );
  const [, state = 0, , code = 0, specific = 0, , , pid = 0] = words;
  return {
    state: stateOf(state) ?? "stopped",
    exitCode: exitCodeOf(code, specific),
    ...(pid === 0 ? {} : { pid }),
  };
}

export function serviceStatus(name: string): ServiceStatus {
  const calls = openCalls();
  using service = openService(calls, name, rights.queryStatus, "asked for its state");
  return queryStatus(calls, service, name);
}

/** The state after it has settled; or the one that it has when the time is over. */
async function settled(status: () => ServiceStatus, withinMs: number): Promise<ServiceStatus> {
  const startMs = performance.now();
  for (;;) {
    const now = status();
    if (!now.state.endsWith("-pending") || performance.now() - startMs > withinMs) return now;
    await wait(pollMs);
  }
}

/** Started already is as good. Resolves when it runs, has stopped again, or the time is over. */
export async function startService(name: string, withinMs: number): Promise<ServiceStatus> {
  const calls = openCalls();
  using service = openService(calls, name, rights.queryStatus | rights.start, "started");
  const status = () => queryStatus(calls, service, name);
  if (
    (await settled(status, withinMs)).state === "stopped" &&
    calls.StartServiceW(service.handle, 0, null) === 0
  ) {
    const code = calls.GetLastError();
    if (code !== ERROR_ALREADY_RUNNING) throw failure("started", name, code);
  }
  return await settled(status, withinMs);
}

/** Stopped already is as good. Resolves when it has stopped, or the time is over. */
export async function stopService(name: string, withinMs: number): Promise<ServiceStatus> {
  const STOP = 1;
  const calls = openCalls();
  using service = openService(calls, name, rights.queryStatus | rights.stop, "stopped");
  const status = () => queryStatus(calls, service, name);
  const { state } = await settled(status, withinMs);
  if (state !== "stopped" && calls.ControlService(service.handle, STOP, new Uint32Array(7)) === 0) {
    const code = calls.GetLastError();
    if (code !== ERROR_NOT_ACTIVE && code !== ERROR_CANNOT_ACCEPT_CONTROL)
      throw failure("stopped", name, code);
  }
  return await settled(status, withinMs);
}

/** A service has stopped before its process has ended, which holds the program's file until then. */
export async function waitForExit(pid: number, withinMs: number): Promise<void> {
  const SYNCHRONIZE = 0x10_0000;
  const WAIT_TIMEOUT = 0x102;
  const { OpenProcess, WaitForSingleObject, CloseHandle } = openLibrary("kernel32.dll", {
    OpenProcess: { args: ["u32", "i32", "u32"], returns: "ptr" },
    WaitForSingleObject: { args: ["ptr", "u32"], returns: "u32" },
    CloseHandle: { args: ["ptr"], returns: "i32" },
  }).symbols;
  const process = OpenProcess(SYNCHRONIZE, 0, pid);
  if (process === null) return; // It has ended.
  const startMs = performance.now();
  while (WaitForSingleObject(process, 0) === WAIT_TIMEOUT && performance.now() - startMs < withinMs)
    await wait(pollMs);
  CloseHandle(process);
}
