// A file sink whose disk does not answer: what is told, and what happens once it does.

import { afterAll, expect, test } from "bun:test";
import { createFileLanes, type FileLanes } from "../src/sinks/file-lanes.ts";
import * as world from "./file-sink.world.ts";

const { checkSums, filesIn, flowsParcel, freshDir, openSink, seqsIn, wholeIn } = world;

afterAll(world.removeDirs);

/** All that asks for a file waits until the disk is released. */
function hungDisk() {
  const { promise, resolve } = Promise.withResolvers<void>();
  let waiting = 0;
  const openLanes: typeof createFileLanes = (options): FileLanes => {
    const lanes = createFileLanes(options);
    return {
      ...lanes,
      fileFor: async (parcel) => {
        waiting += 1;
        await promise;
        return await lanes.fileFor(parcel);
      },
    };
  };
  return { openLanes, release: resolve, waiting: () => waiting };
}

test("a parcel is given up after its time, no others pile up behind it, and nothing is written twice", async () => {
  const dir = freshDir();
  const disk = hungDisk();
  {
    await using rig = openSink(dir, {}, { timeoutMs: 50, openLanes: disk.openLanes });
    const message = `${dir} did not answer within 0.05 s; check its disk`;
    for (let tries = 0; tries < 4; tries++)
      expect(await rig.send(flowsParcel(1))).toEqual({
        kind: "again",
        code: "disk",
        reason: "disk",
        message,
      });
    expect(disk.waiting()).toBe(1);
    disk.release();
    let outcome = await rig.send(flowsParcel(1));
    while (outcome.kind !== "stored") outcome = await rig.send(flowsParcel(1));
  }
  expect(wholeIn(dir).map((name) => seqsIn(dir, name))).toEqual([[1]]);
  checkSums(dir);
});

test("an abort ends the wait at once", async () => {
  const dir = freshDir();
  const disk = hungDisk();
  const rig = openSink(dir, {}, { openLanes: disk.openLanes });
  const giveUp = new AbortController();
  const outcome = rig.send(flowsParcel(1), giveUp.signal);
  giveUp.abort();
  expect(await outcome).toMatchObject({ kind: "again", reason: "disk" });
  disk.release();
  await rig[Symbol.asyncDispose]();
  expect(filesIn(dir)).toEqual([]);
});

test("a sink in its place waits for the one that it replaces, as both may have the file open", async () => {
  const dir = freshDir();
  const disk = hungDisk();
  const rig = openSink(dir, {}, { timeoutMs: 50, openLanes: disk.openLanes });
  expect(await rig.send(flowsParcel(1))).toMatchObject({ reason: "disk" });
  const ended = rig[Symbol.asyncDispose]();
  {
    await using next = openSink(dir, {}, { timeoutMs: 50 });
    expect(await next.send(flowsParcel(1))).toMatchObject({ reason: "disk" });
    expect(filesIn(dir)).toEqual([]);
    disk.release();
    await ended;
    let outcome = await next.send(flowsParcel(1));
    while (outcome.kind !== "stored") outcome = await next.send(flowsParcel(1));
  }
  expect(wholeIn(dir).map((name) => seqsIn(dir, name))).toEqual([[1]]);
  checkSums(dir);
});
