// One sink of the configuration: makes it, again each minute where that fails, and has a drain for each of its signals.

import { errorText } from "../log.ts";
import { signalsOf } from "../sinks/config.ts";
import type { SinkConfig } from "../sinks/schema.ts";
import type { Signal, Sink } from "../sinks/sink.ts";
import { createBell } from "./bell.ts";
import { createDrain, type Drain } from "./drain.ts";
import type { ForwardFacts } from "./facts.ts";
import type { ForwarderOptions } from "./forwarder-options.ts";
import { waitingIn } from "./lanes.ts";
import { createPace } from "./pace.ts";
import { createTally, type Tally } from "./tally.ts";

export type OutletOptions = ForwarderOptions & {
  readonly config: SinkConfig;
  /** Counts of a sink of this name that was replaced. */
  readonly tallies: ReadonlyMap<Signal, Tally>;
  /** Whether there is a sink of that name that takes such records. */
  readonly takes: (name: string, signal: Signal) => boolean;
  /** Records were handed over to that sink. */
  readonly diverted: (name: string) => void;
};

export type Outlet = AsyncDisposable & {
  readonly config: SinkConfig;
  readonly tallies: ReadonlyMap<Signal, Tally>;
  /** The first call starts it; the next ones do nothing. */
  start(): void;
  /** Something was appended. */
  ticked(): void;
  /** An operator wants it to go now. */
  hurry(): void;
  facts(): readonly ForwardFacts[];
};

const reopenMs = 60_000;

/** Where it would send: no query, which may hold a secret. */
function targetOf(config: SinkConfig): string {
  if (config.type === "file") return config.directory;
  const { origin, pathname } = new URL(config.url);
  return `${origin}${pathname}`;
}

type Running = { readonly sink: Sink; readonly drains: ReadonlyMap<Signal, Drain> };

function createDrains(options: OutletOptions, sink: Sink, tallies: ReadonlyMap<Signal, Tally>) {
  const { config, takes, diverted, states, commit, batch, now, elapsedMs, random, sleep } = options;
  const { name, divertTo } = config;
  // Its signals share one rate.
  const pace = createPace(config.pace.bytesPerSecond, elapsedMs);
  const drains = new Map<Signal, Drain>();
  for (const [signal, tally] of tallies)
    drains.set(
      signal,
      createDrain({
        ...{ key: { sink: name, signal }, config, sink, pace, tally, diverted },
        divertTo: () => (divertTo !== undefined && takes(divertTo, signal) ? divertTo : undefined),
        ...{ states, commit, batch, now, elapsedMs, random, sleep },
      }),
    );
  return drains;
}

/** Facts of one signal; those of the sink itself are missing where it could not be made. */
function factsOf(
  options: OutletOptions,
  signal: Signal,
  tally: Tally,
  running: Running | undefined,
): ForwardFacts {
  const { config, states, rowBytes, hoursLeft } = options;
  const key = { sink: config.name, signal };
  const state = states.state(key);
  const drain = running?.drains.get(signal);
  const oldest = state?.ranges.find(({ first, last, done }) => last - first + 1 > done);
  const oldestAt = oldest === undefined ? undefined : states.storedAt(signal, oldest.first);
  const bufferHoursLeft = state === undefined ? undefined : hoursLeft(state);
  const pending = state?.pending ?? 0;
  const { target = targetOf(config), tokenErrors = 0, ...told } = running?.sink.facts() ?? {};
  return {
    ...key,
    type: config.type,
    target,
    phase: drain?.phase(state) ?? "retrying",
    pending,
    pendingBytes: Math.round(pending * rowBytes(signal)),
    ...(oldestAt === undefined ? {} : { oldestAt }),
    lanes: state === undefined ? { live: 0, backlog: 0 } : waitingIn(state),
    ...(bufferHoursLeft === undefined ? {} : { bufferHoursLeft }),
    offered: state?.offered ?? 0,
    counts: state?.counts ?? {},
    ...tally.facts(),
    backoffSeconds: drain?.backoffSeconds() ?? 0,
    tokenErrors,
    ...told,
  };
}

/** A disk that hangs must not hold up the others, nor the stop of the program. */
const closeMs = 5000;

async function closeSink(sink: Sink, name: string, { log, sleep }: ForwarderOptions): Promise<void> {
  const closed = new AbortController();
  const close = async (): Promise<void> => {
    try {
      await sink[Symbol.asyncDispose]();
    } catch (error) {
      log.warn("a sink could not be closed", { sink: name, error: errorText(error) });
    }
    closed.abort();
  };
  await Promise.race([close(), sleep(closeMs, closed.signal)]);
  if (closed.signal.aborted) return;
  log.warn("a sink does not end, and is left behind; check its disk", { sink: name, afterMs: closeMs });
}

export function createOutlet(options: OutletOptions): Outlet {
  const { config, log, now, open, sleep } = options;
  const kept = ([signal, tally]: readonly [Signal, Tally | undefined]): [Signal, Tally] => [
    signal,
    tally ?? createTally({ sink: config.name, signal }, { log, now }),
  ];
  const tallies = new Map(signalsOf(config).map((signal) => kept([signal, options.tallies.get(signal)])));
  const bell = createBell(sleep);
  let running: Running | undefined;
  let opening: Promise<void> | undefined;
  let stopped = false;
  const tryOpen = (): boolean => {
    try {
      const sink = open(config);
      running = { sink, drains: createDrains(options, sink, tallies) };
      for (const tally of tallies.values()) tally.recovered("open");
      return true;
    } catch (error) {
      const failure = { code: "open", reason: "open", message: errorText(error) };
      for (const tally of tallies.values()) tally.failed(failure);
      return false;
    }
  };
  const reopen = async (): Promise<void> => {
    while (!stopped && !tryOpen()) await bell.wait(reopenMs, false);
  };
  const drains = (): readonly Drain[] => [...(running?.drains.values() ?? [])];
  return {
    config,
    tallies,
    start: () => {
      opening ??= reopen();
    },
    ticked: () => {
      for (const drain of drains()) drain.ticked();
    },
    hurry: () => {
      bell.order();
      for (const drain of drains()) drain.hurry();
    },
    facts: () => [...tallies].map(([signal, tally]) => factsOf(options, signal, tally, running)),
    [Symbol.asyncDispose]: async () => {
      stopped = true;
      bell.order();
      await opening;
      await Promise.all(drains().map((drain) => drain.stop()));
      if (running !== undefined) await closeSink(running.sink, config.name, options);
    },
  };
}
