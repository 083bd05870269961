// Readings of endpoints added up: what is new is counted once, what falls begins anew, and nothing ever falls.

import { describe, expect, test } from "bun:test";
import type { EndpointReading, SwitchCounters, SwitchSource } from "../../windows/counters.ts";
import { createEndpointTable, type EndpointSections } from "../../windows/endpoint-table.ts";
import type { HnsReading } from "../../windows/hns-reading.ts";

type Changes = Partial<Omit<EndpointReading, "id">>;

/** All of its counts are multiples of one. */
const endpoint = (id: string, count: bigint | number, changes: Changes = {}): EndpointReading => {
  const n = BigInt(count);
  return {
    ...{ id, name: `name-${id}`, address: `10.0.0.${id}`, network: "azure" },
    forward: { ingress: { packets: n, bytes: 100n * n }, egress: { packets: 2n * n, bytes: 200n * n } },
    drops: [
      { reason: "endpoint", direction: "ingress", packets: 3n * n },
      { reason: "endpoint", direction: "egress", packets: 4n * n },
    ],
    ...changes,
  };
};

const counters = (source: SwitchSource, count: bigint | number): SwitchCounters => {
  const n = BigInt(count);
  return {
    source,
    drops: [{ reason: "aclrule", direction: "ingress", packets: 5n * n }],
    tcpFlags: [{ direction: "egress", flag: "SYN", packets: 6n * n }],
    tcpStatistics: [
      { direction: "ingress", statistic: "ResetCount", count: 7n * n },
      { direction: "egress", statistic: "ResetCount", count: 1000n * n },
    ],
  };
};

const reading = (endpoints: readonly EndpointReading[], changes: Partial<HnsReading> = {}): HnsReading => ({
  ...{ endpoints, remote: 0, overflow: 0, failures: [], limits: [] },
  ...changes,
});

const none: ReadonlyMap<string, SwitchCounters> = new Map();

const table = () => createEndpointTable({ endpointsMax: 3 });

const packets = ({ totals }: EndpointSections): number => totals.forward.ingress.packets;

describe("the first reading", () => {
  test("is where the totals begin", () => {
    const { totals, drops, switchTcpStatistics } = table().take(
      reading([endpoint("1", 50, { switch: counters("hns", 50) })]),
      none,
    );
    expect(totals).toEqual({
      uplinks: [],
      forward: { ingress: { packets: 0, bytes: 0 }, egress: { packets: 0, bytes: 0 } },
      tcpFlags: [{ direction: "egress", flag: "SYN", packets: 0 }],
    });
    expect(drops).toEqual([
      { reason: "endpoint", direction: "ingress", packets: 0 },
      { reason: "endpoint", direction: "egress", packets: 0 },
      { reason: "aclrule", direction: "ingress", packets: 0 },
    ]);
    expect(switchTcpStatistics).toEqual({ ResetCount: 0 });
  });

  test("has no switch where nothing tells of it", () => {
    const sections = table().take(reading([endpoint("1", 50)]), none);
    expect(Object.keys(sections)).not.toContain("switchTcpStatistics");
    expect(sections.totals.tcpFlags).toEqual([]);
  });

  test("may be of nothing", () => {
    const { endpoints, endpointUse, drops } = table().take(reading([]), none);
    expect({ endpoints, drops }).toEqual({ endpoints: [], drops: [] });
    expect(endpointUse.local).toBe(0);
  });
});

describe("totals", () => {
  test("are the sums over endpoints, of HNS and of the switch", () => {
    const { take } = table();
    take(reading([endpoint("1", 50), endpoint("2", 70)]), new Map([["1", counters("vfpctrl", 10)]]));
    const { totals, drops, switchTcpStatistics } = take(
      reading([endpoint("1", 51), endpoint("2", 72)]),
      new Map([
        ["1", counters("vfpctrl", 14)],
        ["unknown", counters("vfpctrl", 1e6)],
      ]),
    );
    expect(totals.forward).toEqual({
      ingress: { packets: 3, bytes: 300 },
      egress: { packets: 6, bytes: 600 },
    });
    expect(totals.tcpFlags).toEqual([{ direction: "egress", flag: "SYN", packets: 24 }]);
    expect(drops).toEqual([
      { reason: "endpoint", direction: "ingress", packets: 9 },
      { reason: "endpoint", direction: "egress", packets: 12 },
      { reason: "aclrule", direction: "ingress", packets: 20 },
    ]);
    expect(switchTcpStatistics).toEqual({ ResetCount: 28 });
  });

  test("have all of an endpoint that came later", () => {
    const { take } = table();
    take(reading([endpoint("1", 50)]), none);
    expect(packets(take(reading([endpoint("1", 50), endpoint("2", 8)]), none))).toBe(8);
    const late = new Map([["2", counters("vfpctrl", 2)]]);
    expect(
      take(reading([endpoint("1", 50), endpoint("2", 9)]), late).totals.tcpFlags.map((flag) => flag.packets),
    ).toEqual([12]);
  });

  test("have nothing of the past of one that was there, but not read", () => {
    const { take } = table();
    take(reading([endpoint("1", 50)], { unread: ["2", "3"] }), none);
    take(reading([endpoint("1", 50), endpoint("2", 1000)], { unread: ["3"] }), none);
    const sections = take(
      reading([endpoint("1", 50), endpoint("2", 1001), endpoint("3", 1000), endpoint("4", 5)]),
      none,
    );
    expect(packets(sections)).toBe(1 + 5);
  });

  test("have the whole new count after a reset, which counts once", () => {
    const { take } = table();
    take(reading([endpoint("1", 50, { switch: counters("hns", 50) })]), none);
    take(reading([endpoint("1", 60, { switch: counters("hns", 60) })]), none);
    const { totals, endpointUse } = take(reading([endpoint("1", 4, { switch: counters("hns", 4) })]), none);
    expect(totals.forward.ingress).toEqual({ packets: 14, bytes: 1400 });
    expect(totals.tcpFlags[0]?.packets).toBe(6 * 14);
    expect(endpointUse.resets).toBe(1);
  });

  test("take one counter that began anew for all of its source, though others have passed their last value", () => {
    const { take } = table();
    const counted = (drops: bigint, ingress: bigint, ofSwitch: number) =>
      reading([
        endpoint("1", 0, {
          forward: { ...zero, ingress: at(ingress) },
          drops: [{ reason: "endpoint", direction: "ingress", packets: drops }],
          switch: counters("hns", ofSwitch),
        }),
      ]);
    take(counted(3n, 2001n, 100), none);
    const { totals, drops, endpointUse, endpoints } = take(counted(5n, 10n, 101), none);
    expect(totals.forward.ingress.packets).toBe(10);
    expect(drops.map(({ packets: dropped }) => dropped)).toEqual([5, 5]);
    expect(totals.tcpFlags[0]?.packets).toBe(6); // The switch's own did not begin anew.
    expect(endpointUse.resets).toBe(1);
    expect(endpoints[0]?.forward.ingress.packets).toBe(10);
  });

  test("add nothing for a count that is a little less, until it has passed its last value", () => {
    const { take } = table();
    const counted = (ingress: bigint, egress: bigint) =>
      reading([endpoint("1", 0, { forward: { ingress: at(ingress), egress: at(egress) } })]);
    take(counted(2000n, 10n), none);
    for (const [ingress, egress, sums, shown] of [
      [1999n, 11n, [0, 1], 2000],
      [2000n, 11n, [0, 1], 2000],
      [1001n, 12n, [0, 2], 2000],
      [2003n, 12n, [3, 2], 2003],
      [1001n, 13n, [1001 + 3, 2 + 13], 1001], // Half of it or less.
    ] as const) {
      const { totals, endpoints } = take(counted(ingress, egress), none);
      expect([totals.forward.ingress.packets, totals.forward.egress.packets]).toEqual([...sums]);
      expect(endpoints[0]?.forward.ingress.packets).toBe(shown);
    }
  });

  test("have a counter that is not told when its source begins anew from 0 on", () => {
    const { take } = table();
    const told = (flags: SwitchCounters["tcpFlags"], aclrule: bigint): ReadonlyMap<string, SwitchCounters> =>
      new Map([
        [
          "1",
          {
            ...{ source: "vfpctrl", tcpFlags: flags, tcpStatistics: [] },
            drops: [{ reason: "aclrule", direction: "ingress", packets: aclrule }],
          },
        ],
      ]);
    const syn = (count: bigint) => [{ direction: "ingress", flag: "SYN", packets: count } as const];
    take(reading([endpoint("1", 1)]), told(syn(500n), 100n));
    take(reading([endpoint("1", 1)]), told([], 2n));
    const { totals, drops } = take(reading([endpoint("1", 1)]), told(syn(7n), 3n));
    expect(totals.tcpFlags[0]?.packets).toBe(7);
    expect(drops.find(({ reason }) => reason === "aclrule")?.packets).toBe(3);
  });

  test("have all of one that came later and had to wait, and nothing of the past of one that was there", () => {
    const { take } = table();
    take(reading([endpoint("1", 50)], { waiting: ["2", "3"] }), none);
    take(reading([endpoint("1", 50)], { waiting: ["2", "3", "4"] }), none);
    const sections = take(reading([endpoint("1", 50), endpoint("4", 7)], { waiting: ["2", "3"] }), none);
    expect(packets(sections)).toBe(7);
    take(reading([endpoint("1", 50), endpoint("4", 7)], { waiting: ["3"], unread: ["2"] }), none);
    expect(packets(take(reading([endpoint("2", 1000), endpoint("3", 1000)]), none))).toBe(7);
  });

  test("keep the part of one that is gone, and go on when it comes back", () => {
    const { take } = table();
    take(reading([endpoint("1", 50), endpoint("2", 50)]), none);
    take(reading([endpoint("1", 50), endpoint("2", 57)]), none);
    expect(packets(take(reading([endpoint("1", 50)]), none))).toBe(7);
    expect(packets(take(reading([]), none))).toBe(7);
    const back = take(reading([endpoint("2", 60)]), none);
    expect(packets(back)).toBe(10);
    expect(back.endpointUse).toMatchObject({ resets: 0, replaced: 0 });
    const begunAnew = take(reading([endpoint("1", 5)]), none);
    expect(packets(begunAnew)).toBe(15);
    expect(begunAnew.endpointUse.resets).toBe(1);
  });

  test("remember as many that are gone as may be there, the latest", () => {
    const { take } = table();
    const ids = ["1", "2", "3", "4"];
    for (const id of ids) take(reading([endpoint(id, 10)]), none);
    take(reading([]), none);
    // The first was the baseline: forgotten, it is new; the others go on.
    expect(packets(take(reading([]), none))).toBe(30);
    expect(packets(take(reading([endpoint("2", 11)]), none))).toBe(31);
    expect(packets(take(reading([endpoint("1", 10)]), none))).toBe(41);
  });

  test("remember longest what was there last", () => {
    const { take } = table();
    for (const id of ["1", "2", "3", "1", "4", "5"]) take(reading([endpoint(id, 10)]), none);
    expect(packets(take(reading([endpoint("1", 11)]), none))).toBe(41);
  });

  test("are exact beyond 2^53 until they are told", () => {
    const { take } = table();
    const past = 2n ** 64n - 10n;
    take(reading([endpoint("1", 0, { forward: zero })]), none);
    const grown = take(reading([endpoint("1", 0, { forward: { ...zero, ingress: at(past) } })]), none);
    const last = take(reading([endpoint("1", 0, { forward: { ...zero, ingress: at(past + 3n) } })]), none);
    expect(packets(grown)).toBe(Number(past));
    expect(packets(last)).toBe(Number(past + 3n));
    const fresh = table();
    fresh.take(reading([endpoint("1", 0, { forward: { ...zero, ingress: at(past) } })]), none);
    expect(
      packets(
        fresh.take(reading([endpoint("1", 0, { forward: { ...zero, ingress: at(past + 3n) } })]), none),
      ),
    ).toBe(3);
  });
});

const at = (count: bigint) => ({ packets: count, bytes: count });
const zero = { ingress: at(0n), egress: at(0n) };

describe("what the switch counts", () => {
  test("stays as it was while it cannot be read", () => {
    const { take } = table();
    take(reading([endpoint("1", 1)]), new Map([["1", counters("vfpctrl", 10)]]));
    const known = take(reading([endpoint("1", 1)]), new Map([["1", counters("vfpctrl", 11)]]));
    const without = take(reading([endpoint("1", 1)]), none);
    expect(without).toEqual(known);
    expect(without.endpoints[0]?.tcpFlags).toEqual([{ direction: "egress", flag: "SYN", packets: 66 }]);
    const again = take(reading([endpoint("1", 1)]), new Map([["1", counters("vfpctrl", 13)]]));
    expect(again.switchTcpStatistics).toEqual({ ResetCount: 21 });
  });

  test("begins anew, without a jump, when another source tells it", () => {
    const { take } = table();
    take(reading([]), none);
    take(reading([endpoint("1", 1)]), new Map([["1", counters("vfpctrl", 10)]]));
    const other = take(reading([endpoint("1", 1)]), new Map([["1", counters("performance-counters", 1000)]]));
    expect(other.switchTcpStatistics).toEqual({ ResetCount: 70 });
    expect(other.endpoints[0]?.tcpFlags[0]?.packets).toBe(6000);
    const next = take(reading([endpoint("1", 1)]), new Map([["1", counters("performance-counters", 1001)]]));
    expect(next.switchTcpStatistics).toEqual({ ResetCount: 77 });
    expect(next.endpointUse.resets).toBe(0);
  });

  test("is what HNS tells, where both do", () => {
    const { take } = table();
    const { endpoints, endpointUse } = take(
      reading([endpoint("1", 1, { switch: counters("hns", 2) }), endpoint("2", 1), endpoint("3", 1)]),
      new Map([
        ["1", counters("vfpctrl", 9)],
        ["2", counters("vfpctrl", 9)],
      ]),
    );
    expect(endpoints.map(({ tcpFlags }) => tcpFlags[0]?.packets)).toEqual([12, 54, undefined]);
    expect(endpointUse.sources).toEqual([
      { source: "hns", endpoints: 1 },
      { source: "vfpctrl", endpoints: 1 },
      { source: "performance-counters", endpoints: 0 },
      { source: "vfpctrl-text", endpoints: 0 },
      { source: "none", endpoints: 1 },
    ]);
  });

  test("has no more reasons than it may", () => {
    const { take } = table();
    const many = (count: bigint): SwitchCounters => ({
      ...{ source: "performance-counters", tcpFlags: [], tcpStatistics: [] },
      drops: Array.from({ length: 500 }, (_, index) => ({
        ...{ reason: `reason-${index}`, direction: "ingress", packets: count },
      })),
    });
    take(reading([endpoint("1", 1)]), new Map([["1", many(1n)]]));
    const { drops, endpoints } = take(reading([endpoint("1", 1)]), new Map([["1", many(3n)]]));
    const ingress = drops.filter(({ direction }) => direction === "ingress");
    expect(ingress.length).toBe(65);
    expect(ingress.reduce((sum, drop) => sum + drop.packets, 0)).toBe(1000);
    expect(endpoints[0]?.drops.length).toBeLessThan(70);
  });
});

describe("the endpoints", () => {
  test("have their own counts, and all that is known of each", () => {
    const ofSwitch = new Map([["1", counters("vfpctrl", 2)]]);
    const { endpoints } = table().take(reading([endpoint("1", 50), endpoint("2", 1)]), ofSwitch);
    expect(endpoints).toHaveLength(2);
    expect(endpoints[0]).toEqual({
      ...{ id: "1", name: "name-1", address: "10.0.0.1", network: "azure" },
      forward: { ingress: { packets: 50, bytes: 5000 }, egress: { packets: 100, bytes: 10_000 } },
      drops: [
        { reason: "endpoint", direction: "ingress", packets: 150 },
        { reason: "endpoint", direction: "egress", packets: 200 },
        { reason: "aclrule", direction: "ingress", packets: 10 },
      ],
      tcpFlags: [{ direction: "egress", flag: "SYN", packets: 12 }],
      tcpStatistics: [
        { direction: "ingress", statistic: "ResetCount", count: 14 },
        { direction: "egress", statistic: "ResetCount", count: 2000 },
      ],
    });
  });

  test("are those of the reading, with what it could not read", () => {
    const failures = [{ source: "hns-stats", failures: 4 }];
    const { endpointUse } = table().take(reading([], { remote: 3, overflow: 2, failures }), none);
    expect(endpointUse).toMatchObject({ local: 0, remote: 3, overflow: 2, resets: 0, replaced: 0, failures });
  });

  const replaced = (...readings: readonly (readonly EndpointReading[])[]): number | undefined => {
    const { take } = table();
    return readings.map((endpoints) => take(reading(endpoints), none).endpointUse.replaced).at(-1);
  };
  const ofPlace = (id: string, address: string, network = "azure") => endpoint(id, 1, { address, network });

  test("replace one under the same address, once", () => {
    const after = [ofPlace("2", "10.0.0.1")];
    expect(replaced([ofPlace("1", "10.0.0.1")], after)).toBe(1);
    expect(replaced([ofPlace("1", "10.0.0.1")], after, after, [])).toBe(1);
    expect(replaced([ofPlace("1", "10.0.0.1")], [], after)).toBe(1);
    expect(replaced([ofPlace("1", "10.0.0.1")], after, [ofPlace("3", "10.0.0.1")])).toBe(2);
    expect(replaced([ofPlace("1", "10.0.0.1")], after, [ofPlace("1", "10.0.0.1")])).toBe(1);
    const two = [...after, ofPlace("3", "10.0.0.1")];
    expect(replaced([ofPlace("1", "10.0.0.1")], two)).toBe(1);
    expect(replaced([ofPlace("1", "10.0.0.1")], after, two)).toBe(1);
  });

  test("replace none beside which they stand, of another network, or without an address", () => {
    const first = ofPlace("1", "10.0.0.1");
    expect(replaced([first], [first, ofPlace("2", "10.0.0.1")])).toBe(0);
    expect(replaced([first], [ofPlace("2", "10.0.0.1", "nat")])).toBe(0);
    expect(replaced([ofPlace("1", "")], [ofPlace("2", "")])).toBe(0);
    expect(replaced([first], [ofPlace("2", "10.0.0.2")])).toBe(0);
  });

  test("add all of one that replaces", () => {
    const { take } = table();
    take(reading([endpoint("1", 50)]), none);
    take(reading([endpoint("1", 55)]), none);
    const sections = take(reading([endpoint("2", 60, { address: "10.0.0.1" })]), none);
    expect(packets(sections)).toBe(5 + 60);
    expect(sections.endpointUse).toMatchObject({ replaced: 1, resets: 0 });
  });
});
