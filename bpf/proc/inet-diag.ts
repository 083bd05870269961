// TCP sockets by state and by remote, asked of the kernel through inet_diag. Layouts are those of linux/inet_diag.h.

import type { TcpRemote, TcpSockets } from "../../src/snapshot.ts";
import type { Socket } from "../libc.ts";
import { NETLINK_SOCK_DIAG, type NetlinkMessage, openNetlink, runDump } from "../netlink.ts";
import { ipv4Text, ipv6Text, isIpv4Mapped } from "./address.ts";

const AF_INET = 2;

// By number, as in net/tcp_states.h. A connection request has a state of its own inside the kernel (12).
const stateNames: readonly (string | undefined)[] = [
  undefined,
  "ESTABLISHED",
  "SYN_SENT",
  "SYN_RECV",
  "FIN_WAIT1",
  "FIN_WAIT2",
  "TIME_WAIT",
  "CLOSE",
  "CLOSE_WAIT",
  "LAST_ACK",
  "LISTEN",
  "CLOSING",
  "SYN_RECV",
];
const TCP_CLOSE = 7;
const TCP_LISTEN = 10;

/** Counts of sockets, with a bound on the remotes that are told apart. */
export type TcpTally = {
  /** By state number. */
  readonly states: number[];
  /** Connections by remote: an IPv4 remote is address * 2^16 + port, an IPv6 one its words and port in text. */
  readonly remotes: Map<number | string, number>;
  /** Connections to remotes that came after `addressesMax` others. */
  beyond: number;
  readonly addressesMax: number;
};

export const emptyTally = (addressesMax: number): TcpTally => ({
  states: new Array<number>(stateNames.length).fill(0),
  remotes: new Map(),
  beyond: 0,
  addressesMax,
});

function remoteKey(view: DataView, at: number, options: { family: number; port: number }): number | string {
  if (options.family === AF_INET) return view.getUint32(at) * 65536 + options.port;
  if (isIpv4Mapped(view, at)) return view.getUint32(at + 12) * 65536 + options.port;
  const word = (index: number) => view.getUint32(at + 4 * index);
  return `${word(0)} ${word(1)} ${word(2)} ${word(3)} ${options.port}`;
}

function addRemote(tally: TcpTally, key: number | string): void {
  const before = tally.remotes.get(key);
  if (before === undefined && tally.remotes.size >= tally.addressesMax) tally.beyond += 1;
  else tally.remotes.set(key, (before ?? 0) + 1);
}

/** Adds one answer: struct inet_diag_msg, family at 0, state at 1, remote port at 6, remote address at 24. */
export function addSocket(tally: TcpTally, { view, start, end }: NetlinkMessage): void {
  const inetDiagMessageBytes = 72;
  if (end - start < inetDiagMessageBytes) throw new Error(`inet_diag message of ${end - start} bytes`);
  const state = view.getUint8(start + 1);
  tally.states[state] = (tally.states[state] ?? 0) + 1;
  const port = view.getUint16(start + 6);
  if (port === 0 || state === TCP_LISTEN || state === TCP_CLOSE) return;
  addRemote(tally, remoteKey(view, start + 24, { family: view.getUint8(start), port }));
}

/** A socket asks about the network namespace in which it was opened. */
export const openInetDiag = (): Socket => openNetlink(NETLINK_SOCK_DIAG);

/** Adds all TCP sockets of one address family to the tally, as they come. */
export function tallyTcpSockets(socket: Socket, options: { family: number; tally: TcpTally }): void {
  const SOCK_DIAG_BY_FAMILY = 20;
  const IPPROTO_TCP = 6;
  const request = new DataView(new ArrayBuffer(56)); // struct inet_diag_req_v2
  request.setUint8(0, options.family);
  request.setUint8(1, IPPROTO_TCP);
  request.setUint32(4, 2 ** stateNames.length - 2, true); // A bit a state number, from 1.
  runDump(socket, {
    what: `inet_diag of TCP sockets, address family ${options.family} (module tcp_diag)`,
    type: SOCK_DIAG_BY_FAMILY,
    body: new Uint8Array(request.buffer),
    begin: () => undefined, // The kernel marks no socket dump as interrupted, so this is called once.
    each: (message) => addSocket(options.tally, message),
  });
}

function sumStates(tallies: readonly TcpTally[]): Record<string, number> {
  const states: Record<string, number> = {};
  stateNames.forEach((name, state) => {
    if (name === undefined) return;
    states[name] = tallies.reduce((sum, tally) => sum + (tally.states[state] ?? 0), states[name] ?? 0);
  });
  return states;
}

function readKey(key: number | string): { address: string; port: number } {
  const view = new DataView(new ArrayBuffer(16));
  if (typeof key === "number") {
    view.setUint32(0, Math.floor(key / 65536));
    return { address: ipv4Text(view, 0), port: key % 65536 };
  }
  const [port = 0, ...wordsBackwards] = key.split(" ").map(Number).reverse();
  wordsBackwards.forEach((word, index) => {
    view.setUint32(12 - 4 * index, word);
  });
  return { address: ipv6Text(view, 0), port };
}

type Ranked = { readonly key: number | string; readonly connections: number };

// Equal counts are ordered by key, so that the same remotes stay in the top from tick to tick.
function before(a: Ranked, b: Ranked): boolean {
  if (a.connections !== b.connections) return a.connections > b.connections;
  if (typeof a.key !== typeof b.key) return typeof a.key === "number";
  return a.key < b.key;
}

function insertRanked(top: Ranked[], candidate: Ranked, remotesMax: number): void {
  const last = top.at(-1);
  if (top.length >= remotesMax && (last === undefined || !before(candidate, last))) return;
  let low = 0;
  for (let high = top.length; low < high; ) {
    const middle = (low + high) >> 1;
    const other = top[middle];
    if (other !== undefined && before(other, candidate)) low = middle + 1;
    else high = middle;
  }
  top.splice(low, 0, candidate);
  if (top.length > remotesMax) top.pop();
}

/** The sum of several tallies: states, the top `remotesMax` remotes, and the connections to all the others. */
export function sumTallies(tallies: readonly TcpTally[], remotesMax: number): TcpSockets {
  const top: Ranked[] = [];
  let all = 0;
  tallies.forEach((tally, index) => {
    const earlier = tallies.slice(0, index);
    const later = tallies.slice(index + 1);
    all += tally.beyond;
    for (const [key, count] of tally.remotes) {
      if (earlier.some((other) => other.remotes.has(key))) continue;
      const connections = later.reduce((sum, other) => sum + (other.remotes.get(key) ?? 0), count);
      all += connections;
      insertRanked(top, { key, connections }, remotesMax);
    }
  });
  const remotes: TcpRemote[] = top.map(({ key, connections }) => ({ ...readKey(key), connections }));
  const remotesOther = remotes.reduce((rest, { connections }) => rest - connections, all);
  return { states: sumStates(tallies), remotes, remotesOther };
}
