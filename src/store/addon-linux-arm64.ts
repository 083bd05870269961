// The SQLite addon for linux-arm64, embedded as plain bytes. Imported by a compiled binary of that platform alone.

import path from "../../node_modules/better-sqlite3/prebuilds/linux-arm64.node" with { type: "file" };

export const addonPath: string = path;
