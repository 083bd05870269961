// Whether our programs still stand on their interfaces: others may remove, replace or precede them.

import type { Attachments } from "./attachments.ts";
import type { Links } from "./links.ts";

/** How many interfaces one look takes: those with news of filters come first. */
const LOOKS_MAX = 1024;
/** So many more have their turn without news, since the kernel tells nobody of a tcx link that is detached by force. */
const LOOKS_IN_TURN = 16;

/** How many interfaces with another's program before ours are told by name. */
const TOLD_MAX = 8;

/** How long it is told that programs of ours were removed. */
const TOLD_MS = 3_600_000;

export type Standing = {
  /** Lets go of interfaces that our programs are gone from, once a tick. */
  look(): void;
  /** Was it let go of, and not attached to again since? */
  isLost(ifindex: number): boolean;
  /** Interfaces that were let go of and have no programs again yet. */
  lost(): number;
  restored(ifindex: number, name: string): void;
  forget(ifindex: number): void;
  /** What others do to our sight, a sentence each. */
  hindrances(): readonly string[];
};

/** Which interfaces to look at next, each with the lowest priority of filters that were touched there. */
function createQueue(attachments: Attachments, places: ReadonlyMap<number, unknown>) {
  const news = new Map<number, number>();
  let turn: number[] = [];
  return {
    /** News of interfaces that are attached to: no more than those. */
    add(touched: ReadonlyMap<number, number>): void {
      for (const [ifindex, priority] of touched)
        if (attachments.has(ifindex)) news.set(ifindex, Math.min(priority, news.get(ifindex) ?? priority));
    },
    take(): ReadonlyMap<number, number> {
      const looks = new Map([...news].slice(0, LOOKS_MAX));
      for (const ifindex of looks.keys()) news.delete(ifindex);
      if (turn.length === 0) turn = [...places.keys()];
      for (const ifindex of turn.splice(0, LOOKS_IN_TURN))
        if (!looks.has(ifindex)) looks.set(ifindex, Number.POSITIVE_INFINITY);
      return looks;
    },
  };
}

export function createStanding(options: {
  links: Links;
  attachments: Attachments;
  /** The interfaces that are attached to, by index. */
  places: ReadonlyMap<number, { readonly name: string }>;
}): Standing {
  const { links, attachments, places } = options;
  const lost = new Set<number>();
  const next = createQueue(attachments, places);
  let restored = 0;
  let last = "";
  let toldUntilMs = 0;
  let listening = false;

  /** With clsact alone: beside tcx filters are no concern of ours, and some nodes change thousands of them a second. */
  function listen(): void {
    links.watchFilters();
    listening = true;
    next.add(new Map([...places.keys()].map((ifindex) => [ifindex, 0])));
  }

  const restoredText = (): readonly string[] =>
    performance.now() >= toldUntilMs
      ? []
      : [
          `programs that another removed were put back ${restored} times, last on ${last}: packets between were not seen`,
        ];

  return {
    look() {
      if (!listening && attachments.mode() === "clsact") listen();
      next.add(links.takeFilters());
      for (const [ifindex, priority] of next.take()) {
        if (!attachments.has(ifindex) || attachments.stands(ifindex, priority)) continue;
        lost.add(ifindex); // First: what cannot be detached is to be attached to all the same.
        attachments.detach(ifindex);
      }
    },
    isLost: (ifindex) => lost.has(ifindex),
    lost: () => lost.size,
    restored(ifindex, name) {
      if (!lost.delete(ifindex)) return;
      restored++;
      last = name;
      toldUntilMs = performance.now() + TOLD_MS;
    },
    forget: (ifindex) => void lost.delete(ifindex),
    hindrances() {
      const before = [...places].flatMap(([ifindex, { name }]) => {
        const found = attachments.before(ifindex);
        const text = `${name}: another's ${found} stands before ours: packets that it decides on are not seen`;
        return found === undefined ? [] : [text];
      });
      const more = before.length - TOLD_MAX;
      const moreText = more > 0 ? [`another's programs stand before ours on ${more} more interfaces`] : [];
      return [...before.slice(0, TOLD_MAX), ...moreText, ...restoredText()];
    },
  };
}
