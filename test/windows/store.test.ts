// The store on Windows: all that holds elsewhere, and files that are open, locked or left by a kill there.

import "./remove-trees.ts";
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { StoreLockedError } from "../../src/store/failure.ts";
import { openQueries } from "../../src/store/queries.ts";
import { openDatabase } from "../../src/store/sqlite.ts";
import { openStore, type StoreOptions } from "../../src/store/store.ts";
import { append, expectLaws, type OpenStore, readAll, storeContract } from "../store.contract.ts";
import { flows, startAt } from "../store.flows.ts";
import { storeBoundsContract } from "../store-bounds.contract.ts";
import { holdOpen } from "./held-file.ts";

setDefaultTimeout(60_000);

const root = mkdtempSync(join(tmpdir(), "fovea store "));
afterAll(() => rmSync(root, { recursive: true }));

let dirs = 0;
const freshDir = (): string => join(root, `${++dirs}`);
const mib = 2 ** 20;

const open = (dir: string, options: Partial<StoreOptions> = {}) =>
  openStore({ dir, bytesMax: 64 * mib, ageMaxMs: 7 * 86_400_000, now: () => startAt, ...options });

const onDisk: OpenStore = (options) => open(freshDir(), options);

// A file stands where the directory should be: nothing can be opened there.
const inMemory: OpenStore = (options) => {
  const dir = freshDir();
  writeFileSync(dir, "");
  return open(dir, options);
};

storeContract("on disk", onDisk);
storeBoundsContract("on disk", onDisk);
storeContract("in memory", inMemory);
storeBoundsContract("in memory", inMemory);

/** A process that has the store open, and wrote so many rows to it. */
async function startChild(dir: string, rows: number) {
  const program = join(import.meta.dir, "store-child.ts");
  const child = Bun.spawn([process.execPath, program, dir, `${rows}`], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const decoder = new TextDecoder();
  let out = "";
  for await (const bytes of child.stdout) {
    out += decoder.decode(bytes);
    if (out.includes("\n")) break;
  }
  return { child, out: out.trim() };
}

describe("the file", () => {
  test("is one after closing, and goes on where it was", () => {
    const dir = freshDir();
    const before = open(dir);
    append(before, flows(100));
    const ledger = before.ledger();
    before.close();
    expect(readdirSync(dir).toSorted()).toEqual(["fovea.db", "fovea.lock"]);
    using store = open(dir);
    expect(store.ledger()).toEqual(ledger);
    append(store, flows(1));
    expect(store.stats()).toMatchObject({ mode: "disk", rows: 101, lastSeq: 101, errors: {} });
    expectLaws(store);
  });

  test("is read by another program while it is written, with a log beside it", () => {
    const dir = freshDir();
    using store = open(dir);
    append(store, flows(10));
    const database = openDatabase({ path: join(dir, "fovea.db"), readonly: true });
    const pragma = (name: string) => database.pragma(name, { simple: true });
    expect([pragma("journal_mode"), pragma("integrity_check")]).toEqual(["wal", "ok"]);
    append(store, flows(10, 10));
    expect(database.prepare("SELECT count(*) FROM flows_readable").pluck().get()).toBe(20);
    database.close();
  });
});

describe("a process that has the store", () => {
  test("keeps others out by its number, and leaves all that it wrote when it is killed", async () => {
    const dir = freshDir();
    const { child, out } = await startChild(dir, 1000);
    expect(out).toBe("rows: 1000");
    expect(() => open(dir)).toThrow(StoreLockedError);
    expect(() => open(dir)).toThrow(`fovea.lock is held by process ${child.pid}`);
    child.kill("SIGKILL");
    await child.exited;
    using store = open(dir);
    expect(store.stats()).toMatchObject({ mode: "disk", rows: 1000, recoveries: [] });
    append(store, flows(1));
    expect(readAll(store, { limit: 1 })[0]?.seq).toBe(1001);
    expectLaws(store);
  });
});

/** Pages that no header is in. */
function damage(path: string): void {
  const file = openSync(path, "r+");
  try {
    writeSync(file, Buffer.alloc(256 * 1024, 0xa5), 0, 256 * 1024, 4096);
  } finally {
    closeSync(file);
  }
}

const asideIn = (dir: string): readonly string[] =>
  readdirSync(dir).filter((name) => /^fovea\.db\.corrupt-\d{8}T\d{9}Z$/.test(name));

describe("a damaged file", () => {
  test("is put aside at the start, and a new one is in its place", () => {
    const dir = freshDir();
    const before = open(dir);
    append(before, flows(20_000));
    before.close();
    damage(join(dir, "fovea.db"));
    using store = open(dir);
    expect(store.stats()).toMatchObject({ mode: "disk", rows: 0, recovered: 1 });
    expect(asideIn(dir)).toHaveLength(1);
    append(store, flows(1));
    expectLaws(store);
  });

  test("that another program has open stays until that lets it go; rows are in memory meanwhile, and kept", () => {
    const dir = freshDir();
    const before = open(dir);
    append(before, flows(20_000));
    before.close();
    damage(join(dir, "fovea.db"));
    let now = startAt;
    const reader = holdOpen(join(dir, "fovea.db"));
    using store = open(dir, { now: () => now, retryMs: 1000 });
    expect(store.stats()).toMatchObject({ mode: "memory", memoryReason: expect.stringContaining("EBUSY") });
    append(store, flows(10));
    reader[Symbol.dispose]();
    now += 1000;
    append(store, flows(10, 10));
    expect(store.stats()).toMatchObject({ mode: "disk", rows: 20, recovered: 1 });
    expect(asideIn(dir)).toHaveLength(1);
    expectLaws(store);
  });

  test("that the query worker has open is put aside once the worker has let it go", async () => {
    const dir = freshDir();
    let now = startAt;
    using store = open(dir, { now: () => now, retryMs: 1000 });
    await using queries = openQueries({ store });
    append(store, flows(20_000));
    expect((await queries.flows({ limit: 5 })).flows).toHaveLength(5);
    const { generation } = store.place();
    store.readFailed({ code: "SQLITE_CORRUPT", message: "it is damaged", generation });
    append(store, flows(10));
    expect(store.stats()).toMatchObject({ mode: "memory", rows: 10 });
    expect((await queries.flows({ limit: 100 })).flows).toHaveLength(10); // From memory: the worker is told to end.
    expect(queries.facts().running).toBe(false);
    while (store.stats().mode === "memory") {
      await Bun.sleep(10);
      now += 1000;
      append(store, []);
    }
    expect((await queries.flows({ limit: 100 })).flows.length).toBeGreaterThanOrEqual(10);
    expectLaws(store);
  });
});
