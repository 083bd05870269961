// Names of remote addresses, learnt from the DNS answers that this node saw.

import type { DnsAnswer } from "../snapshot.ts";

export type NamesFacts = {
  readonly kept: number;
  readonly max: number;
  /** Names that were let go, by reason (cumulative): their time ran out, or newer ones needed the place. */
  readonly evicted: readonly { readonly reason: string; readonly names: number }[];
};

export type DnsNames = {
  learn(answers: readonly DnsAnswer[], at: number): void;
  nameOf(address: string, at: number): string | undefined;
  facts(): NamesFacts;
};

// A connection goes on long after the answer that it was made with ran out: content networks answer with 20 s.
const keepMsMinDefault = 30 * 60_000;
// Answers may say 68 years.
const keepMsMaxDefault = 24 * 3_600_000;
// Expired names at the old end are let go this many at a time, so that a tick with many answers stays short.
const sweepMax = 256;

type Known = { readonly name: string; readonly untilAt: number };

/** The last answer for an address wins; at `namesMax` the name that was learnt longest ago gives way. */
export function createDnsNames(options: {
  readonly namesMax: number;
  readonly keepMsMin?: number;
  readonly keepMsMax?: number;
}): DnsNames {
  const { namesMax, keepMsMin = keepMsMinDefault, keepMsMax = keepMsMaxDefault } = options;
  // In the order of learning: a name that is learnt again moves to the end.
  const names = new Map<string, Known>();
  let expired = 0;
  let full = 0;
  const sweep = (at: number) => {
    let looked = 0;
    for (const [address, { untilAt }] of names) {
      if (looked >= sweepMax) return;
      looked += 1;
      if (untilAt > at) continue;
      names.delete(address);
      expired += 1;
    }
  };
  const makeRoom = () => {
    const oldest = names.keys().next();
    if (names.size < namesMax || oldest.done) return;
    names.delete(oldest.value);
    full += 1;
  };
  return {
    learn: (answers, at) => {
      sweep(at);
      if (namesMax === 0) return;
      for (const { name, address, ttlSeconds } of answers) {
        names.delete(address);
        makeRoom();
        const keepMs = Math.min(keepMsMax, Math.max(keepMsMin, ttlSeconds * 1000));
        names.set(address, { name, untilAt: at + keepMs });
      }
    },
    nameOf: (address, at) => {
      const known = names.get(address);
      return known !== undefined && known.untilAt > at ? known.name : undefined;
    },
    facts: () => ({
      kept: names.size,
      max: namesMax,
      evicted: [
        { reason: "expired", names: expired },
        { reason: "full", names: full },
      ],
    }),
  };
}
