// A store that an older version wrote is taken over whole, or left as it was.

import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createSamples } from "../src/store/samples.ts";
import { schemaVersion } from "../src/store/schema.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import { openStore } from "../src/store/store.ts";
import { append, expectLaws, readAll } from "./store.contract.ts";
import { flow, flows } from "./store.flows.ts";

const root = mkdtempSync(join(tmpdir(), "fovea-migration-"));
afterAll(() => rmSync(root, { recursive: true }));

type Version = 1 | 2;

const written = (version: Version): string =>
  readFileSync(join(import.meta.dir, `fixtures/store/schema-${version}.sql`), "utf8");

function fileOf(version: Version, name: string): { readonly dir: string; readonly path: string } {
  const dir = join(root, `${name}-${version}`);
  mkdirSync(dir);
  const path = join(dir, "fovea.db");
  const database = openDatabase({ path });
  database.exec(written(version));
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
    const { dir, path } = fileOf(1, "kept");
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

  test("that cannot be changed now stays what it is", () => {
    const { dir, path } = fileOf(1, "busy");
    const other = openDatabase({ path });
    other.exec("BEGIN IMMEDIATE");
    using store = openStore({ dir, bytesMax: 2 ** 20, ageMaxMs: 1e13 });
    expect(store.stats()).toMatchObject({ mode: "memory", recoveries: [] });
    other.exec("ROLLBACK");
    other.close();
    expect(schemaOf(path)).toEqual([1, expect.anything()]);
  });
});

describe("a file of schema 2", () => {
  const totals = (path: string): unknown => {
    const database = openDatabase({ path, readonly: true });
    const read = (sql: string): unknown => database.prepare(sql).raw().all();
    const found = {
      blocks: read("SELECT id, total FROM sample_blocks ORDER BY id"),
      steps: read("SELECT id, total FROM sample_steps ORDER BY id"),
      state: read("SELECT value FROM state WHERE name = 'samples'"),
    };
    database.close();
    return found;
  };
  const open = (dir: string) => {
    const samples = createSamples({ ageMaxMs: 1e13, seriesMax: 10 });
    return { samples, store: openStore({ dir, bytesMax: 2 ** 20, ageMaxMs: 1e13, parts: [samples] }) };
  };

  // Steps 1, 4, 7 and so on have one sample, the others two.
  const blocks = [
    [120, 200],
    [240, 400],
  ];
  const steps = [
    [241, 401],
    [242, 403],
    [243, 405],
    [244, 406],
    [245, 408],
  ];

  test("is told how many samples were stored up to each block and step, and goes on counting", () => {
    const { dir, path } = fileOf(2, "totals");
    const { samples, store } = open(dir);
    expect(store.stats()).toMatchObject({ mode: "disk", rows: 6, recoveries: [] });
    expect(totals(path)).toEqual({ blocks, steps, state: [[408]] });
    const at = Date.UTC(2026, 0, 2);
    samples.add({ at, series: [{ name: "up", labels: {}, value: 1 }] });
    store.append({ rows: [], at });
    expect(totals(path)).toEqual({ blocks, steps: [...steps, [246, 409]], state: [[409]] });
    store.close();
  });

  test("counts a step that cannot be read as having a sample of each series", () => {
    const { dir, path } = fileOf(2, "damaged");
    const database = openDatabase({ path });
    database.exec("UPDATE sample_steps SET data = x'02ffff' WHERE id = 244");
    database.close();
    open(dir).store.close();
    const known = [steps[0], steps[1], steps[2], [244, 407], [245, 409]];
    expect(totals(path)).toEqual({ blocks, steps: known, state: [[409]] });
  });
});

describe.each([1, 2] as const)("a file of schema %d", (version) => {
  test("has the tables of a new one afterwards", () => {
    const { dir, path } = fileOf(version, "same");
    openStore({ dir, bytesMax: 2 ** 20, ageMaxMs: 1e13 }).close();
    const fresh = join(root, `fresh-${version}`);
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
});
