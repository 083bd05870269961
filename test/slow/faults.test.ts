// A node whose disk fills up or cannot be written: nothing is wrong, and nothing is lost unseen. Mounts need root.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { totalOf } from "../../src/store/ledger.ts";
import { readSql } from "../node.rig.ts";
import { day, hour, minute, second, sumsOf } from "../rollups.parts.ts";
import { type LedgerAnswer, openAssembly } from "./assembly.world.ts";
import {
  countOf,
  expectExact,
  expectWhole,
  freshDir,
  mount,
  newClocks,
  newModel,
  openWorld,
  recordAt,
  removeWorlds,
  rowsOf,
  run,
  samplesOf,
  samplesPerStep,
  settingsOf,
  valuesOf,
  type World,
} from "./faults.world.ts";

setDefaultTimeout(60_000);
afterAll(removeWorlds);

/** Takes all that is free on the file system of a directory. */
function fill(dir: string): string {
  const filler = join(dir, "filler");
  const descriptor = openSync(filler, "a");
  try {
    for (;;) writeSync(descriptor, Buffer.alloc(4096));
  } catch {
    closeSync(descriptor); // Full.
  }
  return filler;
}

async function untilLost(world: World, records = 150): Promise<void> {
  for (let ticks = 0; countOf(world, "rows.lost") === 0; ticks++) {
    await world.pass(1, { records });
    expect(ticks).toBeLessThan(200);
  }
}

/** Rows are kept again, and none is lost any more. */
async function expectGoesOn(world: World): Promise<void> {
  await world.pass(1);
  const [kept, lost] = [countOf(world, "rows.kept"), countOf(world, "rows.lost")];
  await world.pass(30);
  expect(countOf(world, "rows.lost")).toBe(lost);
  expect(countOf(world, "rows.kept")).toBeGreaterThan(kept + 1000);
}

const sampleLossOf = ({ node }: World) => node.history.samples.facts().lost;

describe("a full disk", () => {
  test("under a running node: losses are counted in their minute, all else is exact, and it goes on", async () => {
    const disk = mount(["-t", "tmpfs", "-o", "size=12m", "tmpfs"]);
    const options = { dir: join(disk, "data"), flowLogFile: join(disk, "flows.log") };
    const model = newModel();
    {
      await using world = await openWorld(options, { model });
      const { history, flowLog } = world.node;
      await world.pass(30);
      expect(countOf(world, "rows.lost")).toBe(0);
      const filler = fill(disk);
      await untilLost(world);
      await world.pass(60);
      expectExact(world);
      expect(history.store.ledger()).toMatchObject({ "rows.lost.disk_full": countOf(world, "rows.lost") });
      // Of the time asked for, although no file has it: the losses are among what waits.
      const told = await history.queries.lost({ fromAt: world.clocks.at - minute });
      const lately = [...model.lostAt].filter(
        ([key]) => Number(key.split(" ")[0]) >= world.clocks.at - 2 * minute,
      );
      expect(told.lost["rows.lost.disk_full"]).toBeGreaterThan(0);
      expect(told.lost["rows.lost.disk_full"]).toBeLessThanOrEqual(
        lately.reduce((sum, [, rows]) => sum + rows, 0),
      );
      expect(await rowsOf(world)).toHaveLength(countOf(world, "rows.kept"));
      expect(flowLog?.facts()).toMatchObject({ failing: true, lost: { disk_full: expect.any(Number) } });

      rmSync(filler);
      await expectGoesOn(world);
      expectExact(world);
      expect(sampleLossOf(world)).toEqual([]);
      expect(samplesOf(world)).toEqual(model.steps);
      expect(history.samples.facts().pendingSteps).toBe(0);
      const [summaries] = world.node.sql<{ count: number }>("SELECT count(*) AS count FROM summaries");
      const { lines, lost } = flowLog!.facts();
      expect(lost.disk_full).toBeGreaterThan(0);
      expect(lines + lost.disk_full).toBe(model.kept.length + summaries!.count);
    }
    expectWhole(options.dir, model);
    await using again = await openWorld(options, { model });
    expectExact(again);
  });

  test("for hours: what waits is bounded, what is over the bound is counted, totals stay exact", async () => {
    const disk = mount(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]);
    const dir = join(disk, "data");
    const model = newModel();
    {
      await using world = await openWorld({ dir }, { model });
      const { rollups, samples } = world.node.history;
      await world.pass(30);
      const filler = fill(disk);
      await untilLost(world);
      await world.pass(400, { records: 60, stepMs: 30 * second });
      expect(rollups.facts().pendingMinutes).toBeLessThanOrEqual(120);
      expect(samples.facts().pendingSteps).toBeLessThanOrEqual(240);
      expectExact(world);
      rmSync(filler);
      await expectGoesOn(world);
      await world.pass(100);
      expectExact(world);
      const [queue] = sampleLossOf(world);
      const points = samplesOf(world);
      expect(queue?.reason).toBe("queue");
      expect(queue?.samples).toBe((model.steps.length - points.length) * samplesPerStep);
      // The newest steps are those that stay.
      const found = new Map(points);
      for (const [at, value] of model.steps.slice(-240)) expect(found.get(at)).toBe(value);
    }
    expectWhole(dir, model);
  });

  test("for days, with a store at its bound: what waited finds room once there is some", async () => {
    const disk = mount(["-t", "tmpfs", "-o", "size=10m", "tmpfs"]);
    const dir = join(disk, "data");
    const model = newModel();
    {
      await using world = await openWorld({ dir, settings: settingsOf({ bytesMax: "4MiB" }) }, { model });
      const { store } = world.node.history;
      while (countOf(world, "rows.evicted") === 0) await world.pass(5, { records: 1000 });
      const filler = fill(disk);
      await untilLost(world, 1000);
      await world.pass(2200, { records: 6, stepMs: minute });
      expect(store.pendingMinutes().length).toBeGreaterThan(1000);
      rmSync(filler);
      await expectGoesOn(world);
      await world.pass(20);
      expect(store.pendingMinutes()).toEqual([]);
      expectExact(world);
    }
    expect(readSql<object>(dir, "PRAGMA integrity_check")).toEqual([{ integrity_check: "ok" }]);
  });

  test("that has room again when the node stops: all that waited is written before it is gone", async () => {
    const disk = mount(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]);
    const dir = join(disk, "data");
    const model = newModel();
    const clocks = newClocks();
    {
      await using world = await openWorld({ dir }, { model, clocks });
      await world.pass(20);
      const filler = fill(disk);
      await untilLost(world);
      await world.pass(200, { records: 1 });
      expect(world.node.history.samples.facts().pendingSteps).toBeGreaterThan(100);
      rmSync(filler);
    }
    expectWhole(dir, model);
    await using again = await openWorld({ dir }, { model, clocks });
    expectExact(again);
    expect(samplesOf(again)).toEqual(model.steps);
  });

  test("leaves the scrape, the API and the ticks of the appliance alone", async () => {
    const disk = mount(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]);
    const clocks = newClocks();
    const model = newModel();
    const load = () => {
      const first = model.offered.length;
      model.offered.push(...Array.from({ length: 300 }, (_, index) => recordAt(first + index, clocks.at)));
      return model.offered.slice(first);
    };
    const overrides = {
      dataDir: join(disk, "data"),
      store: { bytesMax: "6MiB" },
      samples: { step: "1s" },
      flowLog: { enabled: true, file: join(disk, "flows.log") },
    };
    await using world = await openAssembly({ overrides, clocks, stepMs: 5 * second, load });
    const lost = async (): Promise<number> => {
      const { totals, laws } = await world.json<LedgerAnswer>("/api/v1/ledger");
      expect(laws.filter(({ ok }) => !ok)).toEqual([]);
      return totalOf(totals, "rows.lost");
    };
    const ticked = () => world.scraped("fovea_ticks_total");
    /** The totals, and what they must be: of one moment, between two ticks. */
    const totals = async (): Promise<readonly [object, object]> => {
      for (;;) {
        const { length } = model.offered;
        const { total } = await world.json<{ total: object }>("/api/v1/top?by=verdict&since=1h");
        if (model.offered.length === length) return [total, sumsOf(model.offered)];
      }
    };
    const expectTotals = async (): Promise<void> => {
      const [told, offered] = await totals();
      expect(told).toEqual(offered);
    };
    await world.ticks(5);
    const filler = fill(disk);
    for (let round = 0; (await lost()) === 0; round++) {
      await world.ticks(2);
      expect(round).toBeLessThan(100);
    }
    const before = await ticked();
    await world.ticks(10);
    expect(await ticked()).toBeGreaterThanOrEqual(before + 10);
    expect(await world.scraped('fovea_rows_lost_total{reason="disk_full"}')).toBeGreaterThan(2000);
    expect(await world.scraped('fovea_flow_log_lines_lost_total{reason="disk_full"}')).toBeGreaterThan(1000);
    const ready = await fetch(new URL("/readyz", world.url));
    expect([ready.status, await ready.text()]).toEqual([503, expect.stringContaining("disk_full")]);
    const { warnings } = await world.json<{ warnings: readonly string[] }>("/api/v1/status");
    expect(warnings).toEqual(["the store cannot be written, rows are lost: disk_full"]);
    const page = await world.json<{ flows: object[]; lost: Record<string, number> }>(
      "/api/v1/flows?since=1m",
    );
    expect(page.lost["rows.lost.disk_full"]).toBeGreaterThan(2000);
    expect(page.flows.length).toBeGreaterThan(0);
    await expectTotals();
    rmSync(filler);
    await world.ticks(2);
    const lostInAll = await lost();
    await world.ticks(10);
    expect(await lost()).toBe(lostInAll);
    await expectTotals();
    expect(await world.scraped('fovea_store_table_rows{table="samples"}')).toBeGreaterThan(0);
    const levels = world.lines.map((line) => (JSON.parse(line) as { level: string }).level);
    expect(new Set(levels)).toEqual(new Set(["info", "error"]));
    expect(world.lines.join("")).toContain("rows were lost");
    expect(world.lines.join("")).toContain("the flow log is written again");
  });
});

/** Whether files on this file system can be made immutable: then no open descriptor writes to them any more. */
const immutable = ((): boolean => {
  const file = join(freshDir(), "file");
  writeFileSync(file, "");
  const { exitCode } = Bun.spawnSync(["chattr", "+i", file]);
  if (exitCode === 0) run("chattr", "-i", file);
  else console.warn("Skipped, no immutable files on the file system of temporary ones.");
  return exitCode === 0;
})();

function immutableUntilDisposed(dir: string): Disposable {
  // The index beside the log is memory of the process: the kernel would end it with SIGBUS at its next change.
  const files = readdirSync(dir).filter((name) => !name.endsWith("-shm"));
  const paths = [dir, ...files.map((name) => join(dir, name))];
  run("chattr", "+i", ...paths);
  return { [Symbol.dispose]: () => run("chattr", "-i", ...paths) };
}

describe("a file that cannot be written", () => {
  test.skipIf(!immutable)("under a running node: rows are lost as read_only, all else is exact", async () => {
    const dir = freshDir();
    const options = { dir, flowLogFile: join(dir, "flows.log") };
    const model = newModel();
    {
      await using world = await openWorld(options, { model });
      const { history, flowLog } = world.node;
      await world.pass(30);
      using writable = immutableUntilDisposed(dir);
      await world.pass(60);
      const lost = countOf(world, "rows.lost");
      expect(lost).toBeGreaterThan(3000);
      expect(world.node.appliance.unready()).toEqual([
        "the store cannot be written, rows are lost: read_only",
      ]);
      expect(history.store.ledger()["rows.lost.read_only"]).toBe(lost);
      expect(flowLog?.facts().lost.read_only).toBeGreaterThan(3000);
      expect(await rowsOf(world)).toHaveLength(countOf(world, "rows.kept"));
      expectExact(world);
      writable[Symbol.dispose]();
      await expectGoesOn(world);
      expectExact(world);
      expect(samplesOf(world)).toEqual(model.steps);
      expect(flowLog?.facts().failing).toBe(false);
      expect(world.node.appliance.unready()).toEqual([]);
    }
    expectWhole(dir, model);
  });

  test("from the start: all goes on in memory, and to the file once it can be written", async () => {
    const dir = freshDir();
    const model = newModel();
    const clocks = newClocks();
    {
      await using before = await openWorld({ dir }, { model, clocks });
      await before.pass(30);
    }
    mount(["--bind", dir], dir);
    run("mount", "-o", "remount,ro,bind", dir);
    {
      await using world = await openWorld({ dir }, { model, clocks });
      const { store, samples } = world.node.history;
      await world.pass(40);
      expect(store.stats().mode).toBe("memory");
      expect(world.node.appliance.unready()[0]).toContain("read_only");
      expect(await rowsOf(world)).toHaveLength(store.stats().rows);
      expect(samples.facts().pendingSteps).toBe(40);
      run("mount", "-o", "remount,rw,bind", dir);
      await world.pass(30);
      expect(store.stats()).toMatchObject({ mode: "disk", recoveries: [] });
      expect(world.node.appliance.unready()).toEqual([]);
      expectExact(world);
      expect(countOf(world, "rows.lost")).toBe(0);
      expect(samplesOf(world)).toEqual(model.steps);
      expect(await rowsOf(world)).toEqual(model.kept);
      const told = world.node.lines.map((line) => (JSON.parse(line) as { message: string }).message);
      expect(told).toEqual([
        "the store is not on disk; its rows end with the process",
        "the store is on disk again",
      ]);
    }
    expectWhole(dir, model);
  });
});

const anyFault = fc.record({
  fault: fc.constantFrom("none", "full", "space", "clock", "stop"),
  jumpMs: fc.constantFrom(-day, -hour, -20 * second, hour, day),
  ticks: fc.integer({ min: 1, max: 30 }),
});

test("any faults, one after another: laws and totals hold, and what was lost is told in its minute", async () => {
  const disk = mount(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]);
  const makeRoom = () => rmSync(join(disk, "filler"), { force: true });
  await fc.assert(
    fc.asyncProperty(fc.array(anyFault, { minLength: 4, maxLength: 12 }), async (faults) => {
      const dir = mkdtempSync(join(disk, "data-"));
      const model = newModel();
      const clocks = newClocks();
      await using last = new AsyncDisposableStack();
      last.defer(() => rmSync(dir, { recursive: true }));
      last.defer(makeRoom);
      let world = await openWorld({ dir }, { model, clocks });
      last.defer(() => world[Symbol.asyncDispose]());
      for (const { fault, jumpMs, ticks } of faults) {
        if (fault === "full") fill(disk);
        // What was counted on a full disk goes with the process, so there is room before it ends.
        if (fault === "space" || fault === "stop") makeRoom();
        if (fault === "clock") clocks.at += jumpMs;
        if (fault === "stop") {
          await world.pass(1);
          await world[Symbol.asyncDispose]();
          expectWhole(dir, model);
          world = await openWorld({ dir }, { model, clocks });
        }
        await world.pass(ticks);
        expectExact(world);
      }
      makeRoom();
      await world.pass(20); // Samples that waited are written some at a time.
      expectExact(world);
      expect(valuesOf(samplesOf(world))).toEqual(model.steps);
      await world[Symbol.asyncDispose]();
      expectWhole(dir, model);
    }),
    { numRuns: 12 },
  );
});
