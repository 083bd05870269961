// Links, local addresses and default routes of real namespaces, against what `ip` says.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { type Links, openLinks } from "../../bpf/links.ts";
import type { Link } from "../../bpf/rtnetlink.ts";
import { makeNamespace, mayMakeNamespaces, type TestNamespace } from "./proc-namespace.ts";

const ARPHRD_ETHER = 1;
const ARPHRD_LOOPBACK = 772;
const ARPHRD_NONE = 65534;

describe.skipIf(!mayMakeNamespaces)("links", () => {
  let namespace: TestNamespace;
  beforeEach(() => {
    namespace = makeNamespace();
  });
  afterEach(() => namespace[Symbol.dispose]());

  const named = (links: readonly Link[], name: string): Link | undefined =>
    links.find((link) => link.name === name);
  const names = (links: readonly Link[]): string[] => links.map(({ name }) => name).sort();
  const indexOf = (name: string): number => JSON.parse(namespace.ip("-j", "link", "show", name))[0].ifindex;

  /** What `ip` says, in our terms. */
  function linksOfIp(): unknown[] {
    type IpLink = { ifindex: number; ifname: string; flags: string[]; linkinfo?: { info_kind?: string } };
    const list: IpLink[] = JSON.parse(namespace.ip("-d", "-j", "link"));
    return list.map(({ ifindex, ifname, flags, linkinfo }) => ({
      index: ifindex,
      name: ifname,
      kind: linkinfo?.info_kind,
      up: flags.includes("UP"),
    }));
  }
  const linksOfOurs = (links: Links): unknown[] =>
    links.all().map(({ index, name, kind, up }) => ({ index, name, kind, up }));
  const byIndex = (list: unknown[]) => list.toSorted((a, b) => (a as Link).index - (b as Link).index);
  const expectSameAsIp = (links: Links) => expect(byIndex(linksOfOurs(links))).toEqual(byIndex(linksOfIp()));

  test("of every kind are listed at the opening", () => {
    using other = makeNamespace();
    namespace.batch([
      "link add br0 type bridge",
      "link set br0 up",
      "link add veth0 type veth peer name veth1",
      "link set veth1 master br0",
      "link set veth0 up",
      "link set veth1 up",
      "tuntap add tun0 mode tun",
      `link add pod0 type veth peer name eth0 netns ${other.name}`,
    ]);
    namespace.inside(() => {
      using links = openLinks();
      const all = links.all();
      expect(names(all)).toEqual(["br0", "lo", "pod0", "tun0", "veth0", "veth1"]);
      expect(named(all, "lo")).toMatchObject({
        kind: undefined,
        type: ARPHRD_LOOPBACK,
        up: true,
        operational: true,
      });
      expect(named(all, "br0")).toMatchObject({ kind: "bridge", type: ARPHRD_ETHER, master: undefined });
      expect(named(all, "tun0")).toMatchObject({
        kind: "tun",
        type: ARPHRD_NONE,
        up: false,
        operational: false,
      });
      expect(named(all, "veth0")).toMatchObject({
        linkIndex: indexOf("veth1"),
        peerNamespace: false,
        kind: "veth",
      });
      expect(named(all, "veth1")).toMatchObject({ master: indexOf("br0"), operational: true });
      const inner = JSON.parse(other.ip("-j", "link", "show", "eth0"))[0].ifindex;
      expect(named(all, "pod0")).toMatchObject({ linkIndex: inner, peerNamespace: true, up: false });
      expectSameAsIp(links);
    });
  });

  test("that come, change and go are told once", () => {
    namespace.inside(() => {
      using links = openLinks();
      expect(links.update()).toEqual({ added: [], removed: [], changed: [] });
      expect(links.changed).toBe(false);
      namespace.batch(["link add veth0 type veth peer name veth1"]);
      expect(names(links.update().added)).toEqual(["veth0", "veth1"]);
      expect(links.changed).toBe(true);
      namespace.batch(["link set veth0 name renamed", "link set veth1 up"]);
      const { added, removed, changed } = links.update();
      expect([added, removed]).toEqual([[], []]);
      expect(names(changed)).toEqual(["renamed", "veth1"]);
      expect(named(changed, "veth1")).toMatchObject({ up: true });
      namespace.ip("link", "delete", "renamed");
      expect(names(links.update().removed)).toEqual(["renamed", "veth1"]);
      expect(links.update()).toEqual({ added: [], removed: [], changed: [] });
      expect(links.changed).toBe(false);
      expectSameAsIp(links);
    });
  });

  test("made anew under the old name are removed and added, even with the old index", () => {
    namespace.ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth1");
    namespace.inside(() => {
      using links = openLinks();
      const before = named(links.all(), "veth0")?.index ?? 0;
      namespace.batch(["link delete veth0", "link add veth0 type veth peer name veth1"]);
      const anew = links.update();
      expect([names(anew.removed), names(anew.added)]).toEqual([
        ["veth0", "veth1"],
        ["veth0", "veth1"],
      ]);
      expect(named(anew.removed, "veth0")?.index).toBe(before);
      const index = named(anew.added, "veth0")?.index ?? 0;
      expect(index).not.toBe(before);
      namespace.batch(["link delete veth0", `link add veth0 index ${index} type veth peer name veth1`]);
      const same = links.update();
      expect(named(same.removed, "veth0")?.index).toBe(index);
      expect(named(same.added, "veth0")?.index).toBe(index);
      expect(same.changed).toEqual([]);
    });
  });

  test("that come and go between two reads are not told", () => {
    namespace.inside(() => {
      using links = openLinks();
      namespace.batch(["link add veth0 type veth peer name veth1", "link delete veth0"]);
      expect(links.update()).toEqual({ added: [], removed: [], changed: [] });
    });
  });

  test("that leave a bridge stay", () => {
    namespace.batch([
      "link add br0 type bridge",
      "link add veth0 type veth peer name veth1",
      "link set veth0 master br0",
    ]);
    namespace.inside(() => {
      using links = openLinks();
      namespace.ip("link", "set", "veth0", "nomaster");
      const { added, removed, changed } = links.update();
      expect([added, removed]).toEqual([[], []]);
      expect(named(changed, "veth0")).toMatchObject({ master: undefined });
      expectSameAsIp(links);
    });
  });

  const makeMany = Array.from({ length: 500 }, (_, i) => `link add a${i} group 7 type veth peer name b${i}`);
  const removeMany = ["link delete group 7"]; // One by one takes the kernel 15 ms each.

  test("500 veths made and removed in a burst are all told", () => {
    namespace.inside(() => {
      using links = openLinks();
      namespace.batch(makeMany);
      expect(links.update().added).toHaveLength(1000);
      expectSameAsIp(links);
      namespace.batch(removeMany);
      expect(links.update().removed).toHaveLength(1000);
      namespace.batch([...makeMany, ...removeMany]);
      expect(links.update()).toEqual({ added: [], removed: [], changed: [] });
      expect(names(links.all())).toEqual(["lo"]);
      expect(links.losses).toEqual({ links: 0, addresses: 0, overruns: 0 });
    });
  });

  test("are read anew when the kernel had no room for events", () => {
    namespace.ip("link", "add", "kept", "type", "bridge");
    namespace.ip("link", "add", "anew", "type", "veth", "peer", "name", "peer");
    namespace.inside(() => {
      using links = openLinks({ receiveBytes: 2048 });
      namespace.batch([
        ...makeMany,
        "link delete anew",
        "link add anew type veth peer name peer",
        "address add 192.0.2.7/24 dev anew",
        "link set anew up",
        "route add default via 192.0.2.1 dev anew",
      ]);
      const { added, removed, changed } = links.update();
      expect(links.losses.overruns).toBeGreaterThan(0);
      expect(names(removed)).toEqual(["anew", "peer"]);
      expect(added).toHaveLength(1002);
      expect(changed).toEqual([]);
      expectSameAsIp(links);
      expect(links.isLocal("192.0.2.7")).toBe(true);
      expect(links.defaultRouteInterfaces()).toEqual([indexOf("anew")]);
      namespace.batch([...removeMany, "link set kept name other"]);
      const after = links.update();
      expect([after.removed.length, names(after.changed), after.added]).toEqual([1000, ["other"], []]);
      expectSameAsIp(links);
      // With room again, events are followed as before.
      namespace.ip("link", "delete", "other");
      const { overruns } = links.losses;
      expect(names(links.update().removed)).toEqual(["other"]);
      expect(links.losses.overruns).toBe(overruns);
    });
  });

  test("past linksMax are counted", () => {
    namespace.inside(() => {
      using links = openLinks({ linksMax: 3, addressesMax: 1 });
      namespace.batch([...makeMany.slice(0, 2), "address add 192.0.2.7/24 dev lo"]);
      expect(links.update().added).toHaveLength(2);
      expect(links.all()).toHaveLength(3);
      expect(links.losses.links).toBeGreaterThanOrEqual(2);
      expect(links.losses.addresses).toBeGreaterThanOrEqual(1);
    });
  });

  test("hold one socket, and none when closed", () => {
    // Rows of NETLINK_ROUTE sockets in this namespace; the kernel's own has port number 0.
    const sockets = () =>
      readFileSync("/proc/net/netlink", "utf8").match(/^\S+ +0 +[1-9]\d* /gm)?.length ?? 0;
    namespace.inside(() => {
      expect(sockets()).toBe(0);
      {
        using links = openLinks({ receiveBytes: 2048 });
        namespace.batch([...makeMany, ...removeMany]);
        links.update();
        expect(links.losses.overruns).toBeGreaterThan(0);
        expect(sockets()).toBe(1);
      }
      expect(sockets()).toBe(0);
    });
  });

  describe("local addresses", () => {
    const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));

    test("are known as text and as bytes, and forgotten", () => {
      namespace.batch([
        "link add veth0 type veth peer name veth1",
        "address add 192.0.2.7/24 dev veth0",
        "address add 2001:db8::7/64 dev veth0",
        "address add 198.51.100.1 peer 198.51.100.2 dev veth1",
        "address add 2001:db8:1::1 peer 2001:db8:1::2 dev veth1",
      ]);
      namespace.inside(() => {
        using links = openLinks();
        for (const address of [
          "127.0.0.1",
          "127.0.0.53",
          "::1",
          "192.0.2.7",
          "2001:db8::7",
          "198.51.100.1",
          "2001:db8:1::1",
        ])
          expect([address, links.isLocal(address)]).toEqual([address, true]);
        for (const address of [
          "198.51.100.2",
          "2001:db8:1::2",
          "192.0.2.8",
          "::",
          "0.0.0.0",
          "2001:db8::8",
          "192.0.2.255",
        ])
          expect([address, links.isLocal(address)]).toEqual([address, false]);
        expect(links.isLocal(bytes("00000000000000000000ffffc0000207"))).toBe(true);
        expect(links.isLocal(bytes("00000000000000000000ffff7f000035"))).toBe(true);
        expect(links.isLocal(bytes("20010db8000000000000000000000007"))).toBe(true);
        expect(links.isLocal(bytes("00000000000000000000ffffc0000208"))).toBe(false);
        expect(links.localAddresses().map((address) => Buffer.from(address).toString("hex"))).toContain(
          "20010db8000000000000000000000007",
        );
        namespace.ip("address", "delete", "192.0.2.7/24", "dev", "veth0");
        links.update();
        expect(links.changed).toBe(true);
        expect(links.isLocal("192.0.2.7")).toBe(false);
        namespace.ip("link", "delete", "veth0");
        links.update();
        expect(links.isLocal("2001:db8::7")).toBe(false);
        expect(links.isLocal("198.51.100.1")).toBe(false);
      });
    });

    test("stay local while one interface has them", () => {
      namespace.batch([
        "link add veth0 type veth peer name veth1",
        "address add 192.0.2.7/24 dev veth0",
        "address add 192.0.2.7/24 dev veth1",
      ]);
      namespace.inside(() => {
        using links = openLinks();
        namespace.ip("address", "delete", "192.0.2.7/24", "dev", "veth0");
        links.update();
        expect(links.isLocal("192.0.2.7")).toBe(true);
        namespace.ip("address", "delete", "192.0.2.7/24", "dev", "veth1");
        links.update();
        expect(links.isLocal("192.0.2.7")).toBe(false);
      });
    });
  });

  describe("default routes", () => {
    beforeEach(() =>
      namespace.batch([
        "link add veth0 type veth peer name veth1",
        "address add 192.0.2.7/24 dev veth0",
        "address add 198.51.100.7/24 dev veth1",
        "address add 2001:db8::7/64 dev veth1 nodad",
        "link set veth0 up",
        "link set veth1 up",
      ]),
    );

    test("of both families and with several next hops are followed", () => {
      namespace.inside(() => {
        using links = openLinks();
        const both = [indexOf("veth0"), indexOf("veth1")].sort((a, b) => a - b);
        expect(links.defaultRouteInterfaces()).toEqual([]);
        namespace.ip("route", "add", "default", "via", "192.0.2.1");
        links.update();
        expect(links.changed).toBe(true);
        expect(links.defaultRouteInterfaces()).toEqual([indexOf("veth0")]);
        namespace.ip("-6", "route", "add", "default", "via", "2001:db8::1", "dev", "veth1");
        links.update();
        expect(links.defaultRouteInterfaces()).toEqual(both);
        namespace.ip("-6", "route", "delete", "default");
        namespace.batch(["route replace default nexthop via 192.0.2.1 nexthop via 198.51.100.1"]);
        links.update();
        expect(links.defaultRouteInterfaces()).toEqual(both);
        namespace.ip("route", "delete", "default");
        links.update();
        expect(links.defaultRouteInterfaces()).toEqual([]);
      });
    });

    test("of other tables, and routes to elsewhere, change nothing", () => {
      namespace.inside(() => {
        using links = openLinks();
        namespace.batch([
          "route add default via 192.0.2.1 table 100",
          "route add default via 192.0.2.1 table 1000",
          "route add 203.0.113.0/24 via 192.0.2.1",
          "route add unreachable default metric 9999",
        ]);
        links.update();
        expect(links.changed).toBe(false);
        expect(links.defaultRouteInterfaces()).toEqual([]);
      });
    });

    test("that a link takes with it, unsaid by the kernel, are gone", () => {
      namespace.ip("route", "add", "default", "via", "192.0.2.1");
      namespace.ip("-6", "address", "flush", "dev", "veth0"); // An address that goes would tell of it, too.
      namespace.inside(() => {
        using links = openLinks();
        expect(links.defaultRouteInterfaces()).toEqual([indexOf("veth0")]);
        namespace.ip("link", "set", "veth0", "down");
        links.update();
        expect(links.defaultRouteInterfaces()).toEqual([]);
      });
    });

    test("through a next hop object are known where the kernel spells it out", () => {
      namespace.batch(["nexthop add id 5 via 192.0.2.1 dev veth0", "route add default nhid 5"]);
      namespace.inside(() => {
        using links = openLinks();
        expect(links.defaultRouteInterfaces()).toEqual([indexOf("veth0")]);
        writeFileSync("/proc/sys/net/ipv4/nexthop_compat_mode", "0");
        using strict = openLinks();
        expect(strict.defaultRouteInterfaces()).toEqual([]);
      });
    });
  });
});
