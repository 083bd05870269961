// The machine code that Windows tells the end of a console: what it notes, what it leaves to others, and that none can write it.

import { CFunction, JSCallback, type Pointer } from "bun:ffi";
import { expect, test } from "bun:test";
import { loadControlHandler, openShutdownSignal } from "../../windows/console-control.ts";
import { openLibrary } from "../../windows/system.ts";

const slept: number[] = [];
const sleep = new JSCallback(
  (ms: number) => {
    slept.push(ms);
  },
  { args: ["u32"], returns: "void" },
);
const load = () => loadControlHandler(sleep.ptr as Pointer, 60_000);
const call = (routine: Pointer, event: number): number =>
  CFunction({ ptr: routine, args: ["u32"], returns: "i32" })(event);

test("a shutdown is noted, and waited with; every other event is left to the handlers before", () => {
  const control = load();
  for (const event of [0, 1, 2, 5, 7, 0xffff_ffff]) expect(call(control.routine, event)).toBe(0);
  expect([control.asked(), slept]).toEqual([false, []]);
  expect(call(control.routine, 6)).toBe(1);
  expect([control.asked(), slept]).toEqual([true, [60_000]]);
});

test("the code can be run and not written", () => {
  const { VirtualQuery } = openLibrary("kernel32.dll", {
    VirtualQuery: { args: ["ptr", "ptr", "usize"], returns: "usize" },
  }).symbols;
  const information = new Uint32Array(12); // MEMORY_BASIC_INFORMATION; Protect stands at 36.
  VirtualQuery(load().routine, information, information.byteLength);
  const EXECUTE_READ = 0x20;
  expect(information[9]).toBe(EXECUTE_READ);
});

test("a process that nobody ends has a signal that does not abort", () => {
  expect(openShutdownSignal().aborted).toBe(false);
});
