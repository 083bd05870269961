// The file sink: what it writes is on the disk before it is stored, complete files are whole, and other programs read them.

import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openSink as openAnySink } from "../src/sinks/open.ts";
import { sinkSchema } from "../src/sinks/schema.ts";
import { createFakeLog } from "./drain.rig.ts";
import * as world from "./file-sink.world.ts";
import { expectMode, unixTest } from "./platform.ts";

const { checkSums, filesIn, flowsParcel, freshDir, metricsParcel, openSink, seqs, seqsIn, textOf, wholeIn } =
  world;

afterAll(world.removeDirs);

const stored = { kind: "stored", code: "ok" } as const;
const again = { kind: "again", code: "disk", reason: "disk" } as const;

/** Waits for what another turn of the sink does. */
async function until(reached: () => boolean): Promise<void> {
  while (!reached()) await Bun.sleep(5);
}

describe.each([true, false])("with compress: %p", (compress) => {
  const ending = compress ? ".gz" : "";

  test("parcels of flows become one file with a checksum, for its owner alone", async () => {
    const dir = freshDir();
    const name = `flows-edge-1-20260102T030405Z-1.ndjson${ending}`;
    {
      await using rig = openSink(dir, { compress });
      expect(await rig.send(flowsParcel(1, 30, { compress }))).toEqual(stored);
      expect(seqsIn(dir, `${name}.part`)).toEqual(seqs(1, 30));
      expect(await rig.send(flowsParcel(31, 40, { compress }))).toEqual(stored);
      expect(seqsIn(dir, `${name}.part`)).toEqual(seqs(1, 40));
    }
    expect(filesIn(dir)).toEqual([name, `${name}.sha256`]);
    expect(seqsIn(dir, name)).toEqual(seqs(1, 40));
    checkSums(dir);
    for (const file of filesIn(dir)) expectMode(join(dir, file), 0o600);
  });

  unixTest("promtool makes blocks of metrics, with every sample in them", async () => {
    const dir = freshDir();
    {
      await using rig = openSink(dir, { compress });
      for (const from of [0, 10, 20])
        expect(await rig.send(metricsParcel(from, from + 9, { compress }))).toEqual(stored);
    }
    expect(filesIn(dir).length).toBe(2);
    const [name = ""] = wholeIn(dir);
    expect(name).toBe(`metrics-edge-1-20260102T030405Z-1.prom${ending}`);
    expect(textOf(dir, name).match(/# EOF\n/g)?.length).toBe(1);
    expect(world.samplesIn(dir, [name])).toEqual(world.samplesOf(seqs(0, 29)));
    checkSums(dir);
  });
});

unixTest("live samples and a backlog by turns lose nothing: they have a file each", async () => {
  const dir = freshDir();
  {
    await using rig = openSink(dir);
    for (const turn of [0, 1, 2]) {
      await rig.send(metricsParcel(1000 + turn * 10, 1009 + turn * 10));
      await rig.send(metricsParcel(turn * 10, 9 + turn * 10, { lane: "backlog" }));
    }
  }
  expect(wholeIn(dir).length).toBe(2);
  const expected = world.samplesOf([...seqs(0, 29), ...seqs(1000, 1029)]);
  expect(world.samplesIn(dir, wholeIn(dir))).toEqual(expected);
});

unixTest("a step back in time begins another file; bodies of one time share one", async () => {
  const dir = freshDir();
  {
    await using rig = openSink(dir);
    for (const [from, to] of [
      [100, 109],
      [105, 119],
      [50, 59],
      [120, 129],
    ] as const)
      expect(await rig.send(metricsParcel(from, to))).toEqual(stored);
  }
  expect(wholeIn(dir).length).toBe(2);
  const expected = world.samplesOf([...seqs(50, 59), ...seqs(100, 129)]);
  expect(world.samplesIn(dir, wholeIn(dir))).toEqual(expected);
});

describe("a file ends", () => {
  test("at its size, without a parcel in two", async () => {
    const dir = freshDir();
    const size = flowsParcel(1, 400).body.length;
    await using rig = openSink(dir, { fileBytesMax: "64KiB" });
    expect(size).toBeLessThan(64 * 1024);
    const perFile = Math.floor((64 * 1024) / size);
    for (let parcel = 0; parcel <= perFile; parcel++) await rig.send(flowsParcel(1, 400));
    expect(wholeIn(dir).map((name) => seqsIn(dir, name).length)).toEqual([400 * perFile]);
    expect(statSync(join(dir, wholeIn(dir)[0]!)).size).toBeLessThanOrEqual(64 * 1024);
    checkSums(dir);
  });

  test("at its age, when the next parcel comes", async () => {
    const dir = freshDir();
    await using rig = openSink(dir, { fileAgeMax: "10m" });
    await rig.send(flowsParcel(1));
    rig.clock.at += 600_000 - 1;
    await rig.send(flowsParcel(2));
    expect(wholeIn(dir)).toEqual([]);
    rig.clock.at += 1;
    await rig.send(flowsParcel(3));
    expect(wholeIn(dir).map((name) => seqsIn(dir, name))).toEqual([[1, 2]]);
  });

  test("at its age, though no other parcel comes", async () => {
    const dir = freshDir();
    await using rig = openSink(dir, { fileAgeMax: "1s" });
    await rig.send(flowsParcel(1));
    await until(() => rig.sink.facts().files?.completed === 1);
    expect(wholeIn(dir).map((name) => seqsIn(dir, name))).toEqual([[1]]);
  });
});

describe("a disk", () => {
  test("that is not there is waited for, and no directory is made in its place", async () => {
    const dir = freshDir();
    rmSync(dir, { recursive: true });
    await using rig = openSink(dir);
    const message = expect.stringContaining(`${dir} is not there: plug in its disk`);
    expect(await rig.send(flowsParcel(1))).toEqual({ ...again, message });
    expect(existsSync(dir)).toBe(false);
    mkdirSync(dir);
    expect(await rig.send(flowsParcel(1))).toEqual(stored);
  });

  test("that is taken away and comes back has what was stored on it completed", async () => {
    const dir = freshDir();
    {
      await using rig = openSink(dir);
      await rig.send(flowsParcel(1));
      renameSync(dir, `${dir}-away`);
      expect(await rig.send(flowsParcel(2))).toMatchObject(again);
      mkdirSync(dir); // Another disk.
      expect(await rig.send(flowsParcel(2))).toEqual(stored);
      renameSync(dir, `${dir}-other`);
      renameSync(`${dir}-away`, dir);
      expect(await rig.send(flowsParcel(3))).toEqual(stored);
      expect(rig.sink.facts().files).toMatchObject({ leftovers: 1 });
    }
    expect(wholeIn(dir).map((name) => seqsIn(dir, name))).toEqual([[1], [3]]);
    checkSums(dir);
    await using other = openSink(`${dir}-other`);
    await until(() => other.sink.facts().files?.leftovers === 1);
    expect(wholeIn(`${dir}-other`).map((name) => seqsIn(`${dir}-other`, name))).toEqual([[2]]);
  });

  test("that is no directory is named so", async () => {
    const dir = freshDir();
    const file = join(dir, "file");
    writeFileSync(file, "");
    await using rig = openSink(file);
    const message = expect.stringContaining("is no directory");
    expect(await rig.send(flowsParcel(1))).toEqual({ ...again, message });
  });
});

describe("a request that is given up", () => {
  test("before its turn writes nothing", async () => {
    const dir = freshDir();
    await using rig = openSink(dir);
    expect(await rig.send(flowsParcel(1), AbortSignal.abort())).toMatchObject(again);
    expect(filesIn(dir)).toEqual([]);
  });

  test("while it is written leaves nothing of it", async () => {
    const dir = freshDir();
    {
      await using rig = openSink(dir);
      await rig.send(flowsParcel(1));
      const giveUp = new AbortController();
      const outcome = rig.send(flowsParcel(2, 2000), giveUp.signal);
      const [part = ""] = filesIn(dir);
      const size = statSync(join(dir, part)).size;
      await until(() => statSync(join(dir, part)).size > size);
      giveUp.abort();
      const { kind } = await outcome;
      // The disk may have been faster; what counts is that both say the same.
      await rig.send(flowsParcel(2001));
      const between = kind === "stored" ? seqs(2, 2000) : [];
      expect(seqsIn(dir, part)).toEqual([1, ...between, 2001]);
    }
    checkSums(dir);
  });
});

test("the oldest complete files give way, and are counted", async () => {
  const dir = freshDir();
  let told = 0;
  await using rig = openSink(
    dir,
    { fileBytesMax: "64KiB", totalMax: "1MiB", compress: false },
    { onRemoval: () => told++ },
  );
  const parcel = flowsParcel(1, 200, { compress: false });
  expect(parcel.body.length).toBeGreaterThan(64 * 1024); // Each is a file.
  const count = 30;
  for (let sent = 0; sent < count; sent++) expect(await rig.send(parcel)).toEqual(stored);
  const bytes = parcel.body.length;
  const kept = Math.floor(2 ** 20 / bytes);
  expect(kept).toBeLessThan(count);
  await until(() => rig.sink.facts().files?.removed === count - kept);
  const numbers = wholeIn(dir).map((name) => Number(/-(\d+)\.ndjson$/.exec(name)?.[1]));
  const last = Math.max(...numbers);
  expect(numbers.toSorted((a, b) => a - b)).toEqual(seqs(last - kept + 1, last));
  const { removed = 0, removedBytes, completed = 0 } = rig.sink.facts().files ?? {};
  expect([removed, removedBytes]).toEqual([completed - kept, removed * bytes]);
  expect(filesIn(dir).filter((name) => name.endsWith(".sha256")).length).toBe(kept);
  expect(told).toBe(1);
  checkSums(dir);
});

test("that the first one gives way is told once", async () => {
  const dir = freshDir();
  const { log, told } = createFakeLog();
  const config = sinkSchema.parse({
    ...{ name: "disk", type: "file", directory: dir },
    ...{ fileBytesMax: "64KiB", totalMax: "1MiB", compress: false },
  });
  const identity = { node: "edge-1", cluster: "", version: "1" };
  await using sink = openAnySink(config, { identity, now: Date.now, env: {}, log });
  const parcel = flowsParcel(1, 200, { compress: false });
  const never = new AbortController().signal;
  for (let sent = 0; sent < 30; sent++) expect(await sink.send(parcel, never)).toEqual(stored);
  await until(() => (sink.facts().files?.removed ?? 0) > 1);
  expect(told).toEqual([
    {
      level: "warn",
      message: "the oldest files of a sink give way: carry complete ones away sooner, or raise totalMax",
      fields: { sink: "disk", directory: dir, totalMax: "1MiB" },
    },
  ]);
});

test("a node of any name gets files of plain names, and leaves those of others alone", async () => {
  const dir = freshDir();
  const foreign = ["flows-a_b-20260101T000000Z-9.ndjson.gz.part", "notes.txt", "flows-edge-1.ndjson.part"];
  for (const name of foreign) writeFileSync(join(dir, name), "theirs");
  {
    await using rig = openSink(dir, {}, { node: "../a b/ü" });
    await rig.send(flowsParcel(1));
  }
  const [ours = ""] = wholeIn(dir);
  expect(ours).toBe("flows-.._a_b__-20260102T030405Z-1.ndjson.gz");
  for (const name of foreign) expect(readFileSync(join(dir, name), "utf8")).toBe("theirs");
});

test("a body of ends of series alone is stored without a file", async () => {
  const dir = freshDir();
  await using rig = openSink(dir);
  const parcel = { ...metricsParcel(0, 0), body: new Uint8Array(), records: 0, markers: 2 };
  expect(await rig.send(parcel)).toEqual(stored);
  expect(filesIn(dir)).toEqual([]);
});

test("once closed it takes nothing", async () => {
  const rig = openSink(freshDir());
  await rig.sink[Symbol.asyncDispose]();
  expect(await rig.send(flowsParcel(1))).toMatchObject(again);
});

test("says what it takes and how", async () => {
  const dir = freshDir();
  await using rig = openSink(dir, { externalLabels: { site: "a" } });
  const any = Number.POSITIVE_INFINITY;
  expect(rig.sink.capability("flows")).toEqual({
    ...{ ageMaxMs: any, outOfOrderMs: any, spanMaxMs: any, recordsMax: 10_000, bytesMax: 4 * 2 ** 20 },
  });
  const shared = { node: "edge-1", cluster: "plant", version: "1.2.3", externalLabels: { site: "a" } };
  expect(rig.sink.encoder("flows")).toEqual({ format: "ndjson", ...shared, options: { compress: true } });
  expect(rig.sink.encoder("metrics")).toMatchObject({ format: "prometheus-text" });
  expect(rig.sink.signals).toEqual(["flows", "metrics"]);
  expect(rig.sink.facts()).toMatchObject({ target: dir, tokenErrors: 0 });
  await using small = openSink(freshDir(), {
    ...{ fileBytesMax: "1MiB", limits: { recordsMax: 5, ageMax: "2d" } },
  });
  expect(small.sink.capability("metrics")).toMatchObject({
    ...{ recordsMax: 5, ageMaxMs: 172_800_000, bytesMax: 2 ** 20 },
  });
});
