// Which interfaces are watched, what they are to the node, and which way a packet goes there.

import { describe, expect, test } from "bun:test";
import { hook } from "../bpf/contract.gen.ts";
import {
  framingOf,
  type InterfaceFacts,
  isWatched,
  roleOf,
  type Selection,
  uplinkIndexes,
} from "../bpf/interfaces.ts";
import { directionAt } from "../bpf/watcher.ts";

const link = (part: Partial<InterfaceFacts>): InterfaceFacts => ({
  ...{ index: 2, name: "eth0", type: 1, peerNamespace: false },
  ...part,
});
const all: Selection = { include: ["*"], exclude: [], loopback: false, uplinks: "auto" };

describe("selection", () => {
  test("globs include and exclude, loopback only when asked", () => {
    expect(isWatched(link({}), all)).toBe(true);
    expect(isWatched(link({ name: "veth12" }), { ...all, exclude: ["veth*"] })).toBe(false);
    expect(isWatched(link({ name: "veth12" }), { ...all, include: ["eth*"] })).toBe(false);
    const lo = link({ name: "lo", type: 772 });
    expect([isWatched(lo, all), isWatched(lo, { ...all, loopback: true })]).toEqual([false, true]);
  });

  test("link types without an Ethernet header, and those that we cannot read", () => {
    expect([1, 772, 65534, 768, 519, 32].map(framingOf)).toEqual([
      ...["ethernet", "ethernet", "none", "none", "none", "unsupported"],
    ] as ReturnType<typeof framingOf>[]);
  });
});

describe("uplinks", () => {
  const links = [
    link({}),
    link({ index: 3, name: "eth1" }),
    link({ index: 4, name: "docker0", kind: "bridge" }),
  ];
  test("auto takes the interfaces of the default routes", () => {
    expect([...uplinkIndexes(links, "auto", [3])]).toEqual([3]);
  });
  test("auto on a node without a default route takes the hardware", () => {
    expect([...uplinkIndexes(links, "auto", [])]).toEqual([2, 3]);
  });
  test("auto takes the hardware ports of a bridge with the default route, and the bridge where it has none", () => {
    const bridge = link({ index: 7, name: "br0", kind: "bridge" });
    const port = link({ index: 8, name: "eth2", master: 7 });
    const vlan = link({ index: 9, name: "eth0.5", kind: "vlan", master: 7 });
    const veth = link({ index: 10, name: "veth0", kind: "veth", master: 7, peerNamespace: true });
    expect([...uplinkIndexes([bridge, port, vlan, veth], "auto", [7])]).toEqual([8, 9]);
    expect([...uplinkIndexes([bridge, veth], "auto", [7])]).toEqual([7]);
  });
  test("named ones, also before they exist", () => {
    expect([...uplinkIndexes(links, ["eth1", "wan0"], [2])]).toEqual([3]);
  });
});

describe("roles", () => {
  const none = new Set<number>();
  const veth = link({ index: 5, kind: "veth", peerNamespace: true });
  test("an uplink stays one, whatever its kind", () => {
    expect(roleOf(veth, new Set([5]), none)).toBe("uplink");
  });
  test("a veth into another namespace and a tap are endpoints, a veth pair on the node is not", () => {
    expect(roleOf(veth, none, none)).toBe("endpoint");
    expect(roleOf(link({ kind: "tun" }), none, none)).toBe("endpoint");
    expect(roleOf(link({ kind: "veth" }), none, none)).toBe("other");
    expect(roleOf(link({ kind: "tun", type: 65534 }), none, none)).toBe("other");
  });
  test("a bridge is one only while its ports are watched", () => {
    const bridge = link({ index: 6, kind: "bridge" });
    expect([roleOf(bridge, none, new Set([6])), roleOf(bridge, none, none)]).toEqual(["bridge", "other"]);
  });
});

test("direction is that of the local end", () => {
  const yes = () => true;
  const no = () => false;
  expect(directionAt("endpoint", hook.INGRESS, no)).toBe("egress");
  expect(directionAt("endpoint", hook.EGRESS, no)).toBe("ingress");
  expect(directionAt("uplink", hook.INGRESS, no)).toBe("ingress");
  expect(directionAt("other", hook.EGRESS, no)).toBe("egress");
  expect(directionAt("bridge", hook.INGRESS, yes)).toBe("ingress");
  expect(directionAt("bridge", hook.EGRESS, no)).toBeUndefined();
});
