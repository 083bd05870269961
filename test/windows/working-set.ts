// What this process holds in memory, for tests of what a native call keeps.

import { openLibrary } from "../../windows/system.ts";

/** Bytes that this process holds in memory. */
export function workingSet(): number {
  const { symbols } = openLibrary("kernel32.dll", {
    GetCurrentProcess: { args: [], returns: "ptr" },
    K32GetProcessMemoryInfo: { args: ["ptr", "ptr", "u32"], returns: "i32" },
  });
  const counters = new DataView(new ArrayBuffer(72)); // PROCESS_MEMORY_COUNTERS
  counters.setUint32(0, 72, true);
  Bun.gc(true);
  const done = symbols.K32GetProcessMemoryInfo(
    symbols.GetCurrentProcess(),
    new Uint8Array(counters.buffer),
    72,
  );
  if (done === 0) throw new Error("K32GetProcessMemoryInfo failed");
  return Number(counters.getBigUint64(16, true));
}
