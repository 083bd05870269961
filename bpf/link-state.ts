// The lists that rtnetlink keeps: read whole by dumps, brought up to date by events.

import { LibcError, setSocketOption } from "./libc.ts";
import { attributeU32, ENOENT, NETLINK_ROUTE, type NetlinkMessage, openNetlink, runDump } from "./netlink.ts";
import {
  isDefaultRoute,
  type Link,
  type LocalAddress,
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_DELQDISC,
  RTM_DELROUTE,
  RTM_DELTFILTER,
  RTM_GETADDR,
  RTM_GETLINK,
  RTM_GETROUTE,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWROUTE,
  RTM_NEWTFILTER,
  readAddress,
  readLink,
  readTrafficControl,
  routeInterfaces,
} from "./rtnetlink.ts";

/** What the kernel says, and what of it was touched since the owner last looked. */
export type LinkState = {
  readonly linksMax: number;
  readonly addressesMax: number;
  readonly links: Map<number, Link>;
  /** Indexes that were removed since the owner last looked, whether or not a new link has them now. */
  readonly gone: Set<number>;
  /** By interface, prefix and address, since one address can stand on several interfaces. */
  readonly addresses: Map<string, LocalAddress>;
  /** Interfaces whose tc filters were touched since the owner last looked, with the lowest priority among those. */
  readonly filters: Map<number, number>;
  linksTouched: boolean;
  addressesTouched: boolean;
  routesTouched: boolean;
  /** Times that a link or an address did not fit. */
  linksLost: number;
  addressesLost: number;
};

export const emptyLinkState = (bounds: { linksMax: number; addressesMax: number }): LinkState => ({
  ...bounds,
  links: new Map(),
  gone: new Set(),
  addresses: new Map(),
  filters: new Map(),
  linksTouched: true,
  addressesTouched: true,
  routesTouched: true,
  linksLost: 0,
  addressesLost: 0,
});

function putLink(state: LinkState, link: Link): void {
  if (!state.links.has(link.index) && state.links.size >= state.linksMax) {
    state.linksLost += 1;
    return;
  }
  state.links.set(link.index, link);
  state.linksTouched = true;
  state.routesTouched = true; // The kernel takes IPv4 routes away with a link that goes down, and does not say so.
}

function removeLink(state: LinkState, index: number): void {
  if (!state.links.delete(index)) return;
  state.gone.add(index);
  state.linksTouched = true;
  state.routesTouched = true;
}

const addressKey = ({ index, prefix, bytes }: LocalAddress): string =>
  `${index}/${prefix}/${Buffer.from(bytes).toString("hex")}`;

function putAddress(state: LinkState, address: LocalAddress): void {
  const key = addressKey(address);
  if (state.addresses.has(key)) return; // Said again, with a new lifetime.
  if (state.addresses.size >= state.addressesMax) {
    state.addressesLost += 1;
    return;
  }
  state.addresses.set(key, address);
  state.addressesTouched = true;
}

function removeAddress(state: LinkState, address: LocalAddress): void {
  if (!state.addresses.delete(addressKey(address))) return;
  state.addressesTouched = true;
  state.routesTouched = true; // Routes that prefer this source address go with it, unsaid.
}

function touchFilters(state: LinkState, { index, priority }: { index: number; priority: number }): void {
  if (!state.links.has(index)) return; // So that there are no more than links.
  state.filters.set(index, Math.min(priority, state.filters.get(index) ?? priority));
}

export function applyEvent(state: LinkState, message: NetlinkMessage): void {
  const { type } = message;
  if (type === RTM_NEWLINK || type === RTM_DELLINK) {
    const link = readLink(message);
    if (link === undefined) return;
    if (type === RTM_NEWLINK) putLink(state, link);
    else removeLink(state, link.index);
  } else if (type === RTM_NEWADDR || type === RTM_DELADDR) {
    const address = readAddress(message);
    if (address === undefined) return;
    if (type === RTM_NEWADDR) putAddress(state, address);
    else removeAddress(state, address);
  } else if ((type === RTM_NEWROUTE || type === RTM_DELROUTE) && isDefaultRoute(message)) {
    state.routesTouched = true;
  } else if (type === RTM_DELQDISC || type === RTM_NEWTFILTER || type === RTM_DELTFILTER) {
    touchFilters(state, readTrafficControl(message));
  }
}

/** Reads the list of links anew; false when it changed under way each time and may not be whole. */
export function readLinks(state: LinkState): boolean {
  const IFLA_EXT_MASK = 29;
  const RTEXT_FILTER_SKIP_STATS = 8;
  const before = new Map(state.links);
  using socket = openNetlink(NETLINK_ROUTE);
  const { interrupted } = runDump(socket, {
    what: "list of interfaces",
    type: RTM_GETLINK,
    body: Buffer.concat([new Uint8Array(16), attributeU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)]),
    begin: () => state.links.clear(),
    each: (message) => {
      const link = readLink(message);
      if (link !== undefined) putLink(state, link);
    },
  });
  for (const [index, link] of before) {
    const now = state.links.get(index);
    // A link never changes its kind: with its events lost, this tells that another one has the index now.
    if (now !== undefined && (now.kind !== link.kind || now.type !== link.type)) state.gone.add(index);
    touchFilters(state, { index, priority: 0 }); // What happened to them is lost too.
  }
  state.linksTouched = true;
  state.routesTouched = true;
  return !interrupted;
}

/** Reads the list of local addresses anew; false as for links. */
export function readAddresses(state: LinkState): boolean {
  using socket = openNetlink(NETLINK_ROUTE);
  const { interrupted } = runDump(socket, {
    what: "list of local addresses",
    type: RTM_GETADDR,
    body: new Uint8Array(8),
    begin: () => state.addresses.clear(),
    each: (message) => {
      const address = readAddress(message);
      if (address !== undefined) putAddress(state, address);
    },
  });
  state.addressesTouched = true;
  return !interrupted;
}

// Lets the kernel leave out other tables than the one asked for, which it otherwise ignores (Linux 4.20).
function askStrictly(fd: number): void {
  const SOL_NETLINK = 270;
  const NETLINK_GET_STRICT_CHK = 12;
  try {
    setSocketOption(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
  } catch (error) {
    if (!(error instanceof LibcError)) throw error; // An older kernel sends all tables; we look at each route's own.
  }
}

function readDefaultRoutes(family: number): Set<number> {
  const RT_TABLE_MAIN = 254;
  const interfaces = new Set<number>();
  const body = new Uint8Array(12); // struct rtmsg: family at 0, table at 4
  body[0] = family;
  body[4] = RT_TABLE_MAIN;
  using socket = openNetlink(NETLINK_ROUTE);
  askStrictly(socket.fd);
  try {
    runDump(socket, {
      what: `list of routes, address family ${family}`,
      type: RTM_GETROUTE,
      body,
      begin: () => interfaces.clear(),
      each: (message) => {
        if (isDefaultRoute(message)) for (const index of routeInterfaces(message)) interfaces.add(index);
      },
    });
  } catch (error) {
    if (!(error instanceof LibcError && error.errno === ENOENT)) throw error; // No main table, so no routes in it.
  }
  return interfaces;
}

/** Indexes of the interfaces of default routes, IPv4 and IPv6, in order. */
export function readDefaultRouteInterfaces(): readonly number[] {
  const AF_INET = 2;
  const AF_INET6 = 10;
  return [...readDefaultRoutes(AF_INET).union(readDefaultRoutes(AF_INET6))].sort((a, b) => a - b);
}
