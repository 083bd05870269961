// A node whose query worker or whose file breaks: the answers fail that need them, nothing else does.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { StoreUnreadableError } from "../../src/store/failure.ts";
import { openQueries } from "../../src/store/queries.ts";
import { readSql } from "../node.rig.ts";
import { minute } from "../rollups.parts.ts";
import {
  countOf,
  expectExact,
  expectWhole,
  freshDir,
  newClocks,
  newModel,
  openWorld,
  removeWorlds,
  rowsOf,
  samplesOf,
  topOf,
} from "./faults.world.ts";

setDefaultTimeout(60_000);
afterAll(removeWorlds);

describe("a query worker", () => {
  const src = (path: string): string => JSON.stringify(join(import.meta.dir, "../../src", path));
  // The worker of the product, and a query that ends it in the midst of a read of the file.
  const poisoned = (how: string): URL => {
    const name = join(freshDir(), "worker");
    const code = `import { parentPort } from "node:worker_threads";
import { openDatabase } from ${src("store/sqlite.ts")};
const reading = [];
const on = parentPort.on.bind(parentPort);
parentPort.on = (name, listener) => on(name, (question) => {
  if (question.query?.limit !== 13) return listener(question);
  const database = openDatabase({ path: question.file.path, readonly: true });
  reading.push(database);
  database.exec("BEGIN");
  database.prepare("SELECT count(*) FROM flows").get();
  ${how};
});`;
    writeFileSync(`${name}-poison.ts`, code);
    writeFileSync(`${name}.ts`, `import "${name}-poison.ts";\nimport ${src("store/query-worker.ts")};\n`);
    return pathToFileURL(`${name}.ts`);
  };

  test.each([
    ["exits", "process.exit(1)"],
    ["throws", 'throw new Error("out of luck")'],
  ])(
    "that %s in the midst of a read keeps no row from being written, and is replaced",
    async (_name, how) => {
      const model = newModel();
      const dir = freshDir();
      {
        await using world = await openWorld({ dir }, { model });
        const { store, rollups } = world.node.history;
        await using queries = openQueries({ store, rollups, entry: poisoned(how) });
        await world.pass(20);
        for (let crashed = 1; crashed <= 3; crashed++) {
          expect((await queries.flows({ limit: 1 })).flows).toHaveLength(1);
          const asked = [
            queries.flows({ limit: 13 }),
            queries.flows({ limit: 2 }),
            queries.top({ by: "port" }),
          ];
          const [first, ...waiting] = await Promise.allSettled(asked);
          expect(first).toMatchObject({ status: "rejected", reason: expect.any(StoreUnreadableError) });
          expect(waiting.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled"]);
          await world.pass(100);
          expect(queries.facts()).toMatchObject({
            crashed,
            started: crashed + 1,
            failed: crashed,
            waiting: 0,
          });
        }
        // A read that nobody ended would keep the log from ever being written back.
        expect(store.stats().bytes.wal).toBeLessThan(2 * 1024 * 1024);
        expect(store.stats().errors).toEqual({});
        expect(countOf(world, "rows.lost")).toBe(0);
        expectExact(world);
        expect(await rowsOf(world)).toEqual(model.kept);
      }
      expectWhole(dir, model);
    },
  );
});

describe("a file that is damaged under a running node", () => {
  const pageBytes = 4096;
  function damage(dir: string, pages: readonly number[]): void {
    const file = openSync(join(dir, "fovea.db"), "r+");
    for (const page of pages) writeSync(file, Buffer.alloc(pageBytes, 0xa5), 0, pageBytes, page * pageBytes);
    closeSync(file);
  }
  const some = (from: number, every: number) =>
    Array.from({ length: 400 }, (_, index) => from + index * every);

  test.each<readonly [string, readonly number[]]>([
    ["a few", some(7, 40)],
    ["every other one", some(2, 2)],
    ["every one", some(0, 1)],
  ])("in %s of its pages is put aside and told, and all goes on in a new one", async (_name, pages) => {
    const model = newModel();
    const dir = freshDir();
    const clocks = newClocks();
    {
      await using world = await openWorld({ dir }, { model, clocks });
      const { store, rollups, queries } = world.node.history;
      await world.pass(150);
      damage(dir, pages);
      for (let ticks = 0; store.stats().recoveries.length === 0; ticks++) {
        await world.pass(1);
        // Whoever meets the damage first, a query or an append: no other error comes of it.
        const [read] = await Promise.allSettled([queries.flows({ order: "oldest", limit: 5000 })]);
        if (read?.status === "rejected") expect(read.reason).toBeInstanceOf(StoreUnreadableError);
        expect(ticks).toBeLessThan(100);
      }
      const { written } = rollups.facts();
      const [firstStep] = samplesOf(world);
      const gone = countOf(world, "rows.evicted");
      expect(gone).toBeGreaterThan(15_000);
      await world.pass(100);
      expect(world.node.lines.join("")).toContain("was put aside; a new one is in its place");
      expect(store.stats()).toMatchObject({ mode: "disk", recoveries: [{ movedTo: expect.any(String) }] });
      expect(countOf(world, "rows.lost")).toBe(0);
      expect(countOf(world, "rows.offered")).toBe(model.offered.length);
      expect(await rowsOf(world)).toEqual(model.kept.slice(gone));
      // Minutes that the old file had went with it; what waited for it came to the new one.
      expect(rollups.facts()).toMatchObject({ offered: model.offered.length, lost: 0 });
      expect(topOf(world).total.records).toBe(model.offered.length - written);
      expect(samplesOf(world)).toEqual(model.steps.slice(firstStep?.[1] ?? 0));
      expect(model.steps.length - samplesOf(world).length).toBeLessThan(260);
      expect((await queries.summaries({ fromAt: clocks.at - minute })).length).toBeGreaterThan(5);
    }
    expect(readSql<object>(dir, "PRAGMA integrity_check")).toEqual([{ integrity_check: "ok" }]);
    await using again = await openWorld({ dir }, { model, clocks });
    expect(countOf(again, "rows.offered")).toBe(model.offered.length);
    expect(again.node.history.rollups.facts()).toMatchObject({ offered: model.offered.length, lost: 0 });
  });
});
