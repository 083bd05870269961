// Performance counters of the switch against a stand-in for pdh.dll. Spellings of sets and instances are synthetic.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { openPerformanceCounters } from "../../windows/performance-counters.ts";
import {
  directionOfSet,
  indexPorts,
  meaningOfCounter,
  type PortSample,
  portCountersOf,
} from "../../windows/performance-names.ts";
import { createPerformanceReader } from "../../windows/performance-thread.ts";
import { openStub, type Stub } from "./stub-files.ts";
import { workingSet } from "./working-set.ts";

const port = "36279ca2-afda-4f06-8d32-14a921aba14d";
const inDrops = "VFP Port Total Inbound Dropped Network Packets";
const outDrops = "VFP Port Total Outbound Dropped Network Packets";
const inTraffic = "VFP Port Total Inbound Network Traffic";

let stub: Stub;

beforeEach(() => {
  stub = openStub("pdh");
});

afterEach(() => stub[Symbol.dispose]());

const list = (...lines: readonly (readonly [string, string, string, bigint])[]): void =>
  stub.write("counters", lines.map((line) => `${line.join("|")}\r\n`).join(""));

const signal = new AbortController().signal;

function read(): readonly PortSample[] {
  using counters = openPerformanceCounters();
  return counters?.read() ?? [];
}

describe("names", () => {
  test("sets of the switch are known with and without spaces, others and averages are not", () => {
    expect(directionOfSet(inDrops)).toBe("ingress");
    expect(directionOfSet("VFPPortTotalOutboundDroppedNetworkPackets")).toBe("egress");
    expect(directionOfSet("VFP Port Total Outbound Network Traffic")).toBe("egress");
    for (const other of [
      "VFP Port Average Inbound Network Traffic",
      "VFP QoS Queue Inbound",
      "Processor",
      "",
    ])
      expect(directionOfSet(other)).toBeUndefined();
  });

  test("drops keep the switch's own word, but for the access list; totals are left out", () => {
    expect(meaningOfCounter("Total Inbound Dropped ACL Packets")).toEqual({ drop: "aclrule" });
    expect(meaningOfCounter("TotalOutboundDroppedARPFilterPackets")).toEqual({ drop: "ARPFilter" });
    expect(meaningOfCounter("Inbound Dropped IPV4 Spoofing Packets")).toEqual({ drop: "IPV4Spoofing" });
    expect(meaningOfCounter("Total Inbound TCP SYN ACK Packets")).toEqual({ flag: "SYN-ACK" });
    expect(meaningOfCounter("TotalInboundTCPSYNPackets")).toEqual({ flag: "SYN" });
    const none = [
      "Total Inbound Dropped Packets",
      "Total Inbound Dropped Network Packets",
      "Total Inbound Bytes",
    ];
    for (const other of [...none, "Total Inbound Forwarded Unicast Packets", ""])
      expect(meaningOfCounter(other)).toBeUndefined();
  });

  test("an instance is found by its port before its endpoint", () => {
    const id = "7eb7bc15-4510-4225-8535-9f121f8fc438";
    const sample = (instance: string, count: bigint): PortSample => ({
      instance,
      counts: [{ direction: "ingress", meaning: { drop: "aclrule" }, count }],
    });
    const facts = { id, name: "", address: "", network: "" };
    const index = indexPorts([
      sample(`switch ${id.toUpperCase()}`, 1n),
      sample(`{${port}}#1`, 2n),
      sample(port, 3n),
    ]);
    expect(portCountersOf(index, { ...facts, port })?.drops[0]?.packets).toBe(2n);
    expect(portCountersOf(index, facts)?.drops[0]?.packets).toBe(1n);
    expect(portCountersOf(index, { ...facts, id: port.replace("3", "4") })).toBeUndefined();
  });
});

describe("pdh.dll", () => {
  test("gives exact counts of all sets, port by port", () => {
    list(
      [inDrops, "Total Inbound Dropped ACL Packets", port, 9007199254740993n],
      [inDrops, "Total Inbound Dropped ACL Packets", "Порт 2 端口", 7n],
      [inDrops, "Total Inbound Dropped Packets", port, 100n],
      ["Processor", "% Idle Time", "_Total", 5n],
      [outDrops, "Total Outbound Dropped MAC Spoofing Packets", port, 2n],
      [inTraffic, "Total Inbound TCP SYN Packets", port, 2n ** 63n - 1n],
    );
    const samples = read().toSorted((a, b) => a.instance.localeCompare(b.instance));
    expect(samples.map(({ instance }) => instance)).toEqual([port, "Порт 2 端口"]);
    const counts = samples.map((sample) =>
      sample.counts.map(({ direction, meaning, count }) => `${direction} ${Object.values(meaning)} ${count}`),
    );
    expect(counts[0]?.toSorted()).toEqual([
      "egress MACSpoofing 2",
      `ingress SYN ${2n ** 63n - 1n}`,
      "ingress aclrule 9007199254740993",
    ]);
    expect(counts[1]).toEqual(["ingress aclrule 7"]);
  });

  test("a value without data costs itself alone", () => {
    list(
      [inDrops, "Total Inbound Dropped ACL Packets", port, -1n],
      [inDrops, "Total Inbound Dropped Blocked Packets", port, 3n],
    );
    expect(read()).toEqual([
      { instance: port, counts: [{ direction: "ingress", meaning: { drop: "Blocked" }, count: 3n }] },
    ]);
  });

  test("many ports fit", () => {
    const id = (at: number): string => `port ${at} ${port}`;
    list(
      ...Array.from(
        { length: 2000 },
        (_, at) => [inDrops, "Total Inbound Dropped ACL Packets", id(at), BigInt(at)] as const,
      ),
    );
    const samples = read();
    expect(samples).toHaveLength(2000);
    expect(samples.find(({ instance }) => instance === id(1999))?.counts[0]?.count).toBe(1999n);
  });

  test("no set of the switch is no counters, and no fault", () => {
    expect(openPerformanceCounters()).toBeUndefined();
  });

  test("the library is bound once, however often a query is opened", () => {
    const openings = (count: number): void => {
      for (let at = 0; at < count; at += 1) openPerformanceCounters()?.[Symbol.dispose]();
    };
    openings(2000);
    const before = workingSet();
    openings(20_000);
    const grown = workingSet() - before;
    console.log(`20,000 queries: ${grown >> 10} KiB`);
    expect(grown).toBeLessThan(12 << 20); // Each binding keeps some 2.6 KiB.
  });

  test("a collection that fails says so with its number", () => {
    list([inDrops, "Total Inbound Dropped ACL Packets", port, 1n]);
    stub.write("mode", "error");
    using counters = openPerformanceCounters();
    expect(() => counters?.read()).toThrow(/cannot be collected: .*0xc0000bba/);
  });
});

describe("the thread", () => {
  test("reads what the library has, as it comes and goes", async () => {
    using reader = createPerformanceReader({ timeoutMs: 20_000 });
    const reply = (): Promise<unknown> => reader.read(signal);
    expect(await reply()).toEqual({ absent: expect.stringContaining("no set") });
    list([inDrops, "Total Inbound Dropped ACL Packets", port, 5n]);
    const counts = [{ direction: "ingress", meaning: { drop: "aclrule" }, count: 5n }];
    expect(await reply()).toEqual({ ports: [{ instance: port, counts }] });
    stub.write("mode", "error");
    expect(await reply()).toEqual({ failure: expect.stringContaining("0xc0000bba") });
    stub.write("mode", undefined);
    expect(await reply()).toEqual({ ports: [{ instance: port, counts }] });
  });

  test("one that hangs is waited for until the deadline, and asked nothing more", async () => {
    list([inDrops, "Total Inbound Dropped ACL Packets", port, 5n]);
    stub.write("mode", "hang");
    using reader = createPerformanceReader({ timeoutMs: 200 });
    await expect(reader.read(signal)).rejects.toThrow("not read within 200 ms");
    await expect(reader.read(signal)).rejects.toThrow("still being read");
  });

  test("an abort ends the wait", async () => {
    list([inDrops, "Total Inbound Dropped ACL Packets", port, 5n]);
    stub.write("mode", "hang");
    using reader = createPerformanceReader({ timeoutMs: 60_000 });
    const abort = new AbortController();
    const reading = reader.read(abort.signal);
    abort.abort();
    await expect(reading).rejects.toThrow("not needed any more");
  });
});
