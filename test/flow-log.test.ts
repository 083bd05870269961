// The flow log: every line whole and in its place, across rotations, restarts and what another program does.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import type { FlowRecord } from "../src/flow.ts";
import { createRotation } from "../src/flow-log-rotation.ts";
import { lostEventsLine } from "../src/hubble.ts";
import {
  content,
  day,
  everything,
  freshDir,
  hour,
  line,
  lineBytes,
  nodeName,
  open,
  removeWorlds,
  rotated,
  run,
  text,
} from "./flow-log.world.ts";
import { expectMode, unixTest } from "./platform.ts";
import { flow, flows, startAt } from "./store.flows.ts";

setDefaultTimeout(60_000);
afterAll(removeWorlds);

describe("lines", () => {
  test("stand in the order in which they were given, summaries behind, in a file that only its group may read", async () => {
    await using world = open();
    const summary = { startAt, endAt: startAt + 1000, rows: 7, packets: 8, bytes: 9, by: [] };
    world.log.write(flows(20), [summary]);
    world.log.write(flows(20, 20), []);
    const written = `${text(flows(20))}${lostEventsLine(summary, { nodeName })}\n${text(flows(20, 20))}`;
    expect(content(world.file)).toBe(written);
    expectMode(world.file, 0o640);
    expectMode(world.dir, 0o750);
    expect(world.log.facts()).toMatchObject({ lines: 41, bytes: written.length, files: 0, failing: false });
    expect(world.told).toEqual([]);
  });

  test("that no reader takes are left out and counted", async () => {
    await using world = open();
    const bad = [{ packets: -1 }, { source: "nowhere" }, { endAt: Number.NaN }, { endAt: 9e14 }];
    world.write(flow(1), ...bad.map((changes) => flow(2, changes)), null as unknown as FlowRecord, flow(3));
    const summary = { startAt: Number.NaN, endAt: startAt, rows: 1, packets: 1, bytes: 1, by: [] };
    world.log.write([], [summary]);
    expect(content(world.file)).toBe(text([flow(1), flow(3)]));
    expect(world.log.facts()).toMatchObject({ lines: 2, lost: { invalid: 6 }, failing: false });
  });

  test("of names that cannot be looked up are counted too", async () => {
    await using world = open({
      names: () => {
        throw new Error("no names");
      },
    });
    world.write(flow(1));
    expect(world.log.facts()).toMatchObject({ lines: 0, lost: { invalid: 1 } });
  });

  test("of a large batch are all there", async () => {
    await using world = open({ bytesMax: 1e9 });
    world.write(...flows(3000));
    expect(content(world.file)).toBe(text(flows(3000)));
  });
});

describe("rotation", () => {
  test("by size keeps every line whole and every file within its size", async () => {
    const batches = fc.array(fc.nat(30), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(batches, fc.integer({ min: 1, max: 12 * lineBytes }), async (sizes, bytesMax) => {
        await using world = open({ bytesMax, filesMax: 1000 });
        let count = 0;
        for (const size of sizes) {
          world.write(...flows(size, count));
          count += size;
          world.now += 1;
        }
        world.write();
        expect(everything(world.dir)).toBe(text(flows(count)));
        for (const file of [...rotated(world.dir), world.file]) {
          const bytes = content(file);
          expect(bytes.length <= bytesMax || bytes.indexOf("\n") === bytes.length - 1).toBe(true);
        }
        expect(world.log.facts()).toMatchObject({ lines: count, rotations: rotated(world.dir).length });
      }),
      { numRuns: 30 },
    );
  });

  test("keeps the newest files, as many as are asked for", async () => {
    await using world = open({ bytesMax: 1, filesMax: 3 });
    world.write(...flows(10));
    expect(everything(world.dir)).toBe(text(flows(4, 6)));
    expect(world.log.facts()).toMatchObject({ files: 3, rotations: 9, removed: { count: 6, age: 0 } });
  });

  test("may keep none", async () => {
    await using world = open({ bytesMax: 1, filesMax: 0, compress: true });
    world.write(...flows(3));
    expect(everything(world.dir)).toBe(line(flow(2)));
  });

  test("comes when the first line is old enough, with or without a new one", async () => {
    await using world = open({ filesMax: 5, ageMaxMs: 5 * day });
    world.write(flow(1));
    world.now += day - 1;
    world.write(flow(2));
    expect(rotated(world.dir)).toEqual([]);
    world.now += 1;
    world.write();
    expect(rotated(world.dir).map(content)).toEqual([text([flow(1), flow(2)])]);
    world.now += 9 * day;
    world.write(); // An empty file has no age.
    expect(world.log.facts().rotations).toBe(1);
  });

  test("removes what was rotated too long ago", async () => {
    await using world = open({ bytesMax: 1, filesMax: 100, ageMaxMs: 100 * hour });
    world.write(flow(1), flow(2));
    world.now += 40 * hour;
    world.write(flow(3));
    expect(rotated(world.dir)).toHaveLength(2);
    world.now += 60 * hour - 1;
    world.write();
    expect(rotated(world.dir).map(content)).toEqual([line(flow(1)), line(flow(2)), line(flow(3))]);
    world.now += hour; // It looks once an hour.
    world.write();
    expect(rotated(world.dir).map(content)).toEqual([line(flow(2)), line(flow(3))]);
    expect(world.log.facts()).toMatchObject({ files: 2, removed: { count: 0, age: 1 } });
  });

  test("is tended an hour later by the clock, forward or back", async () => {
    await using world = open();
    const left = join(world.dir, "flows-20260101T000000000Z.log.gz.part");
    for (const [step, tended] of [
      [0, true],
      [hour - 1, false],
      [1, true],
      [1 - hour, false],
      [-hour, true],
    ] as const) {
      mkdirSync(world.dir, { recursive: true });
      writeFileSync(left, "");
      world.now += step;
      world.write();
      expect(existsSync(left)).toBe(!tended);
    }
  });

  test("removes by age also after the clock was ahead, each file when it is too old", async () => {
    const dir = freshDir();
    mkdirSync(dir);
    const world = { now: startAt + 365 * day };
    const options = { filesMax: 100, ageMaxMs: 7 * day, compress: false, now: () => world.now };
    const failed = (error: unknown) => {
      throw error;
    };
    await using rotation = createRotation({ file: join(dir, "flows.log"), ...options, failed });
    const rotate = (text: string) => {
      const file = join(dir, "flows.log");
      writeFileSync(file, text);
      utimesSync(file, world.now / 1000, world.now / 1000);
      rotation.rotate();
    };
    const left = () => rotated(dir).map(content);
    rotate("ahead");
    world.now = startAt;
    rotate("first");
    world.now += 4 * day;
    rotate("second");
    expect(left()).toEqual(["ahead", "first", "second"]);
    world.now = startAt + 8 * day;
    rotation.tend();
    expect(left()).toEqual(["second"]); // What was written by the clock that was ahead is no younger than the first.
    expect(rotation.facts()).toMatchObject({ files: 1, removed: { count: 0, age: 2 } });
    world.now = startAt + 365 * day; // The clock has come to the stamps.
    rotation.tend();
    expect(left()).toEqual([]);
  });

  test("of a file that is gone does nothing", async () => {
    const dir = freshDir();
    mkdirSync(dir);
    await using rotation = createRotation({
      file: join(dir, "flows.log"),
      filesMax: 5,
      ageMaxMs: day,
      compress: true,
      now: () => startAt,
      failed: (error) => {
        throw error;
      },
    });
    rotation.rotate();
    expect(rotation.facts()).toMatchObject({ rotations: 0, failures: 0 });
  });

  test.each([-hour, -30 * day, 30 * day])("goes on in order when the clock jumps by %d ms", async (jump) => {
    await using world = open({ bytesMax: 1, filesMax: 4, ageMaxMs: 60 * day });
    world.write(...flows(3));
    world.now += jump;
    world.write(...flows(3, 3));
    world.now -= jump;
    world.write(...flows(3, 6));
    expect(everything(world.dir)).toBe(text(flows(5, 4)));
    expect(world.log.facts()).toMatchObject({ lines: 9, files: 4, removed: { count: 4, age: 0 } });
    expect(world.told).toEqual([]);
  });
});

describe("a restart", () => {
  test("goes on in the same file, whose first line keeps its age", async () => {
    const dir = freshDir();
    const before = open({ dir });
    before.write(flow(1));
    await before[Symbol.asyncDispose]();
    await using after = open({ dir });
    after.now = startAt + day - hour;
    after.write(flow(2));
    expect(everything(dir)).toBe(text([flow(1), flow(2)]));
    expect(rotated(dir)).toEqual([]);
    after.now += hour + 1000; // The line speaks of a time shortly after `startAt`.
    after.write(flow(3));
    expect(rotated(dir).map(content)).toEqual([text([flow(1), flow(2)])]);
  });

  test.each([1, 30, lineBytes - 1])(
    "after a write that was cut short at %d bytes goes on behind whole lines",
    async (bytes) => {
      const dir = freshDir();
      mkdirSync(dir);
      for (const whole of ["", text(flows(200))]) {
        writeFileSync(join(dir, "flows.log"), whole + line(flow(0)).slice(0, bytes));
        await using world = open({ dir });
        world.write(flow(1));
        expect(content(world.file)).toBe(whole + line(flow(1)));
        expect(statSync(world.file).size).toBe(whole.length + line(flow(1)).length);
      }
    },
  );

  test("spares what is none of ours", async () => {
    const dir = freshDir();
    mkdirSync(dir);
    for (const letter of ["dear aunt", "x".repeat(100_000), "{".repeat(100_000)]) {
      writeFileSync(join(dir, "flows.log"), letter);
      await using world = open({ dir });
      world.write(flow(1));
      expect(content(world.file)).toBe(`${letter}\n${line(flow(1))}`);
    }
  });
});

describe("another program", () => {
  unixTest("that removes the file gets a new one in its place", async () => {
    await using world = open();
    world.write(flow(1));
    rmSync(world.file);
    world.write(flow(2));
    expect(content(world.file)).toBe(line(flow(2)));
    rmSync(world.dir, { recursive: true });
    world.write(flow(3));
    expect(content(world.file)).toBe(line(flow(3)));
    expect(world.told).toEqual([]);
  });

  test("that moves the file keeps it as it is, even when it makes a new one", async () => {
    await using world = open();
    world.write(flow(1));
    renameSync(world.file, join(world.dir, "flows.log.1"));
    world.write(flow(2));
    renameSync(world.file, join(world.dir, "flows.log.2"));
    writeFileSync(world.file, line(flow(3)));
    world.write(flow(4));
    const files = ["flows.log.1", "flows.log.2", "flows.log"];
    expect(files.map((name) => content(join(world.dir, name)))).toEqual([
      line(flow(1)),
      line(flow(2)),
      text([flow(3), flow(4)]),
    ]);
  });

  test("that empties or lengthens the file changes what is left of its size", async () => {
    await using world = open({ bytesMax: 10 * lineBytes });
    world.write(...flows(5));
    truncateSync(world.file);
    world.now += 2 * day;
    world.write(...flows(5, 5));
    expect(rotated(world.dir)).toEqual([]);
    appendFileSync(world.file, text(flows(4, 10)));
    world.write(flow(14));
    expect(rotated(world.dir).map(content)).toEqual([text(flows(9, 5))]);
    expect(content(world.file)).toBe(line(flow(14)));
  });

  unixTest(
    "that put a link, a pipe or a directory in its place is named, and nothing waits for it",
    async () => {
      const dir = freshDir();
      mkdirSync(dir);
      const file = join(dir, "flows.log");
      const places = {
        "is a link": () => symlinkSync("/dev/null", file),
        "is no regular file": () => run("mkfifo", file),
        EISDIR: () => mkdirSync(file),
      };
      for (const [says, put] of Object.entries(places)) {
        put();
        await using world = open({ dir });
        world.write(flow(1));
        world.write(flow(2));
        expect(world.told.join()).toContain(says);
        expect(world.told).toHaveLength(1);
        expect(world.log.facts()).toMatchObject({ lines: 0, lost: { error: 2 }, failing: true });
        rmSync(file, { recursive: true });
        world.write(flow(3));
        expect(world.told[1]).toBe("recovered after 2");
        expect(world.log.facts()).toMatchObject({ lines: 1, failing: false });
        rmSync(file);
      }
    },
  );
});
