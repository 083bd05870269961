// fovea import: what was exported comes in as it was, and once.

import { afterAll, describe, expect, test } from "bun:test";
import { copyFileSync, readFileSync, rmSync, statfsSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import type { FlowRecord } from "../src/flow.ts";
import { ImportRefused, importRows, rowsImported } from "../src/import-rows.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import { openStore } from "../src/store/store.ts";
import { runFovea } from "./cli.world.ts";
import {
  append,
  createRig,
  type Ending,
  exportedFile,
  formats,
  importInto,
  names,
  openWide,
  removeSidecar,
  rowsIn,
  serveStore,
  sha256,
  storeOf,
  withoutNode,
} from "./export.rig.ts";
import { anyFlow, flow, flows } from "./store.flows.ts";

const rig = createRig();
afterAll(() => rig[Symbol.dispose]());

const exported = (rows: readonly FlowRecord[], ending: Ending, ...args: string[]) =>
  exportedFile(rig, rows, ending, ...args);

const texts = fc.constantFrom(
  "eth0",
  "=1+1",
  "'",
  "\\u0041",
  "a,b",
  'q"q',
  "\u001b[2J",
  "\u202etxt",
  " x ",
  "世界",
);
const anyExported = fc
  .tuple(
    anyFlow,
    fc.record({ dnsError: texts, dropReason: texts, interface: texts, node: texts }, { requiredKeys: [] }),
  )
  .map(([record, more]): FlowRecord => ({ ...record, ...more }));

describe("what comes in", () => {
  test.each(formats)("%s: any rows are as they were, but for the node and the seq", async (ending) => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyExported, { minLength: 1, maxLength: 30 }), async (rows) => {
        const file = await exported(rows, ending);
        const dir = rig.dir();
        expect(await importInto(dir, file)).toMatchObject({ code: 0 });
        const read = rowsIn(dir);
        expect(read.map(withoutNode)).toEqual(rows.map(withoutNode));
        expect(read.map(({ node }) => node)).toEqual(rows.map(({ node }) => node ?? "edge-1"));
      }),
      { numRuns: 8 },
    );
  });

  test("is told, is not verified without a manifest, and takes another name", async () => {
    const file = await exported(flows(3), "json");
    removeSidecar(file);
    const dir = rig.dir();
    const { err } = await importInto(dir, file, "--node", "other");
    expect(err).toBe(
      `fovea: ${file} has no manifest beside it: whether it was changed is not known\n` +
        `fovea: 3 rows of node other imported from ${file}\n`,
    );
    expect(rowsIn(dir).map(({ node }) => node)).toEqual(["other", "other", "other"]);
  });

  test("counts as offered and kept, and in no rollup", async () => {
    const dir = rig.dir();
    await importInto(dir, await exported(flows(5), "db"));
    using store = openWide(dir);
    expect(store.ledger()).toEqual({ "rows.offered": 5, "rows.kept": 5 });
    const database = openDatabase({ path: store.stats().path, readonly: true });
    expect(database.prepare("SELECT count(*) FROM rollup_minutes").pluck().get()).toBe(0);
    database.close();
  });

  test("goes beside what is there, and of a redacted file the pseudonyms", async () => {
    const dir = storeOf(rig.dir(), flows(4));
    const file = await exported(flows(4), "csv", "--redact");
    expect(await importInto(dir, file)).toMatchObject({ code: 0 });
    const [own, imported] = [rowsIn(dir).slice(0, 4), rowsIn(dir).slice(4)];
    expect(own).toEqual(flows(4));
    expect(imported.map(({ endAt }) => endAt)).toEqual(own.map(({ endAt }) => endAt));
    expect(
      imported.every(({ source, node }) => /^(24\d|25[0-5]|fc)/.test(source) && node === "edge-1"),
    ).toBeTrue();
  });

  test("a file without rows is no mistake", async () => {
    for (const ending of formats) {
      const file = await exported([], ending);
      const { code, err } = await importInto(rig.dir(), file);
      expect({ code, err }).toEqual({ code: 0, err: `fovea: 0 rows of node edge-1 imported from ${file}\n` });
    }
  });

  test("a CSV that a spreadsheet gave other line ends", async () => {
    const file = await exported(flows(3), "csv");
    removeSidecar(file);
    writeFileSync(file, readFileSync(file, "utf8").replaceAll("\n", "\r\n"));
    const dir = rig.dir();
    expect(await importInto(dir, file, "--node", "n")).toMatchObject({ code: 0 });
    expect(rowsIn(dir).map(withoutNode)).toEqual(flows(3));
  });
});

describe("the bounds of a store that stands still", () => {
  const oldRows = (dir: string, rows: number): string => {
    using store = openWide(dir);
    const at = Date.now() - 30 * 86_400_000;
    store.append({ rows: flows(rows), at, ledger: { "rows.offered": rows } });
    return dir;
  };
  const configFile = (text: string): string => {
    const file = rig.path(".yaml");
    writeFileSync(file, text);
    return file;
  };
  const importWith = (dir: string, file: string, bytesMax: string) =>
    runFovea(["import", file, "--data-dir", dir], { env: { FOVEA_STORE_BYTES_MAX: bytesMax } });

  test("are none of this machine's: nothing goes for its age", async () => {
    const dir = oldRows(rig.dir(), 20);
    const file = await exported(flows(5), "json");
    const { code, err } = await importWith(dir, file, "64MiB");
    expect({ code, err }).toEqual({ code: 0, err: `fovea: 5 rows of node edge-1 imported from ${file}\n` });
    expect(rowsIn(dir)).toHaveLength(25);
  });

  test("are not less than the file takes, however little this machine's store may", async () => {
    const dir = oldRows(rig.dir(), 60_000);
    const bytes = statSync(join(dir, "fovea.db")).size;
    expect(bytes).toBeGreaterThan(3 * 2 ** 20);
    const { code, err } = await importWith(dir, await exported(flows(5000), "db"), "1MiB");
    expect(code).toBe(0);
    // As much as came in, and the pages that a transaction is sure of beforehand.
    const [, made = ""] = /; ([\d,]+) rows that were older made room\n$/.exec(err) ?? [];
    expect(Number(made.replace(",", ""))).toBeLessThan(15_000);
    expect(rowsIn(dir)).toHaveLength(65_000 - Number(made.replace(",", "")));
    expect(statSync(join(dir, "fovea.db")).size).toBeLessThanOrEqual(bytes);
  });

  test("are those of a configuration that is named, and what goes for its age is told so", async () => {
    const dir = oldRows(rig.dir(), 20);
    const file = await exported(flows(5), "json");
    const ran = await importInto(dir, file, "--config", configFile("store: {ageMax: 7d}\n"));
    expect(ran).toMatchObject({
      code: 0,
      err: expect.stringMatching(/5 rows of .*; 20 rows went that were older than store.ageMax\n$/),
    });
    expect(rowsIn(dir)).toHaveLength(5);
  });
});

describe("once", () => {
  test("the same file a second time only with --again", async () => {
    const file = await exported(flows(10), "json");
    const dir = rig.dir();
    expect(await importInto(dir, file)).toMatchObject({ code: 0 });
    const copy = rig.path(".json");
    copyFileSync(file, copy); // What counts is what is in it.
    const refused = await importInto(dir, copy);
    expect(refused).toMatchObject({ code: 1, err: expect.stringContaining("was imported before; --again") });
    expect(rowsIn(dir)).toHaveLength(10);
    expect(await importInto(dir, file, "--again")).toMatchObject({ code: 0 });
    expect(rowsIn(dir)).toHaveLength(20);
    expect(await importInto(dir, file)).toMatchObject({ code: 1 });
  });

  test("a file whose rows have gone is told how it comes back", async () => {
    const file = await exported(flows(10), "json");
    const dir = rig.dir();
    expect(await importInto(dir, file)).toMatchObject({ code: 0 });
    {
      using store = openStore({ dir, bytesMax: 2 ** 28, ageMaxMs: 1 });
      store.append({ rows: [], at: Date.now() + 60_000 });
      expect(store.stats().rows).toBe(0);
    }
    const refused = await importInto(dir, file);
    expect(refused).toMatchObject({
      code: 1,
      err: expect.stringMatching(/--again .*where its rows have gone/),
    });
    expect(await importInto(dir, file, "--again")).toMatchObject({ code: 0 });
    expect(rowsIn(dir)).toHaveLength(10);
  });

  test("into a file that its bound would make smaller is refused: nothing is evicted for it", async () => {
    const file = await exported(flows(10), "json");
    const dir = storeOf(rig.dir(), flows(30_000));
    const config = rig.path(".yaml");
    writeFileSync(config, "store: {bytesMax: 1MiB}\n");
    const refused = await importInto(dir, file, "--config", config);
    expect(refused).toMatchObject({
      code: 1,
      err: expect.stringMatching(/Set store.bytesMax to \d+ at the least/),
    });
    expect(rowsIn(dir)).toHaveLength(30_000);
  });

  test("an import that was broken off goes on after the rows that are there", async () => {
    const rows = flows(3000);
    for (const again of [false, true]) {
      const file = await exported(rows, "db");
      const dir = rig.dir();
      if (again) await importInto(dir, file);
      using store = openWide(dir);
      const part = {
        sha256: sha256(file),
        node: "edge-1",
        before: again ? 3000 : 0,
        rows: rows.slice(0, 2210),
      };
      importRows(store, part);
      store.close();
      const { code, err } = await importInto(dir, file);
      expect(code).toBe(0);
      expect(err).toContain("790 rows of node edge-1 imported");
      expect(err).toContain("after 2,210 rows that were there already");
      const all = again ? [...rows, ...rows] : rows;
      expect(rowsIn(dir).map(withoutNode)).toEqual(all);
      expect(await importInto(dir, file)).toMatchObject({ code: 1 });
    }
  });

  test("a part at the wrong place, or with a record that is none, is refused whole", () => {
    using store = openWide(rig.dir());
    const part = { sha256: "a".repeat(64), node: "n", before: 0 };
    expect(importRows(store, { ...part, rows: flows(3) })).toEqual({ kept: 3, evicted: 0 });
    expect(() => importRows(store, { ...part, rows: flows(3) })).toThrow(ImportRefused);
    const wrong = [flow(1), flow(2, { source: "nowhere" })];
    expect(() => importRows(store, { ...part, before: 3, rows: wrong })).toThrow("record 2 is wrong");
    expect(rowsImported(store, part.sha256)).toBe(3);
    expect(store.stats().rows).toBe(3);
    expect(rowsImported(store, "b".repeat(64))).toBe(0);
  });

  test("a disk that is full in the middle, and the rest when it is not", async () => {
    const disk = rig.dir();
    const mounted = Bun.spawnSync(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk]);
    if (mounted.exitCode !== 0) return console.warn(`Skipped, no mounts here: ${mounted.stderr}`);
    try {
      const rows = flows(8000);
      const file = await exported(rows, "json");
      const dir = join(disk, "data");
      storeOf(dir, flows(1));
      const { bavail, bsize } = statfsSync(disk);
      writeFileSync(join(disk, "filler"), new Uint8Array(bavail * bsize - 500_000));
      const full = await importInto(dir, file);
      expect(full).toMatchObject({
        code: 1,
        err: expect.stringContaining("rows could be written (disk_full)"),
      });
      rmSync(join(disk, "filler"));
      expect(rowsIn(dir).length).toBeLessThan(8000);
      expect(await importInto(dir, file)).toMatchObject({ code: 0 });
      expect(rowsIn(dir).map(withoutNode)).toEqual([flow(0), ...rows]);
    } finally {
      Bun.spawnSync(["umount", disk]);
    }
  });
});

describe("into an appliance that runs", () => {
  const token = "0123456789abcdef0123456789abcdef";

  test("in parts, once, and on after an import that was broken off", async () => {
    const rows = flows(3000);
    const file = await exported(rows, "db");
    using store = openWide(rig.dir());
    append(store, flows(1));
    await using server = await serveStore(rig, store, { token });
    const args = ["import", file, "--server", server.url, "--token-file", server.tokenFile];
    importRows(store, { sha256: sha256(file), node: "edge-1", before: 0, rows: rows.slice(0, 1111) });
    const ran = await runFovea(args);
    expect(ran).toMatchObject({ code: 0, err: expect.stringContaining("1,889 rows of node edge-1") });
    expect(server.requests.filter((request) => request.startsWith("POST")).length).toBeGreaterThan(1);
    expect((await runFovea(args)).err).toContain("was imported before");
    store.close();
    const [, ...imported] = rowsIn(store.stats().path.replace("/fovea.db", ""));
    expect(imported.map(withoutNode)).toEqual(rows);
    expect(new Set(imported.map(({ node }) => node))).toEqual(new Set(["edge-1"]));
  });

  test("not without a token", async () => {
    const file = await exported(flows(3), "json");
    using store = openWide(rig.dir());
    await using server = await serveStore(rig, store);
    const ran = await runFovea(["import", file, "--server", server.url]);
    expect(ran).toMatchObject({
      code: 1,
      err: expect.stringContaining("import needs a token or mutual TLS"),
    });
    expect(store.stats().rows).toBe(0);
  });

  test("stopped in the middle it tells how to go on", async () => {
    const file = await exported(flows(9000), "json");
    using store = openWide(rig.dir());
    const stop = new AbortController();
    const onRequest = (seen: readonly string[]): void => {
      const posts = seen.filter((request) => request.startsWith("POST"));
      if (posts.length === 12) stop.abort(new Error("stopped by SIGINT"));
    };
    await using server = await serveStore(rig, store, { token, onRequest });
    const args = ["import", file, "--server", server.url, "--token-file", server.tokenFile];
    const ran = await runFovea(args, { stop: stop.signal });
    expect(ran).toMatchObject({
      code: 1,
      err: expect.stringMatching(/at least [\d,]+ of 9,000 rows are there/),
    });
    expect(await runFovea(args)).toMatchObject({ code: 0 });
    expect(store.stats().rows).toBe(9000);
  });
});

test("no part of a file is left", () => {
  expect(names(rig.root).filter((name) => name.endsWith(".part"))).toEqual([]);
});
