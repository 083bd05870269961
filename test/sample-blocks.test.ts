// Retention of samples: by age and by size, with the series that nothing has any more.

import { afterAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { SampleStep } from "../src/store/sample-pending.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import { createRecording } from "./samples.recording.ts";
import {
  always,
  answered,
  expected,
  leftovers,
  mib,
  openWorld,
  removeDirs,
  sample,
  settle,
  startAt,
  stepMs,
  tableCount,
  values,
} from "./samples.world.ts";

afterAll(removeDirs);

describe("retention", () => {
  /** Pods that come and go: ten series that stay, ten of a pod that lives for a hundred steps, one that comes back. */
  const churn = (number: number) => ({
    at: startAt + number * stepMs,
    series: [
      ...(Math.floor(number / 130) % 3 === 0 ? [sample("m_again", number)] : []),
      ...Array.from({ length: 20 }, (_, index) =>
        sample("m", number * index, {
          i: String(index),
          pod: index < 10 ? "stays" : `pod-${Math.floor(number / 100)}`,
        }),
      ),
    ],
  });

  test("takes what is too old, oldest first, and the series that nothing has any more", () => {
    const ageMaxMs = 400 * stepMs;
    let world = openWorld({ ageMaxMs, seriesMax: 120 });
    const steps: SampleStep[] = [];
    for (let number = 0; number < 2000; number += 1) {
      const step = churn(number);
      steps.push(step);
      world.samples.add(step);
      world.store.append({ rows: [], at: step.at });
      expect(world.samples.facts().lost).toEqual([]);
      if (number % 100 === 99) {
        const held = { fromAt: world.samples.facts().oldestAt ?? 0, toAt: step.at + 1 };
        expect(answered(world.dir, held)["m_again{}"]).toEqual(expected(steps, held)["m_again{}"]);
      }
      if (number !== 1100) continue;
      world.store.close(); // What blocks hold a series must then be looked up.
      world = openWorld({ ageMaxMs, seriesMax: 120 }, world.dir);
    }
    const at = steps.at(-1)?.at ?? 0;
    settle(world, at);
    const { samples, evicted, oldestAt = 0, series } = world.samples.facts();
    expect(evicted.map(({ reason }) => reason)).toEqual(["age"]);
    const kept = steps.filter((step) => step.at >= oldestAt);
    expect(samples).toBe(kept.reduce((sum, step) => sum + [...step.series].length, 0));
    expect(at - oldestAt).toBeGreaterThanOrEqual(ageMaxMs);
    expect(at - oldestAt).toBeLessThan(ageMaxMs + 121 * stepMs);
    expect(answered(world.dir, always)).toEqual(expected(kept, always));
    expect(series).toBeLessThan(10 + 10 * 8);
    expect(tableCount(world.dir, "SELECT count(*) FROM series")).toBe(series);
    world.store.close();
  }, 60_000);

  test("takes the chunks of a block that was being removed when the power was cut", () => {
    const world = openWorld();
    for (let number = 0; number < 250; number += 1) {
      const { at, series } = churn(number);
      world.samples.add({ at, series });
      world.store.append({ rows: [], at });
    }
    settle(world, startAt);
    world.store.close();
    const database = openDatabase({ path: join(world.dir, "fovea.db") });
    database.exec("DELETE FROM sample_blocks WHERE id = (SELECT min(id) FROM sample_blocks)");
    database.close();
    expect(leftovers(world.dir)).toBeGreaterThan(0);
    const again = openWorld({}, world.dir);
    settle(again, startAt);
    expect(leftovers(world.dir)).toBe(0);
    expect(again.samples.facts()).toMatchObject({ samples: 130 * 20 + 10, evicted: [], lost: [] });
    again.store.close();
  });

  test("takes nothing alone that a clock ahead has written", () => {
    const world = openWorld({ ageMaxMs: 10 * stepMs });
    const day = 86_400_000;
    const times = [startAt + day, startAt + 2, startAt + 1, startAt + 1000 * stepMs];
    for (const [number, at] of times.entries()) {
      world.samples.add({ at, series: [sample("m", number)] });
      settle(world, at);
      if (number === 1) expect(values(answered(world.dir, always)["m{}"])).toEqual([0, 1]);
    }
    expect(values(answered(world.dir, always)["m{}"])).toEqual([2, 3]); // These two are in one block.
    world.store.close();
  });

  test.each([
    [1, 900],
    [4, 1500],
  ])(
    "keeps to an eighth of a file of %d MiB",
    (size, steps) => {
      const world = openWorld({ bytesMax: size * mib, seriesMax: 20_000 });
      const recording = createRecording({ interfaces: 5 });
      let offered = 0;
      for (let number = 0; number < steps; number += 1) {
        const { at, series } = recording.step();
        offered += series.length;
        world.samples.add({ at, series });
        for (let call = 0; call < 3; call += 1) world.store.append({ rows: [], at });
      }
      const { samples, evicted, lost, pendingSteps } = world.samples.facts();
      const sum = (counts: readonly { samples: number }[]) =>
        counts.reduce((all, one) => all + one.samples, 0);
      expect(pendingSteps).toBe(0);
      expect(samples + sum(evicted) + sum(lost)).toBe(offered);
      expect(evicted.map(({ reason }) => reason)).toEqual(["size"]);
      expect(lost.map(({ reason }) => reason)).toEqual(size === 1 ? ["series_limit"] : []);
      const inFile = tableCount(
        world.dir,
        "SELECT sum(pgsize) FROM dbstat WHERE name GLOB 'sample_*' OR name GLOB '*series*'",
      );
      expect(inFile).toBeLessThanOrEqual((size * mib) / 8);
      expect(world.store.stats()).toMatchObject({ mode: "disk", errors: {} });
      world.store.close();
    },
    60_000,
  );
});
