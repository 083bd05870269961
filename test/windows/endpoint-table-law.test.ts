// The law of node totals, over random lives of endpoints: what was added up is the sum of what grew, and it never falls.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { countsOf } from "../../src/replay-counts.ts";
import type { EndpointReading, SwitchCounters, SwitchSource } from "../../windows/counters.ts";
import { createEndpointTable } from "../../windows/endpoint-table.ts";

const ids = ["1", "2", "3", "4", "5"] as const;

/** What happens to one endpoint between two readings. */
const step = fc.record({
  present: fc.boolean(),
  /** Not read this time, though it is there. */
  unread: fc.boolean(),
  grows: fc.oneof(
    fc.constant(0n),
    fc.bigInt({ min: 0n, max: 1000n }),
    fc.bigInt({ min: 0n, max: 2n ** 58n }),
  ),
  /** In thousandths of what it has counted: it begins anew, and has come so far since. */
  anew: fc.option(fc.bigInt({ min: 0n, max: 999n }), { freq: 4 }),
  source: fc.constantFrom<SwitchSource | undefined>(undefined, "hns", "vfpctrl", "vfpctrl", "vfpctrl-text"),
});
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

const lives = fc.record({
  begin: fc.array(fc.bigInt({ min: 0n, max: 2n ** 62n }), { minLength: ids.length, maxLength: ids.length }),
  readings: fc.array(fc.array(step, { minLength: ids.length, maxLength: ids.length }), { minLength: 1 }),
});

/** One endpoint of the machine: what it counts, and what of that nobody could have told from what was read. */
function createMachineEndpoint(begin: bigint) {
  let count = begin;
  let seen: bigint | undefined;
  let wasUnread = false;
  let resets = 0;
  let own = 0n;
  let ofSwitch = 0n;
  let switchSeen: { readonly source: SwitchSource; readonly count: bigint } | undefined;
  let old = false;
  return {
    get count() {
      return count;
    },
    get resets() {
      return resets;
    },
    /** What the totals must have of it. */
    get sums() {
      return { own, ofSwitch };
    },
    move({ grows, anew }: Step): void {
      if (anew === null) count += grows;
      else count = (count * anew) / 1000n;
    },
    skip(unread: boolean): void {
      wasUnread = unread;
    },
    read(source: SwitchSource | undefined, first: boolean): void {
      if (seen === undefined) {
        old = first || wasUnread;
        own += old ? 0n : count;
      } else own += count < seen ? count : count - seen;
      let fell = seen !== undefined && count < seen;
      if (source !== undefined) {
        if (switchSeen?.source === source) {
          fell ||= count < switchSeen.count;
          ofSwitch += count < switchSeen.count ? count : count - switchSeen.count;
        } else if (switchSeen === undefined && !old) ofSwitch += count;
        switchSeen = { source, count };
      }
      seen = count;
      wasUnread = false;
      if (fell) resets += 1;
    },
  };
}

const readingOf = (id: string, count: bigint): EndpointReading => ({
  ...{ id, name: id, address: `10.0.0.${id}`, network: "azure" },
  forward: { ingress: { packets: count, bytes: count }, egress: { packets: count, bytes: count } },
  drops: [{ reason: "endpoint", direction: "ingress", packets: count }],
});

const switchOf = (source: SwitchSource, count: bigint): SwitchCounters => ({
  source,
  drops: [{ reason: "aclrule", direction: "egress", packets: count }],
  tcpFlags: [{ direction: "ingress", flag: "RST", packets: count }],
  tcpStatistics: [{ direction: "ingress", statistic: "ResetCount", count }],
});

test("node totals are what grew, and never fall", () => {
  fc.assert(
    fc.property(lives, ({ begin, readings }) => {
      const table = createEndpointTable({ endpointsMax: ids.length });
      const machine = ids.map((id, index) => ({ id, endpoint: createMachineEndpoint(begin[index] ?? 0n) }));
      let before: ReadonlyMap<string, number> = new Map();
      for (const [tick, steps] of readings.entries()) {
        const endpoints: EndpointReading[] = [];
        const unread: string[] = [];
        const switches = new Map<string, SwitchCounters>();
        for (const [index, { id, endpoint }] of machine.entries()) {
          const happens = steps[index];
          if (happens === undefined) throw new Error("no step");
          endpoint.move(happens);
          if (!happens.present || happens.unread) {
            if (happens.present) unread.push(id);
            endpoint.skip(happens.present);
            continue;
          }
          endpoint.read(happens.source, tick === 0);
          const counters =
            happens.source === undefined ? undefined : switchOf(happens.source, endpoint.count);
          if (counters !== undefined && counters.source !== "hns") switches.set(id, counters);
          endpoints.push({
            ...readingOf(id, endpoint.count),
            ...(counters?.source === "hns" ? { switch: counters } : {}),
          });
        }
        const sections = table.take(
          { endpoints, unread, remote: 0, overflow: 0, failures: [], limits: [] },
          switches,
        );
        const sum = (of: "own" | "ofSwitch"): number =>
          Number(machine.reduce((all, { endpoint }) => all + endpoint.sums[of], 0n));
        const { totals, drops, switchTcpStatistics } = sections;
        const own = sum("own");
        expect(totals.forward).toEqual({
          ingress: { packets: own, bytes: own },
          egress: { packets: own, bytes: own },
        });
        const dropped = (wanted: string) => drops.find(({ reason }) => reason === wanted)?.packets ?? 0;
        const ofSwitch = sum("ofSwitch");
        expect([dropped("endpoint"), dropped("aclrule")]).toEqual([own, ofSwitch]);
        expect(totals.tcpFlags[0]?.packets ?? 0).toBe(ofSwitch);
        expect(switchTcpStatistics?.["ResetCount"] ?? 0).toBe(ofSwitch);
        expect(sections.endpointUse.resets).toBe(
          machine.reduce((all, { endpoint }) => all + endpoint.resets, 0),
        );
        const counts = countsOf({ totals, drops, ...(switchTcpStatistics && { switchTcpStatistics }) });
        for (const [place, count] of before) expect(counts.get(place) ?? -1).toBeGreaterThanOrEqual(count);
        before = counts;
      }
    }),
    { numRuns: 300 },
  );
});
