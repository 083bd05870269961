// Rollups when the process is killed: what has a row is counted again, the rest is counted as lost.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import type { FlowRecord } from "../src/flow.ts";
import {
  at,
  type Changes,
  type Clock,
  crashed,
  expectCounts,
  freshDir,
  minute,
  openRollups,
  removeDirs,
  second,
  sumsOf,
  totalOf,
} from "./rollups.parts.ts";
import { expectLaws } from "./store.contract.ts";
import { flow, flows, startAt } from "./store.flows.ts";

setDefaultTimeout(60_000);
afterAll(removeDirs);

describe("a crash", () => {
  /** Kept records are TCP and UDP, unkept ones GRE: what can be counted again, and what cannot. */
  const record = fc
    .tuple(fc.nat(3 * 60), fc.nat(40), fc.boolean())
    .map(([agoS, number, kept]) => ({ agoS, number, kept }));
  const action = fc.oneof(
    { weight: 6, arbitrary: fc.record({ records: fc.array(record, { maxLength: 90 }) }) },
    { weight: 6, arbitrary: fc.record({ passS: fc.nat(100) }) },
    { weight: 1, arbitrary: fc.record({ passS: fc.constantFrom(3600, 7200, 86_400) }) },
    { weight: 1, arbitrary: fc.record({ stepS: fc.constantFrom(-3600, 86_400, -86_400, -30, 30) }) },
    { weight: 2, arbitrary: fc.constant("kill" as const) },
    { weight: 1, arbitrary: fc.constant("restart" as const) },
  );

  test("loses no row's record, counts the others as lost, and nothing twice", () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
        const clock: Clock = { at: startAt };
        const changes: Changes = { bytesMax: 1024 * 1024, keysMax: 10, ageMaxMs: 1e12 };
        let world = openRollups({ clock }, changes);
        const kept: FlowRecord[] = [];
        let unkept = 0;
        const check = () => {
          const { total } = world.ask({ by: "verdict" });
          const gre = world.ask({ by: "verdict", protocol: 47 }).total.records;
          const { lost } = world.rollups.facts();
          expect(gre).toBe(unkept - lost);
          expect(total.records - gre).toBe(kept.length);
          expect(world.ask({ by: "verdict", protocol: 6 }).total).toEqual(sumsOf(kept));
          expectCounts(world);
        };
        for (const step of actions) {
          if (step === "kill") {
            const dir = crashed(world.dir);
            world.store.close();
            world = openRollups({ dir, clock }, changes);
          } else if (step === "restart") {
            world.store.close();
            world = openRollups({ dir: world.dir, clock }, changes);
          } else if ("passS" in step)
            world.pass(step.passS * second, step.passS > 1000 ? 5 * minute : 7 * second);
          else if ("stepS" in step) clock.at += step.stepS * second;
          else {
            const made = step.records.map(({ agoS, number, kept: keep }) => {
              const endAt = Math.max(0, clock.at - agoS * second);
              return flow(number, { endAt, startAt: endAt, protocol: keep ? 6 : 47, packets: number });
            });
            const rows = made.filter(({ protocol }) => protocol === 6);
            world.append(
              rows,
              made.filter(({ protocol }) => protocol === 47),
            );
            kept.push(...rows);
            unkept += made.length - rows.length;
          }
          check();
        }
        expectLaws(world.store);
        world.store.close();
        rmSync(world.dir, { recursive: true });
      }),
      { numRuns: 60 },
    );
  });

  /** Appends without end, with evictions, at a clock that runs; kept records are TCP, unkept ones GRE. */
  const child = (dir: string, clockAt: number): string => `
    import { openRollups } from "${join(import.meta.dir, "rollups.parts.ts")}";
    import { flow } from "${join(import.meta.dir, "store.flows.ts")}";
    const clock = { at: ${clockAt} };
    const world = openRollups({ dir: ${JSON.stringify(dir)}, clock }, { bytesMax: 4 * 1024 * 1024, keysMax: 50 });
    for (let batch = 0; ; batch++) {
      const made = Array.from({ length: (batch * 337) % 1500 }, (_, index) => {
        const endAt = clock.at - (index % 25) * 1000;
        return flow(batch + index, { endAt, startAt: endAt, protocol: index % 5 === 0 ? 47 : 6, packets: 3 });
      });
      const of = (protocol) => made.filter((record) => record.protocol === protocol);
      world.append(of(6), of(47));
      clock.at += 7000;
      process.stdout.write(clock.at + "\\n");
    }`;

  test("by a kill, at any point of a write", async () => {
    const dir = freshDir();
    const clock = { at: startAt };
    for (let round = 0; round < 8; round++) {
      const process_ = Bun.spawn([process.execPath, "-e", child(dir, clock.at)], {
        stdout: "pipe",
        stderr: "inherit",
      });
      let text = "";
      for await (const bytes of process_.stdout) {
        text += new TextDecoder().decode(bytes);
        if (text.split("\n").length <= 5 + round * 4 || process_.killed) continue;
        for (let spin = round * 200_000; spin > 0; spin--); // The kill falls anywhere in the next append.
        process_.kill("SIGKILL");
      }
      await process_.exited;
      expect(process_.signalCode).toBe("SIGKILL");
      clock.at = Number(text.split("\n").at(-2));
      const world = openRollups({ dir, clock }, { bytesMax: 4 * 1024 * 1024, keysMax: 50 });
      using _ = world.store;
      const { offered, lost } = world.rollups.facts();
      expect(world.store.stats().recoveries).toEqual([]);
      expect(totalOf(world).records).toBe(offered - lost);
      expect(world.ask({ by: "verdict", protocol: 6 }).total.records).toBe(
        world.store.ledger()["rows.kept"]!,
      );
      world.append([]);
      expectCounts(world);
    }
  });

  test("in the midst of a minute that takes several writes leaves nothing of it", () => {
    const world = openRollups({}, { bytesMax: 1024 * 1024, keysMax: 100 });
    using _ = world.store;
    const records = Array.from({ length: 12 }, (_row, index) =>
      at(startAt - index * minute, flows(60, index)),
    ).flat();
    world.append(records);
    const rows = new Set<number>();
    for (let step = 0; step < 20; step++) {
      world.clock.at += 30 * second;
      world.append([]);
      const again = openRollups({ dir: crashed(world.dir), clock: { at: world.clock.at } });
      using _again = again.store;
      const [[count] = []] = again.sql("SELECT count(*) FROM rollup_minutes") as number[][];
      rows.add(count!);
      expect(totalOf(again)).toEqual(sumsOf(records));
      again.pass(30 * second);
      expect(totalOf(again)).toEqual(sumsOf(records));
      again.pass(5 * minute);
      expectCounts(again);
      expect(again.rollups.facts()).toMatchObject({ written: records.length, lost: 0, pending: 0 });
    }
    expect(rows.size).toBeGreaterThan(2);
  });
});
