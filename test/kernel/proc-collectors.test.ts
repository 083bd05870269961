// The /proc collectors in real namespaces, against ss, nstat, ip and ethtool.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { closeFd, enterNetworkNamespace, openFile } from "../../bpf/libc.ts";
import {
  insideNamespace,
  type Namespaces,
  openNamespaces,
  StrandedError,
} from "../../bpf/proc/namespaces.ts";
import { protocolsCollector } from "../../bpf/proc/protocols.ts";
import { socketsCollector } from "../../bpf/proc/sockets.ts";
import type { Collector, Snapshot, TcpRemote } from "../../src/snapshot.ts";
import { makeNamespace, mayMakeNamespaces, type TestNamespace, until } from "./proc-namespace.ts";

const collect = (collector: Collector): Snapshot => collector.collect(AbortSignal.abort()) as Snapshot;

describe.skipIf(!mayMakeNamespaces)("collectors", () => {
  let namespace: TestNamespace;
  let procDir = "";
  beforeEach(() => {
    namespace = makeNamespace();
    // A /proc with this process and those that a test adds, since the machine has others.
    procDir = mkdtempSync(join(tmpdir(), "fovea-proc-"));
    symlinkSync("/proc/self", join(procDir, "self"));
    symlinkSync("/proc/net", join(procDir, "net"));
  });
  afterEach(() => {
    namespace[Symbol.dispose]();
    rmSync(procDir, { recursive: true });
  });

  const addProcess = (pid: number): void => symlinkSync(`/proc/${pid}`, join(procDir, `${pid}`));
  const openAll = (everyMs = 0): Namespaces => openNamespaces({ namespacesMax: 16, everyMs, procDir });
  const sockets = (namespaces: Namespaces): Collector =>
    socketsCollector({ namespaces, remotesMax: 100, procDir });

  /** Sockets by state and remote as `ss` lists them. */
  function socketsOfSs(): { states: Record<string, number>; remotes: Record<string, number>; udp: number } {
    const ssNames: Record<string, string> = { ESTAB: "ESTABLISHED", UNCONN: "CLOSE" };
    const states: Record<string, number> = {};
    const remotes: Record<string, number> = {};
    for (const line of namespace.run("ss", "-Htan").trim().split("\n").filter(Boolean)) {
      const [word = "", , , , remote = ""] = line.split(/\s+/);
      const state = ssNames[word] ?? word.replaceAll("-", "_").replace("FIN_WAIT_", "FIN_WAIT");
      states[state] = (states[state] ?? 0) + 1;
      const shown = remote.replace("[::ffff:", "").replace("[", "").replace("]", "");
      if (state !== "LISTEN" && state !== "CLOSE") remotes[shown] = (remotes[shown] ?? 0) + 1;
    }
    return { states, remotes, udp: namespace.run("ss", "-Huan").trim().split("\n").filter(Boolean).length };
  }

  function expectSameAsSs(snapshot: Snapshot): void {
    const expected = socketsOfSs();
    const states = Object.entries(snapshot.tcpSockets?.states ?? {}).filter(([, count]) => count > 0);
    expect(Object.fromEntries(states)).toEqual(expected.states);
    const shown = ({ address, port }: TcpRemote) => `${address}:${port}`;
    const remotes = snapshot.tcpSockets?.remotes?.map((remote) => [shown(remote), remote.connections]) ?? [];
    expect(Object.fromEntries(remotes)).toEqual(expected.remotes);
    expect(snapshot.tcpSockets?.remotesOther).toBe(0);
    expect(snapshot.udpActiveSockets).toBe(expected.udp);
  }

  /** Listeners, connections of IPv4, IPv6 and IPv4 on an IPv6 listener, one half closed, some closed, and UDP sockets. */
  async function openSockets(): Promise<AsyncDisposable> {
    const undo = new AsyncDisposableStack();
    const socket = { data() {}, open() {} };
    for (const hostname of ["127.0.0.1", "::"]) {
      const listener = Bun.listen({
        hostname,
        port: hostname === "::" ? 7001 : 7000,
        allowHalfOpen: true,
        socket,
      });
      undo.defer(() => listener.stop(true));
    }
    const connect = async (hostname: string, port: number) => {
      const connection = await Bun.connect({ hostname, port, allowHalfOpen: true, socket });
      undo.defer(() => connection.terminate());
      return connection;
    };
    for (let i = 0; i < 5; i++) await connect("127.0.0.1", 7000);
    for (let i = 0; i < 3; i++) await connect("::1", 7001);
    for (let i = 0; i < 2; i++) await connect("127.0.0.1", 7001);
    for (const hostname of ["127.0.0.1", "::1"]) {
      const udp = await Bun.udpSocket({ hostname });
      undo.defer(() => udp.close());
    }
    (await connect("127.0.0.1", 7000)).shutdown();
    // Nothing moves any more once that end is acknowledged; the other end, ours too, must not get to answer it.
    until(() => namespace.run("ss", "-Htan", "state", "fin-wait-2") !== "");
    return undo;
  }

  describe("sockets", () => {
    test("of the own namespace are those of ss", async () => {
      await namespace.insideWhile(async () => {
        const collector = sockets(openAll());
        expectSameAsSs(collect(collector));
        await using _open = await openSockets();
        const snapshot = collect(collector);
        expect(snapshot.tcpSockets?.states).toMatchObject({
          LISTEN: 2,
          CLOSE_WAIT: 1,
          FIN_WAIT2: 1,
          ESTABLISHED: 20,
        });
        expect(snapshot.udpActiveSockets).toBe(2);
        expect(snapshot.limits).toEqual([]);
        expectSameAsSs(snapshot);
      });
    });

    test("of another namespace are counted through a process in it", async () => {
      addProcess(namespace.sleeper());
      using host = makeNamespace();
      const open = await namespace.insideWhile(openSockets);
      host.inside(() => expectSameAsSs(collect(sockets(openAll()))));
      await open[Symbol.asyncDispose]();
    });

    test("are given up by remotesMax to `other`", async () => {
      await namespace.insideWhile(async () => {
        await using _open = await openSockets();
        const all = collect(sockets(openAll())).tcpSockets;
        const few = collect(socketsCollector({ namespaces: openAll(), remotesMax: 2, procDir })).tcpSockets;
        expect(few?.remotes).toEqual(all?.remotes?.slice(0, 2));
        expect(few?.remotes?.[0]).toEqual({ address: "127.0.0.1", port: 7000, connections: 6 });
        const connections = all?.remotes?.reduce((sum, remote) => sum + remote.connections, 0) ?? 0;
        expect(few?.remotesOther).toBe(connections - 6 - 3);
      });
    });

    test("do not keep a namespace alive", () => {
      // A veth goes when the namespace of its peer goes.
      using host = makeNamespace();
      const peers = () => host.ip("-j", "link", "show", "type", "veth").includes("outer");
      {
        using dying = makeNamespace();
        host.ip("link", "add", "outer", "type", "veth", "peer", "name", "inner", "netns", dying.name);
        addProcess(dying.sleeper());
        dying
          .inside(() => Bun.listen({ hostname: "127.0.0.1", port: 7002, socket: { data() {} } }))
          .stop(true);
        dying.spawn(process.execPath, "-e", listenOn7003);
        until(() => dying.run("ss", "-Htln").includes(":7003"));
        host.inside(() => {
          const collector = sockets(openAll());
          expect(collect(collector).tcpSockets?.states["LISTEN"]).toBe(1);
          expect(collect(collector).tcpSockets?.states["LISTEN"]).toBe(1);
        });
        expect(namespaceDescriptors()).toEqual([]);
        expect(peers()).toBe(true);
      }
      until(() => !peers()); // The kernel clears a namespace in the background.
    });

    const listenOn7003 = 'Bun.listen({ hostname: "127.0.0.1", port: 7003, socket: { data() {} } });';

    const namespaceDescriptors = (): string[] =>
      readdirSync("/proc/self/fd").flatMap((fd) => {
        try {
          const target = readlinkSync(`/proc/self/fd/${fd}`);
          return target.startsWith("net:") ? [target] : [];
        } catch {
          return []; // The descriptor of the listing itself.
        }
      });

    test("of processes that end after the scan are no error", () => {
      const pid = namespace.sleeper();
      addProcess(pid);
      const namespaces = openAll(3_600_000);
      const collectors = [sockets(namespaces), protocolsCollector({ namespaces, procDir })];
      expect(namespaces.scan().others).toHaveLength(1);
      process.kill(pid, "SIGKILL");
      until(() => !existsSync(`/proc/${pid}/ns/net`));
      for (const collector of collectors) expect(collect(collector).limits).toEqual([]);
    });
  });

  describe("namespaces", () => {
    const inside = <Result>(namespaces: Namespaces, action: () => Result) => {
      const [other] = namespaces.scan().others;
      return other && insideNamespace(other, { procDir, action });
    };
    const current = (): string => readlinkSync("/proc/thread-self/ns/net");

    test("are entered and left, also when the action throws", () => {
      addProcess(namespace.sleeper());
      const home = current();
      const there = inside(openAll(), current);
      expect(there).toBe(namespace.inside(current));
      expect(there).not.toBe(home);
      expect(current()).toBe(home);
      const fail = () => {
        throw new Error("no luck");
      };
      expect(() => inside(openAll(), fail)).toThrow("no luck");
      expect(current()).toBe(home);
    });

    test("that cannot be left are a fatal error", () => {
      addProcess(namespace.sleeper());
      using home = openFile("/proc/thread-self/ns/net");
      const homeName = current();
      const closeWayBack = () => {
        // The descriptor that leads back is the newest one of our own namespace.
        const descriptors = readdirSync("/proc/self/fd")
          .map(Number)
          .filter((fd) => fd !== home.fd);
        const links = descriptors.map((fd) => ({
          fd,
          target: Bun.spawnSync(["readlink", `/proc/${process.pid}/fd/${fd}`])
            .stdout.toString()
            .trim(),
        }));
        for (const { fd, target } of links) if (target === homeName) closeFd(fd);
      };
      try {
        expect(() => inside(openAll(), closeWayBack)).toThrow(StrandedError);
        expect(current()).not.toBe(homeName);
      } finally {
        enterNetworkNamespace(home.fd);
      }
    });

    test.each([
      [
        "sys_admin",
        "TCP sockets are counted in the host's network namespace alone: others need CAP_SYS_ADMIN.",
      ],
      ["sys_ptrace", "Only the host's network namespace is counted: seeing others needs CAP_SYS_PTRACE."],
    ])(
      "without CAP_%s are counted as far as they may be, and the limit is told",
      async (capability, limit) => {
        addProcess(namespace.sleeper());
        const bpf = join(import.meta.dir, "../../bpf/proc");
        const script = `
        import { openNamespaces } from "${bpf}/namespaces.ts";
        import { socketsCollector } from "${bpf}/sockets.ts";
        const namespaces = openNamespaces({ namespacesMax: 16, everyMs: 0, procDir: "${procDir}" });
        const collector = socketsCollector({ namespaces, remotesMax: 9, procDir: "${procDir}" });
        console.log(JSON.stringify(collector.collect(AbortSignal.abort())));`;
        using host = makeNamespace();
        const open = await namespace.insideWhile(openSockets);
        const drop = ["setpriv", `--bounding-set=-${capability}`, `--inh-caps=-${capability}`];
        const snapshot: Snapshot = JSON.parse(host.run(...drop, process.execPath, "-e", script));
        await open[Symbol.asyncDispose]();
        expect(snapshot.limits).toEqual([limit]);
        expect(Object.values(snapshot.tcpSockets?.states ?? { none: 1 })).toEqual(new Array(11).fill(0));
        expect(snapshot.udpActiveSockets).toBe(capability === "sys_admin" ? 2 : 0);
      },
    );
  });

  describe("protocols", () => {
    type Nstat = Readonly<Record<string, number>>;
    const nstat = (): Nstat => JSON.parse(namespace.run("nstat", "-azsj")).kernel;

    /** nstat's name for each of ours. */
    function expectSameAsNstat(snapshot: Snapshot, expected: Nstat): void {
      const check = (prefixes: readonly string[], ours: Readonly<Record<string, number>> = {}) => {
        expect(Object.keys(ours).length).toBeGreaterThan(5);
        for (const [name, value] of Object.entries(ours)) {
          const theirs = prefixes
            .map((prefix) => expected[`${prefix}${name}`])
            .find((one) => one !== undefined);
          expect([name, value]).toEqual([name, theirs ?? -1]);
        }
      };
      check(["Tcp", "TcpExt", "MPTcpExt"], snapshot.tcpStatistics);
      check(["Ip", "IpExt", ""], snapshot.ipStatistics);
      check(["Udp", ""], snapshot.udpStatistics);
    }

    test("are those of nstat, before and after traffic", async () => {
      await namespace.insideWhile(async () => {
        const collector = protocolsCollector({ namespaces: openAll(), procDir });
        expectSameAsNstat(collect(collector), nstat());
        const before = collect(collector);
        namespace.run("ping", "-c", "3", "-i", "0.01", "-q", "127.0.0.1");
        namespace.run("ping", "-c", "2", "-i", "0.01", "-q", "::1");
        await using _open = await openSockets();
        const after = collect(collector);
        expectSameAsNstat(after, nstat());
        const grown = (family: "ipStatistics" | "tcpStatistics", name: string) =>
          (after[family]?.[name] ?? 0) - (before[family]?.[name] ?? 0);
        expect(grown("ipStatistics", "IcmpInEchos")).toBe(3);
        expect(grown("ipStatistics", "IcmpMsgOutType8")).toBe(3);
        expect(grown("ipStatistics", "Icmp6InEchos")).toBe(2);
        expect(grown("tcpStatistics", "ActiveOpens")).toBe(11);
        expect(grown("tcpStatistics", "PassiveOpens")).toBe(11);
      });
    });

    test("of another namespace are added, and stay when it goes", () => {
      using host = makeNamespace();
      const namespaces = openAll();
      const collector = protocolsCollector({ namespaces, procDir });
      const echos = () => host.inside(() => collect(collector).ipStatistics?.["IcmpInEchos"]);
      {
        using dying = makeNamespace();
        const pid = dying.sleeper();
        addProcess(pid);
        dying.run("ping", "-c", "4", "-i", "0.01", "-q", "127.0.0.1");
        host.run("ping", "-c", "1", "-q", "127.0.0.1");
        expect(echos()).toBe(5);
        rmSync(join(procDir, `${pid}`));
      }
      for (let tick = 0; tick < 3; tick++) expect(echos()).toBe(5);
      host.run("ping", "-c", "1", "-q", "127.0.0.1");
      expect(echos()).toBe(6);
    });
  });
});
