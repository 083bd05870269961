// A file that another program has open, and what it lets others do to it meanwhile.

import { openLibrary, utf16, WindowsError } from "../../windows/system.ts";
import { whenFree } from "./when-free.ts";

const GENERIC_READ = 0x8000_0000;
const OPEN_EXISTING = 3;

/** `write`: others may read and write, and neither rename nor remove it, as of many programs that follow a log. */
const shares = { nothing: 0, write: 3 } as const;

export function holdOpen(
  path: string,
  { share = "write" }: { readonly share?: keyof typeof shares } = {},
): Disposable {
  const { symbols } = openLibrary("kernel32.dll", {
    CreateFileW: { args: ["ptr", "u32", "u32", "ptr", "u32", "u32", "ptr"], returns: "i64" },
    CloseHandle: { args: ["i64"], returns: "i32" },
    GetLastError: { args: [], returns: "u32" },
  });
  const handle = whenFree(() => {
    const opened = symbols.CreateFileW(
      utf16(path),
      GENERIC_READ,
      shares[share],
      null,
      OPEN_EXISTING,
      0,
      null,
    );
    if (opened === -1n) throw new WindowsError(`CreateFileW ${path}`, symbols.GetLastError());
    return opened;
  });
  return { [Symbol.dispose]: () => void symbols.CloseHandle(handle) };
}
