// The flow log on Windows: all that holds elsewhere, and what other programs do to files there.

import "./remove-trees.ts";
import "../flow-log.test.ts";
import "../flow-log-law.test.ts";
import "../flow-log-rotation.test.ts";
import { expect, test } from "bun:test";
import { renameSync } from "node:fs";
import { everything, lineBytes, open, rotated, text } from "../flow-log.world.ts";
import { flows } from "../store.flows.ts";
import { holdOpen } from "./held-file.ts";

/** Takes five lines, and not ten. */
const bytesMax = 7 * lineBytes;

test("a reader that forbids to rename the file costs no line: it is copied, and emptied in its place", async () => {
  await using world = open({ bytesMax });
  world.write(...flows(5));
  {
    using _reader = holdOpen(world.file);
    expect(() => renameSync(world.file, `${world.file}.1`)).toThrow("EBUSY");
    world.write(...flows(5, 5));
    expect(world.log.facts()).toMatchObject({ lines: 10, rotations: 1, failing: false });
  }
  expect(rotated(world.dir)).toHaveLength(1);
  expect(everything(world.dir)).toBe(text(flows(10)));
  world.write(...flows(5, 10));
  expect(rotated(world.dir)).toHaveLength(2);
  expect(everything(world.dir)).toBe(text(flows(15)));
  expect(world.told).toEqual([]);
});

test("a reader that lets nobody else read loses what does not fit, is told, and got over", async () => {
  await using world = open({ bytesMax });
  world.write(...flows(5));
  await world.log[Symbol.asyncDispose](); // Its file is to be opened anew.
  await using other = open({ bytesMax, dir: world.dir });
  {
    using _reader = holdOpen(world.file, { share: "nothing" });
    other.write(...flows(5, 5));
    expect(other.log.facts()).toMatchObject({ lines: 0, failing: true });
    expect(other.told).toHaveLength(1);
  }
  other.write(...flows(5, 10));
  expect(other.told[1]).toBe("recovered after 5");
  expect(everything(world.dir)).toBe(text(flows(5)) + text(flows(5, 10)));
});
