// Which interfaces we watch, and what each is to this node: pure decisions over the links that the kernel lists.

import type { Rank } from "./flow-table.ts";

/** What decides; a subset of a link of bpf/links.ts. */
export type InterfaceFacts = {
  readonly index: number;
  readonly name: string;
  /** IFLA_INFO_KIND: veth, bridge, tun, vxlan, …; none for hardware. */
  readonly kind?: string | undefined;
  /** ARPHRD_ number. */
  readonly type: number;
  readonly master?: number | undefined;
  readonly peerNamespace: boolean;
};

/**
 * `endpoint`: the node's end of a pod's or machine's interface; what enters the node there leaves the endpoint.
 * `bridge`: between endpoints that are watched themselves; only what the node itself sends and receives counts there.
 */
export type Role = "uplink" | "endpoint" | "bridge" | "other";

export type Selection = {
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  readonly loopback: boolean;
  readonly uplinks: "auto" | readonly string[];
};

const ARPHRD_ETHER = 1;
const ARPHRD_LOOPBACK = 772;
/** No link header: PPP 512, RAWIP 519, IPIP 768, IP6TNL 769, SIT 776, IPGRE 778, IP6GRE 823, NONE 65534. */
const noLinkHeader = new Set([512, 519, 768, 769, 776, 778, 823, 65534]);

export type Framing = "ethernet" | "none" | "unsupported";

export function framingOf(type: number): Framing {
  if (type === ARPHRD_ETHER || type === ARPHRD_LOOPBACK) return "ethernet";
  return noLinkHeader.has(type) ? "none" : "unsupported";
}

const matches = (name: string, globs: readonly string[]): boolean =>
  globs.some((glob) => new Bun.Glob(glob).match(name));

export function isWatched(link: InterfaceFacts, selection: Selection): boolean {
  if (link.type === ARPHRD_LOOPBACK && !selection.loopback) return false;
  if (framingOf(link.type) === "unsupported") return false;
  return matches(link.name, selection.include) && !matches(link.name, selection.exclude);
}

/** Hardware, as far as the kernel says: no kind, and not the loopback. */
const isHardware = (link: InterfaceFacts): boolean =>
  link.kind === undefined && link.type !== ARPHRD_LOOPBACK;

const lowerKinds = new Set(["bond", "team", "vlan"]);

/** A bridge's own hooks see the node's own packets alone; what its ports pass on to one another, only those ports see. */
function lowerPorts(links: readonly InterfaceFacts[], link: InterfaceFacts): readonly InterfaceFacts[] {
  const ports = links.filter(
    (port) => port.master === link.index && (isHardware(port) || lowerKinds.has(port.kind ?? "")),
  );
  return link.kind === "bridge" && ports.length > 0 ? ports : [link];
}

/**
 * Interfaces that node totals are taken on. `auto`: those of the default routes, or the hardware ports of a bridge that
 * has one; on a node without a default route, every hardware interface. Named ones need not exist yet.
 */
export function uplinkIndexes(
  links: readonly InterfaceFacts[],
  uplinks: Selection["uplinks"],
  defaultRoutes: readonly number[],
): ReadonlySet<number> {
  if (uplinks !== "auto")
    return new Set(links.filter(({ name }) => matches(name, uplinks)).map(({ index }) => index));
  const routed = links
    .filter(({ index }) => defaultRoutes.includes(index))
    .flatMap((link) => lowerPorts(links, link));
  const found = routed.length > 0 ? routed : links.filter(isHardware);
  return new Set(found.map(({ index }) => index));
}

function isEndpoint(link: InterfaceFacts): boolean {
  if (link.kind === "veth" || link.kind === "netkit") return link.peerNamespace;
  return link.kind === "tun" && link.type === ARPHRD_ETHER; // A tap: a virtual machine's interface.
}

/** `watchedPorts`: masters of which at least one port is watched. */
export function roleOf(
  link: InterfaceFacts,
  uplinks: ReadonlySet<number>,
  watchedPorts: ReadonlySet<number>,
): Role {
  if (uplinks.has(link.index)) return "uplink";
  if (isEndpoint(link)) return "endpoint";
  return link.kind === "bridge" && watchedPorts.has(link.index) ? "bridge" : "other";
}

const ranks: Readonly<Record<Role, Rank>> = { endpoint: 3, uplink: 2, other: 1, bridge: 0 };
export const rankOf = (role: Role): Rank => ranks[role];
