// Pure parts of the collectors of iphlpapi: wide counts, tables that grow, names and patterns of interfaces.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { interfaceTest, nameInterfaces } from "../../windows/interface-table.ts";
import {
  createStatisticsReader,
  createWidening,
  icmpStatistics,
  sumCounts,
  tcpStatistics,
} from "../../windows/ip-statistics.ts";
import { createTableReader, type FillTable } from "../../windows/tcp-table.ts";

describe("widening", () => {
  const wrap = 2 ** 32;

  test("follows any count that goes on by less than half of 2^32 at a time", () => {
    const steps = fc.array(fc.integer({ min: 0, max: 2 ** 31 - 1 }), { maxLength: 50 });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: wrap - 1 }), steps, (first, grows) => {
        const widen = createWidening();
        let exact = BigInt(first);
        expect(widen(first)).toBe(exact);
        for (const step of grows) {
          exact += BigInt(step);
          expect(widen(Number(exact % BigInt(wrap)))).toBe(exact);
        }
      }),
    );
  });

  test("never falls, whatever it is given", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: wrap - 1 })), (values) => {
        const widen = createWidening();
        let before = 0n;
        for (const value of values) {
          const after = widen(value);
          expect(after).toBeGreaterThanOrEqual(before);
          before = after;
        }
      }),
    );
  });

  test("goes through 2^32", () => {
    const widen = createWidening();
    expect([wrap - 1, 0, 5, wrap / 2, wrap - 10, 3].map((value) => widen(value))).toEqual(
      [wrap - 1, wrap, wrap + 5, 1.5 * wrap, 2 * wrap - 10, 2 * wrap + 3].map(BigInt),
    );
  });

  test("stands still over a small step back across 2^32", () => {
    const widen = createWidening();
    expect([wrap - 1, 2, wrap - 1, 3].map((value) => widen(value))).toEqual(
      [wrap - 1, wrap + 2, wrap + 2, wrap + 3].map(BigInt),
    );
  });

  test("stands still over a small step back, and counts what began anew", () => {
    const widen = createWidening();
    expect([1000, 998, 1000, 1003, 4, 10].map((value) => widen(value))).toEqual([
      ...[1000n, 1000n, 1000n, 1003n, 1007n, 1013n],
    ]);
  });
});

describe("statistics", () => {
  const viewOf = (bytes: number, values: Readonly<Record<number, number>>): DataView => {
    const view = new DataView(new ArrayBuffer(bytes));
    for (const [at, value] of Object.entries(values)) view.setUint32(Number(at), value, true);
    return view;
  };

  test("each reader keeps its own wraps", () => {
    const [a, b] = [createStatisticsReader(tcpStatistics), createStatisticsReader(tcpStatistics)];
    a(viewOf(60, { 36: 2 ** 32 - 2 }));
    b(viewOf(60, { 36: 1 }));
    expect(a(viewOf(60, { 36: 3 })).get("InSegs")).toBe(2n ** 32n + 3n);
    expect(b(viewOf(60, { 36: 3 })).get("InSegs")).toBe(3n);
  });

  test("types of ICMP are named from the first message on, and stay", () => {
    const read = createStatisticsReader(icmpStatistics);
    expect([...read(viewOf(2064, {})).keys()]).toEqual(["InMsgs", "InErrors", "OutMsgs", "OutErrors"]);
    expect(read(viewOf(2064, { [8 + 4 * 135]: 2 })).get("InType135")).toBe(2n);
    expect(read(viewOf(2064, {})).get("InType135")).toBe(2n);
  });

  test("sums are exact before they become numbers", () => {
    const half = new Map([["InSegs", 2n ** 53n + 1n]]);
    expect(sumCounts([half, half, new Map([["InErrs", 1n]])])).toEqual({ InSegs: 2 ** 54 + 2, InErrs: 1 });
  });
});

describe("a table that grows", () => {
  const bounds = { slackBytes: 64, bytesMax: 4096, roundsMax: 4 };
  /** Needs so many bytes at each call in turn, the last from there on. */
  const needing = (...needs: number[]): FillTable & { rooms: number[] } => {
    const rooms: number[] = [];
    const fill = (buffer: Uint8Array, size: Uint32Array) => {
      const needed = needs[Math.min(rooms.length, needs.length - 1)] ?? 0;
      expect(size[0]).toBe(buffer.length);
      rooms.push(buffer.length);
      size[0] = needed;
      return needed > buffer.length ? 122 : 0;
    };
    return Object.assign(fill, { rooms });
  };

  test("is called once while it fits, with room to spare after it grew", () => {
    const read = createTableReader(bounds);
    const fill = needing(40, 100, 150, 160);
    expect([read(fill).code, read(fill).code, read(fill).code]).toEqual([0, 0, 0]);
    expect(fill.rooms).toEqual([64, 64, 164, 164]);
  });

  test("gives up after so many rounds, or when it would take too much", () => {
    const outrun = needing(100, 300, 900, 2700, 4000);
    expect(createTableReader(bounds)(outrun).code).toBe(122);
    expect(outrun.rooms).toHaveLength(4);
    const huge = needing(4097);
    expect(createTableReader(bounds)(huge).code).toBe(122);
    expect(huge.rooms).toHaveLength(1);
    const fits = needing(4096);
    expect(createTableReader(bounds)(fits)).toMatchObject({ code: 0 });
    expect(fits.rooms).toEqual([64, 4096]);
  });

  test("tells any other error at once", () => {
    let calls = 0;
    const refuse: FillTable = () => {
      calls += 1;
      return 5;
    };
    expect(createTableReader(bounds)(refuse).code).toBe(5);
    expect(calls).toBe(1);
  });

  test("lets a large buffer go when the sockets went", () => {
    const read = createTableReader(bounds);
    const fill = needing(4000, 4000, 40, 40);
    for (let call = 0; call < 3; call += 1) read(fill);
    expect(fill.rooms).toEqual([64, 4096, 4096, 104]);
  });
});

describe("interfaces", () => {
  const wantedBy = (include: string[], exclude: string[], loopback = false) => {
    const wanted = interfaceTest({ include, exclude, loopback });
    return (alias: string, isLoopback = false) => wanted({ alias, loopback: isLoopback });
  };

  test("are chosen by patterns without regard to case; exclusion wins", () => {
    const wanted = wantedBy(["ethernet*", "vEthernet (*)"], ["*DEBUG*"]);
    const names = ["Ethernet", "Ethernet 2", "vEthernet (nat)", "Ethernet (Kernel Debugger)", "Wi-Fi"];
    expect(names.filter((name) => wanted(name))).toEqual(names.slice(0, 3));
    expect(wantedBy(["*"], [])("Local Area Connection* 1")).toBe(true);
    expect(wantedBy([], [])("Ethernet")).toBe(false);
  });

  test("leave the loopback out unless it is wanted, whatever its name", () => {
    expect(wantedBy(["*"], [])("Loopback Pseudo-Interface 1", true)).toBe(false);
    expect(wantedBy(["*"], [], true)("Loopback Pseudo-Interface 1", true)).toBe(true);
    expect(wantedBy(["eth*"], [], true)("lo", true)).toBe(false);
  });

  test("have names of their own, the same in any order", () => {
    const row = (index: number, alias: string) => ({ index, alias, loopback: false, statistics: { index } });
    const rows = [row(9, "a"), row(3, "a"), row(5, "b"), row(7, "a"), row(11, "a #9"), row(1, "a #7")];
    const named = (of: typeof rows) =>
      Object.fromEntries(nameInterfaces(of).map((each) => [each.interface, each.statistics["index"]]));
    const expected = { "a #7": 1, a: 3, b: 5, "a #7 #7": 7, "a #9": 9, "a #9 #11": 11 };
    expect(named(rows)).toEqual(expected);
    expect(named(rows.toReversed())).toEqual(expected);
  });
});
