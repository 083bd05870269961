// fovea import of files that are not right: each is refused as a whole, with a line that says what is wrong where.

import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { FlowRecord } from "../src/flow.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import {
  createRig,
  type Ending,
  exportedFile,
  formats,
  importInto,
  openWide,
  removeSidecar,
  storeOf,
} from "./export.rig.ts";
import { flows } from "./store.flows.ts";

const rig = createRig();
afterAll(() => rig[Symbol.dispose]());

const exported = (rows: readonly FlowRecord[], ending: Ending, ...args: string[]) =>
  exportedFile(rig, rows, ending, ...args);

describe("refused, and nothing comes in", () => {
  const refuses = async (file: string, told: RegExp, ...args: string[]): Promise<void> => {
    const dir = rig.path();
    const { code, err } = await importInto(dir, file, ...args);
    expect(err).toMatch(told);
    expect(err.split("\n").filter((line) => !line.includes("has no manifest"))).toHaveLength(2);
    expect(code).not.toBe(0);
    expect(existsSync(dir)).toBeFalse();
  };
  const change = (file: string, edit: (bytes: Buffer) => Uint8Array): void =>
    writeFileSync(file, edit(readFileSync(file)));

  test("a byte that changed", async () => {
    for (const ending of formats) {
      const file = await exported(flows(50), ending);
      change(file, (bytes) => {
        const place = bytes.length >> 1;
        bytes[place] = (bytes[place] ?? 0) ^ 1;
        return bytes;
      });
      await refuses(file, /: its SHA-256 is [0-9a-f]{64}, its manifest says [0-9a-f]{64}: it was changed/);
    }
  });

  test("a file that was cut off, with and without its manifest", async () => {
    const cut = {
      json: /line \d+ does not end|last line is missing/,
      csv: /line \d+ does not end/,
      db: /malformed/,
    };
    for (const ending of formats) {
      const file = await exported(flows(500), ending);
      change(file, (bytes) => bytes.subarray(0, (bytes.length >> 1) + 3));
      await refuses(file, /its SHA-256 is/);
      removeSidecar(file);
      await refuses(file, cut[ending], "--node", "n");
    }
    const file = await exported(flows(5), "json");
    removeSidecar(file);
    change(file, (bytes) => Buffer.from(bytes.toString().split("\n").slice(0, -2).join("\n").concat("\n")));
    await refuses(file, /its last line is missing/);
  });

  test("a record that is wrong, by its line or row", async () => {
    const json = await exported(flows(9), "json");
    removeSidecar(json);
    const text = readFileSync(json, "utf8");
    for (const [from, to, told] of [
      [/"packets":\d+/, '"packets":-1', /: line 2 is wrong: packets: /],
      [
        /"source":"[^"]+"/,
        '"source":"10.0.0.256"',
        /: line 2 is wrong: "10\.0\.0\.256" or "[^"]+" is no address/,
      ],
      [/"seq":1,/, '"seq":1,"pod":"x",', /: line 2 is wrong: .*pod/],
      [/"seq":1,/, '"seq":1,,', /: line 2 is no JSON/],
      [/},\n/, "}\n", /: line 2 has no comma/],
      [/}\n\]/, "},\n]", /: line 10 has a comma and no flow follows/],
      [/"rows":9/, '"rows":8', /it holds 9 rows and says that it has 8/],
      [/$/, "{}\n", /: line 12 stands behind the end/],
    ] as const) {
      writeFileSync(json, text.replace(from, to));
      await refuses(json, told);
    }
    const csv = await exported(flows(9), "csv");
    removeSidecar(csv);
    const table = readFileSync(csv, "utf8");
    for (const [from, to, told] of [
      [",egress,", ",sideways,", /: line 2 is wrong: direction: /],
      [",egress,", ",egress,egress,", /: line 2 is wrong: it has 23 cells, not 22/],
      [",egress,", ',"egress,', /: line 2 is wrong: a quote is missing/],
      [/\n1,/, "\n1.5,", /: line 2 is wrong: seq: /],
      ["Z,", "x,", /: line 2 is wrong: startAt: /],
    ] as const) {
      writeFileSync(csv, table.replace(from, to));
      await refuses(csv, told, "--node", "n");
    }
    const file = await exported(flows(9), "db");
    removeSidecar(file);
    const database = openDatabase({ path: file });
    database.exec("UPDATE flows SET verdict = 'perhaps' WHERE seq = 7");
    database.close();
    await refuses(file, /: row 7 is wrong: verdict: /);
  });

  test("what a newer fovea wrote, and what is no export", async () => {
    for (const ending of formats) {
      const file = await exported(flows(3), ending);
      const manifest = `${file}.manifest.json`;
      const text = readFileSync(manifest, "utf8");
      writeFileSync(manifest, text.replace('"schema": 2', '"schema": 99, "more": 1'));
      await refuses(
        file,
        /was written by fovea 1\.2\.3 with format 1 and schema 99; .* import it with the newer/,
      );
      writeFileSync(manifest, text.replace('"format": 1', '"format": 2'));
      await refuses(file, /with format 2 and schema 2/);
      writeFileSync(manifest, text.replace('"rows": 3', '"rows": 4'));
      await refuses(file, /it holds 3 rows, its manifest says 4/);
      writeFileSync(manifest, text.replace('"rows": 3', '"rows": "3"'));
      await refuses(file, /has a manifest that is wrong: rows: /);
      writeFileSync(manifest, "{");
      await refuses(file, /a manifest beside it that is no JSON/);
    }
    const json = await exported(flows(3), "json");
    removeSidecar(json);
    change(json, (bytes) => Buffer.from(bytes.toString().replace('"schema":2', '"schema":3')));
    await refuses(json, /schema 3/);
    const db = await exported(flows(3), "db");
    removeSidecar(db);
    const database = openDatabase({ path: db });
    database.exec("UPDATE export SET value = '7' WHERE name = 'schema'");
    database.close();
    await refuses(db, /schema 7/);
    const [text, store] = [rig.path(), join(storeOf(rig.dir(), flows(1)), "fovea.db")];
    writeFileSync(text, "seq,startAt\n1,2\n");
    await refuses(text, /: is no file that fovea export writes/);
    await refuses(store, /: is a SQLite file, and no export of fovea/);
    await refuses(rig.path(), /ENOENT/);
  });

  test("a CSV whose node nobody tells", async () => {
    const file = await exported(flows(3), "csv");
    removeSidecar(file);
    await refuses(file, /^fovea: --node is missing/);
  });

  test("into the store of an appliance that runs, or where none can be", async () => {
    const file = await exported(flows(3), "json");
    const dir = rig.dir();
    using store = openWide(dir);
    const { code, err } = await importInto(dir, file);
    expect(code).toBe(1);
    expect(err).toMatch(/is held by process \d+.* leave --data-dir out/);
    expect(store.stats().rows).toBe(0);
    const blocked = rig.path();
    writeFileSync(blocked, "a file");
    expect((await importInto(join(blocked, "data"), file)).err).toContain("the store is not on disk");
  });
});
