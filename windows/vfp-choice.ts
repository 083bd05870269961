// Which source of the virtual switch's counters is used: the first one that gives any, tried again when it stops to.

import { NoSourceError, type PortEndpoint, type Source, type VfpSource } from "./vfp-sources.ts";

export type VfpChoice = {
  /** The source in use; undefined while none works. Tries all of them when it is time to. */
  source(endpoints: readonly PortEndpoint[]): Promise<Source | undefined>;
  failed(source: Source, error: unknown): void;
  /** The next round tries all of them again. */
  giveUp(): void;
  facts(): {
    readonly source?: VfpSource;
    /** Cumulative. */
    readonly failures: readonly { readonly source: string; readonly failures: number }[];
    /** The last failure since a source was looked for; absent when all there was is that there is none. */
    readonly problem?: string;
    /** False before the first search has ended. */
    readonly searched: boolean;
  };
};

export type VfpChoiceOptions = {
  readonly sources: readonly Source[];
  /** Before all are tried again when none worked, or when a better one than that in use did not. */
  readonly pauseMs: number;
  readonly elapsedMs: () => number;
  readonly signal: AbortSignal;
};

/**
 * An endpoint that went between the listing and the call fails as well: a source is out only when it fails for two.
 */
const probesMax = 2;

const messageOf = (error: unknown): string =>
  (error instanceof Error ? error.message : `${error}`).replace(/\s+/g, " ").trim();

/** Whether the source gives something of one of the first endpoints; throws where it failed for them. */
async function gives(
  source: Source,
  endpoints: readonly PortEndpoint[],
  signal: AbortSignal,
): Promise<boolean> {
  const read = await source.begin(signal);
  const problems: unknown[] = [];
  for (const endpoint of endpoints.slice(0, probesMax)) {
    try {
      if ((await read(endpoint)) !== undefined) return true;
    } catch (error) {
      if (error instanceof NoSourceError) throw error;
      problems.push(error);
    }
  }
  if (problems.length > 0) throw problems[0];
  return false;
}

export function createVfpChoice({ sources, pauseMs, elapsedMs, signal }: VfpChoiceOptions): VfpChoice {
  const failures = new Map<VfpSource, number>(sources.map(({ name }) => [name, 0]));
  let chosen: Source | undefined;
  let searchAtMs = Number.NEGATIVE_INFINITY;
  let problem: string | undefined;
  let searched = false;

  const failed = ({ name }: Source, error: unknown): void => {
    if (signal.aborted || error instanceof NoSourceError) return;
    failures.set(name, (failures.get(name) ?? 0) + 1);
    problem = messageOf(error);
  };
  const search = async (endpoints: readonly PortEndpoint[]): Promise<Source | undefined> => {
    for (const source of sources) {
      if (signal.aborted) return undefined;
      try {
        if (await gives(source, endpoints, signal)) return source;
      } catch (error) {
        failed(source, error);
      }
    }
    return undefined;
  };
  return {
    async source(endpoints) {
      if (elapsedMs() < searchAtMs) return chosen;
      problem = undefined;
      chosen = await search(endpoints);
      searched ||= !signal.aborted;
      const best = chosen !== undefined && chosen === sources[0];
      searchAtMs = best ? Number.POSITIVE_INFINITY : elapsedMs() + pauseMs;
      return chosen;
    },
    failed,
    giveUp() {
      chosen = undefined;
      searchAtMs = Number.NEGATIVE_INFINITY;
    },
    facts: () => ({
      ...(chosen === undefined ? {} : { source: chosen.name }),
      failures: [...failures].map(([source, count]) => ({ source, failures: count })),
      ...(problem === undefined ? {} : { problem }),
      searched,
    }),
  };
}
