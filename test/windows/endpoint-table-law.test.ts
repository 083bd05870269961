// The law of node totals, over random lives of endpoints: what was added up is the sum of what grew, and it never falls.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { countsOf } from "../../src/replay-counts.ts";
import type { EndpointReading, SwitchCounters, SwitchSource } from "../../windows/counters.ts";
import { createEndpointTable } from "../../windows/endpoint-table.ts";

const ids = ["1", "2", "3", "4", "5"] as const;

/** Two counters of one source, which count different things and begin anew together. */
type Pair = { readonly packets: bigint; readonly drops: bigint };

const growth = fc.oneof(
  fc.constant(0n),
  fc.bigInt({ min: 0n, max: 1000n }),
  fc.bigInt({ min: 0n, max: 2n ** 58n }),
);
const thousandths = (max: bigint) => fc.bigInt({ min: 0n, max });

/** What happens to one endpoint between two readings. */
const step = fc.record({
  present: fc.boolean(),
  /** Not read this time, though it is there. */
  unread: fc.boolean(),
  grows: fc.record({ packets: growth, drops: growth }),
  /** In thousandths of what it has counted: it begins anew, and has come so far since, past its last value at times. */
  anew: fc.option(fc.record({ packets: thousandths(3000n), drops: thousandths(1500n) }), { freq: 4 }),
  source: fc.constantFrom<SwitchSource | undefined>(undefined, "hns", "vfpctrl", "vfpctrl", "vfpctrl-text"),
});
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

const start = fc.bigInt({ min: 0n, max: 2n ** 62n });

const lives = fc.record({
  begin: fc.array(fc.record({ packets: start, drops: start }), {
    minLength: ids.length,
    maxLength: ids.length,
  }),
  readings: fc.array(fc.array(step, { minLength: ids.length, maxLength: ids.length }), { minLength: 1 }),
});

const zero: Pair = { packets: 0n, drops: 0n };
const plus = (a: Pair, b: Pair): Pair => ({ packets: a.packets + b.packets, drops: a.drops + b.drops });
const share = (part: Pair, of: Pair): Pair => ({
  packets: (of.packets * part.packets) / 1000n,
  drops: (of.drops * part.drops) / 1000n,
});
const isHalfGone = (before: bigint, now: bigint): boolean => before > 0n && 2n * now <= before;
/** What so few fall by says nothing of others. */
const few = 16n;

/** One source of an endpoint: what the totals must have of it after each reading. */
function createGroup() {
  let seen: Pair | undefined;
  let sums = zero;
  const passed = (before: bigint, now: bigint): bigint => (now > before ? now : before);
  return {
    sums: () => sums,
    forget: () => {
      seen = undefined;
    },
    /** Whether it began anew, as far as it can be told. */
    read(now: Pair, fromNow: boolean): boolean {
      const before: Pair = seen ?? (fromNow ? now : zero);
      const gone = {
        packets: isHalfGone(before.packets, now.packets),
        drops: isHalfGone(before.drops, now.drops),
      };
      const all = (gone.packets && before.packets > few) || (gone.drops && before.drops > few);
      const from: Pair = {
        packets: all || gone.packets ? 0n : before.packets,
        drops: all || gone.drops ? 0n : before.drops,
      };
      seen = { packets: passed(from.packets, now.packets), drops: passed(from.drops, now.drops) };
      sums = plus(sums, { packets: seen.packets - from.packets, drops: seen.drops - from.drops });
      return gone.packets || gone.drops;
    },
  };
}

/** One endpoint of the machine: what it counts, and what of that can be told from what was read. */
function createMachineEndpoint(begin: Pair) {
  let count = begin;
  let wasUnread = false;
  let resets = 0;
  let old: boolean | undefined;
  let source: SwitchSource | undefined;
  const own = createGroup();
  const ofSwitch = createGroup();
  return {
    count: () => count,
    resets: () => resets,
    own: own.sums,
    ofSwitch: ofSwitch.sums,
    move({ grows, anew }: Step): void {
      count = anew === null ? plus(count, grows) : share(anew, count);
    },
    skip(unread: boolean): void {
      wasUnread = unread;
    },
    read(told: SwitchSource | undefined, first: boolean): void {
      old ??= first || wasUnread;
      let reset = own.read(count, old);
      if (told !== undefined) {
        const changed = source !== undefined && source !== told;
        if (changed) ofSwitch.forget();
        source = told;
        reset = ofSwitch.read(count, old || changed) || reset;
      }
      wasUnread = false;
      if (reset) resets += 1;
    },
  };
}

const readingOf = (id: string, { packets, drops }: Pair): EndpointReading => ({
  ...{ id, name: id, address: `10.0.0.${id}`, network: "azure" },
  forward: { ingress: { packets, bytes: packets }, egress: { packets, bytes: packets } },
  drops: [{ reason: "endpoint", direction: "ingress", packets: drops }],
});

const switchOf = (source: SwitchSource, { packets, drops }: Pair): SwitchCounters => ({
  source,
  drops: [{ reason: "aclrule", direction: "egress", packets: drops }],
  tcpFlags: [{ direction: "ingress", flag: "RST", packets }],
  tcpStatistics: [{ direction: "ingress", statistic: "ResetCount", count: packets }],
});

test("node totals are what grew, and never fall", () => {
  fc.assert(
    fc.property(lives, ({ begin, readings }) => {
      const table = createEndpointTable({ endpointsMax: ids.length });
      const machine = ids.map((id, index) => ({ id, endpoint: createMachineEndpoint(begin[index] ?? zero) }));
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
            happens.source === undefined ? undefined : switchOf(happens.source, endpoint.count());
          if (counters !== undefined && counters.source !== "hns") switches.set(id, counters);
          endpoints.push({
            ...readingOf(id, endpoint.count()),
            ...(counters?.source === "hns" ? { switch: counters } : {}),
          });
        }
        const sections = table.take(
          { endpoints, unread, remote: 0, overflow: 0, failures: [], limits: [] },
          switches,
        );
        const sum = (of: "own" | "ofSwitch", what: keyof Pair): number =>
          Number(machine.reduce((all, { endpoint }) => all + endpoint[of]()[what], 0n));
        const { totals, drops, switchTcpStatistics } = sections;
        const own = sum("own", "packets");
        expect(totals.forward).toEqual({
          ingress: { packets: own, bytes: own },
          egress: { packets: own, bytes: own },
        });
        const dropped = (wanted: string) => drops.find(({ reason }) => reason === wanted)?.packets ?? 0;
        expect([dropped("endpoint"), dropped("aclrule")]).toEqual([
          sum("own", "drops"),
          sum("ofSwitch", "drops"),
        ]);
        const ofSwitch = sum("ofSwitch", "packets");
        expect(totals.tcpFlags[0]?.packets ?? 0).toBe(ofSwitch);
        expect(switchTcpStatistics?.["ResetCount"] ?? 0).toBe(ofSwitch);
        expect(sections.endpointUse.resets).toBe(
          machine.reduce((all, { endpoint }) => all + endpoint.resets(), 0),
        );
        const counts = countsOf({ totals, drops, ...(switchTcpStatistics && { switchTcpStatistics }) });
        for (const [place, count] of before) expect(counts.get(place) ?? -1).toBeGreaterThanOrEqual(count);
        before = counts;
      }
    }),
    { numRuns: 300 },
  );
});

/** Between two readings of one endpoint: it grows, or begins anew so that one of its counters tells it. */
const plainStep = fc.record({
  grows: fc.record({ packets: growth, drops: growth }),
  anew: fc.option(fc.record({ packets: thousandths(3000n), drops: thousandths(500n) }), { freq: 4 }),
  /** In thousandths: so much less a reading that is made meanwhile says of each counter. */
  dip: fc.option(fc.record({ packets: thousandths(499n), drops: thousandths(499n) }), { freq: 2 }),
});

test("totals have all that an endpoint counted, whatever a reading was short of and whenever it began anew", () => {
  fc.assert(
    fc.property(
      fc.record({ packets: start, drops: start }),
      fc.array(plainStep),
      growth,
      (begin, steps, last) => {
        const table = createEndpointTable({ endpointsMax: 1 });
        const take = (counts: Pair) =>
          table.take(
            { endpoints: [readingOf("1", counts)], remote: 0, overflow: 0, failures: [], limits: [] },
            new Map(),
          );
        // Drops that are more than few tell of a reset.
        let count = plus(begin, { packets: 1n, drops: 1n });
        let truth = zero;
        take(count);
        const end = { grows: { packets: last, drops: last }, anew: null, dip: null };
        let sections = take(count);
        for (const { grows, anew, dip } of [...steps, end]) {
          if (anew !== null && count.drops > few) {
            take(count); // What it counts after its last reading, and before it begins anew, nobody can tell.
            count = share(anew, count);
            count = { packets: count.packets + 1n, drops: count.drops === 0n ? 1n : count.drops };
            truth = plus(truth, count);
            sections = take(count);
          } else {
            count = plus(count, grows);
            truth = plus(truth, grows);
            const short = share(dip ?? zero, count);
            sections = take({ packets: count.packets - short.packets, drops: count.drops - short.drops });
          }
        }
        const dropped = sections.drops.find(({ reason }) => reason === "endpoint")?.packets;
        expect([sections.totals.forward.ingress.packets, dropped]).toEqual([
          Number(truth.packets),
          Number(truth.drops),
        ]);
      },
    ),
    { numRuns: 300 },
  );
});
