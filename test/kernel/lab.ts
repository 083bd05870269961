// Network namespaces wired up for tests: quiet, with fixed neighbours, so that what crosses a link is what a test sent.

import { writeFileSync } from "node:fs";
import { makeNamespace, type TestNamespace } from "./proc-namespace.ts";

/** One end of a veth pair; addresses with their prefix length. */
export type End = {
  readonly at: TestNamespace;
  readonly name: string;
  readonly addresses?: readonly string[];
};

export type Lab = Disposable & {
  namespace(options?: { forwarding?: boolean }): TestNamespace;
  /** Connects two ends and makes each know the other's addresses. */
  connect(a: End, b: End): void;
  /** Takes something along that ends with the laboratory, before its namespaces. */
  use<T extends Disposable>(value: T): T;
};

// No duplicate address detection, router solicitation or link-local address.
const quiet: Readonly<Record<string, string>> = {
  "ipv6/conf/default/accept_dad": "0",
  "ipv6/conf/default/dad_transmits": "0",
  "ipv6/conf/default/router_solicitations": "0",
  "ipv6/conf/default/accept_ra": "0",
  "ipv6/conf/default/addr_gen_mode": "1",
  "ipv4/conf/default/rp_filter": "0",
  "ipv4/conf/all/rp_filter": "0",
  "ipv4/tcp_rmem": "4096 65536 262144", // Windows that never fill the backlog of a veth pair without offloads.
  "ipv4/tcp_early_retrans": "0", // A busy machine is late with its answers: that is no reason to send again.
  "ipv4/tcp_sack": "0", // Two CPUs may turn segments around; what answers say to that would have no fixed length.
  "ipv4/tcp_reordering": "100",
  "ipv4/icmp_ratelimit": "0",
  "ipv6/icmp/ratelimit": "0",
};

// Multicast listeners report themselves up to a second after their link came up.
const silence = `table ip6 silence {
  chain output { type filter hook output priority 0; icmpv6 type 143 drop; }
}`;

const forwarding: Readonly<Record<string, string>> = {
  "ipv4/ip_forward": "1",
  "ipv6/conf/all/forwarding": "1",
  "ipv6/conf/default/forwarding": "1",
};

export function setSysctls(at: TestNamespace, values: Readonly<Record<string, string>>): void {
  at.inside(() => {
    for (const [name, value] of Object.entries(values)) writeFileSync(`/proc/sys/net/${name}`, value);
  });
}

/** A hundred ports of this process: the kernel tells of drops everywhere, so also of those of a test beside this one. */
export const ownPorts = 10_000 + (process.pid % 500) * 100;

let macs = 0;

/** A new unicast, locally administered address. */
function nextMac(): string {
  macs += 1;
  return `02:fa:00:00:${(macs >> 8).toString(16).padStart(2, "0")}:${(macs & 0xff).toString(16).padStart(2, "0")}`;
}

const bare = (address: string): string => address.split("/")[0] ?? "";

type LinkFacts = { readonly ifindex: number; readonly address: string; readonly mtu: number };

export function linkFacts(at: TestNamespace, name: string): LinkFacts {
  const [facts] = JSON.parse(at.ip("-j", "link", "show", "dev", name)) as LinkFacts[];
  if (facts === undefined) throw new Error(`no interface ${name}`);
  return facts;
}

/** Tells `at` where an address of another end is, for good. */
export function addNeighbour(at: TestNamespace, device: string, address: string, mac: string): void {
  at.ip("neigh", "replace", bare(address), "lladdr", mac, "dev", device, "nud", "permanent");
}

export function addAddresses(end: End): void {
  for (const address of end.addresses ?? []) end.at.ip("addr", "add", address, "dev", end.name);
}

/** What a test sends with a packet socket keeps its segments; `off` makes the kernel cut and join none. */
export function setOffloads(at: TestNamespace, device: string, state: "on" | "off"): void {
  at.run("ethtool", "-K", device, "tso", state, "gso", state, "gro", state);
}

/** Whether all CPUs take part in receiving on an interface, or the one alone that got the packet. */
export function setReceiveSteering(at: TestNamespace, device: string, state: "on" | "off"): void {
  const cpus = Math.min(navigator.hardwareConcurrency, 16);
  const mask = state === "on" ? (2 ** cpus - 1).toString(16) : "0";
  at.run("sh", "-c", `echo ${mask} > /sys/class/net/${device}/queues/rx-0/rps_cpus`);
}

function connect(a: End, b: End): void {
  const macA = nextMac();
  const macB = nextMac();
  const peer = ["peer", "name", b.name, "address", macB, "netns", b.at.name];
  a.at.ip("link", "add", a.name, "address", macA, "type", "veth", ...peer);
  for (const end of [a, b]) {
    addAddresses(end);
    end.at.ip("link", "set", end.name, "up");
  }
  for (const address of b.addresses ?? []) addNeighbour(a.at, a.name, address, macB);
  for (const address of a.addresses ?? []) addNeighbour(b.at, b.name, address, macA);
}

export function openLab(): Lab {
  const undo = new DisposableStack();
  return {
    namespace(options = {}) {
      const made = undo.use(makeNamespace());
      setSysctls(made, { ...quiet, ...(options.forwarding === true ? forwarding : {}) });
      made.run("nft", silence);
      return made;
    },
    connect,
    use: (value) => undo.use(value),
    [Symbol.dispose]: () => undo.dispose(),
  };
}

export const hostV4 = "192.0.2.1";
export const hostV6 = "2001:db8::1";
export const outsideV4 = "192.0.2.2";
export const outsideV6 = "2001:db8::2";

export type Pair = { readonly lab: Lab; readonly host: TestNamespace; readonly outside: TestNamespace };

/** The smallest node: a host whose uplink `up0` leads to `wan0` of another namespace. */
export function openPair(options: { forwarding?: boolean } = {}): Pair {
  using undo = new DisposableStack();
  const lab = undo.use(openLab());
  const host = lab.namespace(options);
  const outside = lab.namespace();
  lab.connect(
    { at: host, name: "up0", addresses: [`${hostV4}/24`, `${hostV6}/64`] },
    { at: outside, name: "wan0", addresses: [`${outsideV4}/24`, `${outsideV6}/64`] },
  );
  host.ip("route", "add", "default", "via", outsideV4);
  host.ip("-6", "route", "add", "default", "via", outsideV6);
  undo.move();
  return { lab, host, outside };
}
