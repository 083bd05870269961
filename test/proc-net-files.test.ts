// Parsers of /proc/net files: captured and odd ones, and what is refused.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { parseDevices, parseNamedValues, parsePairedLines, parseSocketUse } from "../bpf/proc/net-files.ts";

const fixture = (path: string): string => readFileSync(join(import.meta.dir, "fixtures/proc", path), "utf8");

/** What each parser makes of a file, without its type. */
const parsers: Readonly<Record<string, (text: string, file: string) => unknown>> = {
  snmp: parsePairedLines,
  netstat: parsePairedLines,
  snmp6: parseNamedValues,
  sockstat: parseSocketUse,
  sockstat6: parseSocketUse,
  dev: parseDevices,
};

describe("files of Linux 6.18", () => {
  test("snmp: every section, with its numbers", () => {
    const snmp = parsePairedLines(fixture("linux-6.18/net/snmp"), "snmp");
    expect(Object.keys(snmp)).toEqual(["Ip", "Icmp", "IcmpMsg", "Tcp", "Udp", "UdpLite"]);
    expect(snmp["Tcp"]).toMatchObject({ RtoAlgorithm: 1, RtoMax: 120000, MaxConn: -1, InErrs: 1 });
    expect(Object.keys(snmp["Ip"] ?? {})).toHaveLength(20);
  });

  test("netstat: TcpExt, IpExt and MPTcpExt", () => {
    const netstat = parsePairedLines(fixture("linux-6.18/net/netstat"), "netstat");
    expect(Object.keys(netstat)).toEqual(["TcpExt", "IpExt", "MPTcpExt"]);
    expect(netstat["IpExt"]?.["InOctets"]).toBeGreaterThan(2 ** 28);
    expect(Object.keys(netstat["MPTcpExt"] ?? {}).at(-1)).toBe("WinProbe");
  });

  test("snmp6: one value a name", () => {
    const snmp6 = parseNamedValues(fixture("linux-6.18/net/snmp6"), "snmp6");
    expect(Object.keys(snmp6)).toHaveLength(fixture("linux-6.18/net/snmp6").trim().split("\n").length);
    expect(snmp6).toMatchObject({ Icmp6OutType143: 4, UdpLite6MemErrors: 0 });
  });

  test("sockstat and sockstat6", () => {
    const sockstat = parseSocketUse(fixture("linux-6.18/net/sockstat"), "sockstat");
    expect(sockstat["sockets"]).toEqual({ used: 13 });
    expect(sockstat["TCP"]).toEqual({ inuse: 1, orphan: 0, tw: 0, alloc: 1, mem: 190 });
    expect(parseSocketUse(fixture("linux-6.18/net/sockstat6"), "sockstat6")["UDP6"]).toEqual({ inuse: 0 });
  });

  test("dev: sixteen statistics an interface, under the kernel's long names", () => {
    const devices = parseDevices(fixture("linux-6.18/net/dev"), "dev");
    expect(devices.map((device) => device.interface)).toEqual(["lo", "ifb0", "ifb1", "eth0"]);
    expect(Object.keys(devices[0]?.statistics ?? {})).toEqual([
      ...["rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "rx_fifo_errors", "rx_frame_errors"],
      ...["rx_compressed", "multicast", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped"],
      ...["tx_fifo_errors", "collisions", "tx_carrier_errors", "tx_compressed"],
    ]);
    expect(devices[3]?.statistics).toMatchObject({ rx_compressed: 0, tx_carrier_errors: 0 });
  });
});

describe("odd files", () => {
  test("sections that are missing or new, and a section in two parts", () => {
    const snmp = parsePairedLines(fixture("odd/net/snmp"), "snmp");
    expect(Object.keys(snmp)).toEqual(["Ip", "Icmp", "IcmpMsg", "Tcp"]);
    expect(snmp["IcmpMsg"]).toEqual({ InType0: 1, InType3: 2, OutType8: 3 });
    expect(snmp["Ip"]).toMatchObject({ InReceives: Number.MAX_SAFE_INTEGER, InFutureThings: 7 });
    expect(parsePairedLines(fixture("odd/net/netstat"), "netstat")["TcpExt"]).toEqual({
      SyncookiesSent: 0,
      TCPFutureThing: 9,
    });
  });

  test("negative and new counts in sockstat", () => {
    const sockstat = parseSocketUse(fixture("odd/net/sockstat"), "sockstat");
    expect(sockstat["TCP"]?.["orphan"]).toBe(-1);
    expect(sockstat["UDP"]).toEqual({ inuse: 5, mem: 1, future: 8 });
  });

  test("a new column and no blank after the colon in dev", () => {
    expect(parseDevices(fixture("odd/net/dev"), "dev")).toEqual([
      {
        interface: "fx0",
        statistics: {
          rx_bytes: 1234567890,
          rx_packets: 5,
          rx_errors: 0,
          rx_future: 8,
          tx_bytes: 99,
          tx_packets: 3,
          collisions: 2,
        },
      },
      {
        interface: "fx-long-name01",
        statistics: {
          rx_bytes: 1,
          rx_packets: 2,
          rx_errors: 3,
          rx_future: 4,
          tx_bytes: 5,
          tx_packets: 6,
          collisions: 7,
        },
      },
    ]);
  });
});

describe("large counts", () => {
  test.each([
    ["snmp", "Tcp: InSegs OutSegs\nTcp: 1 PAST\n"],
    ["netstat", "IpExt: InOctets\nIpExt: PAST\n"],
    ["snmp6", "Ip6InReceives 1\nIp6InOctets \tPAST\n"],
    ["sockstat", "UDP: inuse PAST\n"],
    ["dev", "x\nface |bytes|bytes\n fx0: 1 PAST\n"],
  ])("past 2^53 in %s are the nearest double", (file, text) => {
    const parsed = JSON.stringify(parsers[file]?.(text.replace("PAST", "18446744073709551615"), file));
    expect(parsed).toContain("18446744073709552000");
  });
});

describe("what is refused", () => {
  test.each([
    ["snmp", "Tcp: InSegs\nTcp: 0x10\n", 'snmp Tcp InSegs is "0x10", not a count'],
    ["snmp", "Tcp: InSegs OutSegs\nTcp: 1\n", "snmp: 2 names of Tcp, then 1 values of Tcp"],
    ["snmp", "Tcp: InSegs\nUdp: 1\n", "snmp: 1 names of Tcp, then 1 values of Udp"],
    ["snmp", "no colon here\n", 'snmp: no section name in "no colon here"'],
    ["snmp6", "Ip6InReceives\n", 'snmp6 Ip6InReceives is "", not a count'],
    ["snmp6", "Ip6InReceives 1 2\n", "snmp6: 2 values of Ip6InReceives, not one"],
    ["sockstat", "UDP: inuse\n", 'sockstat UDP inuse is "", not a count'],
    ["sockstat", "UDP: inuse 1.5\n", 'sockstat UDP inuse is "1.5", not a count'],
    ["dev", "x\nface |bytes|bytes\n fx0: 1\n", 'dev: 1 values in "fx0: 1", not 2'],
    ["dev", "x\nface bytes\n", 'dev: "face bytes" is not the heading of a device table'],
    ["dev", "x\n", 'dev: "" is not the heading of a device table'],
  ])("%s that is not well formed: %j", (file, text, message) => {
    expect(() => parsers[file]?.(text, file)).toThrow(message);
  });

  test.each(Object.keys(parsers))("%s cut anywhere but at the end of a line", (file) => {
    const text = fixture(`linux-6.18/net/${file}`);
    const cuts = Array.from({ length: text.length }, (_, length) => text.slice(0, length));
    const cut = cuts.filter((part) => !part.endsWith("\n"));
    expect(cut.length).toBeGreaterThan(50);
    for (const part of cut) expect(() => parsers[file]?.(part, file)).toThrow("is cut short after");
  });

  test("snmp cut between a section's names and its values", () => {
    const text = fixture("linux-6.18/net/snmp").split("\n").slice(0, 3).join("\n");
    expect(() => parsePairedLines(`${text}\n`, "snmp")).toThrow("snmp: no section name");
  });
});

describe("round trips", () => {
  const name = fc.stringMatching(/^[A-Z][A-Za-z0-9]{0,20}$/);
  const value = fc.integer({ min: -1, max: Number.MAX_SAFE_INTEGER });
  const statistics = fc.dictionary(name, value, { minKeys: 1, maxKeys: 30, noNullPrototype: true });

  test("what is written in pairs of lines is read back", () => {
    const sections = fc.dictionary(name, statistics, { minKeys: 1, noNullPrototype: true });
    fc.assert(
      fc.property(sections, (written) => {
        const text = Object.entries(written).map(
          ([prefix, fields]) =>
            `${prefix}: ${Object.keys(fields).join(" ")}\n${prefix}: ${Object.values(fields).join(" ")}\n`,
        );
        expect(parsePairedLines(text.join(""), "snmp")).toEqual(written);
      }),
    );
  });

  test("what is written line by line is read back", () => {
    fc.assert(
      fc.property(statistics, (written) => {
        const text = Object.entries(written).map(([key, count]) => `${key.padEnd(32)}\t${count}\n`);
        expect(parseNamedValues(text.join(""), "snmp6")).toEqual(written);
      }),
    );
  });
});
