// What throttled intervals leave behind: summaries that leave no count out.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { FlowRecord } from "../src/flow.ts";
import {
  createSummaries,
  otherProtocol,
  protocolsMax,
  type ThrottleSummary,
} from "../src/throttle-summary.ts";
import { anyFlow, flow } from "./store.flows.ts";
import { anySettings, plain, rig } from "./throttle.rig.ts";

const sum = (summaries: readonly ThrottleSummary[], key: "rows" | "packets" | "bytes"): number =>
  summaries.reduce((total, summary) => total + summary[key], 0);

describe("summaries", () => {
  const smallFlow = fc
    .tuple(anyFlow, fc.nat(255), fc.nat(1e6), fc.nat(1e9))
    .map(([record, protocol, packets, bytes]): FlowRecord => ({ ...record, protocol, packets, bytes }));
  const load = fc.array(fc.tuple(fc.nat(3000), fc.array(smallFlow, { maxLength: 40 })), { maxLength: 20 });

  test("sum up exactly what was throttled: offered is kept and throttled", () => {
    fc.assert(
      fc.property(anySettings, fc.option(anySettings), load, fc.nat(20), (given, changed, steps, at) => {
        const { throttle, clock } = rig(given);
        const lost: FlowRecord[] = [];
        const taken: ThrottleSummary[] = [];
        let [offered, kept] = [0, 0];
        for (const [index, [passedMs, records]] of steps.entries()) {
          clock.ms += passedMs;
          if (index === at && changed !== null) throttle.apply(changed);
          offered += records.length;
          for (const record of records) {
            if (throttle.admit(record) === undefined) kept++;
            else lost.push(record);
          }
          if (index % 3 === 0) taken.push(...throttle.takeSummaries({ now: index % 2 === 0 }));
        }
        taken.push(...throttle.takeSummaries({ now: true }));
        expect(throttle.takeSummaries({ now: true })).toEqual([]);
        expect(kept + sum(taken, "rows")).toBe(offered);
        for (const key of ["packets", "bytes"] as const)
          expect(sum(taken, key)).toBe(lost.reduce((total, record) => total + record[key], 0));
        for (const summary of taken) {
          for (const key of ["rows", "packets", "bytes"] as const)
            expect(summary.by.reduce((total, group) => total + group[key], 0)).toBe(summary[key]);
          expect(new Set(summary.by.map(({ protocol }) => protocol)).size).toBeLessThanOrEqual(
            protocolsMax + 1,
          );
        }
      }),
    );
  });

  test("tell verdict, direction and protocol apart", () => {
    const { throttle, clock, offer } = rig({ rate: 1, window: 1, reserve: 0 });
    offer(1);
    const tcp = flow(0, { protocol: 6, verdict: "forwarded", direction: "egress", packets: 2, bytes: 100 });
    offer(2, tcp);
    offer(1, { ...tcp, direction: "ingress" });
    offer(1, { ...tcp, verdict: "dropped" });
    offer(1, { ...tcp, protocol: 17 });
    clock.ms += 1000;
    const [summary] = throttle.takeSummaries();
    const of = { rows: 1, packets: 2, bytes: 100 };
    expect(summary).toMatchObject({ rows: 5, packets: 10, bytes: 500 });
    expect(summary!.by).toHaveLength(4);
    expect(summary!.by).toEqual(
      expect.arrayContaining([
        { verdict: "forwarded", direction: "egress", protocol: 6, rows: 2, packets: 4, bytes: 200 },
        { verdict: "forwarded", direction: "ingress", protocol: 6, ...of },
        { verdict: "dropped", direction: "egress", protocol: 6, ...of },
        { verdict: "forwarded", direction: "egress", protocol: 17, ...of },
      ]),
    );
  });

  test(`tell ${protocolsMax} protocols apart, and put the others together`, () => {
    const { throttle, offer } = rig({ rate: 1, window: 1 });
    offer(1);
    for (let protocol = 0; protocol < 256; protocol++) offer(1, { ...plain, protocol });
    const [summary] = throttle.takeSummaries({ now: true });
    const rowsOf = new Map(summary!.by.map(({ protocol, rows }) => [protocol, rows]));
    expect(rowsOf.size).toBe(protocolsMax + 1);
    expect(rowsOf.get(0)).toBe(1);
    expect(rowsOf.get(otherProtocol)).toBe(256 - protocolsMax);
  });

  test("are left by intervals with a throttled row alone, each once", () => {
    const { throttle, clock, offer } = rig({ rate: 1, window: 1 });
    offer(1);
    clock.ms += 1000;
    offer(2);
    expect(throttle.takeSummaries()).toEqual([]); // The interval goes on.
    clock.ms += 10_000;
    expect(throttle.takeSummaries()).toHaveLength(1);
    clock.ms += 10_000;
    expect(throttle.takeSummaries({ now: true })).toEqual([]);
  });

  test("of an interval that goes on leave what comes later to a further one", () => {
    const { throttle, offer } = rig({ rate: 1, window: 1 });
    offer(3);
    const first = throttle.takeSummaries({ now: true });
    offer(5);
    const second = throttle.takeSummaries({ now: true });
    expect([...first, ...second].map(({ rows }) => rows)).toEqual([2, 5]);
    expect(first[0]!.startAt).toBe(second[0]!.startAt);
  });

  test("that nobody takes become one, oldest first, and no count is lost", () => {
    const summaries = createSummaries({ max: 3 });
    const one = (startAt: number, protocol: number): ThrottleSummary => ({
      ...{ startAt, endAt: startAt + 10, rows: 1, packets: 2, bytes: 3 },
      by: [{ verdict: "dropped", direction: "egress", protocol, rows: 1, packets: 2, bytes: 3 }],
    });
    for (let index = 0; index < 100; index++) summaries.add(one(index * 10, index % 40));
    const taken = summaries.take();
    expect(taken).toHaveLength(3);
    expect(taken[0]).toMatchObject({ startAt: 0, endAt: 980, rows: 98, packets: 196, bytes: 294 });
    expect(taken[0]!.by.length).toBeLessThanOrEqual(protocolsMax + 1);
    expect(taken.slice(1)).toEqual([one(980, 98 % 40), one(990, 99 % 40)]);
    expect(summaries.take()).toEqual([]);
  });
});
