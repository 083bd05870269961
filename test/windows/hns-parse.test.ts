// What HNS answers, as texts: fields of any version, 64-bit counts, and what is no answer at all.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { HnsError, parseEndpoints, parseStatistics } from "../../windows/hns-parse.ts";

const fixture = (name: string): string =>
  readFileSync(join(import.meta.dir, "../fixtures/windows", name), "utf8");

const statistics = (output: string): string => `{"Success":true,"Output":${output}}`;

const failure = (run: () => unknown): HnsError => {
  try {
    run();
  } catch (error) {
    if (error instanceof HnsError) return error;
    throw error;
  }
  throw new Error("it did not fail");
};

describe("list of endpoints", () => {
  const list = parseEndpoints(fixture("hns-endpoints.synthetic.json"), "/endpoints/");

  test("takes what is at a port, whatever the spelling", () => {
    expect(list.local).toEqual([
      {
        spelling: "7EB7BC15-4510-4225-8535-9F121F8FC438",
        facts: {
          id: "7eb7bc15-4510-4225-8535-9f121f8fc438",
          name: "Ethernet 捕获",
          address: "172.25.145.155",
          network: "azure",
          port: "36279ca2-afda-4f06-8d32-14a921aba14d",
        },
      },
      {
        spelling: "{0f1e2d3c-4b5a-4678-8796-a5b4c3d2e1f0}",
        facts: {
          id: "0f1e2d3c-4b5a-4678-8796-a5b4c3d2e1f0",
          name: "nat-1",
          address: "fd00::7",
          network: "5c242c1e-8e0f-4f65-b9e0-a0b7a6ea41e2",
        },
      },
      {
        spelling: "8f109901-9970-4fda-bb2b-e9882fb3e8fe",
        facts: {
          id: "8f109901-9970-4fda-bb2b-e9882fb3e8fe",
          name: "of a version without states",
          address: "",
          network: "",
        },
      },
    ]);
  });

  test("counts remote ones and those without a usable id", () => {
    expect({ remote: list.remote, malformed: list.malformed }).toEqual({ remote: 2, malformed: 3 });
  });

  test("takes one endpoint that stands where a list does, and none for nothing", () => {
    const one = `{"ID":"8f109901-9970-4fda-bb2b-e9882fb3e8fe"}`;
    const ids = (output: string) =>
      parseEndpoints(statistics(output), "/endpoints/").local.map(({ facts }) => facts.id);
    expect(ids(one)).toEqual(["8f109901-9970-4fda-bb2b-e9882fb3e8fe"]);
    expect(ids("null")).toEqual([]);
    expect(ids(`[${one},${one}]`)).toEqual(["8f109901-9970-4fda-bb2b-e9882fb3e8fe"]);
  });

  test("reads the states", () => {
    const states = [0, 1, 2, 3, 4, 5, 6].filter((state) => {
      const output = `[{"ID":"8f109901-9970-4fda-bb2b-e9882fb3e8fe","State":${state}}]`;
      return parseEndpoints(statistics(output), "/endpoints/").local.length === 1;
    });
    expect(states).toEqual([2, 3, 5]);
  });

  test("cuts what would be no label", () => {
    const output = `[{"ID":"8f109901-9970-4fda-bb2b-e9882fb3e8fe","Name":"${"n".repeat(5000)}"}]`;
    expect(parseEndpoints(statistics(output), "/endpoints/").local[0]?.facts.name).toHaveLength(256);
  });
});

describe("statistics of an endpoint", () => {
  test("are exact beyond 2^53", () => {
    expect(parseStatistics(fixture("hns-statistics.synthetic.json"), "/endpointstats/x")).toEqual({
      forward: {
        ingress: { packets: 300n, bytes: 10_000_000_001n },
        egress: { packets: 18_446_744_073_709_551_614n, bytes: 9_007_199_254_740_993n },
      },
      drops: [
        { reason: "endpoint", direction: "ingress", packets: 5n },
        { reason: "endpoint", direction: "egress", packets: 6n },
      ],
    });
  });

  test("have those of the switch in newer versions, without what is not available", () => {
    const parsed = parseStatistics(fixture("hns-statistics-switch.synthetic.json"), "/endpointstats/x");
    const both = (name: string, ingress: bigint, egress: bigint) => [
      { direction: "ingress", name, count: ingress },
      { direction: "egress", name, count: egress },
    ];
    expect(parsed.switch?.source).toBe("hns");
    expect(parsed.switch?.drops).toEqual([
      { reason: "aclrule", direction: "ingress", packets: 41n },
      { reason: "aclrule", direction: "egress", packets: 42n },
    ]);
    expect(
      parsed.switch?.tcpFlags.map(({ direction, flag, packets }) => ({
        direction,
        name: flag,
        count: packets,
      })),
    ).toEqual([
      ...both("SYN", 9_007_199_254_740_995n, 10n),
      ...both("SYN-ACK", 11n, 12n),
      ...both("FIN", 5n, 6n),
      ...both("RST", 7n, 8n),
    ] as never);
    expect(
      parsed.switch?.tcpStatistics.map(({ direction, statistic, count }) => ({
        direction,
        name: statistic,
        count,
      })),
    ).toEqual([
      ...both("Verified", 23n, 24n),
      ...both("TimedOutCount", 21n, 22n),
      ...both("ResetCount", 17n, 18n),
      ...both("ResetSyn", 15n, 16n),
      ...both("ClosedFin", 13n, 14n),
      ...both("TimeWaitExpiredCount", 19n, 20n),
    ] as never);
  });

  test("hold any 64-bit count, in any case of the keys", () => {
    const anyCase = fc.constantFrom(
      (key: string) => key,
      (key: string) => key.toLowerCase(),
      (key: string) => key.toUpperCase(),
      (key: string) => `${key.charAt(0).toLowerCase()}${key.slice(1)}`,
    );
    const count = fc.bigInt({ min: 0n, max: 2n ** 64n - 2n });
    fc.assert(
      fc.property(anyCase, count, count, count, (spell, packets, bytes, drops) => {
        const field = (key: string, value: bigint) => `"${spell(key)}":${value}`;
        const text = `{"${spell("Success")}":true,"${spell("Output")}":{${[
          field("PacketsReceived", packets),
          field("BytesSent", bytes),
          field("DroppedPacketsOutgoing", drops),
        ].join(",")}}}`;
        const { forward, drops: dropped } = parseStatistics(text, "/endpointstats/x");
        expect(forward).toEqual({ ingress: { packets, bytes: 0n }, egress: { packets: 0n, bytes } });
        expect(dropped.map((drop) => drop.packets)).toEqual([0n, drops]);
      }),
    );
  });

  test("are no zeros where a count is no count", () => {
    for (const value of ["-1", "1.5", `"many"`, "true", "18446744073709551615", "99999999999999999999"]) {
      const { message } = failure(() => parseStatistics(statistics(`{"PacketsSent":${value}}`), "/p"));
      expect(message).toStartWith("HNS, GET /p: PacketsSent is ");
    }
    expect(failure(() => parseStatistics(statistics("[]"), "/p")).message).toBe(
      "HNS, GET /p: the answer has no statistics",
    );
  });
});

describe("what is no answer", () => {
  const cases: readonly (readonly [string, string, number | undefined])[] = [
    [`<html>\r\n502</html>`, `the answer is no JSON: "<html>\\r\\n502</html>"`, undefined],
    ["", `the answer is no JSON: ""`, undefined],
    ["[]", `the answer does not tell of success: "[]"`, undefined],
    [`{"Output":[]}`, `the answer does not tell of success: "{\\"Output\\":[]}"`, undefined],
    [
      `{"Success":false,"Error":"Element not\\r\\nfound. ","ErrorCode":2147943568}`,
      "Element not found.",
      0x80070490 | 0,
    ],
    [
      `{"success":false,"error":"Zugriff verweigert","errorCode":-2147024891}`,
      "Zugriff verweigert",
      0x80070005 | 0,
    ],
    [`{"Success":false}`, "an error without a text", undefined],
  ];
  for (const [text, told, code] of cases)
    test(JSON.stringify(text), () => {
      for (const parse of [parseEndpoints, parseStatistics]) {
        const error = failure(() => parse(text, "/p"));
        expect(error.message).toBe(`HNS, GET /p: ${told}`);
        expect(error.code).toEqual(code as number);
      }
    });

  test("is quoted in part", () => {
    expect(failure(() => parseEndpoints("x".repeat(1e6), "/p")).message.length).toBeLessThan(120);
  });
});
