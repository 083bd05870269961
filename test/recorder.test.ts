// What a recorder writes down plays as it was given, within its bounds, and never hinders what is recorded.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openRecorder } from "../src/recorder.ts";
import { openReplay } from "../src/replay.ts";
import type { Backend, Snapshot } from "../src/snapshot.ts";
import { flow } from "./api.parts.ts";
import { createFakeLog } from "./drain.rig.ts";

const directory = mkdtempSync(join(tmpdir(), "fovea-recorder-"));
afterAll(() => rmSync(directory, { recursive: true }));

const signal = new AbortController().signal;
const ticks: readonly Readonly<Record<"now" | "later", Snapshot>>[] = [1, 2, 3].map((tick) => ({
  now: { udpActiveSockets: tick, flows: [{ ...flow, startAt: 1000 * tick, endAt: 1000 * tick + 5 }] },
  later: { attached: [`eth${tick}`] },
}));

/** Still there at the end. */
const live = { ...flow, startAt: 3100, endAt: 3200, evictReason: "shutdown" as const };

/** One collector answers at once, the other one later, and fails in the second tick. */
function backend(): Backend & { closed: boolean } {
  let tick = 0;
  const open = {
    closed: false,
    collectors: [
      { name: "now", collect: () => ticks[tick]?.now ?? {} },
      {
        name: "later",
        collect: async () => {
          tick += 1;
          await Bun.sleep(1);
          if (tick === 2) throw new Error("not this time");
          return ticks[tick - 1]?.later ?? {};
        },
      },
    ],
    drain: (): Snapshot => ({ flows: [live] }),
    [Symbol.asyncDispose]: () => {
      open.closed = true;
      return Promise.resolve();
    },
  };
  return open;
}

async function recorded(file: string, bytesMax?: number) {
  const { log, told } = createFakeLog();
  let at = 100_000;
  const inner = backend();
  using recorder = openRecorder({
    file,
    now: () => at,
    log,
    ...(bytesMax === undefined ? {} : { bytesMax }),
  });
  await using outer = recorder.record(inner);
  const given: unknown[] = [];
  for (const _ of ticks) {
    at += 1000;
    for (const { collect } of outer.collectors)
      given.push(await Promise.try(() => collect(signal)).catch((error: Error) => error.message));
  }
  expect(outer.drain?.()).toEqual({ flows: [live] });
  return { given, told, inner };
}

test("it gives what the backend gives, and what it wrote down plays so", async () => {
  const file = join(directory, "whole.ndjson");
  const { given, told, inner } = await recorded(file);
  expect(given).toEqual(ticks.flatMap(({ now, later }, at) => [now, at === 1 ? "not this time" : later]));
  expect([told, inner.closed]).toEqual([[], true]);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  let at = 500_000;
  const { collectors } = openReplay({ file, loop: false, now: () => at });
  expect(collectors.map(({ name }) => name)).toEqual(["now", "later"]);
  for (const [index, { now, later }] of ticks.entries()) {
    at += 1000;
    const [first, second] = collectors;
    const flows = [...(now.flows ?? []), ...(index === 2 ? [live] : [])].map((one) => ({
      ...one,
      startAt: one.startAt + 400_000,
      endAt: one.endAt + 400_000,
    }));
    expect(first?.collect(signal)).toEqual({ ...now, flows });
    if (index === 1) expect(() => second?.collect(signal)).toThrow("it failed when this was recorded");
    else expect(second?.collect(signal)).toEqual(later);
  }
});

test("a full recording ends with its last whole tick, is told, and hinders nothing", async () => {
  const file = join(directory, "full.ndjson");
  const { given, told } = await recorded(file, 700);
  expect(given).toHaveLength(6);
  expect(told).toEqual([
    expect.objectContaining({ message: expect.stringContaining("the recording is full") }),
  ]);
  expect(statSync(file).size).toBeLessThanOrEqual(700);
  const { collectors } = openReplay({ file, loop: false, now: () => 0 });
  expect(collectors).toHaveLength(2);
});

test("a file that is there is not written over", () => {
  const file = join(directory, "there.ndjson");
  writeFileSync(file, "mine");
  expect(() => openRecorder({ file, now: () => 0, log: createFakeLog().log })).toThrow("EEXIST");
});
