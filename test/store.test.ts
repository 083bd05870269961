// The store on disk and in memory: the contract, what stands in the file, opening, closing, shrinking.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { StoreLockedError } from "../src/store/failure.ts";
import { openStore, type StoreOptions } from "../src/store/store.ts";
import { append, expectLaws, type OpenStore, readAll, storeContract } from "./store.contract.ts";
import { flow, flows, startAt } from "./store.flows.ts";
import { storeBoundsContract } from "./store-bounds.contract.ts";

setDefaultTimeout(60_000); // Each write is synced; a busy disk takes its time.

const root = mkdtempSync(join(tmpdir(), "fovea-store-"));
afterAll(() => rmSync(root, { recursive: true }));

let dirs = 0;
const freshDir = (): string => join(root, `${++dirs}`);
const mib = 1024 * 1024;
const week = 7 * 86_400_000;

const open = (dir: string, options: Partial<StoreOptions> = {}) =>
  openStore({ dir, bytesMax: 64 * mib, ageMaxMs: week, now: () => startAt, ...options });

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

const sqlite3 = (file: string, sql: string): string => {
  const { stdout, stderr, exitCode } = Bun.spawnSync(["sqlite3", "-batch", file, sql]);
  if (exitCode !== 0) throw new Error(`sqlite3: ${stderr}`);
  return stdout.toString().trim();
};

describe("the file", () => {
  test("opens in any SQLite shell, while it is written, with readable flows", () => {
    const dir = freshDir();
    using store = open(dir);
    append(store, [
      flow(1, {
        source: "203.0.113.200",
        destination: "10.0.0.1",
        verdict: "dropped",
        dropReason: "NO_SOCKET",
        endAt: startAt + 1500,
        startAt: startAt,
      }),
      flow(2, { source: "2001:db8::1", destination: "::", interface: "eth7", direction: "egress" }),
    ]);
    const file = join(dir, "fovea.db");
    expect(sqlite3(file, "SELECT * FROM flows_readable WHERE seq = 1")).toStartWith(
      "1|2026-01-01T00:00:00.000Z|2026-01-01T00:00:01.500Z|ingress|dropped|NO_SOCKET|6|203.0.113.200|",
    );
    expect(
      sqlite3(
        file,
        "SELECT source, destination, interface, direction, evict_reason FROM flows_readable WHERE seq = 2",
      ),
    ).toBe(
      "2001:0db8:0000:0000:0000:0000:0000:0001|0000:0000:0000:0000:0000:0000:0000:0000|eth7|egress|idle",
    );
    expect(
      sqlite3(
        file,
        "PRAGMA integrity_check; PRAGMA journal_mode; PRAGMA user_version; PRAGMA application_id",
      ),
    ).toBe("ok\nwal\n3\n1181709925");
    append(store, flows(10));
    expect(sqlite3(file, "SELECT count(*), max(seq) FROM flows")).toBe("12|12");
  });

  test("is one file after closing, private to its owner, and goes on where it was", () => {
    const dir = freshDir();
    const before = open(dir);
    append(before, flows(100));
    const { cursor } = before.queryFlows({ order: "oldest", limit: 40 });
    const ledger = before.ledger();
    before.close();
    before.close();
    expect(readdirSync(dir).toSorted()).toEqual(["fovea.db", "fovea.lock"]);
    expect(statSync(dir).mode & 0o777).toBe(0o700);
    using store = open(dir);
    expect(store.ledger()).toEqual(ledger);
    expect(readAll(store, { order: "oldest", cursor })).toHaveLength(60);
    append(store, flows(1));
    expect(store.stats()).toMatchObject({
      mode: "disk",
      rows: 101,
      lastSeq: 101,
      recoveries: [],
      errors: {},
    });
    expect(() => before.append({ rows: [] })).toThrow("closed");
    expect(() => before.queryFlows({})).toThrow("closed");
  });

  test("keeps seqs and the ledger when every row was evicted", () => {
    const dir = freshDir();
    {
      using store = open(dir, { ageMaxMs: 1000 });
      append(store, flows(50));
      store.append({ rows: [], at: startAt + 5000 });
      expect(store.stats().rows).toBe(0);
    }
    using store = open(dir);
    append(store, flows(1));
    expect(readAll(store, {})[0]?.seq).toBe(51);
    expectLaws(store);
  });

  test("takes at most 100 bytes a row, everything included", () => {
    const dir = freshDir();
    const store = open(dir);
    for (let batch = 0; batch < 10; batch++)
      append(
        store,
        Array.from({ length: 2000 }, (_, row) =>
          flow(8 * (batch * 2000 + row) + 7, { rttUs: 70_000, retransmits: 3 }),
        ),
        startAt + batch * 60_000,
      );
    store.close();
    expect(statSync(join(dir, "fovea.db")).size / 20_000).toBeLessThanOrEqual(100);
  });

  test("shrinks to a smaller bound at the next opening", () => {
    const dir = freshDir();
    {
      using store = open(dir, { bytesMax: 16 * mib });
      for (let batch = 0; batch < 25; batch++) append(store, flows(5000, batch * 5000));
      expect(store.stats().bytes.database).toBeGreaterThan(6 * mib);
    }
    using store = open(dir, { bytesMax: 2 * mib });
    // What the opening has no time for comes with the appends.
    for (let step = 0; store.stats().bytes.database > 1.5 * mib; step++) {
      expect(step).toBeLessThan(5000);
      store.append({ rows: [] });
    }
    const { bytes, rows, lastSeq } = store.stats();
    expect(bytes.database + bytes.wal).toBeLessThanOrEqual(2 * mib);
    expect(rows).toBeGreaterThan(10_000);
    expect(lastSeq).toBe(125_000);
    expect(readAll(store, { limit: 1 })[0]?.seq).toBe(125_000);
    expectLaws(store);
    for (let batch = 0; batch < 10; batch++) append(store, flows(5000));
    const after = store.stats().bytes;
    expect(after.database + after.wal).toBeLessThanOrEqual(2 * mib);
    expect(sqlite3(join(dir, "fovea.db"), "PRAGMA integrity_check")).toBe("ok");
  });

  test("refuses a bound that is too small", () => {
    expect(() => open(freshDir(), { bytesMax: mib - 1 })).toThrow("at least 1048576 bytes");
  });
});

describe("a second opening of one directory", () => {
  test("is refused with the number of the process that has it, and works once that is gone", () => {
    const dir = freshDir();
    {
      using _store = open(dir);
      expect(() => open(dir)).toThrow(StoreLockedError);
      expect(() => open(dir)).toThrow(`process ${process.pid}`);
      const { stderr, exitCode } = Bun.spawnSync([
        process.execPath,
        "-e",
        `import { openStore } from "${join(import.meta.dir, "../src/store/store.ts")}";
         openStore({ dir: ${JSON.stringify(dir)}, bytesMax: 1e7, ageMaxMs: 1e9 });`,
      ]);
      expect(exitCode).not.toBe(0);
      expect(stderr.toString()).toContain(`fovea.lock is held by process ${process.pid}`);
    }
    using store = open(dir);
    expect(store.stats().mode).toBe("disk");
  });

  test("a lock file of rubbish is no lock", () => {
    const dir = freshDir();
    open(dir).close();
    writeFileSync(join(dir, "fovea.lock"), "rubbish ".repeat(1000));
    using store = open(dir);
    expect(store.stats().mode).toBe("disk");
  });
});

describe("an outside program", () => {
  test("that reads in one long transaction does not make the log pass its bound", async () => {
    const dir = freshDir();
    using store = open(dir, { bytesMax: 4 * mib });
    append(store, flows(100));
    const shell = Bun.spawn(["sqlite3", "-batch", join(dir, "fovea.db")], { stdin: "pipe", stdout: "pipe" });
    shell.stdin.write("BEGIN; SELECT count(*) FROM flows;\n");
    shell.stdin.flush();
    const output = shell.stdout.getReader();
    expect(new TextDecoder().decode((await output.read()).value).trim()).toBe("100");
    const results = Array.from({ length: 60 }, () => append(store, flows(1000)));
    expect(results.at(-1)).toMatchObject({ lost: 1000, failure: "busy" });
    const { bytes } = store.stats();
    expect(bytes.database + bytes.wal).toBeLessThanOrEqual(4 * mib);
    expectLaws(store);
    shell.stdin.end();
    await shell.exited;
    expect(append(store, flows(1000))).toMatchObject({ kept: 1000, lost: 0 });
    expectLaws(store);
  });
});
