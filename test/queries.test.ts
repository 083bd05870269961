// Queries in the worker: the same answers as on the thread itself, and none is lost, whatever becomes of the worker.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { noStore } from "../src/no-store.ts";
import { StoreQueryError, StoreUnreadableError } from "../src/store/failure.ts";
import { openQueries, type Queries, type QueriesOptions } from "../src/store/queries.ts";
import type { FlowPage, FlowQuery } from "../src/store/query.ts";
import { createRollups } from "../src/store/rollups.ts";
import { openStore, type Store, type StoreOptions } from "../src/store/store.ts";
import { append, expectLaws, seqs } from "./store.contract.ts";
import { flow, flows, startAt } from "./store.flows.ts";

setDefaultTimeout(60_000);

const root = mkdtempSync(join(tmpdir(), "fovea-queries-"));
afterAll(() => rmSync(root, { recursive: true }));

const mib = 1024 * 1024;
let dirs = 0;
const freshDir = (): string => join(root, `${++dirs}`);

const open = (options: Partial<StoreOptions> = {}): Store =>
  openStore({ dir: freshDir(), bytesMax: 64 * mib, ageMaxMs: 1e10, now: () => startAt, ...options });

/** With what the tests need to know of a rejection. */
async function failureOf(answer: Promise<unknown>): Promise<unknown> {
  try {
    await answer;
  } catch (error) {
    return error;
  }
  throw new Error("It was answered.");
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await Bun.sleep(1);
}

async function readAll(queries: Queries, query: FlowQuery): Promise<FlowPage["flows"]> {
  const all: FlowPage["flows"][number][] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await queries.flows({ ...query, ...(cursor === undefined ? {} : { cursor }) });
    all.push(...page.flows);
    if (!page.more) return all;
    cursor = page.cursor;
  }
}

/** Three batches, minutes apart. */
function filled(options: Partial<StoreOptions> = {}): Store {
  const store = open(options);
  for (const part of [0, 1, 2]) append(store, flows(500, part * 500), startAt + part * 60_000);
  return store;
}

describe("a store on disk", () => {
  test("gives the answers that it gives without a worker", async () => {
    using store = filled();
    await using queries = openQueries({ store });
    const some: readonly FlowQuery[] = [
      {},
      { limit: 7 },
      { order: "oldest", limit: 1500 },
      { verdict: "dropped", dropReason: "NO_SOCKET" },
      { addresses: ["2001:db8::/32"], destinationPorts: [53] },
      { dropReason: "NEVER_SEEN" },
      { fromAt: startAt + 1000, toAt: startAt + 2000 },
    ];
    for (const query of some) expect(await queries.flows(query)).toEqual(store.queryFlows(query));
    for (const by of ["reason", "address", "port"] as const)
      expect(await queries.drops({ by, limit: 3 })).toEqual(store.topDrops({ by, limit: 3 }));
    expect(await queries.summaries({})).toEqual([]);
    const { cursor } = await queries.flows({ order: "oldest", limit: 1400 });
    expect(seqs(store.queryFlows({ order: "oldest", cursor }).flows)[0]).toBe(1401);
    expect(queries.facts()).toMatchObject({ running: true, started: 1, waiting: 0, failed: 0 });
  });

  test("sees what was appended a moment ago, new texts too", async () => {
    using store = open();
    await using queries = openQueries({ store });
    for (let number = 0; number < 20; number++) {
      append(store, [flow(number, { interface: `veth${number}` })]);
      const [newest] = (await queries.flows({ limit: 1 })).flows;
      expect(newest).toMatchObject({ seq: number + 1, interface: `veth${number}` });
    }
  });

  test("names the parameter that is wrong", async () => {
    using store = filled();
    await using queries = openQueries({ store });
    const error = await failureOf(queries.flows({ addresses: ["host"] }));
    expect(error).toBeInstanceOf(StoreQueryError);
    expect((error as StoreQueryError).parameter).toBe("addresses");
    expect((error as Error).message).toContain('"host" is neither an address');
    expect(await failureOf(queries.drops({ by: "size" as "port" }))).toBeInstanceOf(StoreQueryError);
    expect(store.stats().errors).toEqual({});
    expect(queries.facts()).toMatchObject({ answered: 2, failed: 0 });
  });

  test("gives what it found when the time is over, and goes on from there", async () => {
    using store = open();
    for (let part = 0; part < 8; part++) append(store, flows(5000, part * 5000), startAt + part * 1000);
    append(store, [flow(0, { destinationPort: 7777 })], startAt + 10_000);
    const query = { order: "oldest", sourcePorts: [1], protocol: 6 } as const;
    await using hurried = openQueries({ store, deadlineMs: 0 });
    const page = await hurried.flows(query);
    expect(page).toMatchObject({ flows: [], more: true });
    expect(page.scanned).toBeLessThan(40_000);
    expect(await readAll(hurried, { ...query, sourcePorts: [flow(0).sourcePort] })).toHaveLength(
      flows(40_000).filter(({ sourcePort, protocol }) => sourcePort === flow(0).sourcePort && protocol === 6)
        .length,
    );
    await using patient = openQueries({ store, deadlineMs: 60_000 });
    expect(await patient.flows(query)).toMatchObject({ flows: [], more: false });
  });

  test("a reader in oldest order meets each row or is told that it went, while rows come and go", async () => {
    using store = open({ bytesMax: 2 * mib });
    await using queries = openQueries({ store, deadlineMs: 5 });
    let met = 0;
    let lost = 0;
    let cursor = store.cursorAt({ seq: 0, order: "oldest" });
    for (let number = 0; number < 60; number++) {
      append(store, flows(1000, number * 1000), startAt + number * 1000);
      const asked = queries.flows({ order: "oldest", limit: 700, cursor });
      if (number % 3 === 0) append(store, flows(500), startAt + number * 1000);
      const page = await asked;
      expect(seqs(page.flows)).toEqual(page.flows.map((_, index) => met + lost + page.lost + index + 1));
      met += page.flows.length;
      lost += page.lost;
      cursor = page.cursor;
    }
    expect(lost).toBeGreaterThan(0);
    expect(store.ledger()["rows.evicted.size"]).toBeGreaterThanOrEqual(lost);
    expectLaws(store);
  });
});

describe("beside appends", () => {
  test("readers that follow each other without a pause make the log neither grow over its bound nor lose rows", async () => {
    const bytesMax = 4 * mib;
    using store = open({ bytesMax });
    for (let number = 0; number < 100; number++) append(store, flows(500), startAt + number * 20_000);
    await using queries = openQueries({ store });
    const stop = new AbortController();
    const scan = async (): Promise<void> => {
      while (!stop.signal.aborted) await queries.flows({ destinations: ["11.128.0.0/9"] });
    };
    const scans = [scan(), scan()];
    for (let number = 0; number < 100; number++) {
      expect(append(store, flows(500), startAt + 1e7 + number * 1000)).toMatchObject({ kept: 500, lost: 0 });
      const { bytes } = store.stats();
      expect(bytes.database + bytes.wal).toBeLessThanOrEqual(bytesMax);
      await Bun.sleep(7); // Somewhere within a query.
    }
    stop.abort();
    await Promise.all(scans);
    expect(queries.facts().answered).toBeGreaterThan(50);
    expectLaws(store);
  });

  test("the ranking has what is in the tables and what waits for them", async () => {
    let clock = startAt;
    const rollups = createRollups({
      keysMax: 100,
      minuteAgeMaxMs: 1e10,
      hourAgeMaxMs: 1e11,
      now: () => clock,
    });
    using store = open({ parts: [rollups], now: () => clock });
    await using queries = openQueries({ store, rollups });
    for (let number = 0; number < 4; number++) {
      clock = startAt + number * 120_000;
      const rows = flows(50).map((row) => ({ ...row, startAt: clock, endAt: clock }));
      append(store, rows, clock);
      const { total } = await queries.top({ by: "verdict" });
      expect(total.records).toBe(50 * (number + 1));
    }
    expect(rollups.facts()).toMatchObject({ offered: 200, lost: 0 });
    expect(rollups.facts().written).toBeGreaterThan(0);
    expect(await failureOf(queries.top({ by: "size" as "port" }))).toBeInstanceOf(StoreQueryError);
  });
});

describe("the worker", () => {
  test("ends when nothing is asked, and the next query starts another", async () => {
    using store = filled();
    await using queries = openQueries({ store, idleMs: 1 });
    expect(queries.facts()).toMatchObject({ running: false, started: 0 });
    for (const started of [1, 2, 3]) {
      expect(seqs((await queries.flows({ limit: 2 })).flows)).toEqual([1500, 1499]);
      await until(() => !queries.facts().running);
      expect(queries.facts()).toMatchObject({ started, crashed: 0, answered: started });
    }
  });

  test("answers all that wait in turn, and refuses more than may wait", async () => {
    using store = filled();
    await using queries = openQueries({ store, queriesMax: 5 });
    const asked = Array.from({ length: 8 }, (_, number) => queries.flows({ limit: number + 1 }));
    expect(queries.facts()).toMatchObject({ waiting: 5, refused: 3 });
    const answers = await Promise.allSettled(asked);
    expect(answers.map(({ status }) => status)).toEqual([
      ...Array.from({ length: 5 }, () => "fulfilled" as const),
      ...Array.from({ length: 3 }, () => "rejected" as const),
    ]);
    const error = await failureOf(asked[7] ?? Promise.resolve());
    expect(error).toBeInstanceOf(StoreUnreadableError);
    expect(String(error)).toContain("busy");
    expect(queries.facts()).toMatchObject({ waiting: 0, answered: 5, refused: 3, failed: 0 });
    expect((await queries.flows({ limit: 1 })).flows).toHaveLength(1);
  });

  const worker = (name: string, code: string): URL => {
    const file = join(root, `${name}.ts`);
    writeFileSync(file, code);
    return pathToFileURL(file);
  };

  test.each([
    ["exits", "self.onmessage = () => process.exit(3);"],
    ["throws", 'self.onmessage = () => { throw new Error("out of luck"); };'],
    ["cannot be loaded", 'import "./not-there.ts";'],
  ])("that %s: what waits is rejected, the next query starts another", async (name, code) => {
    using store = filled();
    await using queries = openQueries({ store, entry: worker(name.replaceAll(" ", "-"), code) });
    for (const crashed of [3, 6]) {
      const errors = await Promise.all([1, 2, 3].map((limit) => failureOf(queries.flows({ limit }))));
      for (const error of errors) {
        expect(error).toBeInstanceOf(StoreUnreadableError);
        expect(String(error)).toContain("worker is gone");
      }
      await until(() => !queries.facts().running);
      expect(queries.facts()).toMatchObject({ crashed, started: crashed, failed: crashed, waiting: 0 });
    }
  });

  test("that never answers is stopped with the store, and what waits is rejected at once", async () => {
    using store = filled();
    const queries = openQueries({ store, entry: worker("silent", "self.onmessage = () => {};") });
    const asked = failureOf(queries.flows({}));
    const next = failureOf(queries.flows({}));
    await until(() => queries.facts().running);
    const closing = queries[Symbol.asyncDispose]();
    expect(String(await asked)).toContain("The store is closed");
    expect(String(await next)).toContain("The store is closed");
    await closing;
    expect(queries.facts()).toMatchObject({ running: false, waiting: 0, crashed: 0 });
  });

  test("is gone when the queries are closed: the store leaves one file", async () => {
    const dir = freshDir();
    const store = filled({ dir });
    const queries = openQueries({ store });
    await queries.flows({});
    const last = failureOf(queries.flows({}));
    await queries[Symbol.asyncDispose]();
    expect(await last).toBeInstanceOf(StoreUnreadableError);
    expect(await failureOf(queries.flows({}))).toBeInstanceOf(StoreUnreadableError);
    store.close();
    expect(readdirSync(dir).toSorted()).toEqual(["fovea.db", "fovea.lock"]);
  });
});

describe("the file", () => {
  function damagePage(dir: string): void {
    const file = openSync(join(dir, "fovea.db"), "r+");
    writeSync(file, Buffer.alloc(4096, 0xa5), 0, 4096, 4096 * 60);
    closeSync(file);
  }

  test("is replaced when the worker meets damage, and the worker reads the new one", async () => {
    const dir = freshDir();
    {
      using store = open({ dir });
      append(store, flows(10_000));
    }
    damagePage(dir);
    using store = open({ dir, checkBytesMax: 0 });
    await using queries = openQueries({ store });
    const { cursor } = await queries.flows({ limit: 1 });
    const error = await failureOf(readAll(queries, { order: "oldest", limit: 1000 }));
    expect(error).toBeInstanceOf(StoreUnreadableError);
    expect(store.stats().errors).toEqual({ SQLITE_CORRUPT: 1 });
    expect(append(store, flows(5))).toMatchObject({ kept: 5, lost: 0 });
    expect(store.stats()).toMatchObject({ mode: "disk", rows: 5 });
    expect(store.stats().recoveries).toHaveLength(1);
    expect(seqs(await readAll(queries, { order: "oldest" }))).toEqual([
      10_001, 10_002, 10_003, 10_004, 10_005,
    ]);
    expect(String(await failureOf(queries.flows({ cursor })))).toContain("replaced");
    expect(queries.facts()).toMatchObject({ started: 1, crashed: 0, failed: 1 });
    expectLaws(store);
  });

  test("that was replaced meanwhile is no more damaged for what was read of the old one", async () => {
    using store = filled();
    const { generation } = store.place();
    store.readFailed({ code: "SQLITE_CORRUPT", message: "old", generation: generation + 1 });
    append(store, flows(1));
    expect(store.stats()).toMatchObject({ rows: 1501, recoveries: [], errors: { SQLITE_CORRUPT: 1 } });
    store.readFailed({ code: "SQLITE_IOERR_READ", message: "a moment", generation });
    append(store, flows(1));
    expect(store.stats()).toMatchObject({ rows: 1502, recoveries: [] });
    store.readFailed({ code: "SQLITE_CORRUPT", message: "bad page", generation });
    append(store, flows(1));
    expect(store.stats().rows).toBe(1);
    expect(store.stats().recoveries.map(({ reason }) => reason)).toEqual(["bad page"]);
  });

  test("is absent in memory: no worker, and one as soon as there is a file", async () => {
    const dir = freshDir();
    writeFileSync(dir, ""); // No directory: nothing can be opened there.
    let clock = startAt;
    using store = open({ dir, now: () => clock, retryMs: 1000 });
    append(store, flows(100));
    await using queries = openQueries({ store });
    expect(store.stats().mode).toBe("memory");
    expect(await readAll(queries, {})).toHaveLength(100);
    expect(await failureOf(queries.flows({ limit: 0 }))).toBeInstanceOf(StoreQueryError);
    expect(queries.facts()).toMatchObject({ started: 0, answered: 2 });
    rmSync(dir);
    clock += 1000;
    append(store, flows(5), clock);
    expect(store.stats().mode).toBe("disk");
    expect(await readAll(queries, {})).toHaveLength(105);
    expect(queries.facts()).toMatchObject({ started: 1, running: true });
  });

  test("that cannot be opened: an error, and no crash", async () => {
    using store = filled();
    await using queries = openQueries({ store, nativeBinding: join(root, "no-addon.node") });
    expect(await failureOf(queries.flows({}))).toBeInstanceOf(StoreUnreadableError);
    expect(queries.facts()).toMatchObject({ running: true, failed: 1, crashed: 0 });
  });

  test("does not exist without SQLite", async () => {
    const store: QueriesOptions["store"] = noStore({ problem: "no addon", bytesMax: mib });
    await using queries = openQueries({ store });
    expect(String(await failureOf(queries.flows({})))).toContain("no addon");
    expect(await queries.lost({})).toEqual({ lost: {} });
    expect(queries.facts()).toMatchObject({ started: 0, failed: 1 });
  });
});
