// The machine code of a service: what it says to the service manager, and that nobody can write to it.

import { CFunction, JSCallback, type Pointer, toArrayBuffer } from "bun:ffi";
import { describe, expect, test } from "bun:test";
import {
  type CalledAddresses,
  calledNames,
  loadThunk,
  systemAddresses,
} from "../../windows/service-thunk.ts";
import { openLibrary } from "../../windows/system.ts";

const registered = 0x1234;

/** Stands in for all that the code calls, and keeps what it was called with. */
function fakeSystem({ handle = registered, lastError = 0 } = {}) {
  const calls: (readonly (number | readonly number[])[])[] = [];
  const wordsAt = (address: number): readonly number[] => [
    ...new Uint32Array(toArrayBuffer(address as Pointer, 0, 28).slice(0)),
  ];
  const callbacks = {
    RegisterServiceCtrlHandlerExW: new JSCallback(
      (name: number, handler: number, context: number) => {
        calls.push([name, handler, context]);
        return handle;
      },
      { args: ["ptr", "ptr", "usize"], returns: "usize" },
    ),
    SetServiceStatus: new JSCallback(
      (given: number, status: number) => {
        calls.push([Number(given), wordsAt(status)]);
        return 1;
      },
      { args: ["usize", "ptr"], returns: "i32" },
    ),
    GetLastError: new JSCallback(() => lastError, { args: [], returns: "u32" }),
    CreateThread: new JSCallback(
      (...args: unknown[]) => {
        calls.push(args.map(Number));
        return 0x77;
      },
      { args: ["usize", "usize", "usize", "usize", "usize", "usize"], returns: "usize" },
    ),
    CloseHandle: new JSCallback(
      (given: number) => {
        calls.push([Number(given)]);
        return 1;
      },
      { args: ["usize"], returns: "i32" },
    ),
    Sleep: new JSCallback(
      (ms: number) => {
        calls.push([ms]);
      },
      { args: ["u32"], returns: "void" },
    ),
    TerminateProcess: new JSCallback(
      (process: number | bigint, code: number) => {
        calls.push([Number(BigInt.asIntN(64, BigInt(process))), code]);
        return 1;
      },
      { args: ["u64", "u32"], returns: "i32" },
    ),
  } satisfies Record<(typeof calledNames)[number], JSCallback>;
  const called = Object.fromEntries(
    Object.entries(callbacks).map(([name, callback]) => [name, callback.ptr]),
  ) as CalledAddresses;
  return { calls, called, callbacks };
}

const options = { name: "Fovea", endMs: 25_000, waitHintMs: 21_000 };
const OWN_PROCESS = 0x10;
const startPending = [OWN_PROCESS, 2, 0, 0, 0, 1, 21_000];
const stopPending = [OWN_PROCESS, 3, 0, 0, 0, 1, 21_000];
const stopped = [OWN_PROCESS, 1, 0, 0, 0, 0, 0];

const callMain = (thunk: { readonly serviceMain: Pointer }) =>
  CFunction({ ptr: thunk.serviceMain, args: ["u32", "ptr"], returns: "void" })(0, null);

const handlerOf = (thunk: { readonly handler: Pointer }) => {
  const handle = CFunction({
    ptr: thunk.handler,
    args: ["u32", "u32", "ptr", "ptr"],
    returns: "u32",
  });
  return (control: number): number => handle(control, 0, null, null);
};

describe("ServiceMain", () => {
  test("registers the handler and reports that the service starts", () => {
    const { calls, called } = fakeSystem();
    const thunk = loadThunk({ ...options, called });
    expect([thunk.entered(), thunk.handle()]).toEqual([false, undefined]);
    callMain(thunk);
    expect(thunk.entered()).toBe(true);
    expect(Number(thunk.handle())).toBe(registered);
    expect(calls[0]?.slice(1).map(Number)).toEqual([thunk.handler, 0]);
    expect(calls.slice(1)).toEqual([[registered, startPending]]);
  });

  test("keeps why the handler was refused, and reports nothing", () => {
    const { calls, called } = fakeSystem({ handle: 0, lastError: 1060 });
    const thunk = loadThunk({ ...options, called });
    callMain(thunk);
    expect([thunk.entered(), thunk.handle(), thunk.failure()]).toEqual([true, undefined, 1060]);
    expect(calls).toHaveLength(1);
  });
});

describe("HandlerEx", () => {
  test.each([1, 5, 15])("reports the first stop by control %d, and sees to the end", (control) => {
    const { calls, called } = fakeSystem();
    const thunk = loadThunk({ ...options, called });
    callMain(thunk);
    calls.length = 0;
    const handle = handlerOf(thunk);
    expect(thunk.control()).toBe(0);
    expect(handle(control)).toBe(0);
    expect(thunk.control()).toBe(control);
    expect(calls[0]).toEqual([registered, stopPending]);
    const overdue = calls[1]?.[2] as Pointer;
    expect(calls[1]).toEqual([0, 0, overdue, 0, 0, 0]);
    expect(calls.slice(2)).toEqual([[0x77]]); // The thread goes on without its handle.
    calls.length = 0;
    expect([1, 5, 15].map(handle)).toEqual([0, 0, 0]);
    expect([thunk.control(), calls]).toEqual([control, []]);

    CFunction({ ptr: overdue, args: ["ptr"], returns: "u32" })(null);
    expect(calls).toEqual([[25_000], [registered, stopped], [-1, 1]]);
  });

  test("answers INTERROGATE, and knows no other control", () => {
    const { calls, called } = fakeSystem();
    const thunk = loadThunk({ ...options, called });
    const handle = handlerOf(thunk);
    const ERROR_CALL_NOT_IMPLEMENTED = 120;
    expect(handle(4)).toBe(0);
    for (const control of [0, 2, 3, 6, 11, 14, 16, 128, 255, 0xffff_ffff])
      expect(handle(control)).toBe(ERROR_CALL_NOT_IMPLEMENTED);
    expect([thunk.control(), calls]).toEqual([0, []]);
  });
});

test("code can be run and not written, data written and not run", () => {
  const { VirtualQuery } = openLibrary("kernel32.dll", {
    VirtualQuery: { args: ["ptr", "ptr", "usize"], returns: "usize" },
  }).symbols;
  const protectionOf = (address: number): number => {
    const information = new Uint32Array(12); // MEMORY_BASIC_INFORMATION; Protect stands at 36.
    VirtualQuery(address as Pointer, information, information.byteLength);
    return information[9] ?? 0;
  };
  const EXECUTE_READ = 0x20;
  const READWRITE = 0x04;
  const thunk = loadThunk({ ...options, called: systemAddresses() });
  expect(protectionOf(thunk.serviceMain)).toBe(EXECUTE_READ);
  expect(protectionOf(thunk.handler)).toBe(EXECUTE_READ);
  expect(protectionOf(thunk.table)).toBe(READWRITE);
});

test("a name that does not fit is refused", () => {
  expect(() => loadThunk({ ...options, name: "x".repeat(2000), called: systemAddresses() })).toThrow(
    "the name of the service is too long",
  );
});

test("finds all that it calls", () => {
  const addresses = systemAddresses();
  expect(Object.keys(addresses)).toEqual([...calledNames]);
  expect(new Set(Object.values(addresses)).size).toBe(calledNames.length);
});
