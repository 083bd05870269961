// What the tests of export and import share: directories, stores with rows in them, and an API of such a store.

import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apiApp } from "../src/api/app.ts";
import { openToken } from "../src/api/auth.ts";
import { openServer } from "../src/api/server.ts";
import type { FlowRecord } from "../src/flow.ts";
import { importRows, rowsImported } from "../src/import-rows.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { apiParts } from "./api.parts.ts";
import { runFovea } from "./cli.world.ts";

export type Rig = Disposable & {
  readonly root: string;
  /** A name that is not taken. */
  path(ending?: string): string;
  /** A directory that is there. */
  dir(): string;
};

export function createRig(): Rig {
  const root = mkdtempSync(join(tmpdir(), "fovea-export-"));
  let names = 0;
  const path = (ending = "") => join(root, `${++names}${ending}`);
  return {
    root,
    path,
    dir: () => {
      const made = path();
      mkdirSync(made);
      return made;
    },
    [Symbol.dispose]: () => rmSync(root, { recursive: true, force: true }),
  };
}

const wide = { bytesMax: 2 ** 28, ageMaxMs: 3650 * 86_400_000 };

export const openWide = (dir: string): Store => openStore({ dir, ...wide });

export function append(store: Store, rows: readonly FlowRecord[]): void {
  store.append({ rows, ledger: { "rows.offered": rows.length } });
}

/** A store that is closed again, with these rows. */
export function storeOf(dir: string, rows: readonly FlowRecord[]): string {
  using store = openWide(dir);
  append(store, rows);
  return dir;
}

/** All rows of a closed store, oldest first. */
export function rowsIn(dir: string): FlowRecord[] {
  using store = openWide(dir);
  const rows: FlowRecord[] = [];
  let cursor: string | undefined;
  for (;;) {
    const page = store.queryFlows({
      order: "oldest",
      limit: 5000,
      ...(cursor === undefined ? {} : { cursor }),
    });
    rows.push(...page.flows.map(({ seq: _, ...record }) => record));
    if (!page.more) return rows;
    cursor = page.cursor;
  }
}

export const sha256 = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");

export const readJson = (path: string): Record<string, unknown> =>
  JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;

export const names = (dir: string): string[] => (existsSync(dir) ? readdirSync(dir).toSorted() : []);

/** The API of a store; with a token it takes imports. */
export async function serveStore(
  rig: Rig,
  store: Store,
  options: { readonly token?: string; readonly onRequest?: (requests: readonly string[]) => void } = {},
) {
  const tokenFile = rig.path(".token");
  if (options.token !== undefined) writeFileSync(tokenFile, options.token, { mode: 0o600 });
  const token = options.token === undefined ? {} : { token: openToken(tokenFile) };
  const app = apiApp(
    apiParts(store, {
      now: Date.now,
      imports: {
        rowsImported: (file) => rowsImported(store, file),
        importRows: (part) => importRows(store, part),
      },
      access: { loopback: true, mutualTls: false, openMetrics: () => false, ...token },
    }),
  );
  const requests: string[] = [];
  const server = await openServer({
    listen: { host: "127.0.0.1", port: 0 },
    address: "127.0.0.1",
    fetch: (request) => {
      requests.push(`${request.method} ${new URL(request.url).pathname}`);
      options.onRequest?.(requests);
      return app.fetch(request);
    },
    connectionsMax: 10,
    bodyBytesMax: 2 ** 20,
  });
  return { ...server, url: server.url, requests, tokenFile };
}

/** By the endings of their files. */
export const formats = ["json", "csv", "db"] as const;
export type Ending = (typeof formats)[number];

/** A file of these rows, of node edge-1. */
export async function exportedFile(
  rig: Rig,
  rows: readonly FlowRecord[],
  ending: Ending,
  ...args: string[]
): Promise<string> {
  const file = rig.path(`.${ending}`);
  const dir = storeOf(rig.dir(), rows);
  const ran = await runFovea(["export", "--data-dir", dir, "--node", "edge-1", "--file", file, ...args]);
  if (ran.code !== 0) throw new Error(ran.err);
  rmSync(dir, { recursive: true });
  return file;
}

export const importInto = (dir: string, file: string, ...args: string[]) =>
  runFovea(["import", file, "--data-dir", dir, ...args]);

export const withoutNode = ({ node: _, ...rest }: FlowRecord): FlowRecord => rest;

export const removeSidecar = (file: string): void => rmSync(`${file}.manifest.json`);
