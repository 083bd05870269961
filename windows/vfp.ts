// The counters of the virtual switch by endpoint, read in the background: a source that is slow or hangs holds nobody up.

import type { EndpointFacts, SwitchCounters } from "./counters.ts";
import { createPerformanceReader, type PerformanceReader } from "./performance-thread.ts";
import { createSpawner, SpawnError, type Spawner } from "./spawn.ts";
import { createVfpChoice, type VfpChoice } from "./vfp-choice.ts";
import {
  hasPort,
  NoSourceError,
  type PortEndpoint,
  type Source,
  type VfpSource,
  vfpSources,
} from "./vfp-sources.ts";

export type VfpOptions = {
  readonly everyMs: number;
  /** For one process, and for one reading of performance counters. */
  readonly timeoutMs: number;
  /** Milliseconds; never go back. */
  readonly elapsedMs?: () => number;
  readonly spawner?: Spawner;
  readonly performance?: PerformanceReader;
  /** Before all sources are tried again when none worked, or when a better one than that in use did not. */
  readonly pauseMs?: number;
};

export type VfpFacts = {
  readonly source?: VfpSource;
  /** Cumulative, by source. */
  readonly failures: readonly { readonly source: string; readonly failures: number }[];
  /** What is absent and why, one sentence each. */
  readonly limits: readonly string[];
  /** Since the last round ended; absent before the first one did. */
  readonly ageMs?: number;
};

/** An endpoint whose switch counters HNS gave already is not asked for here. */
export type VfpEndpoint = EndpointFacts & { readonly switch?: SwitchCounters };

export type Vfp = AsyncDisposable & {
  /** Starts a round unless one is running or none is due. Counters of endpoints that are not in the list are forgotten. */
  poll(endpoints: readonly VfpEndpoint[]): void;
  /** By endpoint id; those that are too old are left out. */
  counters(): ReadonlyMap<string, SwitchCounters>;
  facts(): VfpFacts;
};

const defaultPauseMs = 5 * 60_000;

/** Processes that did not end in time, one after the other: the rest of the round would not fare better. */
const timeoutsMax = 3;

/** The counters are sums, so that a round that was missed costs nothing; but older ones are no account of now. */
const freshRounds = 3;

type Value = { readonly port: string; readonly counters: SwitchCounters; readonly atMs: number };

/** Values by endpoint, bounded by the endpoints of the last listing. */
function createValues() {
  const values = new Map<string, Value>();
  let wanted: ReadonlyMap<string, PortEndpoint> = new Map();
  return {
    want(endpoints: readonly PortEndpoint[]): void {
      wanted = new Map(endpoints.map((endpoint) => [endpoint.id, endpoint]));
      // Behind another port stands another counter: what was read of the old one is no value of this endpoint.
      for (const [id, { port }] of values) if (wanted.get(id)?.port !== port) values.delete(id);
    },
    wanted: (): readonly PortEndpoint[] => [...wanted.values()],
    isWanted: ({ id, port }: PortEndpoint): boolean => wanted.get(id)?.port === port,
    put({ id, port }: PortEndpoint, counters: SwitchCounters, atMs: number): void {
      if (wanted.get(id)?.port === port) values.set(id, { port, counters, atMs });
    },
    since: (fromMs: number): ReadonlyMap<string, SwitchCounters> =>
      new Map(
        [...values].flatMap(([id, { counters, atMs }]) => (atMs >= fromMs ? [[id, counters] as const] : [])),
      ),
  };
}

type Values = ReturnType<typeof createValues>;

/** What a round did: how many endpoints it asked for, and whether it got anything. */
type Round = { readonly asked: number; readonly got: number };

/** One endpoint after the other. An endpoint that fails is counted, and the others are read all the same. */
async function readRound(
  source: Source,
  endpoints: readonly PortEndpoint[],
  context: {
    readonly values: Values;
    readonly choice: VfpChoice;
    readonly signal: AbortSignal;
    readonly elapsedMs: () => number;
  },
): Promise<Round> {
  const { values, choice, signal, elapsedMs } = context;
  const read = await source.begin(signal);
  let asked = 0;
  let got = 0;
  let timeouts = 0;
  for (const endpoint of endpoints) {
    if (signal.aborted || timeouts >= timeoutsMax) break;
    asked += 1;
    if (!values.isWanted(endpoint)) continue;
    try {
      const counters = await read(endpoint);
      timeouts = 0;
      if (counters === undefined) continue;
      got += 1;
      values.put(endpoint, counters, elapsedMs());
    } catch (error) {
      if (error instanceof NoSourceError) throw error;
      choice.failed(source, error);
      const slow = error instanceof SpawnError && (error.problem === "timeout" || error.problem === "busy");
      timeouts = slow ? timeouts + 1 : 0;
    }
  }
  return { asked, got };
}

/** Rounds, of which one runs at a time; each begins where the one before stopped, so that no endpoint waits for ever. */
function createRounds(
  values: Values,
  choice: VfpChoice,
  signal: AbortSignal,
  elapsedMs: () => number,
): () => Promise<void> {
  let start = 0;
  const read = async (source: Source, all: readonly PortEndpoint[]): Promise<void> => {
    const first = start % all.length;
    const endpoints = [...all.slice(first), ...all.slice(0, first)];
    const { asked, got } = await readRound(source, endpoints, { values, choice, signal, elapsedMs });
    start = first + asked;
    if (got === 0) choice.giveUp();
  };
  return async () => {
    const all = values.wanted();
    if (all.length === 0) return;
    const source = await choice.source(all);
    if (source === undefined || signal.aborted) return;
    try {
      await read(source, all);
    } catch (error) {
      choice.failed(source, error);
      choice.giveUp();
    }
  };
}

const absent = "drops by reason and TCP counts of the switch are absent";

/** Nothing is a fault here but a source that is there and fails. */
function limitsOf(facts: ReturnType<VfpChoice["facts"]>, ports: number): readonly string[] {
  if (ports === 0)
    return [`No endpoint has a port of the switch (VFP), as is usual on a NAT network: ${absent}.`];
  if (facts.source !== undefined || !facts.searched) return [];
  if (facts.problem !== undefined)
    return [`The counters of the switch (VFP) cannot be read, so ${absent}: ${facts.problem}`];
  return [`Neither vfpctrl.exe nor performance counters of the switch (VFP) are here: ${absent}.`];
}

export function createVfp(options: VfpOptions): Vfp {
  const { everyMs, timeoutMs, elapsedMs = () => performance.now(), pauseMs = defaultPauseMs } = options;
  const { spawner = createSpawner(), performance: reader = createPerformanceReader({ timeoutMs }) } = options;
  const closing = new AbortController();
  const { signal } = closing;
  const sources = vfpSources({ spawner, performance: reader, timeoutMs });
  const choice = createVfpChoice({ sources, pauseMs, elapsedMs, signal });
  const values = createValues();
  const round = createRounds(values, choice, signal, elapsedMs);
  let running: Promise<void> | undefined;
  let polled = false;
  let beganMs = Number.NEGATIVE_INFINITY;
  let endedMs: number | undefined;
  let tookMs = 0;

  const start = async (): Promise<void> => {
    beganMs = elapsedMs();
    await round();
    endedMs = elapsedMs();
    tookMs = endedMs - beganMs;
    running = undefined;
  };
  /** A round over many endpoints takes longer than the time between two. */
  const freshMs = (): number => {
    const current = running === undefined ? 0 : elapsedMs() - beganMs;
    return freshRounds * Math.max(everyMs, tookMs, current);
  };
  return {
    poll(endpoints) {
      values.want(endpoints.filter((endpoint) => endpoint.switch === undefined).filter(hasPort));
      polled = true;
      if (signal.aborted || running !== undefined || elapsedMs() < beganMs + everyMs) return;
      running = start();
    },
    counters: () => values.since(elapsedMs() - freshMs()),
    facts() {
      const facts = choice.facts();
      const { source, failures } = facts;
      return {
        ...(source === undefined ? {} : { source }),
        failures,
        limits: polled ? limitsOf(facts, values.wanted().length) : [],
        ...(endedMs === undefined ? {} : { ageMs: elapsedMs() - endedMs }),
      };
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      await running;
      reader[Symbol.dispose]();
    },
  };
}
