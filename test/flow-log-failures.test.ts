// The flow log when the disk fails it: full, or read-only. Mounts need root.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import {
  content,
  everything,
  freshDir,
  hour,
  lineBytes,
  lostOf,
  mount,
  open,
  removeWorlds,
  run,
  text,
  until,
} from "./flow-log.world.ts";
import { flow, flows } from "./store.flows.ts";

setDefaultTimeout(60_000);
afterAll(removeWorlds);

describe("a full disk", () => {
  const fullDir = (): string => {
    const dir = freshDir();
    mkdirSync(dir);
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", dir);
    return dir;
  };

  test("loses lines, counts them, tells it once and the end of it once, and cuts no line in two", async () => {
    const dir = fullDir();
    const filler = join(dir, "filler");
    writeFileSync(filler, Buffer.alloc(500_000));
    await using world = open({ dir, bytesMax: 1e9 });
    let offered = 0;
    for (let batch = 0; batch < 20; batch++, offered += 100) {
      world.write(...flows(100, offered));
      expect(world.log.facts().lines + lostOf(world.log.facts())).toBe(offered + 100);
    }
    const { lines, lost } = world.log.facts();
    expect(lines % 100).toBeGreaterThan(0); // A batch was cut.
    expect(lost).toEqual({ disk_full: 2000 - lines, read_only: 0, busy: 0, error: 0, invalid: 0 });
    expect(content(world.file)).toBe(text(flows(lines)));
    expect(world.told).toHaveLength(1);
    expect(world.told[0]).toMatch(/flows\.log: its lines are lost.*ENOSPC/);

    rmSync(filler);
    world.write();
    world.write(flow(1, { packets: -1 }));
    expect(world.log.facts().failing).toBe(true); // Nothing was written yet.
    world.write(...flows(10, 2000));
    expect(content(world.file)).toBe(text([...flows(lines), ...flows(10, 2000)]));
    expect(world.told.slice(1)).toEqual([`recovered after ${2000 - lines}`]);
    expect(world.log.facts()).toMatchObject({ lines: lines + 10, failing: false });
  });

  test("that takes no further file loses what the next one would hold, and nothing of it comes later", async () => {
    const dir = freshDir();
    mkdirSync(dir);
    mount("-t", "tmpfs", "-o", "size=1m,nr_inodes=3", "tmpfs", dir); // The directory, the log and the filler.
    const filler = join(dir, "filler");
    writeFileSync(filler, "");
    await using world = open({ dir, bytesMax: 3 * lineBytes });
    world.write(...flows(9));
    const { lines, lost } = world.log.facts();
    expect(lines).toBeGreaterThan(0);
    expect(lost.disk_full).toBe(9 - lines);
    rmSync(filler);
    world.write(flow(9));
    expect(everything(dir)).toBe(text([...flows(lines), flow(9)]));
  });

  test("is told again when it is full again", async () => {
    const dir = fullDir();
    await using world = open({ dir, bytesMax: 1e9 });
    for (let round = 0; round < 3; round++) {
      writeFileSync(join(dir, "filler"), Buffer.alloc(800_000));
      for (let batch = 0; batch < 5; batch++) world.write(...flows(200));
      rmSync(join(dir, "filler"));
      truncateSync(world.file);
      world.write(flow(1));
    }
    expect(world.told.map((told) => told.split(" ")[0])).toEqual(
      Array(3).fill(["Could", "recovered"]).flat(),
    );
  });

  test("leaves a file uncompressed until there is room", async () => {
    const dir = fullDir();
    // Random, so that the compressed one is as large.
    const large = join(dir, "flows-20260101T000000000Z.log");
    writeFileSync(large, crypto.getRandomValues(new Uint8Array(60_000)));
    const bytes = readFileSync(large);
    writeFileSync(join(dir, "filler"), Buffer.alloc(1024 * 1024 - 60_000 - 20_000 - 4096));
    await using world = open({ dir, compress: true });
    world.write(flow(1));
    await until(() => world.told.length > 0);
    expect(world.told[0]).toMatch(/Could not compress .*flows-20260101T000000000Z\.log.*ENOSPC/);
    for (let failures = 1; failures < 4; failures++) {
      await until(() => world.log.facts().failures === failures);
      world.now += hour;
      world.write();
    }
    await until(() => world.log.facts().failures === 4);
    expect(readdirSync(dir).filter((name) => name.endsWith(".part"))).toEqual([]);
    expect(world.told).toHaveLength(1);
    expect(readFileSync(large).equals(bytes)).toBe(true);
    rmSync(join(dir, "filler"));
    await until(() => {
      world.now += hour;
      world.write();
      return world.log.facts().compressed === 1;
    });
    expect(gunzipSync(readFileSync(`${large}.gz`)).equals(bytes)).toBe(true);
    expect(existsSync(large)).toBe(false);
    expect(world.log.facts()).toMatchObject({ lines: 1, failing: false });
  });
});

test("a read-only file system is told from a full one, and got over", async () => {
  const dir = freshDir();
  mkdirSync(dir);
  mount("--bind", dir, dir);
  await using world = open({ dir, bytesMax: 3 * lineBytes });
  world.write(flow(1));
  await world.log[Symbol.asyncDispose](); // An open file keeps the mount from being changed.
  run("mount", "-o", "remount,ro,bind", dir);
  for (let batch = 0; batch < 3; batch++) world.write(...flows(10, 100));
  expect(world.log.facts()).toMatchObject({ lines: 1, lost: { read_only: 30 }, failing: true });
  expect(world.told).toHaveLength(1);
  expect(world.told[0]).toContain("EROFS");
  run("mount", "-o", "remount,rw,bind", dir);
  world.write(flow(2));
  expect(everything(dir)).toBe(text([flow(1), flow(2)]));
  expect(world.told[1]).toBe("recovered after 30");
});
