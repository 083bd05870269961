// Reads links, addresses and default routes from rtnetlink messages. Layouts are those of linux/rtnetlink.h.

import { attributeText, eachAttribute, type NetlinkMessage } from "./netlink.ts";

export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;
export const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
export const RTM_GETADDR = 22;
export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
export const RTM_GETROUTE = 26;
export const RTM_DELQDISC = 37;
export const RTM_NEWTFILTER = 44;
export const RTM_DELTFILTER = 45;

const AF_UNSPEC = 0;
const AF_INET = 2;
const AF_INET6 = 10;

/** An interface as the kernel's link list has it. */
export type Link = {
  readonly index: number;
  readonly name: string;
  /** What made it (veth, bridge, tun); undefined for hardware and loopback. */
  readonly kind: string | undefined;
  /** ARPHRD number: 1 Ethernet, 772 loopback, 65534 none. */
  readonly type: number;
  /** Index of the bridge, bond or VRF that it is a port of. */
  readonly master: number | undefined;
  /** Set up by the administrator. */
  readonly up: boolean;
  /** Up, and the driver says that it can carry packets. */
  readonly operational: boolean;
  /** Index of the veth peer or of the interface below; in the other namespace where `peerNamespace` is true. */
  readonly linkIndex: number | undefined;
  readonly peerNamespace: boolean;
};

function linkKind(view: DataView, start: number, end: number): string | undefined {
  const IFLA_INFO_KIND = 1;
  let kind: string | undefined;
  eachAttribute({ view, start, end }, (type, from, to) => {
    if (type === IFLA_INFO_KIND) kind = attributeText(view, from, to);
  });
  return kind;
}

/** Struct ifinfomsg, 16 bytes. Undefined for a message that is not about the interface as a whole. */
export function readLink({ view, start, end }: NetlinkMessage): Link | undefined {
  const IFF_UP = 1;
  const IFF_RUNNING = 0x40;
  const attributes = new Map<number, readonly [number, number]>();
  eachAttribute({ view, start: start + 16, end }, (type, from, to) => attributes.set(type, [from, to]));
  const number = (type: number) => {
    const found = attributes.get(type);
    return found === undefined ? undefined : view.getUint32(found[0], true);
  };
  const name = attributes.get(3); // IFLA_IFNAME
  // A bridge tells of its ports under a family of its own, as of links that come and go; and a wireless driver tells
  // of itself (IFLA_WIRELESS, 11) without the rest.
  if (view.getUint8(start) !== AF_UNSPEC || name === undefined || attributes.has(11)) return undefined;
  const info = attributes.get(18); // IFLA_LINKINFO
  const flags = view.getUint32(start + 8, true);
  return {
    index: view.getInt32(start + 4, true),
    name: attributeText(view, name[0], name[1]),
    kind: info === undefined ? undefined : linkKind(view, info[0], info[1]),
    type: view.getUint16(start + 2, true),
    master: number(10), // IFLA_MASTER
    up: (flags & IFF_UP) !== 0,
    operational: (flags & IFF_UP) !== 0 && (flags & IFF_RUNNING) !== 0,
    linkIndex: number(5), // IFLA_LINK
    peerNamespace: attributes.has(37), // IFLA_LINK_NETNSID
  };
}

/** A local address on an interface: 16 bytes, IPv4 in its IPv4-mapped form. */
export type LocalAddress = { readonly index: number; readonly prefix: number; readonly bytes: Uint8Array };

function mappedAddress(bytes: Uint8Array): Uint8Array {
  if (bytes.length === 16) return bytes;
  const mapped = new Uint8Array(16);
  mapped.set([0xff, 0xff], 10);
  mapped.set(bytes, 12);
  return mapped;
}

/** Struct ifaddrmsg, 8 bytes. */
export function readAddress({ view, start, end }: NetlinkMessage): LocalAddress | undefined {
  const IFA_ADDRESS = 1;
  const IFA_LOCAL = 2;
  const family = view.getUint8(start);
  if (family !== AF_INET && family !== AF_INET6) return undefined;
  const length = family === AF_INET ? 4 : 16;
  let bytes: Uint8Array | undefined;
  let hasLocal = false;
  eachAttribute({ view, start: start + 8, end }, (type, from, to) => {
    // On a point-to-point link IFA_ADDRESS is the peer's; IFA_LOCAL is always ours.
    if ((type !== IFA_LOCAL && (type !== IFA_ADDRESS || hasLocal)) || to - from !== length) return;
    hasLocal ||= type === IFA_LOCAL;
    bytes = new Uint8Array(view.buffer, view.byteOffset + from, length).slice();
  });
  if (bytes === undefined) return undefined;
  return {
    index: view.getUint32(start + 4, true),
    prefix: view.getUint8(start + 1),
    bytes: mappedAddress(bytes),
  };
}

function multipathInterfaces(view: DataView, start: number, end: number): number[] {
  const interfaces: number[] = [];
  for (let at = start; at + 8 <= end; ) {
    const length = view.getUint16(at, true); // struct rtnexthop: length, flags, hops, index, attributes
    if (length < 8 || at + length > end)
      throw new Error(`nexthop of ${length} bytes, ${end - at} bytes left`);
    interfaces.push(view.getInt32(at + 4, true));
    at += (length + 3) & ~3;
  }
  return interfaces;
}

/** Struct rtmsg, 12 bytes: a unicast route to everywhere, in the main table. */
export function isDefaultRoute({ view, start }: NetlinkMessage): boolean {
  const RTN_UNICAST = 1;
  const RT_TABLE_MAIN = 254;
  const RTM_F_CLONED = 0x200;
  const everywhere = view.getUint8(start + 1) === 0; // rtm_dst_len
  const inMain = view.getUint8(start + 4) === RT_TABLE_MAIN; // A table past 255 has 252 here.
  const unicast = view.getUint8(start + 7) === RTN_UNICAST;
  const cloned = (view.getUint32(start + 8, true) & RTM_F_CLONED) !== 0;
  return everywhere && inMain && unicast && !cloned;
}

/** Where a route leads. A nexthop object (RTA_NH_ID) that the kernel does not spell out gives none. */
export function routeInterfaces({ view, start, end }: NetlinkMessage): number[] {
  const RTA_OIF = 4;
  const RTA_MULTIPATH = 9;
  const interfaces: number[] = [];
  eachAttribute({ view, start: start + 12, end }, (type, from, to) => {
    if (type === RTA_OIF) interfaces.push(view.getUint32(from, true));
    if (type === RTA_MULTIPATH) interfaces.push(...multipathInterfaces(view, from, to));
  });
  return interfaces;
}

/**
 * Struct tcmsg, 20 bytes, of a qdisc or filter: its interface, and the priority of the filter, or 0 of what may be
 * several.
 */
export function readTrafficControl({ type, view, start }: NetlinkMessage): {
  readonly index: number;
  readonly priority: number;
} {
  const info = view.getUint32(start + 16, true); // Of a filter: priority and protocol.
  return { index: view.getInt32(start + 4, true), priority: type === RTM_DELQDISC ? 0 : info >>> 16 };
}
