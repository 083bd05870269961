// The decoders read, by offset, what C wrote by the field names of the headers. Stub libraries stand in for iphlpapi.

import { describe, expect, test } from "bun:test";
import type { Snapshot } from "../../src/snapshot.ts";
import { decodeInterfaces, nameInterfaces } from "../../windows/interface-table.ts";
import { openIpCollectors } from "../../windows/ip-collectors.ts";
import {
  createStatisticsReader,
  icmpStatistics,
  ipStatistics,
  type StatisticsLayout,
  tcpStatistics,
  udpStatistics,
} from "../../windows/ip-statistics.ts";
import { iphlpapi } from "../../windows/iphlpapi.ts";
import { openLibrary } from "../../windows/system.ts";
import { addStates, emptyTally, statesOf, tcpRows, unknownStates } from "../../windows/tcp-table.ts";

const fills = openLibrary("iphlpapi-layouts.dll", {
  FillTcp4: { args: ["ptr"], returns: "u32" },
  FillTcp6: { args: ["ptr"], returns: "u32" },
  FillTcpStatistics: { args: ["ptr"], returns: "u32" },
  FillUdpStatistics: { args: ["ptr"], returns: "u32" },
  FillIpStatistics: { args: ["ptr"], returns: "u32" },
  FillIcmpStatistics: { args: ["ptr"], returns: "u32" },
  FillInterfaces: { args: ["ptr"], returns: "u32" },
}).symbols;

const filled = (fill: (buffer: Uint8Array) => number): DataView => {
  const buffer = new Uint8Array(16_384);
  return new DataView(buffer.buffer, 0, fill(buffer));
};

describe("structures of the headers", () => {
  const read = (layout: StatisticsLayout, view: DataView): [string, bigint][] => {
    expect(view.byteLength).toBe(layout.bytes);
    return [...createStatisticsReader(layout)(view)];
  };
  /** The stub numbers the counts from 1 on, and gives what is no count a number from 901 on. */
  const numbered = (...names: string[]) => names.map((name, index) => [name, BigInt(index + 1)]);

  test("MIB_TCPSTATS, without settings and states", () => {
    expect(read(tcpStatistics, filled(fills.FillTcpStatistics)) as unknown[]).toEqual(
      numbered(
        ...["ActiveOpens", "PassiveOpens", "AttemptFails", "EstabResets", "InSegs"],
        ...["OutSegs", "RetransSegs", "InErrs", "OutRsts"],
      ),
    );
  });

  test("MIB_UDPSTATS", () => {
    expect(read(udpStatistics, filled(fills.FillUdpStatistics)) as unknown[]).toEqual(
      numbered("InDatagrams", "NoPorts", "InErrors", "OutDatagrams"),
    );
  });

  test("MIB_IPSTATS", () => {
    expect(read(ipStatistics, filled(fills.FillIpStatistics)) as unknown[]).toEqual(
      numbered(
        ...["InReceives", "InHdrErrors", "InAddrErrors", "ForwDatagrams", "InUnknownProtos", "InDiscards"],
        ...["InDelivers", "OutRequests", "RoutingDiscards", "OutDiscards", "OutNoRoutes", "ReasmTimeout"],
        ...["ReasmReqds", "ReasmOKs", "ReasmFails", "FragOKs", "FragFails", "FragCreates"],
      ),
    );
  });

  test("MIB_ICMP_EX, with the types that were seen", () => {
    const counts = new Map(read(icmpStatistics, filled(fills.FillIcmpStatistics)));
    expect(Object.fromEntries(counts)).toEqual({
      ...{ InMsgs: 1n, InErrors: 2n, InType8: 3n, InType255: 4n, OutMsgs: 5n, OutErrors: 6n, OutType0: 7n },
    });
  });

  test("MIB_TCPTABLE_OWNER_PID and MIB_TCP6TABLE_OWNER_PID: every state by Linux' name", () => {
    const tally = emptyTally();
    addStates(tally, filled(fills.FillTcp4), tcpRows.IPv4);
    const two = Object.keys(statesOf(tally)).map((name) => [name, 2]);
    expect(statesOf(tally)).toEqual(Object.fromEntries(two));
    expect(unknownStates(tally)).toBe(1);
    addStates(tally, filled(fills.FillTcp6), tcpRows.IPv6);
    expect(statesOf(tally)).toEqual({ ...Object.fromEntries(two), LISTEN: 3, ESTABLISHED: 4 });
    expect(Object.keys(statesOf(tally))).toEqual([
      ...["CLOSE", "LISTEN", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT1"],
      ...["FIN_WAIT2", "CLOSE_WAIT", "CLOSING", "LAST_ACK", "TIME_WAIT", "DELETE_TCB"],
    ]);
  });

  test("MIB_IF_TABLE2, without the filters upon an adapter", () => {
    const rows = decodeInterfaces(filled(fills.FillInterfaces));
    expect(rows.map(({ alias, index, loopback }) => [alias, index, loopback])).toEqual([
      ["Ethernet", 10, false],
      ["Ethernet", 13, false],
      ["Card", 14, false],
      ["Loopback Pseudo-Interface 1", 15, true],
    ]);
    expect(rows[0]?.statistics).toEqual({
      ...{ rx_bytes: 1, rx_packets: 2 + 3, rx_dropped: 4, rx_errors: 5, rx_unknown_protocols: 6 },
      ...{ rx_nonunicast_packets: 3, rx_unicast_bytes: 7, rx_multicast_bytes: 8, rx_broadcast_bytes: 9 },
      ...{ tx_bytes: 11, tx_packets: 12 + 13, tx_dropped: 14, tx_errors: 15 },
      ...{ tx_nonunicast_packets: 13, tx_unicast_bytes: 17, tx_multicast_bytes: 18, tx_broadcast_bytes: 19 },
    });
    expect(rows[1]?.statistics["rx_bytes"]).toBe(2 ** 53 + 4); // The nearest to 2^53 + 3.
    expect(nameInterfaces(rows).map((row) => row.interface)).toContain("Ethernet #13");
  });

  test("a table that claims more rows than it has is refused", () => {
    const view = new DataView(new ArrayBuffer(8 + 1352));
    view.setUint32(0, 2, true);
    expect(() => decodeInterfaces(view)).toThrow("2 interfaces does not fit into its 1360 bytes");
    view.setUint32(0, 57, true);
    expect(() => addStates(emptyTally(), view, tcpRows.IPv4)).toThrow("57 TCP sockets does not fit");
  });
});

describe("64-bit statistics", () => {
  const stub = openLibrary("iphlpapi-ex2.dll", { StubSet: { args: ["u32", "u32", "u32"], returns: "void" } });
  const open = () => {
    const selection = { include: ["*"], exclude: [], loopback: false };
    const libraries = { ...iphlpapi, wide: "iphlpapi-ex2.dll" };
    const [protocols] = openIpCollectors({ interfaces: selection, libraries, elapsedMs: () => 0 });
    return () => protocols!.collect(new AbortController().signal) as Snapshot;
  };
  const set = (error4: number, error6: number, retransmits = 0) =>
    stub.symbols.StubSet(error4, error6, retransmits);

  test("are read where the calls exist, both families added up exactly", () => {
    set(0, 0, 22);
    const { tcpStatistics: tcp, protocols, limits } = open()();
    expect(limits).toEqual([]);
    expect(tcp).toEqual({
      ...{ ActiveOpens: 11 + 1011, PassiveOpens: 12 + 1012, AttemptFails: 13 + 1013, EstabResets: 14 + 1014 },
      InSegs: Number(2n ** 53n + 21n + 1021n),
      OutSegs: Number(2n * 2n ** 53n + 23n + 4n * 2n ** 53n - 5n),
      ...{ RetransSegs: 22 + 1023, InErrs: 24 + 1024, OutRsts: 25 + 1025 },
    });
    expect(protocols?.find(({ protocol }) => protocol === "udp6")?.statistics).toEqual({
      ...{ InDatagrams: Number(2n ** 53n + 8n + 23n), NoPorts: 31, InErrors: 32 },
      OutDatagrams: 2 ** 40 + 23,
    });
  });

  test("what is 32 bits wide there is made wide", () => {
    const collect = open();
    const retransmits = [2 ** 32 - 2, 3, 2 ** 31].map((count) => {
      set(0, 0, count);
      return collect().tcpStatistics?.["RetransSegs"];
    });
    expect(retransmits).toEqual([2 ** 32 - 2, 2 ** 32 + 3, 1.5 * 2 ** 32].map((count) => count + 1023));
  });

  test("a machine without IPv6 has no IPv6, and that is no limit", () => {
    set(0, 50, 22);
    const { tcpStatistics: tcp, protocols, limits } = open()();
    expect(tcp?.["RetransSegs"]).toBe(22);
    expect(limits).toEqual([]);
    const names = protocols?.map(({ protocol }) => protocol);
    expect(names).toContain("udp");
    expect(names).not.toContain("udp6");
  });

  test("a family that fails is a limit, hides no other, and stands in the sum with what it had", () => {
    set(0, 0, 22);
    const collect = open();
    const before = collect();
    set(0, 5, 23);
    const { tcpStatistics: tcp, limits, protocols } = collect();
    expect(tcp).toEqual({ ...before.tcpStatistics, RetransSegs: 23 + 1023 });
    expect(protocols?.map(({ protocol }) => protocol)).toEqual([
      ...["udp", "udp6", "ip", "ip6", "icmp", "icmp6"],
    ]);
    expect(limits).toHaveLength(2);
    expect(limits?.[0]).toContain("TCP of IPv6 is not counted: GetTcpStatisticsEx2 for IPv6: ");
    expect(limits?.[0]).toContain("(error 5)");
    expect(limits?.[1]).toContain("GetUdpStatisticsEx2 for IPv6");
    set(5, 5);
    expect(collect().limits).toHaveLength(4);
    const never = open()();
    expect(never.tcpStatistics).toBeUndefined();
    expect(never.protocols?.map(({ protocol }) => protocol)).toEqual(["ip", "ip6", "icmp", "icmp6"]);
    set(0, 0);
  });
});
