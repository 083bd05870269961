// HNSCall through the stand-in of vmcompute.dll: what it answers, what it refuses, and that nothing of it is kept.

import { afterAll, describe, expect, test } from "bun:test";
import { openHns } from "../../windows/hns.ts";
import { HnsError } from "../../windows/hns-parse.ts";
import { createHnsReader, type HnsFindings, HnsReadingError } from "../../windows/hns-reading.ts";
import { addressCell, openLibrary, takeUtf16, utf16 } from "../../windows/system.ts";
import { openHnsStub, type StubSettings } from "./hns.stub.ts";
import { workingSet } from "./working-set.ts";

const stub = openHnsStub();
const hns = openHns("vmcompute.dll");
afterAll(() => {
  hns[Symbol.dispose]();
  stub[Symbol.dispose]();
});

const elapsedMs = () => performance.now();

function failure<T extends Error>(kind: new (...args: never[]) => T, run: () => unknown): T {
  try {
    run();
  } catch (error) {
    if (error instanceof kind) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

const read = (settings: StubSettings, endpointsMax = 1000) => {
  stub.set(settings);
  return createHnsReader({ endpointsMax, budgetMs: 60_000, elapsedMs }).read(hns.get);
};

const readingError = (settings: StubSettings): HnsReadingError =>
  failure(HnsReadingError, () => read(settings));

describe("a library", () => {
  test("that is not there is the Containers feature that is not there", () => {
    expect(failure(HnsError, () => openHns("no-such-library.dll")).message).toMatch(
      /^The Containers feature, and HNS with it, is not on this machine: there is no C:\\.*\\no-such-library\.dll$/,
    );
  });

  test("without HNSCall is told by its name", () => {
    expect(failure(HnsError, () => openHns("vmcompute-no-export.dll")).message).toMatch(
      /^HNS cannot be asked: C:\\.*\\vmcompute-no-export\.dll cannot be used: .*HNSCall/,
    );
  });

  test("of the newer interface beside it changes nothing", () => {
    const { symbols } = openLibrary("computenetwork.dll", {
      HcnEnumerateEndpoints: { args: ["ptr", "ptr", "ptr"], returns: "i32" },
      StubOpenHandles: { args: [], returns: "i32" },
    });
    const ids = addressCell();
    expect(symbols.HcnEnumerateEndpoints(utf16("{}"), ids, addressCell())).toBe(0);
    const { findings } = read({ endpoints: 1 });
    expect(findings.endpoints.map(({ id }) => id)).toEqual(JSON.parse(takeUtf16(ids) ?? ""));
    expect(symbols.StubOpenHandles()).toBe(0);
  });
});

describe("a reading", () => {
  test("has every endpoint with its facts and counts", () => {
    const { findings, failed } = read({ endpoints: 2, remote: 3, created: 2, tick: 7, name: "pod 捕获" });
    const endpoint = (n: 0 | 1) => ({
      id: `7eb7bc15-4510-4225-8535-00000000000${n}`,
      name: `pod 捕获-${n}`,
      address: `10.244.0.${n + 1}`,
      network: "azure",
      port: `36279ca2-afda-4f06-8d32-00000000000${n}`,
      forward: {
        ingress: { packets: 7n * BigInt(n + 1), bytes: 700n * BigInt(n + 1) },
        egress: { packets: 14n * BigInt(n + 1), bytes: 1400n * BigInt(n + 1) },
      },
      drops: [
        { reason: "endpoint", direction: "ingress" as const, packets: 7n },
        { reason: "endpoint", direction: "egress" as const, packets: 14n },
      ],
    });
    expect(findings).toEqual({
      endpoints: [endpoint(0), endpoint(1)],
      remote: 3,
      overflow: 0,
      unread: [],
      waiting: [],
      limits: [],
    });
    expect(failed).toEqual({ "hns-list": 0, "hns-stats": 0, "hns-deadline": 0 });
  });

  test("has no port on a NAT network", () => {
    expect(read({ ports: 0 }).findings.endpoints.map(({ port }) => port)).toEqual([undefined, undefined]);
  });

  test("is exact beyond 2^53, in keys of any case, with what is not available left out", () => {
    const start = 2n ** 53n + 1n;
    const { findings } = read({ endpoints: 1, tick: 2, start: `${start}`, switch: 2, case: "lower" });
    const [endpoint] = findings.endpoints;
    expect(endpoint?.forward.ingress.packets).toBe(start + 2n);
    expect(endpoint?.switch?.tcpFlags[0]).toEqual({
      direction: "ingress",
      flag: "SYN",
      packets: start + 2n,
    });
    expect(endpoint?.switch?.drops[1]).toEqual({
      reason: "aclrule",
      direction: "egress",
      packets: start + 48n,
    });
    expect(endpoint?.switch?.tcpStatistics.map(({ statistic }) => statistic)).toEqual(
      ["Verified", "ResetCount", "ResetSyn", "ClosedFin", "TimeWaitExpiredCount"].flatMap((name) => [
        name,
        name,
      ]),
    );
  });

  for (const by of ["answer", "hresult"])
    test(`goes on without an endpoint that is gone by now (${by})`, () => {
      const { findings, failed } = read({ endpoints: 3, removed: 2, by });
      expect(findings.endpoints.map(({ name }) => name)).toEqual(["pod-0"]);
      expect({ failed, unread: findings.unread, limits: findings.limits }).toEqual({
        failed: { "hns-list": 0, "hns-stats": 0, "hns-deadline": 0 },
        unread: [],
        limits: [],
      });
    });

  test("may find that all are gone", () => {
    expect(read({ endpoints: 2, removed: 2 }).findings.endpoints).toEqual([]);
  });

  test("counts endpoints whose counts cannot be read, and has the others", () => {
    const { findings, failed } = read({ endpoints: 3, fault: "refused", at: "stats", only: 1 });
    expect(findings.endpoints.map(({ name }) => name)).toEqual(["pod-0", "pod-2"]);
    expect(failed).toEqual({ "hns-list": 0, "hns-stats": 1, "hns-deadline": 0 });
    expect(findings.unread).toEqual(["7eb7bc15-4510-4225-8535-000000000001"]);
    expect(findings.limits).toEqual([
      "the counts of 1 endpoints cannot be read; the first: HNS, GET /endpointstats/7EB7BC15-4510-4225-8535-000000000001: " +
        "The parameter is incorrect.",
    ]);
  });

  test("reads as many as it may, the same ones again, and counts the rest", () => {
    stub.set({ endpoints: 5 });
    const reader = createHnsReader({ endpointsMax: 3, budgetMs: 60_000, elapsedMs });
    const names = ({ endpoints }: HnsFindings) => endpoints.map(({ name }) => name).toSorted();
    const { findings } = reader.read(hns.get);
    expect(names(findings)).toEqual(["pod-0", "pod-1", "pod-2"]);
    expect(findings.unread).toHaveLength(2);
    expect(findings.overflow).toBe(2);
    expect(findings.limits).toEqual(["2 endpoints beyond the bound of 3 are in no count"]);
    // The list in another order.
    const get = (path: string) => {
      const text = hns.get(path);
      if (path !== "/endpoints/") return text;
      const answer = JSON.parse(text);
      return JSON.stringify({ ...answer, Output: answer.Output.toReversed() });
    };
    expect(names(reader.read(get).findings)).toEqual(["pod-0", "pod-1", "pod-2"]);
  });

  test("of 10,000 endpoints has them all", () => {
    const { findings } = read({ endpoints: 10_000, tick: 1 }, 10_000);
    expect(findings.endpoints).toHaveLength(10_000);
    const sum = findings.endpoints.reduce((all, { forward }) => all + forward.ingress.packets, 0n);
    expect(sum).toBe((10_000n * 10_001n) / 2n);
  });
});

describe("a reading whose time is over", () => {
  /** Each request takes a second. */
  const slowReader = (budgetMs: number) => {
    let nowMs = 0;
    const get = (path: string) => {
      nowMs += 1000;
      return hns.get(path);
    };
    const reader = createHnsReader({ endpointsMax: 100, budgetMs, elapsedMs: () => nowMs });
    return () => reader.read(get);
  };
  const countsIn = ({ endpoints }: HnsFindings): Readonly<Record<string, number>> =>
    Object.fromEntries(endpoints.map(({ name, forward }) => [name, Number(forward.ingress.packets)]));
  const idOf = (n: number): string => `7eb7bc15-4510-4225-8535-00000000000${n}`;

  test("has what was read, and the next one begins where it ended", () => {
    const next = slowReader(2500);
    stub.set({ endpoints: 5, tick: 1 });
    const first = next();
    expect(countsIn(first.findings)).toEqual({ "pod-0": 1, "pod-1": 2 });
    expect(first.findings.waiting).toEqual([idOf(2), idOf(3), idOf(4)]);
    expect(first.findings.unread).toEqual([]);
    expect(first.findings.limits).toEqual([
      "HNS is slow: 2 of 5 endpoints were read in 3000 ms; " +
        "the others come next and keep their last values, 3 of them have none yet",
    ]);
    expect(first.failed).toMatchObject({ "hns-deadline": 1 });
    stub.set({ endpoints: 5, tick: 10 });
    const second = next();
    expect(countsIn(second.findings)).toEqual({ "pod-0": 1, "pod-1": 2, "pod-2": 30, "pod-3": 40 });
    expect(second.findings.waiting).toEqual([idOf(4)]);
    stub.set({ endpoints: 5, tick: 100 });
    const third = next();
    expect(countsIn(third.findings)).toEqual({
      ...{ "pod-0": 100, "pod-1": 2, "pod-2": 30, "pod-3": 40, "pod-4": 500 },
    });
    expect(third.findings.waiting).toEqual([]);
    expect(third.findings.limits).toEqual([
      "HNS is slow: 2 of 5 endpoints were read in 3000 ms; the others come next and keep their last values",
    ]);
  });

  test("comes to all of them in turn, those that fail among them, and forgets those that are gone", () => {
    const next = slowReader(2500);
    stub.set({ endpoints: 5, tick: 1, fault: "refused", at: "stats", only: 1 });
    const first = next();
    expect(countsIn(first.findings)).toEqual({ "pod-0": 1 });
    expect(first.findings.unread).toEqual([idOf(1)]);
    for (const names of [
      ["pod-0", "pod-2", "pod-3"],
      ["pod-0", "pod-2", "pod-3", "pod-4"],
    ])
      expect(new Set(Object.keys(countsIn(next().findings)))).toEqual(new Set(names));
    stub.set({ endpoints: 2, tick: 7 });
    const last = next();
    expect(countsIn(last.findings)).toEqual({ "pod-0": 7, "pod-1": 14 });
    expect(last.findings.limits).toEqual([]);
  });

  test("has one of them however long the list takes", () => {
    const next = slowReader(500);
    stub.set({ endpoints: 3, tick: 1 });
    for (const known of [1, 2, 3, 3]) expect(next().findings.endpoints).toHaveLength(known);
  });

  test("fails where nothing was read, and the next one goes on behind", () => {
    const next = slowReader(2500);
    stub.set({ endpoints: 4, removed: 4 });
    const { message, source } = failure(HnsReadingError, next);
    expect(source).toBe("hns-deadline");
    expect(message).toBe("HNS is slow: 0 of 4 endpoints were read in 3000 ms");
    const slower = slowReader(500);
    stub.set({ endpoints: 2, tick: 1, fault: "refused", at: "stats", only: 0 });
    expect(failure(HnsReadingError, slower).source).toBe("hns-stats");
    expect(countsIn(slower().findings)).toEqual({ "pod-1": 2 });
  });
});

describe("a fault", () => {
  const denied = "HNS refuses this account; run Fovea as SYSTEM or as an administrator";
  for (const [fault, told] of [
    ["denied", new RegExp(`^${denied} \\(HNS, GET /endpoints/: .*\\(0x80070005\\)\\)$`)],
    ["denied-answer", new RegExp(`^${denied} \\(HNS, GET /endpoints/: Access is denied\\.\\)$`)],
    ["refused", /^HNS, GET \/endpoints\/: The parameter is incorrect\.$/],
    ["null", /^HNS, GET \/endpoints\/: an answer without a text$/],
    ["empty", /^HNS, GET \/endpoints\/: the answer is no JSON: ""$/],
    [
      "garbage",
      /^HNS, GET \/endpoints\/: the answer is no JSON: "<html>\\r\\n502 Bad Gateway\\r\\n<\/html>"$/,
    ],
    ["cut", /^HNS, GET \/endpoints\/: the answer is no JSON: "\{\\"Success\\":true,.*$/],
  ] as const)
    test(`${fault} of the list is told in one line`, () => {
      const { message, source } = readingError({ fault, at: "list" });
      expect(message).toMatch(told);
      expect(source).toBe("hns-list");
    });

  test("of all counts is no reading", () => {
    for (const fault of ["refused", "null", "empty", "garbage", "cut"]) {
      const { message, source } = readingError({ fault, at: "stats" });
      expect(message).toStartWith(
        "HNS gives no statistics of any endpoint: HNS, GET /endpointstats/7EB7BC15",
      );
      expect(source).toBe("hns-stats");
    }
  });

  test("of rights is one whatever is asked for", () => {
    const { message, source } = readingError({ fault: "denied", at: "stats", only: 1 });
    expect(message).toStartWith(denied);
    expect(source).toBe("hns-stats");
  });
});

describe("what an answer costs", () => {
  const path = "/endpointstats/7EB7BC15-4510-4225-8535-000000000001";
  const grown = (calls: number, call: () => void): number => {
    for (let i = 0; i < 10_000; i += 1) call();
    const before = workingSet();
    for (let i = 0; i < calls; i += 1) call();
    return workingSet() - before;
  };

  test("is given back, over 100,000 calls", () => {
    read({ endpoints: 2 });
    const startMs = performance.now();
    const answers = grown(100_000, () => hns.get(path));
    console.log(
      `HNSCall: ${(((performance.now() - startMs) * 1000) / 110_000).toFixed(1)} us a call, ${answers >> 10} KiB`,
    );
    const refusals = grown(20_000, () => failure(HnsError, () => hns.get("/nothing")));
    // An answer has some 700 bytes: 67 MiB, were they kept.
    expect(Math.max(answers, refusals)).toBeLessThan(16 << 20);
  });

  test("would show if it were kept", () => {
    read({ endpoints: 2 });
    const { symbols } = openLibrary("vmcompute.dll", {
      HNSCall: { args: ["ptr", "ptr", "ptr", "ptr"], returns: "i32" },
    });
    const cell = addressCell();
    const [method, where, request] = [utf16("GET"), utf16(path), utf16("")];
    const kept = grown(50_000, () => symbols.HNSCall(method, where, request, cell));
    expect(kept).toBeGreaterThan(16 << 20);
  });

  test("is little, for a reading of 250 endpoints", () => {
    stub.set({ endpoints: 250, switch: 1 });
    const reader = createHnsReader({ endpointsMax: 250, budgetMs: 60_000, elapsedMs });
    const answers = new Map<string, string>();
    reader.read((asked) => {
      const text = hns.get(asked);
      answers.set(asked, text);
      return text;
    });
    const tookMs = Array.from({ length: 10 }, () => {
      const startMs = performance.now();
      reader.read((asked) => answers.get(asked) ?? "");
      return performance.now() - startMs;
    });
    console.log(`250 endpoints: ${Math.min(...tookMs).toFixed(1)} ms outside the library`);
    expect(Math.min(...tookMs)).toBeLessThan(50);
  });
});
