// The protocols collector: which counters each family has, over the host's and other namespaces' files.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openNamespaces } from "../bpf/proc/namespaces.ts";
import { protocolsCollector, readFamilies } from "../bpf/proc/protocols.ts";
import type { Snapshot } from "../src/snapshot.ts";

const fixtures = join(import.meta.dir, "fixtures/proc");
const read = (path: string): string => readFileSync(join(fixtures, path), "utf8");

const families = readFamilies({
  snmp: read("linux-6.18/net/snmp"),
  netstat: read("linux-6.18/net/netstat"),
  snmp6: read("linux-6.18/net/snmp6"),
});

/** Names of a section of snmp or netstat. */
function namesOf(file: string, section: string): string[] {
  const line = read(`linux-6.18/net/${file}`)
    .split("\n")
    .find((text) => text.startsWith(`${section}: `));
  return line?.split(" ").slice(1) ?? [];
}

const namesOfSnmp6 = (prefix: string): string[] =>
  [...read("linux-6.18/net/snmp6").matchAll(/^\w+/gm)]
    .map(([name]) => name)
    .filter((name) => name.startsWith(prefix));

describe("families", () => {
  test("tcp: Tcp, TcpExt and MPTcpExt without settings and states", () => {
    const left = ["RtoAlgorithm", "RtoMin", "RtoMax", "MaxConn", "CurrEstab", "MPCurrEstab"];
    const all = [
      ...namesOf("snmp", "Tcp"),
      ...namesOf("netstat", "TcpExt"),
      ...namesOf("netstat", "MPTcpExt"),
    ];
    expect(Object.keys(families.tcp)).toEqual(all.filter((name) => !left.includes(name)));
    expect(new Set(all).size).toBe(all.length);
  });

  test("ip: Ip, IpExt, ICMP and all of IPv6", () => {
    const left = ["Forwarding", "DefaultTTL"];
    const all = [
      ...namesOf("snmp", "Ip").filter((name) => !left.includes(name)),
      ...namesOf("netstat", "IpExt"),
      ...namesOf("snmp", "Icmp").map((name) => `Icmp${name}`),
      ...namesOf("snmp", "IcmpMsg").map((name) => `IcmpMsg${name}`),
      ...namesOfSnmp6("Ip6"),
      ...namesOfSnmp6("Icmp6"),
    ];
    expect(Object.keys(families.ip)).toEqual(all);
    expect(new Set(all).size).toBe(all.length);
  });

  test("udp: UDP and UDP-Lite of both", () => {
    expect(Object.keys(families.udp)).toEqual([
      ...namesOf("snmp", "Udp"),
      ...namesOf("snmp", "UdpLite").map((name) => `UdpLite${name}`),
      ...namesOfSnmp6("Udp6"),
      ...namesOfSnmp6("UdpLite6"),
    ]);
  });

  test("zeros are kept, and every name of the files is in one family", () => {
    expect(families.tcp).toMatchObject({ AttemptFails: 0, MPRstTx: 0 });
    const count = Object.values(families).reduce((sum, family) => sum + Object.keys(family).length, 0);
    const sections = ["Ip", "Icmp", "IcmpMsg", "Tcp", "Udp", "UdpLite"].flatMap((name) =>
      namesOf("snmp", name),
    );
    const extended = ["TcpExt", "IpExt", "MPTcpExt"].flatMap((name) => namesOf("netstat", name));
    expect(count).toBe(sections.length + extended.length + namesOfSnmp6("").length - 8);
  });

  test("sections that are missing leave nothing, not zeros", () => {
    const odd = readFamilies({ snmp: read("odd/net/snmp"), netstat: read("odd/net/netstat") });
    expect(odd).toEqual({
      tcp: { InSegs: 40, SyncookiesSent: 0, TCPFutureThing: 9, MPRstTx: 2 },
      ip: {
        InReceives: Number.MAX_SAFE_INTEGER,
        ReasmTimeout: 30,
        InFutureThings: 7,
        IcmpInMsgs: 4,
        IcmpOutMsgs: 5,
        IcmpMsgInType0: 1,
        IcmpMsgInType3: 2,
        IcmpMsgOutType8: 3,
      },
      udp: {},
    });
  });
});

describe("collector", () => {
  let procDir = "";
  let nowMs = 0;
  beforeEach(() => {
    procDir = mkdtempSync(join(tmpdir(), "fovea-proc-"));
    nowMs = 0;
    addProcess("self", 1);
    writeFileSync(join(procDir, "self/status"), "Name:\tfovea\nCapEff:\t000001ffffffffff\n");
    symlinkSync("self/net", join(procDir, "net"));
  });
  afterEach(() => rmSync(procDir, { recursive: true }));

  function addProcess(pid: string, inode: number): void {
    mkdirSync(join(procDir, pid, "ns"), { recursive: true });
    symlinkSync(`net:[${inode}]`, join(procDir, pid, "ns/net"));
    cpSync(join(fixtures, "odd/net"), join(procDir, pid, "net"), { recursive: true });
  }

  const setSegments = (pid: string, count: number) =>
    writeFileSync(join(procDir, pid, "net/snmp"), `Tcp: InSegs\nTcp: ${count}\n`);

  const open = (namespacesMax = 8) => {
    const namespaces = openNamespaces({ namespacesMax, everyMs: 10_000, procDir, now: () => nowMs });
    const collector = protocolsCollector({ namespaces, procDir });
    return () => collector.collect(AbortSignal.abort()) as Snapshot;
  };

  test("adds the namespaces of all processes, each once", () => {
    for (const pid of ["10", "11", "12"]) addProcess(pid, pid === "10" ? 5 : 6);
    addProcess("13", 1);
    setSegments("self", 1);
    setSegments("10", 10);
    setSegments("11", 100);
    setSegments("12", 5000);
    setSegments("13", 7000);
    const snapshot = open()();
    expect(snapshot.tcpStatistics?.["InSegs"]).toBe(111);
    expect(snapshot.limits).toEqual([]);
  });

  test("reads the host on each tick and the others after `everyMs`", () => {
    addProcess("10", 5);
    setSegments("self", 1);
    setSegments("10", 10);
    const collect = open();
    expect(collect().tcpStatistics?.["InSegs"]).toBe(11);
    setSegments("self", 3);
    setSegments("10", 40);
    expect(collect().tcpStatistics?.["InSegs"]).toBe(13);
    nowMs = 10_000;
    expect(collect().tcpStatistics?.["InSegs"]).toBe(43);
  });

  test("keeps the counts of a namespace that ends, and reads it through another process while it lives", () => {
    addProcess("10", 5);
    addProcess("11", 5);
    setSegments("self", 1);
    setSegments("10", 10);
    const collect = open();
    expect(collect().tcpStatistics?.["InSegs"]).toBe(11);
    rmSync(join(procDir, "10"), { recursive: true });
    setSegments("11", 30);
    nowMs = 10_000;
    expect(collect().tcpStatistics?.["InSegs"]).toBe(31);
    rmSync(join(procDir, "11"), { recursive: true });
    nowMs = 20_000;
    expect(collect().tcpStatistics?.["InSegs"]).toBe(31);
  });

  test("does not count a process that has another's number by now", () => {
    addProcess("10", 5);
    setSegments("self", 1);
    setSegments("10", 10);
    const namespaces = openNamespaces({ namespacesMax: 8, everyMs: 10_000, procDir, now: () => nowMs });
    namespaces.scan();
    rmSync(join(procDir, "10"), { recursive: true });
    addProcess("10", 6);
    setSegments("10", 500);
    const snapshot = protocolsCollector({ namespaces, procDir }).collect(AbortSignal.abort()) as Snapshot;
    expect(snapshot.tcpStatistics?.["InSegs"]).toBe(1);
  });

  test("goes round more namespaces than one tick reads", () => {
    setSegments("self", 0);
    for (let pid = 100; pid < 140; pid++) {
      addProcess(`${pid}`, pid);
      setSegments(`${pid}`, 1);
    }
    const collect = open(1000);
    const seen = Array.from({ length: 4 }, () => collect().tcpStatistics?.["InSegs"]);
    expect(seen).toEqual([16, 32, 40, 40]);
  });

  test("keeps to namespacesMax, says how many are left, and stays with those it has", () => {
    setSegments("self", 0);
    for (const pid of ["20", "21", "22"]) {
      addProcess(pid, Number(pid));
      setSegments(pid, 10 ** (Number(pid) - 20));
    }
    const collect = open(2);
    const first = collect();
    expect(first.tcpStatistics?.["InSegs"]).toBe(11);
    expect(first.limits).toEqual(["1 network namespaces are not counted: more than sockets.namespacesMax."]);
    addProcess("10", 4);
    setSegments("10", 1000);
    nowMs = 10_000;
    expect(collect().tcpStatistics?.["InSegs"]).toBe(11);
    rmSync(join(procDir, "20"), { recursive: true });
    nowMs = 20_000;
    expect(collect().tcpStatistics?.["InSegs"]).toBe(1011);
  });

  test("without CAP_SYS_PTRACE counts the host alone and says so", () => {
    addProcess("10", 5);
    setSegments("self", 1);
    writeFileSync(join(procDir, "self/status"), "CapEff:\t0000000000200000\n"); // CAP_SYS_ADMIN alone
    const snapshot = open()();
    expect(snapshot.tcpStatistics?.["InSegs"]).toBe(1);
    expect(snapshot.limits).toEqual([
      "Only the host's network namespace is counted: seeing others needs CAP_SYS_PTRACE.",
    ]);
  });

  test("fails when the host's files cannot be read, and says which", () => {
    rmSync(join(procDir, "self/net/snmp"));
    expect(open()).toThrow("net/snmp");
  });
});
