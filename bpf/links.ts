// The interfaces, local addresses and default routes of this network namespace, kept current by rtnetlink events.

import { LibcError, type Socket, setSocketOption } from "./libc.ts";
import {
  applyEvent,
  emptyLinkState,
  type LinkState,
  readAddresses,
  readDefaultRouteInterfaces,
  readLinks,
} from "./link-state.ts";
import {
  ENOBUFS,
  joinGroups,
  NETLINK_ROUTE,
  type NetlinkMessage,
  openNetlink,
  receiveWaiting,
  setReceiveRoom,
} from "./netlink.ts";
import { ipv6Text } from "./proc/address.ts";
import type { Link, LocalAddress } from "./rtnetlink.ts";

export type LinkChanges = {
  readonly added: readonly Link[];
  readonly removed: readonly Link[];
  /** As they are now. */
  readonly changed: readonly Link[];
};

export type Links = Disposable & {
  /** Applies what happened since the last call, without waiting. A link made anew under its old name is in both lists. */
  update(): LinkChanges;
  /** Listens to changes of tc filters from here on. */
  watchFilters(): void;
  /** Interfaces whose tc filters were touched until the last update, each told once, with the lowest priority among those. */
  takeFilters(): ReadonlyMap<number, number>;
  /** Did the last update find anything new in links, local addresses or default routes? */
  readonly changed: boolean;
  /** As of the last update; the opening counts as one. */
  all(): readonly Link[];
  /** Is it an address of this node? Canonical text, or 16 bytes with IPv4 in its IPv4-mapped form. */
  isLocal(address: string | Uint8Array): boolean;
  /** Local addresses, each once, in 16 bytes. */
  localAddresses(): readonly Uint8Array[];
  /** Indexes of the interfaces that default routes of the main table lead to, IPv4 and IPv6. */
  defaultRouteInterfaces(): readonly number[];
  /** Times that a link or an address did not fit, and that the kernel lost events so that all was read anew. */
  readonly losses: { readonly links: number; readonly addresses: number; readonly overruns: number };
};

const linkFields = [
  "name",
  "kind",
  "type",
  "master",
  "up",
  "operational",
  "linkIndex",
  "peerNamespace",
] as const satisfies readonly (keyof Link)[];

/** What became of the links, `gone` being those that were removed meanwhile even if their index is in use again. */
export function compareLinks(
  before: ReadonlyMap<number, Link>,
  state: { readonly links: ReadonlyMap<number, Link>; readonly gone: ReadonlySet<number> },
): LinkChanges {
  const { links, gone } = state;
  const added: Link[] = [];
  const changed: Link[] = [];
  const removed = [...before.values()].filter(({ index }) => !links.has(index) || gone.has(index));
  for (const [index, link] of links) {
    const old = before.get(index);
    if (old === undefined || gone.has(index)) added.push(link);
    else if (linkFields.some((field) => old[field] !== link[field])) changed.push(link);
  }
  return { added, removed, changed };
}

/** Local addresses in the two forms in which they are asked for. */
type AddressIndex = { readonly texts: ReadonlySet<string>; readonly bytes: ReadonlyMap<string, Uint8Array> };

const bytesKey = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

const indexAddresses = (addresses: readonly LocalAddress[]): AddressIndex => ({
  texts: new Set(addresses.map(({ bytes }) => ipv6Text(new DataView(bytes.buffer, bytes.byteOffset, 16), 0))),
  bytes: new Map(addresses.map(({ bytes }) => [bytesKey(bytes), bytes])),
});

// All of 127.0.0.0/8 is this node, though one address of it stands on the loopback interface.
function hasAddress(index: AddressIndex, address: string | Uint8Array): boolean {
  if (typeof address === "string") return index.texts.has(address) || address.startsWith("127.");
  const key = bytesKey(address);
  return index.bytes.has(key) || key.startsWith(`${"\0".repeat(10)}\xff\xff\x7f`);
}

function openEvents(receiveBytes: number): Socket {
  const RTMGRP_LINK = 0x1;
  const RTMGRP_IPV4_IFADDR = 0x10;
  const RTMGRP_IPV4_ROUTE = 0x40;
  const RTMGRP_IPV6_IFADDR = 0x100;
  const RTMGRP_IPV6_ROUTE = 0x400;
  const groups =
    RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE;
  using undo = new DisposableStack();
  const socket = undo.use(openNetlink(NETLINK_ROUTE));
  setReceiveRoom(socket, receiveBytes);
  joinGroups(socket, groups);
  undo.move();
  return socket;
}

function joinTrafficControl({ fd }: Socket): void {
  const SOL_NETLINK = 270;
  const NETLINK_ADD_MEMBERSHIP = 1;
  const RTNLGRP_TC = 4;
  setSocketOption(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, RTNLGRP_TC);
}

// A bound on the work of one update; the rest waits for the next.
const packetsMax = 65536;

/** False when the kernel had to throw events away for want of room. */
function receiveEvents(socket: Socket, each: (message: NetlinkMessage) => void): boolean {
  try {
    receiveWaiting(socket, { packetsMax, each });
    return true;
  } catch (error) {
    if (error instanceof LibcError && error.errno === ENOBUFS) return false;
    throw error;
  }
}

function drainEvents(socket: Socket): boolean {
  const attemptsMax = 8; // Each ends with the queue empty, or with news that events were lost again.
  for (let attempt = 0; attempt < attemptsMax; attempt++)
    if (receiveEvents(socket, () => undefined)) return true;
  return false;
}

/** Reads all lists anew; false when they may not be whole and it must be done again. */
function resynchronise(socket: Socket, state: LinkState): boolean {
  // What waits is older than the lists to come, and what undid it may be among the lost: it must not be applied.
  const drained = drainEvents(socket);
  const linksWhole = readLinks(state);
  const addressesWhole = readAddresses(state);
  const eventsWhole = receiveEvents(socket, (message) => applyEvent(state, message));
  return drained && linksWhole && addressesWhole && eventsWhole;
}

function sameNumbers(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((value, index) => value === b[index]);
}

/** Listens before it reads the lists, so that no change falls between. */
export function openLinks(
  options: { linksMax?: number; addressesMax?: number; receiveBytes?: number } = {},
): Links {
  const { linksMax = 16384, addressesMax = 65536, receiveBytes = 4 * 2 ** 20 } = options;
  using undo = new DisposableStack();
  const socket = undo.use(openEvents(receiveBytes));
  const state = emptyLinkState({ linksMax, addressesMax });
  let whole = resynchronise(socket, state);
  let reported: ReadonlyMap<number, Link> = new Map();
  let addresses = indexAddresses([]);
  let routes: readonly number[] = [];
  let changed = false;
  let overruns = 0;

  /** Takes what was touched into what is shown. */
  const settle = (): LinkChanges => {
    const changes = state.linksTouched
      ? compareLinks(reported, state)
      : { added: [], removed: [], changed: [] };
    const routesNow = state.routesTouched ? readDefaultRouteInterfaces() : routes;
    const linksChanged = changes.added.length + changes.removed.length + changes.changed.length > 0;
    changed = linksChanged || state.addressesTouched || !sameNumbers(routes, routesNow);
    if (linksChanged) reported = new Map(state.links);
    if (state.addressesTouched) addresses = indexAddresses([...state.addresses.values()]);
    routes = routesNow;
    state.gone.clear();
    state.linksTouched = false;
    state.addressesTouched = false;
    state.routesTouched = false;
    return changes;
  };
  settle();

  const events = undo.move();
  return {
    update() {
      const received = receiveEvents(socket, (message) => applyEvent(state, message));
      if (!received) overruns += 1;
      if (!received || !whole) {
        whole = false; // Stays so if reading fails.
        whole = resynchronise(socket, state);
      }
      return settle();
    },
    get changed() {
      return changed;
    },
    watchFilters: () => joinTrafficControl(socket),
    takeFilters() {
      const taken = new Map(state.filters);
      state.filters.clear();
      return taken;
    },
    all: () => [...reported.values()],
    isLocal: (address) => hasAddress(addresses, address),
    localAddresses: () => [...addresses.bytes.values()],
    defaultRouteInterfaces: () => routes,
    get losses() {
      return { links: state.linksLost, addresses: state.addressesLost, overruns };
    },
    [Symbol.dispose]: () => events.dispose(),
  };
}
