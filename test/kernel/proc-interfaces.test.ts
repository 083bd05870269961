// The interfaces collector in namespaces of its own, against what ip and ethtool say.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { interfacesCollector } from "../../bpf/proc/interfaces.ts";
import type { Collector, Snapshot } from "../../src/snapshot.ts";
import { makeNamespace, mayMakeNamespaces, type TestNamespace } from "./proc-namespace.ts";

const collect = (collector: Collector): Snapshot => collector.collect(AbortSignal.abort()) as Snapshot;

describe.skipIf(!mayMakeNamespaces)("collectors", () => {
  let namespace: TestNamespace;
  beforeEach(() => {
    namespace = makeNamespace();
  });
  afterEach(() => namespace[Symbol.dispose]());

  describe("interfaces", () => {
    const statisticsOf = (snapshot: Snapshot, name: string) =>
      snapshot.interfaces?.find((one) => one.interface === name)?.statistics;

    /** What `ethtool -S` prints, without what is no counter. */
    function ethtool(name: string): Record<string, number> {
      const lines = namespace.run("ethtool", "-S", name).matchAll(/^ +(\S.*): (\d+)$/gm);
      const statistics = Object.fromEntries([...lines].map(([, key = "", value]) => [key, Number(value)]));
      delete statistics["peer_ifindex"];
      return statistics;
    }

    function expectSameAsTools(snapshot: Snapshot, name: string): void {
      const { rx, tx } = JSON.parse(namespace.ip("-j", "-s", "link", "show", name))[0].stats64;
      const ours = statisticsOf(snapshot, name);
      expect(ours).toMatchObject({
        rx_bytes: rx.bytes,
        rx_packets: rx.packets,
        rx_errors: rx.errors,
        rx_dropped: rx.dropped,
        multicast: rx.multicast,
        tx_bytes: tx.bytes,
        tx_packets: tx.packets,
        tx_errors: tx.errors,
        tx_dropped: tx.dropped,
        collisions: tx.collisions,
        tx_carrier_errors: tx.carrier_errors,
      });
      const drivers = ethtool(name);
      expect(Object.keys(ours ?? {})).toHaveLength(16 + Object.keys(drivers).length);
      expect(ours).toMatchObject(drivers);
    }

    test("are those of ip and ethtool", () => {
      using other = makeNamespace();
      namespace.batch([
        `link add veth0 type veth peer name eth0 netns ${other.name}`,
        "link set veth0 addrgenmode none",
        "address add 192.0.2.1/24 dev veth0",
        "link set veth0 up",
      ]);
      other.batch([
        "link set eth0 addrgenmode none",
        "address add 192.0.2.2/24 dev eth0",
        "link set eth0 up",
      ]);
      namespace.inside(() => {
        const collector = interfacesCollector();
        expect(
          collect(collector)
            .interfaces?.map((one) => one.interface)
            .sort(),
        ).toEqual(["lo", "veth0"]);
        namespace.run("ping", "-c", "5", "-i", "0.01", "-q", "192.0.2.2");
        const snapshot = collect(collector);
        expectSameAsTools(snapshot, "veth0");
        expect(statisticsOf(snapshot, "veth0")?.["rx_packets"]).toBeGreaterThanOrEqual(5);
        expect(snapshot.limits).toEqual([]);
        expect(Object.keys(statisticsOf(snapshot, "lo") ?? {})).toHaveLength(16);
      });
    });

    test("have the right names when a name passes to another driver or to more queues", () => {
      namespace.inside(() => {
        const collector = interfacesCollector();
        const makers = [
          "link add name0 type veth peer name name1",
          "link add name0 type bridge",
          "link add name0 numrxqueues 4 numtxqueues 4 type veth peer name name1",
          "link add name0 type ifb",
        ];
        const sizes = makers.map((maker) => {
          namespace.batch([maker]);
          const snapshot = collect(collector);
          const drivers = maker.includes("bridge") ? {} : ethtool("name0");
          const ours = statisticsOf(snapshot, "name0") ?? {};
          expect(Object.keys(ours).slice(16)).toEqual(Object.keys(drivers));
          namespace.ip("link", "delete", "name0");
          return Object.keys(ours).length;
        });
        expect(new Set(sizes).size).toBe(4);
      });
    });

    test("keep to their bounds and say so", () => {
      namespace.batch(["link add veth0 type veth peer name veth1"]);
      namespace.inside(() => {
        const all = collect(interfacesCollector()).interfaces ?? [];
        const few = collect(interfacesCollector({ interfacesMax: 2, statisticsMax: 3 }));
        expect(few.interfaces?.map((one) => one.interface)).toEqual(
          all.slice(0, 2).map((one) => one.interface),
        );
        const sizes = all.slice(0, 2).map((one) => Object.keys(one.statistics).length);
        const kept = few.interfaces?.map((one) => Object.keys(one.statistics).length) ?? [];
        expect(kept).toEqual(sizes.map((size) => Math.min(size, 19)));
        expect(few.limits).toEqual([
          "1 interfaces are not counted: more than interfacesMax.",
          `${sizes.reduce((sum, size) => sum + Math.max(0, size - 19), 0)} driver statistics are not counted: more than statisticsMax an interface.`,
        ]);
      });
    });

    test("need no privilege", () => {
      const script = `
        import { interfacesCollector } from "${join(import.meta.dir, "../../bpf/proc/interfaces.ts")}";
        console.log(JSON.stringify(interfacesCollector().collect(AbortSignal.abort())));`;
      namespace.batch(["link add veth0 type veth peer name veth1"]);
      const drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--reuid=0", "--no-new-privs"];
      const snapshot: Snapshot = JSON.parse(namespace.run(...drop, process.execPath, "-e", script));
      expect(Object.keys(statisticsOf(snapshot, "veth0") ?? {}).length).toBeGreaterThan(16);
    });
  });
});
