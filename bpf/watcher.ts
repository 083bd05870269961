// Keeps programs on every interface that matters, as interfaces come, change and go.

import type { Direction } from "../src/flow.ts";
import type { Attachments } from "./attachments.ts";
import { NotAttachable } from "./clsact.ts";
import { hook as hooks } from "./contract.gen.ts";
import type { Rank } from "./flow-table.ts";
import {
  framingOf,
  isWatched,
  type Role,
  rankOf,
  roleOf,
  type Selection,
  uplinkIndexes,
} from "./interfaces.ts";
import { LibcError } from "./libc.ts";
import type { Links } from "./links.ts";
import type { Link } from "./rtnetlink.ts";
import { createStanding } from "./standing.ts";

export type Place = {
  readonly name: string;
  readonly role: Role;
  readonly rank: Rank;
  /** A bridge of which every watched port is an endpoint's. */
  readonly endpointsAlone?: boolean;
};

/** Names of interfaces that are gone are kept for records that are still to be read. */
const GONE_MAX = 4096;

/**
 * How long one update may attach. The kernel takes a grace period a hook for a tcx link (some 10 ms): hundreds of
 * interfaces at once would hold up the tick for as many seconds. What is left waits for the next.
 */
const ATTACH_MS_MAX = 300;

export type Watcher = {
  /** Applies what happened to interfaces since the last call. */
  update(): void;
  place(ifindex: number): Place | undefined;
  name(ifindex: number): string;
  attached(): readonly string[];
  uplinks(): readonly string[];
  /** One sentence for each interface that could not be attached to, and for all else that keeps packets from being seen. */
  failures(): readonly string[];
};

/**
 * Direction as the local end sees it: what enters the node from an endpoint leaves that endpoint. On a bridge only what
 * the node itself sends or receives counts; undefined says that its ports have seen the packet.
 */
export function directionAt(role: Role, hook: number, isLocalEnd: () => boolean): Direction | undefined {
  const entering = hook === hooks.INGRESS;
  if (role === "endpoint") return entering ? "egress" : "ingress";
  if (role === "bridge" && !isLocalEnd()) return undefined;
  return entering ? "ingress" : "egress";
}

const uplinksFirst = (a: { role: Role }, b: { role: Role }): number =>
  Number(b.role === "uplink") - Number(a.role === "uplink");

type Watched = { readonly link: Link; readonly role: Role; readonly endpointsAlone: boolean };

/** What is to be watched and what each is to this node, uplinks first. */
function watchedLinks(links: Links, selection: Selection): readonly Watched[] {
  const watched = links.all().filter((link) => isWatched(link, selection));
  const uplinks = uplinkIndexes(links.all(), selection.uplinks, links.defaultRouteInterfaces());
  const masters = new Set(watched.flatMap(({ master }) => (master === undefined ? [] : [master])));
  const roles = watched.map((link) => ({ link, role: roleOf(link, uplinks, masters) }));
  const mixed = new Set(roles.filter(({ role }) => role !== "endpoint").map(({ link }) => link.master));
  return roles
    .map((one) => ({ ...one, endpointsAlone: one.role === "bridge" && !mixed.has(one.link.index) }))
    .toSorted(uplinksFirst);
}

const waitingText = (waiting: number): readonly string[] =>
  waiting === 0 ? [] : [`${waiting} interfaces wait to be attached to: the kernel takes its time for each`];

export function createWatcher(options: {
  links: Links;
  attachments: Attachments;
  selection: Selection;
}): Watcher {
  const { links, attachments, selection } = options;
  const places = new Map<number, Place>();
  const gone = new Map<number, Place>();
  const failures = new Map<number, string>();
  const standing = createStanding({ links, attachments, places });
  let waiting = 0;
  let fresh = true;

  function leave(ifindex: number): void {
    const place = places.get(ifindex);
    places.delete(ifindex);
    failures.delete(ifindex);
    standing.forget(ifindex);
    attachments.detach(ifindex);
    if (place === undefined) return;
    gone.set(ifindex, place);
    for (const oldest of gone.keys()) {
      if (gone.size <= GONE_MAX) break;
      gone.delete(oldest);
    }
  }

  function enter({ link, role, endpointsAlone }: Watched): void {
    const kind = { framing: framingOf(link.type), uplink: role === "uplink" };
    try {
      attachments.attach(link.index, kind, standing.isLost(link.index));
      places.set(link.index, { name: link.name, role, rank: rankOf(role), endpointsAlone });
      failures.delete(link.index);
      standing.restored(link.index, link.name);
    } catch (error) {
      // It may have vanished before its removal was read, or be of a kind that takes no programs. Tried again.
      if (error instanceof NotAttachable) failures.set(link.index, `${link.name} ${error.message}`);
      else if (error instanceof LibcError) failures.set(link.index, `${link.name}: ${error.message}`);
      else throw error;
    }
  }

  function place(): void {
    const watched = watchedLinks(links, selection);
    const kept = new Set(watched.map(({ link }) => link.index));
    for (const ifindex of [...places.keys()]) if (!kept.has(ifindex)) leave(ifindex);
    const endAt = performance.now() + ATTACH_MS_MAX;
    waiting = 0;
    for (const one of watched)
      if (attachments.has(one.link.index) || performance.now() < endAt) enter(one);
      else waiting++;
  }

  return {
    update() {
      // An index that was removed and is back is another interface: its programs went with the old one.
      const { removed } = links.update();
      for (const { index } of removed) leave(index);
      standing.look();
      if (!links.changed && !fresh && failures.size + standing.lost() + waiting === 0) return;
      place();
      // Nothing at all can be attached to: that is no matter of one interface.
      const [failure] = failures.values();
      if (fresh && places.size === 0 && failure !== undefined) throw new Error(failure);
      fresh = false;
    },
    place: (ifindex) => places.get(ifindex) ?? gone.get(ifindex),
    name: (ifindex) => (places.get(ifindex) ?? gone.get(ifindex))?.name ?? "",
    attached: () => [...places].filter(([ifindex]) => attachments.has(ifindex)).map(([, { name }]) => name),
    uplinks: () => [...places.values()].filter(({ role }) => role === "uplink").map(({ name }) => name),
    failures: () => [...failures.values(), ...waitingText(waiting), ...standing.hindrances()],
  };
}
