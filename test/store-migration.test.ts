// A store that an older version wrote is taken over whole, or left as it was.

import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { schemaVersion } from "../src/store/schema.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import { openStore } from "../src/store/store.ts";
import { append, expectLaws, readAll } from "./store.contract.ts";
import { flow, flows } from "./store.flows.ts";

const root = mkdtempSync(join(tmpdir(), "fovea-migration-"));
afterAll(() => rmSync(root, { recursive: true }));

const written = readFileSync(join(import.meta.dir, "fixtures/store/schema-1.sql"), "utf8");

function schema1(name: string): { readonly dir: string; readonly path: string } {
  const dir = join(root, name);
  mkdirSync(dir);
  const path = join(dir, "fovea.db");
  const database = openDatabase({ path });
  database.exec(written);
  database.close();
  return { dir, path };
}

const schemaOf = (path: string): unknown => {
  const database = openDatabase({ path, readonly: true });
  try {
    return [
      database.pragma("user_version", { simple: true }),
      database.prepare("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").all(),
    ];
  } finally {
    database.close();
  }
};

const withoutSpace = (schema: unknown): string => JSON.stringify(schema).replaceAll(/\\n|\s/g, "");

describe("a file of schema 1", () => {
  test("keeps its rows and its ledger, and takes new rows with new columns", () => {
    const { dir, path } = schema1("kept");
    using store = openStore({ dir, bytesMax: 2 ** 20, ageMaxMs: 1e13 });
    expect(store.stats()).toMatchObject({ mode: "disk", rows: 12, recoveries: [] });
    const before = flows(12).map((record, index) => ({ ...record, seq: index + 1 }));
    expect(readAll(store, { order: "oldest" })).toEqual(before);
    append(store, [flow(12, { dnsError: "NXDOMAIN", node: "ship-7" })]);
    expect(readAll(store, { order: "newest", limit: 1 })[0]).toMatchObject({
      seq: 13,
      dnsError: "NXDOMAIN",
      node: "ship-7",
    });
    expect(store.ledger()).toMatchObject({ "rows.offered": 15, "rows.kept": 13, "packets.seen": 100 });
    expectLaws(store);
    store.close();
    expect(schemaOf(path)).toEqual([schemaVersion, expect.anything()]);
  });

  test("has the tables of a new one afterwards", () => {
    const { dir, path } = schema1("same");
    openStore({ dir, bytesMax: 2 ** 20, ageMaxMs: 1e13 }).close();
    const fresh = join(root, "fresh");
    openStore({ dir: fresh, bytesMax: 2 ** 20, ageMaxMs: 1e13 }).close();
    // Columns that were added stand at the end in both; what differs is how SQLite writes them down.
    const columns = (file: string) => {
      const database = openDatabase({ path: file, readonly: true });
      const names = database
        .prepare("SELECT name FROM sqlite_schema ORDER BY name")
        .pluck()
        .all() as string[];
      const found = names.map((name) => [name, database.pragma(`table_info('${name}')`)]);
      database.close();
      return withoutSpace(found);
    };
    expect(columns(path)).toBe(columns(join(fresh, "fovea.db")));
  });

  test("that cannot be changed now stays what it is", () => {
    const { dir, path } = schema1("busy");
    const other = openDatabase({ path });
    other.exec("BEGIN IMMEDIATE");
    using store = openStore({ dir, bytesMax: 2 ** 20, ageMaxMs: 1e13 });
    expect(store.stats()).toMatchObject({ mode: "memory", recoveries: [] });
    other.exec("ROLLBACK");
    other.close();
    expect(schemaOf(path)).toEqual([1, expect.anything()]);
  });
});
