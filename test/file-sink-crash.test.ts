// The file sink after a crash, on a full disk, and beside what others put into its directory.

import { afterAll, describe, expect, test } from "bun:test";
import {
  existsSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { beginFile } from "../src/sinks/file-part.ts";
import { gzipMember } from "../src/sinks/gzip-members.ts";
import type { Parcel } from "../src/sinks/sink.ts";
import * as world from "./file-sink.world.ts";
import { unixTest } from "./platform.ts";

const { checkSums, filesIn, flowsParcel, freshDir, metricsParcel, openSink, seqs, seqsIn, textOf, wholeIn } =
  world;

afterAll(world.removeDirs);

const stored = { kind: "stored", code: "ok" } as const;
const again = { kind: "again", code: "disk", reason: "disk" } as const;

async function until(reached: () => boolean): Promise<void> {
  while (!reached()) await Bun.sleep(2);
}

/** The growing file that these parcels made, and where each of them ends in it. */
async function partOf(parcels: readonly Parcel[], compress = true) {
  const dir = freshDir();
  await using rig = openSink(dir, { compress });
  const ends: number[] = [];
  let part = "";
  for (const parcel of parcels) {
    expect(await rig.send(parcel)).toEqual(stored);
    part = filesIn(dir)[0] ?? "";
    ends.push(statSync(join(dir, part)).size);
  }
  return { name: part, bytes: readFileSync(join(dir, part)), ends };
}

/** What becomes of a file that a crash left, at the next start. */
async function recovered(name: string, bytes: Uint8Array, compress = true) {
  const dir = freshDir();
  writeFileSync(join(dir, name), bytes);
  await using rig = openSink(dir, { compress });
  // Its turn comes after that of the leftovers.
  expect(await rig.send({ ...flowsParcel(1), body: new Uint8Array([]) })).toEqual(stored);
  await until(() => !existsSync(join(dir, name)));
  await rig.sink[Symbol.asyncDispose]();
  checkSums(dir);
  const { leftovers, damaged } = rig.sink.facts().files ?? {};
  return { dir, leftovers, damaged };
}

describe("after a crash", () => {
  test("a compressed file ends with its last whole parcel, wherever it was cut", async () => {
    const { name, bytes, ends } = await partOf([flowsParcel(1, 3), flowsParcel(4), flowsParcel(5, 6)]);
    const last = [3, 4, 6];
    const cuts = seqs(0, bytes.length).filter(
      (cut) => cut % 7 === 0 || ends.some((end) => Math.abs(end - cut) < 24),
    );
    for (const cut of cuts) {
      const { dir, leftovers } = await recovered(name, bytes.subarray(0, cut));
      const whole = ends.findLastIndex((end) => end <= cut);
      const expected = whole === -1 ? [] : [seqs(1, last[whole] ?? 0)];
      expect([cut, wholeIn(dir).map((file) => seqsIn(dir, file))]).toEqual([cut, expected]);
      expect(leftovers).toBe(expected.length);
      rmSync(dir, { recursive: true });
    }
  });

  test("a plain file ends with its last whole line, wherever it was cut", async () => {
    const { name, bytes } = await partOf([flowsParcel(1, 2, { compress: false })], false);
    for (let cut = 0; cut <= bytes.length; cut += 13) {
      const { dir } = await recovered(name, bytes.subarray(0, cut), false);
      const lines = bytes.subarray(0, cut).toString().split("\n").length - 1;
      expect(wholeIn(dir).map((file) => seqsIn(dir, file))).toEqual(lines === 0 ? [] : [seqs(1, lines)]);
      rmSync(dir, { recursive: true });
    }
  });

  test("a last parcel whose bytes never came to the disk is cut off", async () => {
    const { name, bytes, ends } = await partOf([flowsParcel(1), flowsParcel(2, 200)]);
    const zeros = Buffer.from(bytes);
    zeros.fill(0, (ends[0] ?? 0) + 100);
    const all = Buffer.concat([bytes.subarray(0, ends[0]), Buffer.alloc(5000)]);
    for (const torn of [zeros, all]) {
      const { dir } = await recovered(name, torn);
      expect(wholeIn(dir).map((file) => seqsIn(dir, file))).toEqual([[1]]);
    }
  });

  unixTest.each([true, false])("metrics get their end, once (compress: %p)", async (compress) => {
    const { name, bytes } = await partOf(
      [metricsParcel(0, 4, { compress }), metricsParcel(5, 9, { compress })],
      compress,
    );
    const end = Buffer.from("# EOF\n");
    const ended = Buffer.concat([bytes, compress ? gzipMember(end) : end]);
    for (const left of [bytes, ended, ended.subarray(0, -1), Buffer.concat([bytes, Buffer.from("foo")])]) {
      const { dir } = await recovered(name, left, compress);
      const [file = ""] = wholeIn(dir);
      expect(textOf(dir, file).match(/# EOF\n/g)?.length).toBe(1);
      expect(world.samplesIn(dir, [file])).toEqual(world.samplesOf(seqs(0, 9)));
    }
  });

  test("a start goes on in another file, and completes an attempt to complete", async () => {
    const { name, bytes } = await partOf([flowsParcel(1)]);
    const dir = freshDir();
    writeFileSync(join(dir, name), bytes);
    writeFileSync(join(dir, `${basename(name, ".part")}.sha256`), "half a che");
    {
      await using rig = openSink(dir);
      expect(await rig.send(flowsParcel(1, 2))).toEqual(stored);
    }
    expect(wholeIn(dir).map((file) => seqsIn(dir, file))).toEqual([[1], [1, 2]]);
    checkSums(dir);
  });

  unixTest("files of before keep their kind when compression is switched", async () => {
    const { name, bytes } = await partOf([metricsParcel(0, 4)]);
    const { dir } = await recovered(name, bytes, false);
    expect(world.samplesIn(dir, wholeIn(dir))).toEqual(world.samplesOf(seqs(0, 4)));
  });
});

describe("a leftover that is not what it should be", () => {
  test("is put aside whole when it is damaged before its end, and stops nothing", async () => {
    const { name, bytes, ends } = await partOf([flowsParcel(1), flowsParcel(2), flowsParcel(3)]);
    const broken = Buffer.from(bytes);
    broken.fill(0, ends[0], (ends[0] ?? 0) + 30);
    const { dir, damaged, leftovers } = await recovered(name, broken);
    expect([damaged, leftovers]).toEqual([1, 0]);
    expect(filesIn(dir)).toEqual([`${basename(name, ".part")}.damaged`]);
    expect(readFileSync(join(dir, filesIn(dir)[0] ?? ""))).toEqual(broken);
  });

  unixTest("is not followed when it is a link", async () => {
    const { name, bytes } = await partOf([flowsParcel(1)]);
    const dir = freshDir();
    const victim = join(dirname(dir), "victim");
    writeFileSync(victim, Buffer.concat([bytes, Buffer.from("more")]));
    symlinkSync(victim, join(dir, name));
    await using rig = openSink(dir);
    await until(() => rig.sink.facts().files?.damaged === 1);
    expect(readFileSync(victim).length).toBe(bytes.length + 4);
    expect(await rig.send(flowsParcel(2))).toEqual(stored);
  });
});

unixTest("a file is not begun in the place of another, nor through a link", async () => {
  const dir = freshDir();
  const named = { name: "flows-a-20260101T000000Z-1.ndjson", signal: "flows", packed: false } as const;
  symlinkSync(join(dir, "elsewhere"), join(dir, `${named.name}.part`));
  await expect(beginFile(dir, named)).rejects.toThrow("EEXIST");
  expect(existsSync(join(dir, "elsewhere"))).toBe(false);
});

test("what nobody waits for any more is cut off again, and what follows is whole", async () => {
  const dir = freshDir();
  const named = { name: "flows-a-20260101T000000Z-1.ndjson", signal: "flows", packed: false } as const;
  const file = await beginFile(dir, named);
  const text = (line: string) => Buffer.from(`${line}\n`);
  expect(await file.append(text("one"), () => true)).toBe(true);
  expect(await file.append(text("given up"), () => false)).toBe(false);
  expect(textOf(dir, `${named.name}.part`)).toBe("one\n");
  expect(await file.append(text("two"), () => true)).toBe(true);
  await file.complete();
  expect(textOf(dir, named.name)).toBe("one\ntwo\n");
  checkSums(dir);
});

describe("a full disk", () => {
  /** A disk of so many KiB, which is gone at the end. */
  function smallDisk(kib: number): Disposable & { readonly dir: string } {
    const dir = freshDir();
    world.run(dir, "mount", "-t", "tmpfs", "-o", `size=${kib}k`, "tmpfs", dir);
    return { dir, [Symbol.dispose]: () => void world.run("/", "umount", dir) };
  }

  unixTest("keeps what was stored, takes nothing by halves, and goes on when there is room", async () => {
    using disk = smallDisk(256);
    const { dir } = disk;
    const ballast = join(dir, "ballast");
    writeFileSync(ballast, new Uint8Array(200 * 1024));
    const large = flowsParcel(1000, 5000);
    expect(large.body.length).toBeGreaterThan(60 * 1024);
    expect(large.body.length).toBeLessThan(200 * 1024);
    {
      await using rig = openSink(dir);
      expect(await rig.send(flowsParcel(1, 10))).toEqual(stored);
      const [, part = ""] = filesIn(dir);
      const before = readFileSync(join(dir, part));
      const message = expect.stringContaining(`the disk of ${dir} is full: take complete files away`);
      for (let tries = 0; tries < 3; tries++) expect(await rig.send(large)).toEqual({ ...again, message });
      expect(readFileSync(join(dir, part))).toEqual(before);
      expect(await rig.send(flowsParcel(11))).toEqual(stored);
      truncateSync(ballast, 0);
      expect(await rig.send(large)).toEqual(stored);
    }
    expect(wholeIn(dir).map((file) => seqsIn(dir, file))).toEqual([[...seqs(1, 11), ...seqs(1000, 5000)]]);
    checkSums(dir);
  });

  unixTest("that has no room for the end of a file gets it at the next start", async () => {
    using disk = smallDisk(64);
    const { dir } = disk;
    const rig = openSink(dir);
    expect(await rig.send(metricsParcel(0, 9))).toEqual(stored);
    const [part = ""] = filesIn(dir);
    // A page of tmpfs is all that is left: that of the growing file.
    writeFileSync(join(dir, "ballast"), new Uint8Array(60 * 1024));
    await rig.sink[Symbol.asyncDispose]();
    expect(wholeIn(dir)).toEqual([]);
    rmSync(join(dir, "ballast"));
    await using next = openSink(dir);
    await until(() => next.sink.facts().files?.leftovers === 1);
    expect(existsSync(join(dir, part))).toBe(false);
    checkSums(dir);
    expect(textOf(dir, wholeIn(dir)[0] ?? "").match(/# EOF\n/g)?.length).toBe(1);
  });

  unixTest("that is read-only is named so, and its file is completed when it can be", async () => {
    using disk = smallDisk(256);
    const { dir } = disk;
    await using rig = openSink(dir);
    world.run("/", "mount", "-o", "remount,ro", dir);
    const message = expect.stringContaining(`${dir} is read-only`);
    expect(await rig.send(flowsParcel(1))).toEqual({ ...again, message });
    world.run("/", "mount", "-o", "remount,rw", dir);
    expect(await rig.send(flowsParcel(1))).toEqual(stored);
  });
});
