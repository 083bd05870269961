// Rollups when the disk or the file fails: nothing lost unseen, nothing counted twice.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { FlowRecord } from "../src/flow.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import {
  at,
  type Changes,
  crashed,
  expectCounts,
  freshDir,
  minute,
  openRollups,
  removeDirs,
  second,
  sumsOf,
  totalOf,
} from "./rollups.parts.ts";
import { readAll } from "./store.contract.ts";
import { flows, startAt } from "./store.flows.ts";

setDefaultTimeout(60_000);
afterAll(removeDirs);

describe("closing and opening", () => {
  test("writes everything, also in the smallest store", () => {
    const world = openRollups({}, { bytesMax: 1024 * 1024 });
    const records = Array.from({ length: 40 }, (_, index) =>
      at(startAt - index * minute, flows(30, index)),
    ).flat();
    world.append(records);
    world.store.close();
    expect(world.rollups.facts()).toMatchObject({ offered: 1200, written: 1200, pending: 0 });
    const again = openRollups({ dir: world.dir, clock: world.clock }, { bytesMax: 1024 * 1024 });
    using _ = again.store;
    expect(again.rollups.facts()).toMatchObject({ offered: 1200, written: 1200, pending: 0, lost: 0 });
    expect(totalOf(again)).toEqual(sumsOf(records));
    expectCounts(again);
  });

  test("rows from before there were rollups are part of none", () => {
    const world = openRollups();
    world.append(flows(50));
    world.store.close();
    const database = openDatabase({ path: join(world.dir, "fovea.db") });
    database.exec("DELETE FROM state WHERE name LIKE 'rollup_%'; DELETE FROM rollup_minutes");
    database.close();
    const again = openRollups({ dir: world.dir, clock: world.clock });
    using _ = again.store;
    again.append(flows(5));
    expect(again.rollups.facts()).toMatchObject({ offered: 5, pending: 5 });
    const third = openRollups({ dir: crashed(again.dir), clock: world.clock });
    using _third = third.store;
    expect(third.rollups.facts()).toMatchObject({ offered: 5, pending: 5, lost: 0 });
  });
});

describe("a disk that fails", () => {
  const run = (...command: string[]): void => {
    const { stderr, exitCode } = Bun.spawnSync(command);
    if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
  };

  const fill = (file: string): void => {
    const descriptor = openSync(file, "w");
    try {
      for (;;) writeSync(descriptor, Buffer.alloc(4096));
    } catch {
      closeSync(descriptor); // Full.
    }
  };

  /** On a file system of 4 MiB. */
  const onSmallDisk = (work: (dir: string) => void): void => {
    const dir = freshDir();
    run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", dir);
    try {
      work(dir);
    } finally {
      run("umount", dir);
    }
  };

  test("full: what could not be written waits in memory, lost rows are in the totals", () =>
    onSmallDisk((dir) => {
      const world = openRollups({ dir });
      using _ = world.store;
      const records: FlowRecord[] = [];
      const append = (number: number) => {
        const next = at(world.clock.at, flows(200, number));
        records.push(...next);
        world.append(next);
        world.clock.at += 20 * second;
      };
      for (let number = 0; number < 8; number++) append(number);
      fill(join(dir, "filler"));
      for (let number = 0; number < 100; number++) append(number);
      expect(world.store.ledger()["rows.lost.disk_full"]).toBeGreaterThan(0);
      expect(totalOf(world)).toEqual(sumsOf(records));
      rmSync(join(dir, "filler"));
      for (let number = 0; number < 20; number++) append(number);
      expect(totalOf(world)).toEqual(sumsOf(records));
      world.pass(2 * minute);
      expect(world.rollups.facts()).toMatchObject({ offered: records.length, pending: 0, lost: 0 });
      expectCounts(world);
    }));

  test("from the start: what is in memory goes to the disk once there is one", () => {
    const dir = join(freshDir(), "data");
    writeFileSync(dir, "");
    const world = openRollups({ dir }, { retryMs: 1000 });
    using _ = world.store;
    const records: FlowRecord[] = [];
    for (let step = 0; step < 300; step++) {
      const next = at(world.clock.at, flows(5, step));
      records.push(...next);
      world.append(next);
      world.clock.at += minute;
    }
    expect(world.store.stats().mode).toBe("memory");
    expect(world.rollups.facts()).toMatchObject({ offered: 1500, pending: 1500, pendingMinutes: 120 });
    rmSync(dir);
    world.pass(2 * minute);
    expect(world.store.stats().mode).toBe("disk");
    expect(totalOf(world)).toEqual(sumsOf(records));
    expect(world.rollups.facts()).toMatchObject({ offered: 1500, written: 1500, lost: 0 });
    const again = openRollups({ dir: crashed(dir), clock: world.clock });
    using _again = again.store;
    expect(totalOf(again)).toEqual(sumsOf(records));
  });

  test("from the start, with a file of before: what was pending there is counted again, once", () => {
    const before = openRollups();
    const old = at(startAt, flows(50));
    before.append(old, at(startAt, flows(9)));
    const dir = crashed(before.dir);
    before.store.close();
    const blocker = join(dir, "fovea.lock");
    run("mkdir", blocker);
    const world = openRollups({ dir, clock: before.clock }, { retryMs: 1000 });
    using _ = world.store;
    const records = at(startAt, flows(30, 100));
    world.append(records);
    expect(world.store.stats().mode).toBe("memory");
    run("rmdir", blocker);
    world.pass(3 * minute);
    expect(world.store.stats().mode).toBe("disk");
    expect(totalOf(world)).toEqual(sumsOf([...old, ...records]));
    expect(world.rollups.facts()).toMatchObject({ offered: 89, written: 80, lost: 9, pending: 0 });
  });

  /** A store with rows in its file, of which a page is damaged by `damage` while it is open. */
  const damageable = (changes: Changes) => {
    const before = openRollups({}, changes);
    before.append(flows(6000));
    before.store.close();
    const world = openRollups(before, changes);
    const damage = (): void => {
      const file = openSync(join(world.dir, "fovea.db"), "r+");
      writeSync(file, Buffer.alloc(4096, 0xa5), 0, 4096, 60 * 4096);
      closeSync(file);
      expect(() => readAll(world.store, { order: "oldest", limit: 1000 })).toThrow("could not be read");
    };
    return { world, damage };
  };

  test("a damaged file is replaced: a minute that was half written in it is written whole", () => {
    const { world, damage } = damageable({ bytesMax: 1024 * 1024 });
    using _ = world.store;
    const records = Array.from({ length: 12 }, (_row, index) =>
      at(startAt - index * minute, flows(60, index)),
    ).flat();
    world.append(records);
    world.clock.at += minute;
    world.append([]);
    const [counts] = world.sql(
      "SELECT max(id), (SELECT value FROM state WHERE name = 'rollup_minute_id') FROM rollup_minutes",
    ) as number[][];
    expect(counts![0]).toBeGreaterThan(counts![1]!);
    damage();
    world.append([]);
    expect(world.store.stats().recoveries).toHaveLength(1);
    expect(totalOf(world)).toEqual(sumsOf(records));
    world.pass(2 * minute);
    expect(world.rollups.facts()).toMatchObject({ offered: 6720, written: 6720, lost: 0 });
    expect(totalOf(world)).toEqual(sumsOf(records));
    expectCounts(world);
  });

  test("a damaged file, then memory, then a new file whose seqs begin anew: exact, also after a kill", () => {
    const { world, damage } = damageable({ bytesMax: 1024 * 1024, retryMs: 1000 });
    using _ = world.store;
    const tick = (protocol: number): void => {
      const records = [
        ...at(world.clock.at, flows(30)),
        ...at(world.clock.at - minute, flows(4, 50)),
        ...flows(60, world.clock.at % 1009).map((record, index) => {
          const endAt = world.clock.at - (3 + (index % 12)) * minute;
          return { ...record, startAt: endAt, endAt };
        }),
      ];
      world.append(records.map((record) => ({ ...record, protocol })));
      world.clock.at += 25 * second;
    };
    for (let step = 0; step < 7; step++) tick(6);
    const lock = join(world.dir, "fovea.lock");
    rmSync(lock);
    run("mkdir", lock);
    damage();
    const [half] = world.sql(
      "SELECT max(id) > (SELECT value FROM state WHERE name = 'rollup_minute_id') FROM rollup_minutes",
    ) as number[][];
    expect(half).toEqual([1]);
    const carried = world.rollups.pending({ by: "verdict" }).total.records;
    const gone = world.rollups.facts().written;
    tick(17);
    expect(world.store.stats().mode).toBe("memory");
    run("rmdir", lock);
    const atRisk: number[] = [];
    for (let step = 1; step <= 16; step++) {
      tick(17);
      expect(world.store.stats()).toMatchObject({ mode: "disk", recoveries: [{}] });
      expect(totalOf(world).records).toBe(carried + (step + 1) * 94);
      const again = openRollups({ dir: crashed(world.dir), clock: { at: world.clock.at } });
      using _again = again.store;
      // Their rows went with the first file.
      const lost = world.rollups.pending({ by: "verdict", protocol: 6 }).total.records;
      expect(again.rollups.facts().lost).toBe(lost);
      expect(totalOf(again).records).toBe(carried + (step + 1) * 94 - lost);
      atRisk.push(lost);
    }
    expect(atRisk[0]).toBeGreaterThan(0);
    expect(atRisk.at(-1)).toBe(0);
    expect(gone).toBeGreaterThan(6000);
    world.pass(5 * minute);
    expectCounts(world);
  });

  test("a damaged file is replaced: what was pending goes to the new one", () => {
    const before = openRollups();
    before.append(flows(10_000));
    before.store.close();
    const { dir, clock } = before;
    const file = openSync(join(dir, "fovea.db"), "r+");
    writeSync(file, Buffer.alloc(4096, 0xa5), 0, 4096, 60 * 4096);
    closeSync(file);
    const world = openRollups({ dir, clock }, { checkBytesMax: 0 });
    using _ = world.store;
    const [first, second_] = [at(clock.at, flows(300)), at(clock.at, flows(200, 900))];
    world.append(first, first);
    expect(() => readAll(world.store, { limit: 1000 })).toThrow("could not be read");
    world.append(second_);
    expect(world.store.stats().recoveries).toHaveLength(1);
    expect(totalOf(world)).toEqual(sumsOf([...first, ...first, ...second_]));
    const killed = openRollups({ dir: crashed(dir), clock });
    using _killed = killed.store;
    expect(killed.rollups.facts()).toMatchObject({
      offered: 10_800,
      written: 10_000,
      pending: 200,
      lost: 600,
    });
    world.pass(3 * minute);
    expect(world.rollups.facts()).toMatchObject({
      offered: 10_800,
      written: 10_800,
      lost: 0,
      minuteRows: 500,
    });
    expect(totalOf(world)).toEqual(sumsOf([...first, ...first, ...second_]));
    expectCounts(world);
  });
});
