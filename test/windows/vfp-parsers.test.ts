// What vfpctrl prints, in both forms, and JSON with counts of 64 bits. The fixtures are synthetic: no recording is public.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { SwitchCounters } from "../../windows/counters.ts";
import { countOf, parseExact } from "../../windows/exact-json.ts";
import { decodeOutput, firstLine } from "../../windows/spawn.ts";
import { parsePortCountersJson } from "../../windows/vfp-json.ts";
import { meaningOf } from "../../windows/vfp-names.ts";
import { parsePortCountersText } from "../../windows/vfp-text.ts";

const fixture = (name: string): string =>
  readFileSync(join(import.meta.dir, "../fixtures/windows", name), "utf8");

const json = fixture("vfpctrl-counter.synthetic.json");
const text = fixture("vfpctrl-counter.synthetic.txt");

const port = (fields: Record<string, unknown>): string =>
  JSON.stringify({ InformationArray: [{ PortCounters: [fields] }] });

const plain = ({ drops, tcpFlags, tcpStatistics }: SwitchCounters): readonly string[] => [
  ...drops.map(({ reason, direction, packets }) => `drop ${reason} ${direction} ${packets}`),
  ...tcpFlags.map(({ flag, direction, packets }) => `flag ${flag} ${direction} ${packets}`),
  ...tcpStatistics.map(({ statistic, direction, count }) => `tcp ${statistic} ${direction} ${count}`),
];

const flags = [
  "flag SYN egress 12",
  "flag SYN-ACK egress 3",
  "flag FIN egress 9",
  "flag RST egress 1",
  "flag SYN ingress 5",
  "flag SYN-ACK ingress 12",
  "flag FIN ingress 8",
  "flag RST ingress 2",
];

describe("exact JSON", () => {
  test("keeps integers beyond 2^53, and leaves all else as it is", () => {
    const source =
      '{"a":9007199254740993,"b":[9007199254740991,-9007199254740993,1.5,1e300],"c":"9007199254740993"}';
    expect(parseExact(source)).toEqual({
      a: 9007199254740993n,
      b: [9007199254740991, -9007199254740993n, 1.5, 1e300],
      c: "9007199254740993",
    });
    expect(parseExact('{"a":1}')).toEqual({ a: 1 });
    expect(() => parseExact("{")).toThrow(SyntaxError);
  });

  test("a count is whole, not negative and not all ones", () => {
    expect([0, 7, "12", 2n ** 64n - 2n, " 5 "].map(countOf)).toEqual([0n, 7n, 12n, 2n ** 64n - 2n, 5n]);
    const none = [
      -1,
      1.5,
      Number.NaN,
      1e300,
      -1n,
      2n ** 64n - 1n,
      2n ** 65n,
      "",
      "-1",
      "1.5",
      "x",
      null,
      undefined,
      {},
    ];
    expect(none.map(countOf)).toEqual(none.map(() => undefined));
    expect(countOf("18446744073709551615")).toBeUndefined();
  });
});

describe("the JSON form", () => {
  test("gives drops, flags and statistics of both directions, exact", () => {
    const counters = parsePortCountersJson(json);
    expect(counters.source).toBe("vfpctrl");
    const lines = plain(counters);
    expect(lines.slice(0, 10)).toEqual(["drop aclrule egress 4", "drop aclrule ingress 7", ...flags]);
    expect(lines).toContain("tcp Verified egress 9007199254740993");
    expect(lines).toContain("tcp TcpHalfOpenTimeouts ingress 4");
    expect(lines).toContain("tcp ResetInjected egress 3");
    // All ones: not available. Only that counter is missing.
    expect(lines.filter((line) => line.startsWith("tcp TcpHalfOpenTimeouts egress"))).toEqual([]);
    // The total of drops stands beside its part.
    expect(counters.drops).toHaveLength(2);
  });

  test("takes objects for arrays of one, keys of any case, and a mark of byte order", () => {
    const one = '\uFEFF{"informationArray":{"PORTCOUNTERS":{"direction":1,"droppedACL":3}}}';
    expect(plain(parsePortCountersJson(one))).toEqual(["drop aclrule ingress 3"]);
  });

  test("a bad number costs its counter, a bad direction its port", () => {
    const bad = {
      Direction: 1,
      DroppedAcl: "many",
      TcpSynPackets: -1,
      TcpFinPackets: 1.5,
      TcpResetPackets: 2,
    };
    expect(plain(parsePortCountersJson(port(bad)))).toEqual(["flag RST ingress 2"]);
    const lost = {
      InformationArray: {
        PortCounters: [
          { Direction: 2, DroppedAcl: 1 },
          { Direction: 0, DroppedAcl: 2 },
        ],
      },
    };
    expect(plain(parsePortCountersJson(JSON.stringify(lost)))).toEqual(["drop aclrule egress 2"]);
  });

  test("throws for what is no answer", () => {
    for (const none of ["", "{", "[]", "null", "7", '{"InformationArray":[]}', text, port({ Direction: 0 })])
      expect(() => parsePortCountersJson(none)).toThrow();
  });
});

describe("the text form", () => {
  test("gives the same, whatever lines are around", () => {
    const counters = parsePortCountersText(text);
    expect(counters.source).toBe("vfpctrl-text");
    const lines = plain(counters);
    expect(lines.slice(0, 10)).toEqual(["drop aclrule egress 4", "drop aclrule ingress 7", ...flags]);
    expect(lines).toContain("tcp TimeWaitExpiredCount egress 2");
    // `n/a` costs this counter alone.
    expect(lines.filter((line) => line.startsWith("tcp TimeWaitExpiredCount ingress"))).toEqual([]);
    expect(plain(parsePortCountersText(text.replaceAll("\r\n", "\n")))).toEqual(lines);
  });

  test("spaces in labels and headings differ, a second colon does not disturb", () => {
    const odd = "DroppedACL packets: : 4\r\nDirection-IN\r\n S Y N-ACK packets :9\r\n";
    expect(plain(parsePortCountersText(odd))).toEqual(["drop aclrule egress 4", "flag SYN-ACK ingress 9"]);
    const large = "SYN packets : 18446744073709551614\nFIN packets : 18446744073709551615";
    expect(plain(parsePortCountersText(large))).toEqual(["flag SYN egress 18446744073709551614"]);
  });

  test("throws for what has no counter", () => {
    for (const none of ["", "Command get-port-counter failed!", "Port name : 5", json])
      expect(() => parsePortCountersText(none)).toThrow();
  });
});

test("names of the JSON, of the text and of HNS mean the same", () => {
  const same = [
    ["SYN-ACK packets", "TcpSynAckPackets", "SynAckPackets"],
    ["Dropped ACL packets", "DroppedAcl", "DropAcl"],
    ["TCP Connections Reset", "TcpConnectionsResets", "TcpConnectionsReset"],
    ["TCP Connections Expired to Time Wait", "TcpConnectionsTimeWait"],
    ["RST packets", "TcpResetPackets", "RstPackets"],
  ];
  for (const [first = "", ...others] of same) {
    expect(meaningOf(first)).toBeDefined();
    for (const other of others) expect(meaningOf(other)).toEqual(meaningOf(first)!);
  }
  for (const none of ["DroppedPackets", "TotalPackets", "Direction", "", "PendingPackets"])
    expect(meaningOf(none)).toBeUndefined();
});

test("output is read in the encodings that tools write", () => {
  const line = "Größe : 5";
  expect(decodeOutput(Buffer.from(line))).toBe(line);
  expect(decodeOutput(Buffer.from(`\uFEFF${line}`))).toBe(line);
  expect(decodeOutput(Buffer.from(line, "utf16le"))).toBe(line);
  expect(decodeOutput(Buffer.from(`\uFEFF${line}`, "utf16le"))).toBe(line);
  expect(decodeOutput(Buffer.from(line, "latin1"))).toMatch(/^Gr.+e : 5$/);
  expect(firstLine(Buffer.from("\r\n  \r\n  first  \r\nsecond"))).toBe("first");
  expect(firstLine(new Uint8Array(0))).toBe("");
});
