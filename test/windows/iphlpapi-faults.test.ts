// What the collectors of iphlpapi do when a library, an export or a call fails, and what they leave behind.

import { afterEach, describe, expect, test } from "bun:test";
import type { Snapshot } from "../../src/snapshot.ts";
import { type IpOptions, openIpCollectors, restMs } from "../../windows/ip-collectors.ts";
import { LibraryError, openLibrary, WindowsError } from "../../windows/system.ts";

const stub = openLibrary("iphlpapi-faults.dll", {
  StubTcp: { args: ["u32", "u32", "u32", "u32"], returns: "void" },
  StubTcpCalls: { args: [], returns: "u32" },
  StubInterfaces: { args: ["u32", "u32"], returns: "void" },
  StubLive: { args: [], returns: "i32" },
}).symbols;

const faults = { main: "iphlpapi-faults.dll", wide: "iphlpapi-faults.dll" };

function open(options: Partial<IpOptions> = {}) {
  const collectors = openIpCollectors({
    interfaces: { include: ["*"], exclude: [], loopback: false },
    libraries: faults,
    elapsedMs: () => 0,
    ...options,
  });
  return (name: string): Snapshot => {
    const found = collectors.find((collector) => collector.name === name);
    return found!.collect(new AbortController().signal) as Snapshot;
  };
}

function thrown(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

afterEach(() => {
  stub.StubTcp(0, 0, 4, 0);
  stub.StubInterfaces(0, 1);
});

describe("opening", () => {
  test("a library that is missing is what each collector throws, each time", () => {
    const collect = open({ libraries: { main: "iphlpapi-none.dll", wide: "iphlpapi-none.dll" } });
    for (const name of ["protocols", "sockets", "interfaces", "protocols"]) {
      const error = thrown(() => collect(name));
      expect(error).toBeInstanceOf(LibraryError);
      expect(String(error)).toMatch(/[A-Z]:\\windows\\system32\\iphlpapi-none\.dll/i);
    }
  });

  test("an export that is missing costs its own subject alone", () => {
    const collect = open();
    const error = thrown(() => collect("protocols"));
    expect(error).toBeInstanceOf(LibraryError);
    expect(String(error)).toContain("GetTcpStatisticsEx");
    expect(collect("sockets").tcpSockets?.states).toBeDefined();
    expect(collect("interfaces").interfaces).toBeDefined();
  });
});

describe("the table of sockets", () => {
  const MiB = 2 ** 20;

  test("grows to what it needs", () => {
    stub.StubTcp(0, 0, MiB, 0);
    const rows = Math.floor((MiB - 4) / 24) + Math.floor((MiB - 4) / 56);
    const collect = open();
    expect(collect("sockets")).toMatchObject({ tcpSockets: { states: { TIME_WAIT: rows } }, limits: [] });
    expect(stub.StubTcpCalls()).toBe(3);
    collect("sockets");
    expect(stub.StubTcpCalls()).toBe(5);
  });

  test("gives up when it always grows faster", () => {
    stub.StubTcp(0, 50, 32_768, 8 * MiB);
    const error = thrown(() => open()("sockets"));
    expect(error).toBeInstanceOf(WindowsError);
    expect(String(error)).toContain("GetExtendedTcpTable for IPv4");
    expect(String(error)).toContain("(error 122)");
    expect(stub.StubTcpCalls()).toBe(9); // Eight for IPv4, one for IPv6.
  });

  test("takes no more than its bound", () => {
    stub.StubTcp(0, 0, 65 * MiB, 0);
    expect(String(thrown(() => open()("sockets")))).toContain("(error 122)");
    expect(stub.StubTcpCalls()).toBe(2); // One a family.
  });

  test("of one family that fails hides not the other", () => {
    stub.StubTcp(0, 5, 4 + 3 * 24, 0);
    const some = open()("sockets");
    expect(some.tcpSockets?.states).toMatchObject({ TIME_WAIT: 3, LISTEN: 0 });
    expect(some.limits).toHaveLength(1);
    expect(some.limits?.[0]).toContain("of IPv6 are not counted: GetExtendedTcpTable for IPv6: ");
    stub.StubTcp(0, 50, 4 + 3 * 24, 0);
    expect(open()("sockets").limits).toEqual([]);
    stub.StubTcp(5, 0, 4 + 2 * 56, 0);
    expect(open()("sockets").tcpSockets?.states).toMatchObject({ TIME_WAIT: 2 });
    stub.StubTcp(50, 5, 4, 0);
    const error = thrown(() => open()("sockets"));
    expect(error).toMatchObject({ code: 50 });
  });
});

describe("the table of interfaces", () => {
  test("is freed, 10,000 times, also when it cannot be used", () => {
    const collect = open();
    for (let call = 0; call < 10_000; call += 1) {
      stub.StubInterfaces(0, call % 3);
      collect("interfaces");
    }
    expect(stub.StubLive()).toBe(0);
    stub.StubInterfaces(0, 65_537);
    expect(String(thrown(() => collect("interfaces")))).toContain("65537 interfaces, more than 65536");
    expect(stub.StubLive()).toBe(0);
  });

  test("tells the call and the error when it is refused, or no table", () => {
    stub.StubInterfaces(5, 1);
    const error = thrown(() => open()("interfaces"));
    expect(error).toBeInstanceOf(WindowsError);
    expect(error).toMatchObject({ code: 5 });
    expect(String(error)).toContain("GetIfTable2");
    stub.StubInterfaces(0, 0xffff_ffff);
    expect(String(thrown(() => open()("interfaces")))).toContain("GetIfTable2 gave no table");
  });

  test("beyond the bound are counted", () => {
    stub.StubInterfaces(0, 10);
    const { interfaces, limits } = open({ interfacesMax: 8 })("interfaces");
    expect(interfaces?.map((each) => each.interface)).toEqual(
      Array.from({ length: 8 }, (_, index) => `interface ${index}`),
    );
    expect(limits).toEqual(["2 interfaces are not counted: more than 8."]);
  });
});

describe("rest", () => {
  test("a quick answer stands for nothing, a slow one for fifty times as long, a minute at most", () => {
    expect([0, 19, 20, 100, 5000].map((elapsed) => restMs(elapsed))).toEqual([0, 0, 1000, 5000, 60_000]);
  });

  test("while it lasts the answer is the same", () => {
    stub.StubInterfaces(0, 1);
    let at = 0;
    let tookMs = 100;
    const elapsedMs = () => {
      at += tookMs;
      return at;
    };
    const collect = open({ elapsedMs });
    const first = collect("interfaces"); // From 100 to 200.
    tookMs = 1;
    stub.StubInterfaces(0, 2);
    expect(collect("interfaces")).toBe(first);
    at = 200 + 5000 - 1;
    expect(collect("interfaces").interfaces).toHaveLength(2);
  });
});
