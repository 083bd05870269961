// What became of links between two reads, and what rtnetlink messages say, on hand-made ones.

import { describe, expect, test } from "bun:test";
import { compareLinks } from "../bpf/links.ts";
import { attributeU32, type NetlinkMessage } from "../bpf/netlink.ts";
import { isDefaultRoute, type Link, readAddress, readLink, routeInterfaces } from "../bpf/rtnetlink.ts";

const link = (index: number, name: string, more: Partial<Link> = {}): Link => ({
  index,
  name,
  kind: "veth",
  type: 1,
  master: undefined,
  up: true,
  operational: true,
  linkIndex: undefined,
  peerNamespace: false,
  ...more,
});

const mapOf = (...links: readonly Link[]): Map<number, Link> => new Map(links.map((one) => [one.index, one]));

describe("comparison", () => {
  const compare = (before: readonly Link[], now: readonly Link[], gone: readonly number[] = []) =>
    compareLinks(mapOf(...before), { links: mapOf(...now), gone: new Set(gone) });

  test("by index: added, removed, changed", () => {
    const before = [link(1, "a"), link(2, "b"), link(3, "c")];
    const now = [link(2, "b"), link(3, "renamed"), link(4, "a")];
    expect(compare(before, now)).toEqual({
      added: [link(4, "a")],
      removed: [link(1, "a")],
      changed: [link(3, "renamed")],
    });
  });

  test("a link that was gone meanwhile is removed and added, though it looks the same", () => {
    expect(compare([link(1, "a")], [link(1, "a")], [1])).toEqual({
      added: [link(1, "a")],
      removed: [link(1, "a")],
      changed: [],
    });
    expect(compare([link(1, "a")], [], [1])).toEqual({ added: [], removed: [link(1, "a")], changed: [] });
    expect(compare([], [link(1, "a")], [1])).toEqual({ added: [link(1, "a")], removed: [], changed: [] });
  });

  const differences: readonly Partial<Link>[] = [
    { name: "b" },
    { kind: undefined },
    { type: 772 },
    { master: 3 },
    { up: false },
    { operational: false },
    { linkIndex: 5 },
    { peerNamespace: true },
  ];
  test.each(differences)("a change of %j is told", (difference) => {
    expect(compare([link(1, "a")], [link(1, "a", difference)]).changed).toEqual([link(1, "a", difference)]);
  });
});

/** A message of a header's bytes and attributes. */
function message(header: readonly number[], ...attributes: readonly Uint8Array[]): NetlinkMessage {
  const bytes = new Uint8Array(Buffer.concat([new Uint8Array(header), ...attributes]));
  const view = new DataView(bytes.buffer);
  return { type: 0, flags: 0, sequence: 0, view, start: 0, end: bytes.length };
}

const attribute = (type: number, ...payload: readonly number[]): Uint8Array => {
  const bytes = new Uint8Array((4 + payload.length + 3) & ~3);
  bytes.set([4 + payload.length, 0, type, 0, ...payload]);
  return bytes;
};

describe("links", () => {
  const IFLA_IFNAME = 3;
  const IFLA_WIRELESS = 11;
  const header = (family: number): number[] => [family, 0, 1, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
  const name = attribute(IFLA_IFNAME, 0x65, 0x30, 0);

  test("up without a carrier are not operational", () => {
    expect(readLink(message(header(0), name))).toEqual(
      link(9, "e0", { kind: undefined, operational: false }),
    );
  });

  test("are not read from messages of bridges and of wireless drivers", () => {
    const AF_BRIDGE = 7;
    expect(readLink(message(header(AF_BRIDGE), name))).toBeUndefined();
    expect(readLink(message(header(0), name, attribute(IFLA_WIRELESS, 1)))).toBeUndefined();
    expect(readLink(message(header(0)))).toBeUndefined();
  });
});

describe("addresses", () => {
  const AF_INET = 2;
  const AF_MPLS = 28;
  const header = (family: number): number[] => [family, 24, 0, 0, 9, 0, 0, 0];

  test("of families that we do not know are left out", () => {
    const local = attribute(2, 192, 0, 2, 1);
    const bytes = new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
    expect(readAddress(message(header(AF_INET), local))).toEqual({ index: 9, prefix: 24, bytes });
    expect(readAddress(message(header(AF_MPLS), local))).toBeUndefined();
    expect(readAddress(message(header(AF_INET)))).toBeUndefined();
  });
});

describe("default routes", () => {
  const RTA_OIF = 4;
  const RTA_MULTIPATH = 9;
  const RTA_NH_ID = 30;
  const route = (change: {
    length?: number;
    table?: number;
    type?: number;
    cloned?: boolean;
  }): NetlinkMessage =>
    message([
      2,
      change.length ?? 0,
      0,
      0,
      change.table ?? 254,
      0,
      0,
      change.type ?? 1,
      0,
      change.cloned ? 2 : 0,
      0,
      0,
    ]);

  test("are unicast routes to everywhere in the main table", () => {
    expect(isDefaultRoute(route({}))).toBe(true);
    const others = [{ length: 24 }, { table: 255 }, { table: 252 }, { type: 7 }, { cloned: true }];
    expect(others.map((change) => isDefaultRoute(route(change)))).toEqual(others.map(() => false));
  });

  test("lead to one interface, to several, or to a next hop object alone", () => {
    const header = new Array<number>(12).fill(0);
    const hop = (index: number, more: readonly number[] = []) => [
      8 + more.length,
      0,
      0,
      0,
      index,
      0,
      0,
      0,
      ...more,
    ];
    const gateway = [8, 0, 5, 0, 192, 0, 2, 1];
    expect(routeInterfaces(message(header, attributeU32(RTA_OIF, 7)))).toEqual([7]);
    expect(routeInterfaces(message(header, attribute(RTA_MULTIPATH, ...hop(3, gateway), ...hop(4))))).toEqual(
      [3, 4],
    );
    expect(routeInterfaces(message(header, attributeU32(RTA_NH_ID, 5)))).toEqual([]);
    const short = attribute(RTA_MULTIPATH, 4, 0, 0, 0, 3, 0, 0, 0);
    expect(() => routeInterfaces(message(header, short))).toThrow("nexthop of 4 bytes, 8 bytes left");
  });
});
