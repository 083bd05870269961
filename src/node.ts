// Folds the snapshots of all collectors into the model of this node; the one place that catches a collector.

import type { FlowRecord } from "./flow.ts";
import type { DnsNames } from "./identity/dns.ts";
import { createDnsErrors, type DnsErrorsFacts } from "./identity/dns-errors.ts";
import { errorText } from "./log.ts";
import { type Collector, FatalError, type Snapshot } from "./snapshot.ts";

/** The latest of every section that is a state; absent when no collector gave it this tick. */
export type State = Omit<Snapshot, "flows" | "dnsAnswers" | "dnsErrors" | "limits">;

export type CollectorHealth = {
  readonly name: string;
  readonly success: boolean;
  readonly error?: string;
  readonly durationMs: number;
  /** What the collector cannot see here, and why. */
  readonly limits: readonly string[];
  /** Ticks that it failed in, since the start. */
  readonly failures: number;
  readonly lastSuccessAt?: number;
};

export type NodeModel = {
  /** When the last tick was folded in, epoch milliseconds; 0 before the first. */
  readonly at: number;
  readonly state: State;
  /** Which collectors gave each section of the state. */
  readonly sections: Readonly<Record<string, readonly string[]>>;
  readonly health: readonly CollectorHealth[];
  /** DNS errors that wait for the records of their flows; absent before the first tick. */
  readonly dnsErrors?: DnsErrorsFacts;
};

export type Observation = {
  readonly model: NodeModel;
  /** Each record is handed over in one observation only. */
  readonly flows: readonly FlowRecord[];
};

export type Node = {
  observe(collectors: readonly Collector[], signal: AbortSignal): Promise<Observation>;
  /** Takes the last snapshot of a backend that closes; gives its records and those of collectors that came late. */
  take(snapshot: Snapshot): readonly FlowRecord[];
  model(): NodeModel;
};

/** What one collector did in one tick. */
type Outcome = { readonly snapshot?: Snapshot; readonly error?: unknown; readonly durationMs: number };

/** A collector that was still at work when its tick ended. */
type Late = { readonly sinceMs: number; done: boolean; snapshot?: Snapshot };

const isPromise = (value: Snapshot | Promise<Snapshot>): value is Promise<Snapshot> =>
  typeof (value as { then?: unknown }).then === "function";

/** Rejects with the reason of the signal as soon as it aborts. */
function aborted(signal: AbortSignal): Disposable & { readonly promise: Promise<never> } {
  const { promise, reject } = Promise.withResolvers<never>();
  const stop = () => reject(signal.reason);
  if (signal.aborted) stop();
  else signal.addEventListener("abort", stop, { once: true });
  return { promise, [Symbol.dispose]: () => signal.removeEventListener("abort", stop) };
}

/** Calls each collector at most once at a time; one that hangs is left alone and its late snapshot kept. */
function createRunner(elapsedMs: () => number) {
  const late = new Map<string, Late>();
  const waitFor = async (collector: Collector, promise: Promise<Snapshot>, signal: AbortSignal) => {
    const pending: Late = { sinceMs: elapsedMs(), done: false };
    using limit = aborted(signal);
    late.set(collector.name, pending);
    const settled = promise.then(
      (snapshot) => {
        pending.done = true;
        pending.snapshot = snapshot;
        return snapshot;
      },
      (error: unknown) => {
        pending.done = true;
        throw error;
      },
    );
    const snapshot = await Promise.race([settled, limit.promise]);
    late.delete(collector.name);
    return snapshot;
  };
  // The time of a collector that answers at once is taken at once: the others run before its promise resolves.
  const start = async (collector: Collector, signal: AbortSignal, startMs: number): Promise<Outcome> => {
    const before = late.get(collector.name);
    if (before !== undefined && !before.done)
      throw new Error(`still at work since ${Math.round(elapsedMs() - before.sinceMs)} ms, not called again`);
    const given = collector.collect(signal);
    if (!isPromise(given)) return { snapshot: given, durationMs: elapsedMs() - startMs };
    const snapshot = await waitFor(collector, given, signal);
    return { snapshot, durationMs: elapsedMs() - startMs };
  };
  return {
    run: async (collector: Collector, signal: AbortSignal): Promise<Outcome> => {
      const startMs = elapsedMs();
      try {
        return await start(collector, signal, startMs);
      } catch (error) {
        if (error instanceof FatalError) throw error;
        return { error, durationMs: elapsedMs() - startMs };
      }
    },
    /** What collectors gave after their tick had ended; each snapshot once. */
    takeLate: (): readonly Snapshot[] => {
      const done = [...late].filter(([, { done: settled }]) => settled);
      return done.flatMap(([name, { snapshot }]) => {
        late.delete(name);
        return snapshot === undefined ? [] : [snapshot];
      });
    },
  };
}

const stateOf = ({ flows, dnsAnswers, dnsErrors, limits, ...state }: Snapshot): State => state;

/** Adds the sections of one collector to the state; says which of them another one had given already. */
function fold(
  into: Map<string, unknown>,
  owners: Map<string, string[]>,
  name: string,
  state: State,
): string[] {
  const refused: string[] = [];
  for (const [section, value] of Object.entries(state)) {
    if (value === undefined) continue;
    const known = into.get(section);
    const owner = owners.get(section);
    if (owner === undefined) owners.set(section, [name]);
    else if (Array.isArray(known) && Array.isArray(value)) owner.push(name);
    else {
      refused.push(`${section} was given by ${owner.join(", ")} already`);
      continue;
    }
    into.set(section, Array.isArray(known) && Array.isArray(value) ? [...known, ...value] : value);
  }
  return refused;
}

function healthOf(options: {
  readonly name: string;
  readonly outcome: Outcome;
  readonly refused: readonly string[];
  readonly before: CollectorHealth | undefined;
  readonly at: number;
}): CollectorHealth {
  const { name, outcome, refused, before, at } = options;
  const failed = outcome.snapshot === undefined;
  const error = failed ? errorText(outcome.error) : refused.join("; ");
  const success = error === "" && !failed;
  const lastSuccessAt = success ? at : before?.lastSuccessAt;
  return {
    name,
    success,
    ...(success ? {} : { error }),
    durationMs: outcome.durationMs,
    limits: outcome.snapshot?.limits ?? [],
    failures: (before?.failures ?? 0) + (success ? 0 : 1),
    ...(lastSuccessAt === undefined ? {} : { lastSuccessAt }),
  };
}

/** `now` is epoch milliseconds; `elapsedMs` never goes back. */
export function createNode(options: {
  readonly names: DnsNames;
  readonly now: () => number;
  readonly elapsedMs?: () => number;
}): Node {
  const { names, now, elapsedMs = () => performance.now() } = options;
  const runner = createRunner(elapsedMs);
  const dnsErrors = createDnsErrors();
  let model: NodeModel = { at: 0, state: {}, sections: {}, health: [] };
  const hand = (snapshots: readonly Snapshot[]): readonly FlowRecord[] => {
    const at = now();
    const atMs = elapsedMs();
    for (const { dnsAnswers, dnsErrors: errors } of snapshots) {
      if (dnsAnswers !== undefined) names.learn(dnsAnswers, at);
      if (errors !== undefined) dnsErrors.learn(errors, atMs);
    }
    const given = snapshots.flatMap(({ flows }) => (flows === undefined ? [] : [flows]));
    const flows = given.length === 1 ? (given[0] ?? []) : given.flat(); // One collector gives them: no copy of 100,000.
    return dnsErrors.mark(flows, atMs);
  };
  const put = (collectors: readonly Collector[], outcomes: readonly Outcome[]): NodeModel => {
    const state = new Map<string, unknown>();
    const owners = new Map<string, string[]>();
    const before = new Map(model.health.map((health) => [health.name, health]));
    const at = now();
    const health = collectors.map(({ name }, index) => {
      const outcome = outcomes[index] ?? { error: new Error("was not called"), durationMs: 0 };
      const refused = fold(
        state,
        owners,
        name,
        outcome.snapshot === undefined ? {} : stateOf(outcome.snapshot),
      );
      return healthOf({ name, outcome, refused, before: before.get(name), at });
    });
    return {
      ...{ at, state: Object.fromEntries(state), sections: Object.fromEntries(owners), health },
      dnsErrors: dnsErrors.facts(),
    };
  };
  return {
    observe: async (collectors, signal) => {
      const late = runner.takeLate();
      const outcomes = await Promise.all(collectors.map((collector) => runner.run(collector, signal)));
      const given = outcomes.flatMap(({ snapshot }) => (snapshot === undefined ? [] : [snapshot]));
      const flows = hand([...late, ...given]);
      model = put(collectors, outcomes);
      return { model, flows };
    },
    take: (snapshot) => hand([...runner.takeLate(), snapshot]),
    model: () => model,
  };
}
