// Compression of rotated flow logs: whole or not there, whenever it is cut short.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { gunzipSync } from "node:zlib";
import {
  allPacked,
  content,
  everything,
  freshDir,
  line,
  lineBytes,
  open,
  removeWorlds,
  rotated,
  rotatedName,
  run,
  text,
  until,
} from "./flow-log.world.ts";
import { unixTest } from "./platform.ts";
import { flow, flows } from "./store.flows.ts";

setDefaultTimeout(60_000);
afterAll(removeWorlds);

/** Writes into a file until it is rotated, which is large enough to be met while it is compressed. */
const compressing = (dir: string): string => `
  import { createFlowLog } from "${join(import.meta.dir, "../src/flow-log.ts")}";
  import { flows } from "${join(import.meta.dir, "store.flows.ts")}";
  const log = createFlowLog({ file: "${join(dir, "flows.log")}", bytesMax: 40e6, filesMax: 5, ageMaxMs: 1e12,
    compress: true, now: Date.now, nodeName: "node-1", failed: console.error, recovered: console.error });
  while (log.facts().rotations === 0) log.write(flows(5000), []);
  setTimeout(() => undefined, 60_000);`;

describe("compression", () => {
  unixTest("comes after the write, and leaves whole files", async () => {
    await using world = open({ bytesMax: 200 * lineBytes, compress: true });
    world.write(...flows(700));
    expect(world.log.facts().compressed).toBe(0); // Not in the caller's time.
    await until(() => world.log.facts().compressed === world.log.facts().rotations);
    const files = rotated(world.dir);
    expect(files.length).toBeGreaterThan(2);
    expect(files.every((file) => file.endsWith(".gz"))).toBe(true);
    for (const file of files) run("gzip", "--test", file);
    expect(everything(world.dir)).toBe(text(flows(700)));
    expect(statSync(files[0]!).mode & 0o777).toBe(0o640);
    expect(statSync(files[0]!).size).toBeLessThan((200 * lineBytes) / 5);
    expect(world.told).toEqual([]);
  });

  test("keeps to the number of files while it is behind", async () => {
    await using world = open({ bytesMax: 1, filesMax: 3, compress: true });
    for (let batch = 0; batch < 20; batch++) {
      world.write(...flows(10, batch * 10));
      await Bun.sleep(0);
    }
    await until(() => allPacked(world.dir));
    expect(everything(world.dir)).toBe(text(flows(4, 196)));
  });

  test("that a stop cuts short is made up for by the next start", async () => {
    const dir = freshDir();
    const before = open({ dir, bytesMax: 1, compress: true });
    before.write(...flows(4));
    await before[Symbol.asyncDispose]();
    expect(everything(dir)).toBe(text(flows(4)));
    expect(rotated(dir).some((file) => file.endsWith(".log"))).toBe(true);
    await using after = open({ dir, compress: true });
    after.write();
    await until(() => allPacked(dir));
    expect(everything(dir)).toBe(text(flows(4)));
  });

  test("that a stop meets in the middle leaves the file as it was", async () => {
    const world = open({ bytesMax: 15e6, compress: true });
    while (world.log.facts().rotations === 0) world.write(...flows(5000));
    await until(() => readdirSync(world.dir).some((name) => name.endsWith(".part")));
    await world[Symbol.asyncDispose]();
    const files = rotated(world.dir);
    expect(files.map((file) => file.endsWith(".log"))).toEqual([true]);
    expect(world.told).toEqual([]);
  });

  test("half done by a crash is begun anew; done, but for the file that it was made from, it is finished", async () => {
    const dir = freshDir();
    mkdirSync(dir);
    const [first, second] = ["flows-20260101T000000000Z.log", "flows-20260101T000000001Z.log"];
    writeFileSync(join(dir, first!), line(flow(1)));
    writeFileSync(join(dir, `${first}.gz`), Bun.gzipSync(line(flow(1))));
    writeFileSync(join(dir, second!), line(flow(2)));
    writeFileSync(join(dir, `${second}.gz.part`), Bun.gzipSync(line(flow(2))).subarray(0, 20));
    const others = [
      "flows-20260101T000000000Z.txt",
      "flows-yesterday.log",
      "flows-20260101T000000000Z.log.gz.bak",
    ];
    for (const name of others) writeFileSync(join(dir, name), "another's");
    await using world = open({ dir, compress: true, filesMax: 2 });
    world.write(flow(3));
    await until(() => world.log.facts().compressed === 1);
    const files = rotated(dir, others);
    expect(files.map((file) => basename(file))).toEqual([`${first}.gz`, `${second}.gz`]);
    expect(files.map(content)).toEqual([line(flow(1)), line(flow(2))]);
  });

  unixTest("killed in the middle leaves nothing that looks whole and is not", async () => {
    const part = (name: string): boolean => name.endsWith(".part");
    let dir = freshDir();
    for (let attempt = 0; attempt < 5; attempt++, dir = freshDir()) {
      const process_ = Bun.spawn([process.execPath, "-e", compressing(dir)], { stderr: "inherit" });
      await until(() => existsSync(dir) && readdirSync(dir).some(part));
      process_.kill("SIGKILL");
      await process_.exited;
      if (readdirSync(dir).some(part)) break; // Otherwise it was done before it died.
    }
    expect(readdirSync(dir).filter(part)).toHaveLength(1);
    const [whole] = readdirSync(dir).filter((name) => rotatedName.test(name));
    const lines = readFileSync(join(dir, whole!));
    expect(whole).toEndWith(".log");

    await using world = open({ dir, compress: true, bytesMax: 1e9 });
    world.write(flow(1));
    await until(() => world.log.facts().compressed === 1);
    const files = rotated(dir);
    expect(files.map((file) => basename(file))).toEqual([`${whole}.gz`]);
    expect(gunzipSync(readFileSync(files[0]!)).equals(lines)).toBe(true);
  });
});
