// Our programs as filters of an interface's clsact qdisc, beside those of others.

import type { Libbpf, TcFilter, TcHook } from "./libbpf.ts";
import { EINVAL, LibcError } from "./libc.ts";
import { ENOENT } from "./netlink.ts";
import { type Filter, type Filters, hasFilters, ingressQdisc, readFilters } from "./tc-filters.ts";

/** Where our filters are found again: a start replaces what a crash left, and a check leaves those of a service alone. */
const HANDLES = { service: 0xf0, check: 0xf1 } as const;

export type Owner = keyof typeof HANDLES;
export type Fds = { readonly ingress: number; readonly egress: number };

/** `move` puts other programs in place without a gap. */
export type Attached = {
  move(fds: Fds): void;
  detach(): void;
  /** Whether both programs are where we put them. `priority` is the lowest of filters that were touched meanwhile. */
  stands(priority: number): boolean;
  /** Another's program that stood before ours when last looked: it may end a packet's way there. */
  before(): string | undefined;
};

/** Why this interface, as it is, takes no programs of ours. */
export class NotAttachable extends Error {
  override readonly name = "NotAttachable";
}

const ENODEV = 19;

/** On an interface or qdisc that is gone there is nothing left to undo. */
function unlessGone(action: () => void): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof LibcError) || ![ENODEV, ENOENT, EINVAL].includes(error.errno)) throw error;
  }
}

const isOurs = ({ kind, name }: Filter): boolean => kind === "bpf" && name.startsWith("fovea_");

/** True when the qdisc was made by this call. */
function openQdisc(libbpf: Libbpf, ifindex: number): boolean {
  if (libbpf.createTcHook({ ifindex, attachPoint: 1 })) return true;
  // An ingress qdisc answers to the same number, and has one list of filters for both of our hooks.
  if (ingressQdisc(ifindex) === "ingress")
    throw new NotAttachable(
      "has an ingress qdisc, and can only be shared with a clsact one: replace it by clsact, which takes the same " +
        "filters, or leave this interface out (interfaces.exclude)",
    );
  return false;
}

/**
 * The place of what a crash left, else the lowest free priority: an earlier filter that gives a verdict ends the chain.
 * A priority of another's is not shared, because all filters of one must be of one kind.
 */
function priorityFor(filters: Filters, handle: number, takesOver: boolean): number {
  const all = [...filters.ingress, ...filters.egress];
  const left = all.find((filter) => isOurs(filter) && filter.handle === handle);
  if (takesOver && left !== undefined) return left.priority;
  const taken = new Set(all.map(({ priority }) => priority));
  let priority = 1;
  while (taken.has(priority)) priority++;
  return priority;
}

const isAt = (filter: Filter, { handle, priority }: TcFilter): boolean =>
  filter.handle === handle && filter.priority === priority;

/** The first of another's filters that a packet meets before ours. */
function firstBefore(filters: Filters, ours: TcFilter): string | undefined {
  for (const [direction, list] of Object.entries(filters)) {
    const end = list.findIndex((filter) => isAt(filter, ours));
    const found = list.slice(0, Math.max(end, 0)).find((filter) => filter.handle !== 0 && !isOurs(filter));
    if (found === undefined) continue;
    const { kind, name, priority } = found;
    return `${kind} filter${name === "" ? "" : ` ${name}`} of priority ${priority}, ${direction}`;
  }
  return undefined;
}

type Spot = { readonly hook: TcHook; readonly list: keyof Filters; programId: number };

/** `again`: our own filter was there before in this run, and what is in its place is another's. */
export function attachClsact(
  libbpf: Libbpf,
  options: { ifindex: number; fds: Fds; owner: Owner; again: boolean },
): Attached {
  const { ifindex, fds } = options;
  const handle = HANDLES[options.owner];
  using undo = new DisposableStack();
  let stood = true;
  // Removed only if this run made it and nobody else has come to use it.
  if (openQdisc(libbpf, ifindex))
    undo.defer(() =>
      unlessGone(() => {
        if (stood && !hasFilters(ifindex)) libbpf.destroyTcHook(ifindex);
      }),
    );
  const there = readFilters(ifindex);
  const filter: TcFilter = { handle, priority: priorityFor(there, handle, !options.again) };
  const spots: readonly Spot[] = [
    { hook: { ifindex, attachPoint: 1 }, list: "ingress", programId: 0 },
    { hook: { ifindex, attachPoint: 2 }, list: "egress", programId: 0 },
  ];
  const standsAt = ({ hook, programId }: Spot): boolean => libbpf.tcProgramId(hook, filter) === programId;
  for (const spot of spots) {
    const replace = there[spot.list].some((left) => isOurs(left) && isAt(left, filter));
    spot.programId = libbpf.attachTc(spot.hook, filter, { programFd: fds[spot.list], replace });
    // Whoever has put another program in its place since then keeps it.
    undo.defer(() => unlessGone(() => void (standsAt(spot) && libbpf.detachTc(spot.hook, filter))));
  }
  // With both of ours gone the qdisc may be another's, made in the place of ours.
  undo.defer(() => {
    stood = spots.some(standsAt);
  });
  let before = firstBefore(readFilters(ifindex), filter);
  const owned = undo.move();
  return {
    move(next) {
      for (const spot of spots)
        spot.programId = libbpf.attachTc(spot.hook, filter, { programFd: next[spot.list], replace: true });
    },
    detach: () => owned.dispose(),
    stands(priority) {
      // Of filters behind ours there may be very many: they are not listed for each one that comes.
      if (priority <= filter.priority) before = firstBefore(readFilters(ifindex), filter);
      return spots.every(standsAt);
    },
    before: () => before,
  };
}
