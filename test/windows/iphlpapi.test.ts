// The collectors of iphlpapi against the kernel below Wine, whose own iphlpapi reads the same counters.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { Snapshot } from "../../src/snapshot.ts";
import { openIpCollectors } from "../../windows/ip-collectors.ts";
import {
  families,
  iphlpapi,
  openInterfaceTable,
  openStatistics,
  openTcpTable,
} from "../../windows/iphlpapi.ts";
import { tcpRows } from "../../windows/tcp-table.ts";
import { backendContract } from "../backend.contract.ts";

const open = (interfaces = { include: ["*"], exclude: [] as string[], loopback: true }) => {
  const collectors = openIpCollectors({ interfaces, elapsedMs: () => 0 });
  return (name: string): Snapshot => {
    const found = collectors.find((collector) => collector.name === name);
    return found!.collect(new AbortController().signal) as Snapshot;
  };
};

/** Files of the kernel, which only Wine has: on Windows itself there is nothing to compare with. */
const proc = (file: string): string => readFileSync(`Z:\\proc\\net\\${file}`, "utf8");
const lines = (file: string): string[] => proc(file).trimEnd().split("\n");

type Counts = ReadonlyMap<string, number>;

/** `Tcp.InSegs` of snmp and `Ip6InReceives` of snmp6, as the kernel has them now. */
function kernelCounts(): Counts {
  const counts = new Map<string, number>();
  const paired = lines("snmp").map((line) => line.split(/:? /));
  for (let at = 0; at < paired.length; at += 2)
    paired[at]!.forEach((name, place) => {
      if (place > 0) counts.set(`${paired[at]![0]}.${name}`, Number(paired[at + 1]![place]));
    });
  for (const line of lines("snmp6")) {
    const [name = "", value = ""] = line.split(/\s+/);
    counts.set(name, Number(value));
  }
  return counts;
}

/** Other processes count on: ours must lie between what the kernel said before and after. */
function expectBetween(before: Counts, after: Counts, ours: Counts): void {
  expect(ours.size).toBeGreaterThan(0);
  const outside = [...ours].filter(([name, value]) => {
    const [low = Number.NaN, high = Number.NaN] = [before.get(name), after.get(name)];
    return !(low % 2 ** 32 <= value && value <= high); // Iphlpapi hands over the lower 32 bits.
  });
  expect(outside.map(([name, value]) => [name, before.get(name), value, after.get(name)])).toEqual([]);
}

const loopback = { hostname: "127.0.0.1", port: 0 };

/** Some TCP connections and datagrams over the loopback. */
async function makeTraffic(connections = 3): Promise<void> {
  const [peer, sender] = [await Bun.udpSocket(loopback), await Bun.udpSocket(loopback)];
  const server = Bun.listen({ ...loopback, socket: { data: (socket) => void socket.end() } });
  for (let at = 0; at < connections; at += 1) {
    sender.send("a datagram", peer.port, "127.0.0.1");
    const { promise, resolve } = Promise.withResolvers<void>();
    const socket = { open: (own: Bun.Socket) => void own.write("x"), data() {}, close: () => resolve() };
    await Bun.connect({ hostname: "127.0.0.1", port: server.port, socket });
    await promise;
  }
  for (const each of [peer, sender]) each.close();
  server.stop(true);
}

describe("protocols", () => {
  /** The kernel's name of each statistic of one section. */
  const named = (statistics: object | undefined, nameOf: (name: string) => string): Counts =>
    new Map(Object.entries(statistics ?? {}).map(([name, value]) => [nameOf(name), Number(value)]));

  const sectionOf = (snapshot: Snapshot, wanted: string) =>
    snapshot.protocols?.find(({ protocol }) => protocol === wanted)?.statistics;

  test("are what the kernel counts, and go on with it", async () => {
    const collect = open();
    const first = collect("protocols");
    await makeTraffic(5);
    const before = kernelCounts();
    const snapshot = collect("protocols");
    const after = kernelCounts();
    expect(snapshot.limits).toEqual([]);
    // The kernel counts TCP over both families, and Wine gives that for each: the sum is twice as much.
    const tcp = named(snapshot.tcpStatistics, (name) => `Tcp.${name}`);
    expectBetween(before, after, new Map([...tcp].map(([name, value]) => [name, value / 2])));
    const { RoutingDiscards, ...ip } = sectionOf(snapshot, "ip") ?? {};
    expect(RoutingDiscards).toBeDefined();
    expectBetween(
      before,
      after,
      named(ip, (name) => `Ip.${name}`),
    );
    expectBetween(
      before,
      after,
      named(sectionOf(snapshot, "udp"), (name) => `Udp.${name}`),
    );
    expectBetween(
      before,
      after,
      named(sectionOf(snapshot, "udp6"), (name) => `Udp6${name}`),
    );
    const grown = (name: string) =>
      (snapshot.tcpStatistics?.[name] ?? 0) / 2 - (first.tcpStatistics?.[name] ?? 0) / 2;
    expect(grown("ActiveOpens")).toBeGreaterThanOrEqual(5);
    expect(grown("PassiveOpens")).toBeGreaterThanOrEqual(5);
    const datagrams = sectionOf(snapshot, "udp")?.["OutDatagrams"] ?? 0;
    expect(datagrams - (sectionOf(first, "udp")?.["OutDatagrams"] ?? 0)).toBeGreaterThanOrEqual(5);
  });

  test("of IPv6 and ICMP are what the kernel counts", () => {
    const before = kernelCounts();
    const snapshot = open()("protocols");
    const after = kernelCounts();
    const { InReceives, InDelivers, OutRequests, ForwDatagrams } = sectionOf(snapshot, "ip6") ?? {};
    expectBetween(
      ...([before, after] as const),
      named({ InReceives, InDelivers, OutRequests, OutForwDatagrams: ForwDatagrams }, (name) => `Ip6${name}`),
    );
    const messages = (protocol: string) => {
      const { InMsgs, InErrors, OutMsgs } = sectionOf(snapshot, protocol) ?? {};
      return { InMsgs, InErrors, OutMsgs };
    };
    expectBetween(
      before,
      after,
      named(messages("icmp"), (name) => `Icmp.${name}`),
    );
    expectBetween(
      before,
      after,
      named(messages("icmp6"), (name) => `Icmp6${name}`),
    );
  });

  test("have no states nor settings", () => {
    const snapshot = open()("protocols");
    const names = [snapshot.tcpStatistics, ...(snapshot.protocols ?? []).map(({ statistics }) => statistics)]
      .flatMap((statistics) => Object.keys(statistics ?? {}))
      .filter((name) => /Rto|MaxConn|CurrEstab|NumConns|Forwarding|DefaultTTL|Num[A-Z]/.test(name));
    expect(names).toEqual([]);
    expect(snapshot.ipStatistics).toBeUndefined();
    expect(snapshot.udpStatistics).toBeUndefined();
  });
});

describe("sockets", () => {
  /** State numbers of the sockets of a local port. */
  function statesAt(port: number, family: "IPv4" | "IPv6"): number[] {
    const view = openTcpTable(iphlpapi)(family);
    const { bytes, stateAt } = tcpRows[family];
    const portAt = family === "IPv4" ? 8 : 20;
    return Array.from({ length: view.getUint32(0, true) }, (_, row) => 4 + row * bytes)
      .filter((at) => view.getUint16(at + portAt) === port)
      .map((at) => view.getUint32(at + stateAt, true))
      .toSorted((a, b) => a - b);
  }

  async function until(condition: () => boolean): Promise<void> {
    while (!condition()) await Bun.sleep(10);
  }

  test("of our own are in the table, each in its state, and counted", async () => {
    const [LISTEN, ESTABLISHED, FIN_WAIT2, CLOSE_WAIT] = [2, 5, 7, 8];
    const accepted: Bun.Socket[] = [];
    const socket = { open: (own: Bun.Socket) => void accepted.push(own), data() {}, end() {} };
    const server = Bun.listen({ ...loopback, allowHalfOpen: true, socket });
    const connect = () =>
      Bun.connect({
        ...{ hostname: "127.0.0.1", port: server.port, allowHalfOpen: true },
        socket: { data() {}, end() {} },
      });
    const clients = [await connect(), await connect(), await connect()];
    await until(() => accepted.length === clients.length);
    expect(statesAt(server.port, "IPv4")).toEqual([LISTEN, ESTABLISHED, ESTABLISHED, ESTABLISHED]);
    expect(statesAt(clients[0]!.localPort, "IPv4")).toEqual([ESTABLISHED]);
    clients[0]!.shutdown();
    await until(() => statesAt(server.port, "IPv4").includes(CLOSE_WAIT));
    expect(statesAt(clients[0]!.localPort, "IPv4")).toEqual([FIN_WAIT2]);
    const states = open()("sockets").tcpSockets?.states ?? {};
    expect(states["LISTEN"]).toBeGreaterThanOrEqual(1);
    expect(states["ESTABLISHED"]).toBeGreaterThanOrEqual(4);
    expect(states["FIN_WAIT2"]).toBeGreaterThanOrEqual(1);
    expect(states["CLOSE_WAIT"]).toBeGreaterThanOrEqual(1);
    expect(Object.keys(states)).toHaveLength(12);
    for (const each of [...clients, ...accepted]) each.terminate();
    server.stop(true);
  });

  test("of IPv6 stand in a table of their own", async () => {
    const server = Bun.listen({ hostname: "::1", port: 0, socket: { data() {} } });
    expect(statesAt(server.port, "IPv6")).toEqual([2]);
    expect(statesAt(server.port, "IPv4")).toEqual([]);
    server.stop(true);
  });

  test("by state are as many as the kernel has", async () => {
    const collect = open();
    const kernelStates = (): Counts => {
      const numbers = [...lines("tcp").slice(1), ...lines("tcp6").slice(1)].map(
        (line) => line.trim().split(/\s+/)[3],
      );
      const count = (state: string) => numbers.filter((number) => number === state).length;
      return new Map([
        ["ESTABLISHED", count("01")],
        ["LISTEN", count("0A")],
      ]);
    };
    const servers = [1, 2, 3].map(() => Bun.listen({ ...loopback, socket: { data() {} } }));
    // Sockets of others come and go: in a quiet moment ours is between the two, or the same as both.
    await until(() => {
      const before = kernelStates();
      const states = collect("sockets").tcpSockets?.states ?? {};
      const after = kernelStates();
      return [...before].every(([state, count]) => {
        const [low, high] = [count, after.get(state) ?? 0].toSorted((a, b) => a - b);
        const ours = states[state] ?? -1;
        return low! <= ours && ours <= high!;
      });
    });
    for (const server of servers) server.stop(true);
  });
});

describe("interfaces", () => {
  /** Columns of /proc/net/dev by interface and our name of each. */
  function kernelInterfaces(): Counts {
    const rows = lines("dev")
      .slice(2)
      .map((line) => line.trim().split(/[\s:]+/));
    const columns = { rx_bytes: 1, rx_packets: 2, rx_errors: 3, rx_dropped: 4 };
    const sent = { tx_bytes: 9, tx_packets: 10, tx_errors: 11, tx_dropped: 12 };
    return new Map(
      rows.flatMap((row) =>
        Object.entries({ ...columns, ...sent }).map(
          ([name, at]) => [`${row[0]} ${name}`, Number(row[at])] as const,
        ),
      ),
    );
  }

  test("have the counts of the kernel", async () => {
    const collect = open();
    await makeTraffic();
    const before = kernelInterfaces();
    const { interfaces = [], limits } = collect("interfaces");
    const after = kernelInterfaces();
    expect(limits).toEqual([]);
    const ours = new Map(
      interfaces.flatMap((each) =>
        Object.entries(each.statistics).map(([name, value]) => [`${each.interface} ${name}`, value] as const),
      ),
    );
    const comparable = new Map([...ours].filter(([name]) => before.has(name)));
    expect(new Set<string>(comparable.keys())).toEqual(new Set<string>(before.keys()));
    for (const [name, value] of comparable) {
      expect(value).toBeGreaterThanOrEqual(before.get(name) ?? Number.NaN);
      expect(value).toBeLessThanOrEqual(after.get(name) ?? Number.NaN);
    }
    expect(ours.get("lo rx_bytes")).toBeGreaterThan(0);
  });

  test("are those of the selection", () => {
    const namesOf = (selection: Parameters<typeof open>[0]) =>
      open(selection)("interfaces").interfaces?.map((each) => each.interface) ?? [];
    const all = namesOf({ include: ["*"], exclude: [], loopback: true });
    expect(all).toContain("lo");
    expect(namesOf({ include: ["*"], exclude: [], loopback: false })).toEqual(
      all.filter((name) => name !== "lo"),
    );
    expect(namesOf({ include: ["LO"], exclude: [], loopback: true })).toEqual(["lo"]);
    expect(namesOf({ include: ["*"], exclude: ["l?"], loopback: true })).not.toContain("lo");
  });
});

describe("memory", () => {
  const rssMiB = () => process.memoryUsage().rss / 2 ** 20;

  test("is given back, 10,000 calls on", () => {
    const statistics = (["tcp", "udp", "ip", "icmp"] as const).map((each) => openStatistics(each, iphlpapi));
    const table = openInterfaceTable(iphlpapi);
    /** Eight calls of statistics, and mostly one for a table. */
    const round = (times: number): void => {
      for (let at = 0; at < times; at += 1) {
        for (const { read } of statistics) for (const family of families) read(family);
        if (at % 8 > 0) table();
      }
      Bun.gc(true);
    };
    round(100);
    const before = rssMiB();
    round(1130); // With 988 tables, which leak 5 MiB unless they are freed.
    expect(rssMiB() - before).toBeLessThan(3);
  }, 60_000);
});

backendContract({
  name: "of iphlpapi alone",
  open: () => ({
    collectors: openIpCollectors({ interfaces: { include: ["*"], exclude: [], loopback: true } }),
    async [Symbol.asyncDispose]() {},
  }),
  traffic: () => makeTraffic(),
});
