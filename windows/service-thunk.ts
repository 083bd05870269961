// What the service manager calls, as machine code: it answers at once and on its own thread, whatever JavaScript does.

import { type Pointer, toArrayBuffer } from "bun:ffi";
import { statusWords } from "./service-status.ts";
import { type Address, openLibrary, systemPath, utf16 } from "./system.ts";

const pageBytes = 0x1000;

/** Where the data page has what; from the code, 0x1000 further. */
const layout = {
  name: 0x00,
  calls: 0x08,
  handle: 0x40,
  entered: 0x48,
  failure: 0x4c,
  stops: 0x50,
  control: 0x54,
  endMs: 0x58,
  starting: 0x5c,
  stopping: 0x78,
  stopped: 0x94,
  table: 0x100,
  nameText: 0x200,
} as const;

/** Called by the code, in the order of their addresses in the data page. */
export const calledNames = [
  "RegisterServiceCtrlHandlerExW",
  "SetServiceStatus",
  "GetLastError",
  "CreateThread",
  "CloseHandle",
  "Sleep",
  "TerminateProcess",
] as const;
export type CalledAddresses = Readonly<Record<(typeof calledNames)[number], Address>>;

/** VOID ServiceMain(DWORD count, LPWSTR *arguments): registers the handler, reports that it starts, and returns. */
const serviceMain: readonly string[] = [
  "48 83 ec 28", //                   sub rsp,0x28              room for the callee, and the stack's alignment
  "48 8b 0d f5 0f 00 00", //          mov rcx,[0x1000]          name
  "48 8d 15 4e 00 00 00", //          lea rdx,[0x60]            handler
  "45 31 c0", //                      xor r8d,r8d               no context
  "ff 15 ed 0f 00 00", //             call [0x1008]             RegisterServiceCtrlHandlerExW
  "48 89 05 1e 10 00 00", //          mov [0x1040],rax          handle
  "48 85 c0", //                      test rax,rax
  "74 12", //                         je 0x39
  "48 89 c1", //                      mov rcx,rax
  "48 8d 15 2b 10 00 00", //          lea rdx,[0x105c]          starting
  "ff 15 d9 0f 00 00", //             call [0x1010]             SetServiceStatus
  "eb 0c", //                         jmp 0x45
  "ff 15 d9 0f 00 00", //       0x39: call [0x1018]             GetLastError
  "89 05 07 10 00 00", //             mov [0x104c],eax          failure
  "c7 05 f9 0f 00 00 01 00 00 00", // 0x45: mov dword [0x1048],1  entered, when the rest is said
  "48 83 c4 28", //                   add rsp,0x28
  "c3", //                            ret
  "90 90 90 90 90 90 90 90 90 90 90 90", // nop, to 0x60
];

/**
 * DWORD HandlerEx(DWORD control, DWORD type, LPVOID data, LPVOID context). The first stop, shutdown or preshutdown is
 * reported as pending, and a thread sees to it that the process ends even if nothing else does.
 */
const handler: readonly string[] = [
  "83 f9 04", //                      cmp ecx,4                 INTERROGATE: the manager knows our state
  "74 78", //                         je 0xdd
  "83 f9 01", //                      cmp ecx,1                 STOP
  "74 10", //                         je 0x7a
  "83 f9 05", //                      cmp ecx,5                 SHUTDOWN
  "74 0b", //                         je 0x7a
  "83 f9 0f", //                      cmp ecx,0xf               PRESHUTDOWN
  "74 06", //                         je 0x7a
  "b8 78 00 00 00", //                mov eax,120               ERROR_CALL_NOT_IMPLEMENTED
  "c3", //                            ret
  "53", //                      0x7a: push rbx
  "48 83 ec 30", //                   sub rsp,0x30              two arguments more than registers hold
  "89 cb", //                         mov ebx,ecx
  "b8 01 00 00 00", //                mov eax,1
  "f0 0f c1 05 c2 0f 00 00", //       lock xadd [0x1050],eax    stops
  "85 c0", //                         test eax,eax
  "75 46", //                         jne 0xd8                  not the first
  "48 8b 0d a7 0f 00 00", //          mov rcx,[0x1040]          handle
  "48 8d 15 d8 0f 00 00", //          lea rdx,[0x1078]          stopping
  "ff 15 6a 0f 00 00", //             call [0x1010]             SetServiceStatus
  "89 1d a8 0f 00 00", //             mov [0x1054],ebx          control: JavaScript may report from here on
  "31 c9", //                         xor ecx,ecx
  "31 d2", //                         xor edx,edx
  "4c 8d 05 29 00 00 00", //          lea r8,[0xe0]             overdue
  "45 31 c9", //                      xor r9d,r9d
  "4c 89 4c 24 20", //                mov [rsp+0x20],r9
  "4c 89 4c 24 28", //                mov [rsp+0x28],r9
  "ff 15 56 0f 00 00", //             call [0x1020]             CreateThread
  "48 85 c0", //                      test rax,rax
  "74 09", //                         je 0xd8
  "48 89 c1", //                      mov rcx,rax
  "ff 15 50 0f 00 00", //             call [0x1028]             CloseHandle
  "48 83 c4 30", //             0xd8: add rsp,0x30
  "5b", //                            pop rbx
  "31 c0", //                   0xdd: xor eax,eax               NO_ERROR
  "c3", //                            ret
];

/** DWORD overdue(LPVOID): ends a process that has not ended by itself. */
const overdue: readonly string[] = [
  "48 83 ec 28", //                   sub rsp,0x28
  "8b 0d 6e 0f 00 00", //             mov ecx,[0x1058]          endMs
  "ff 15 40 0f 00 00", //             call [0x1030]             Sleep
  "48 8b 0d 49 0f 00 00", //          mov rcx,[0x1040]          handle
  "48 8d 15 96 0f 00 00", //          lea rdx,[0x1094]          stopped
  "ff 15 0c 0f 00 00", //             call [0x1010]             SetServiceStatus
  "48 83 c9 ff", //                   or rcx,-1                 this process
  "ba 01 00 00 00", //                mov edx,1
  "ff 15 25 0f 00 00", //             call [0x1038]             TerminateProcess
  "48 83 c4 28", //                   add rsp,0x28
  "c3", //                            ret
];

const handlerAt = 0x60;
export const thunkBytes: Uint8Array = Buffer.from(
  [...serviceMain, ...handler, ...overdue].join("").replaceAll(" ", ""),
  "hex",
);

export type Thunk = {
  /** A SERVICE_TABLE_ENTRYW of the service, and the empty one that ends the table. */
  readonly table: Pointer;
  readonly serviceMain: Pointer;
  readonly handler: Pointer;
  /** Whether ServiceMain has run, and all below holds. */
  entered(): boolean;
  /** What status is reported with; undefined when the handler could not be registered. */
  handle(): Pointer | undefined;
  /** Why not. */
  failure(): number;
  /** The control that asks the service to end; zero before. Its STOP_PENDING is reported by then. */
  control(): number;
};

const openMemory = () =>
  openLibrary("kernel32.dll", {
    VirtualAlloc: { args: ["ptr", "usize", "u32", "u32"], returns: "ptr" },
    VirtualProtect: { args: ["ptr", "usize", "u32", "ptr"], returns: "i32" },
  }).symbols;

/** Two pages for the life of the process: code, which nobody can write from then on, and data, which nobody can run. */
function allocate(code: Uint8Array): { readonly base: Pointer; readonly data: DataView } {
  const COMMIT_RESERVE = 0x3000;
  const READWRITE = 0x04;
  const EXECUTE_READ = 0x20;
  const memory = openMemory();
  const allocated = memory.VirtualAlloc(null, 2 * pageBytes, COMMIT_RESERVE, READWRITE);
  if (allocated === null) throw new Error("VirtualAlloc has no memory for the service's code");
  const base = Number(allocated) as Pointer; // Addresses of processes are below 2^47.
  new Uint8Array(toArrayBuffer(base, 0, pageBytes)).set(code);
  const before = new Uint32Array(1);
  if (memory.VirtualProtect(base, pageBytes, EXECUTE_READ, before) === 0)
    throw new Error(
      "VirtualProtect does not let the service's code run: a policy forbids code made at run time",
    );
  return { base, data: new DataView(toArrayBuffer(base, pageBytes, pageBytes)) };
}

function checkArchitecture(): void {
  if (process.arch !== "x64")
    throw new Error(`fovea runs as a service on x64 alone, and this is ${process.arch}: use fovea run`);
}

export type ThunkOptions = {
  readonly name: string;
  readonly called: CalledAddresses;
  /** So long after the control the process is ended from outside JavaScript. */
  readonly endMs: number;
  readonly waitHintMs: number;
};

/** Puts the code into memory. Nothing of it is ever freed: the service manager may call until the process ends. */
export function loadThunk({ name, called, endMs, waitHintMs }: ThunkOptions): Thunk {
  checkArchitecture();
  const text = utf16(name);
  if (text.length > pageBytes - layout.nameText) throw new Error("the name of the service is too long");
  const { base, data } = allocate(thunkBytes);
  const dataAt = base + pageBytes;
  const put64 = (at: number, value: Address | number) => data.setBigUint64(at, BigInt(value), true);
  const putStatus = (at: number, words: Uint32Array) =>
    words.forEach((word, index) => {
      data.setUint32(at + 4 * index, word, true);
    });
  text.forEach((byte, index) => {
    data.setUint8(layout.nameText + index, byte);
  });
  put64(layout.name, dataAt + layout.nameText);
  calledNames.forEach((call, index) => {
    put64(layout.calls + 8 * index, called[call]);
  });
  data.setUint32(layout.endMs, endMs, true);
  putStatus(layout.starting, statusWords({ state: "start-pending", checkpoint: 1, waitHintMs }));
  putStatus(layout.stopping, statusWords({ state: "stop-pending", checkpoint: 1, waitHintMs }));
  // Ended as it was asked to: any other code would make the service manager start it again.
  putStatus(layout.stopped, statusWords({ state: "stopped" }));
  put64(layout.table, dataAt + layout.nameText);
  put64(layout.table + 8, base);
  return {
    table: (dataAt + layout.table) as Pointer,
    serviceMain: base,
    handler: (base + handlerAt) as Pointer,
    entered: () => data.getUint32(layout.entered, true) !== 0,
    handle: () => {
      const handle = Number(data.getBigUint64(layout.handle, true));
      return handle === 0 ? undefined : (handle as Pointer);
    },
    failure: () => data.getUint32(layout.failure, true),
    control: () => data.getUint32(layout.control, true),
  };
}

const openLoader = () =>
  openLibrary("kernel32.dll", {
    LoadLibraryExW: { args: ["ptr", "ptr", "u32"], returns: "ptr" },
    GetProcAddress: { args: ["ptr", "ptr"], returns: "ptr" },
  }).symbols;

/** The address of an export of a library of the system directory. */
export function addressOf(file: string, name: string): Address {
  const loader = openLoader();
  const module = loader.LoadLibraryExW(utf16(systemPath(file)), null, 0);
  const address = module === null ? null : loader.GetProcAddress(module, Buffer.from(`${name}\0`));
  if (address === null) throw new Error(`${file} has no ${name}: services cannot be served here`);
  return address;
}

const inAdvapi: readonly string[] = ["RegisterServiceCtrlHandlerExW", "SetServiceStatus"];

export function systemAddresses(): CalledAddresses {
  const entries = calledNames.map((name) => [
    name,
    addressOf(inAdvapi.includes(name) ? "advapi32.dll" : "kernel32.dll", name),
  ]);
  return Object.fromEntries(entries) as CalledAddresses;
}
