// The end of what runs in consoles and containers: CTRL_SHUTDOWN_EVENT, which Bun makes no signal of, as a signal to abort.

import { type Pointer, toArrayBuffer } from "bun:ffi";
import { addressOf } from "./service-thunk.ts";
import { type Address, openLibrary } from "./system.ts";

const pageBytes = 0x1000;

/** Where the data page has what; from the code, 0x1000 further. */
const layout = { sleep: 0x00, sleepMs: 0x08, asked: 0x0c } as const;

/** BOOL HandlerRoutine(DWORD event): notes a shutdown, and keeps Windows waiting; leaves every other event to others. */
const handler: readonly string[] = [
  "83 f9 06", //                      cmp ecx,6                 CTRL_SHUTDOWN_EVENT
  "74 03", //                         je 0x8
  "31 c0", //                         xor eax,eax               FALSE
  "c3", //                            ret
  "48 83 ec 28", //              0x8: sub rsp,0x28              room for the callee, and the stack's alignment
  "89 0d fa 0f 00 00", //             mov [0x100c],ecx          asked
  "8b 0d f0 0f 00 00", //             mov ecx,[0x1008]          sleepMs
  "ff 15 e2 0f 00 00", //             call [0x1000]             Sleep
  "b8 01 00 00 00", //                mov eax,1                 TRUE
  "48 83 c4 28", //                   add rsp,0x28
  "c3", //                            ret
];

export const controlBytes: Uint8Array = Buffer.from(handler.join("").replaceAll(" ", ""), "hex");

export type ControlHandler = {
  readonly routine: Pointer;
  /** Whether the process has been told to end. */
  asked(): boolean;
};

/** Code that nobody can write, and data that nobody can run, for the life of the process: Windows may call at any time. */
export function loadControlHandler(sleep: Address, sleepMs: number): ControlHandler {
  const COMMIT_RESERVE = 0x3000;
  const READWRITE = 0x04;
  const EXECUTE_READ = 0x20;
  const memory = openLibrary("kernel32.dll", {
    VirtualAlloc: { args: ["ptr", "usize", "u32", "u32"], returns: "ptr" },
    VirtualProtect: { args: ["ptr", "usize", "u32", "ptr"], returns: "i32" },
  }).symbols;
  const allocated = memory.VirtualAlloc(null, 2 * pageBytes, COMMIT_RESERVE, READWRITE);
  if (allocated === null) throw new Error("VirtualAlloc has no memory for the handler of console events");
  const base = Number(allocated) as Pointer; // Addresses of processes are below 2^47.
  new Uint8Array(toArrayBuffer(base, 0, pageBytes)).set(controlBytes);
  const data = new DataView(toArrayBuffer(base, pageBytes, pageBytes));
  data.setBigUint64(layout.sleep, BigInt(sleep), true);
  data.setUint32(layout.sleepMs, sleepMs, true);
  if (memory.VirtualProtect(base, pageBytes, EXECUTE_READ, new Uint32Array(1)) === 0)
    throw new Error("VirtualProtect does not let the handler of console events run");
  return { routine: base, asked: () => data.getUint32(layout.asked, true) !== 0 };
}

const pollMs = 50;
/** Longer than whoever asks for the end waits for it: 5 s for a container. */
const sleepMs = 60_000;

function register(): ControlHandler {
  const { SetConsoleCtrlHandler } = openLibrary("kernel32.dll", {
    SetConsoleCtrlHandler: { args: ["ptr", "i32"], returns: "i32" },
  }).symbols;
  const control = loadControlHandler(addressOf("kernel32.dll", "Sleep"), sleepMs);
  if (SetConsoleCtrlHandler(control.routine, 1) === 0) throw new Error("SetConsoleCtrlHandler refuses it");
  return control;
}

/** The process ends without a warning where a policy forbids such code; that is no reason not to run. */
function tryRegister(): ControlHandler | undefined {
  try {
    return process.arch === "x64" ? register() : undefined;
  } catch {
    return undefined;
  }
}

/** Aborts once the process is told to end by a shutdown. Keeps no process alive. */
export function openShutdownSignal(): AbortSignal {
  const stopping = new AbortController();
  const control = tryRegister();
  const look = (): void => {
    if (control?.asked() === true) stopping.abort(new Error("stopped by CTRL_SHUTDOWN_EVENT"));
    else setTimeout(look, pollMs).unref();
  };
  if (control !== undefined) look();
  return stopping.signal;
}
