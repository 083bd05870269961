// The SQLite addon for win32-x64, embedded as plain bytes. Imported by a compiled binary of that platform alone.

import path from "../../node_modules/better-sqlite3/prebuilds/win32-x64.node" with { type: "file" };

export const addonPath: string = path;
