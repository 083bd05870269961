// Sinks and their drains on Windows: all that holds elsewhere, and drives with letters.

import "./remove-trees.ts";
import "../azure-logs.test.ts";
import "../divert.test.ts";
import "../drain-lanes.test.ts";
import "../drain.test.ts";
import "../file-sink-crash.test.ts";
import "../file-sink.test.ts";
import "../forwarder.test.ts";
import "../loki-sink.test.ts";
import "../remote-write-sink.test.ts";
import "../sink-states.test.ts";
import "../sink-token.test.ts";
import { afterAll, expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sinkSchema } from "../../src/sinks/schema.ts";
import * as world from "../file-sink.world.ts";
import { holdOpen } from "./held-file.ts";

const { filesIn, flowsParcel, freshDir, openSink, seqsIn, wholeIn } = world;

afterAll(world.removeDirs);

const stored = { kind: "stored", code: "ok" } as const;
const again = { kind: "again", code: "disk", reason: "disk" } as const;

test("a drive that is not there is waited for by its letter", async () => {
  const directory = "Q:\\carried";
  expect(sinkSchema.parse({ name: "disk", type: "file", directory })).toMatchObject({ directory });
  await using rig = openSink(directory);
  const message = expect.stringContaining(`${directory} is not there: plug in its disk`);
  expect(await rig.send(flowsParcel(1))).toEqual({ ...again, message });
});

test("a leftover that another program has open is no damaged one: it is waited for", async () => {
  const dir = freshDir();
  const name = "flows-edge-1-20260102T030405Z-1.ndjson.gz";
  writeFileSync(join(dir, `${name}.part`), flowsParcel(1, 3).body);
  await using rig = openSink(dir);
  {
    using _other = holdOpen(join(dir, `${name}.part`));
    expect(await rig.send(flowsParcel(4))).toMatchObject(again);
    expect(filesIn(dir)).toContain(`${name}.part`);
  }
  expect(await rig.send(flowsParcel(4))).toEqual(stored);
  expect(seqsIn(dir, name)).toEqual([1, 2, 3]);
  expect(rig.sink.facts().files).toMatchObject({ leftovers: 1, damaged: 0 });
});

test("a complete file that is being copied away is removed later, and stops nothing for good", async () => {
  const dir = freshDir();
  await using rig = openSink(dir, { fileBytesMax: "64KiB", totalMax: "1MiB", compress: false });
  const parcel = flowsParcel(1, 200, { compress: false });
  await rig.send(parcel);
  while (wholeIn(dir).length === 0) await Bun.sleep(5);
  const first = join(dir, wholeIn(dir)[0] ?? "");
  {
    using _copying = holdOpen(first);
    for (let sent = 1; sent < 30; sent++) await rig.send(parcel);
    expect(existsSync(first)).toBe(true);
  }
  expect(await rig.send(parcel)).toEqual(stored);
  while (existsSync(first)) await Bun.sleep(5);
});
