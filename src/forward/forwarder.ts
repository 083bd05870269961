// All sinks: makes them as the configuration says, replaces and ends them, and tells how they do.

import { errorText } from "../log.ts";
import { fedSignals, signalsOf } from "../sinks/config.ts";
import type { SinkConfig } from "../sinks/schema.ts";
import type { Signal } from "../sinks/sink.ts";
import type { SinkDeclaration } from "../store/sink-states.ts";
import { UnknownSinkError } from "./errors.ts";
import type { ForwardFacts } from "./facts.ts";
import type { ForwarderOptions } from "./forwarder-options.ts";
import { createOutlet, type Outlet } from "./outlet.ts";

export type Forwarder = AsyncDisposable & {
  /** Starts, stops and replaces drains so that these sinks run; the others go on untouched. */
  apply(sinks: readonly SinkConfig[]): Promise<void>;
  /** Something was appended. */
  ticked(): void;
  facts(): readonly ForwardFacts[];
  /** Both throw UnknownSinkError. */
  pause(name: string): void;
  resume(name: string): void;
  /** Gives up pending records stored before `before` (epoch ms). Returns how many. */
  discard(name: string, before: number): number;
};

export function createForwarder(options: ForwarderOptions): Forwarder {
  const { states, log } = options;
  let outlets: readonly Outlet[] = [];
  let applied: Promise<void> = Promise.resolve();
  let disposed = false;
  const outletOf = (name: string): Outlet => {
    const names = outlets.map(({ config }) => config.name);
    const outlet = outlets.find(({ config }) => config.name === name);
    if (outlet === undefined) throw new UnknownSinkError(name, names);
    return outlet;
  };
  const make = (config: SinkConfig, before: Outlet | undefined): Outlet =>
    createOutlet({
      ...options,
      config,
      tallies: before?.tallies ?? new Map(),
      takes: (name, signal) =>
        outlets.some((other) => other.config.name === name && other.tallies.has(signal)),
      diverted: (name) => outlets.find((other) => other.config.name === name)?.ticked(),
    });
  /** Ends those that are gone or changed, and tells the store of all before the new ones begin. */
  const change = async (all: readonly SinkConfig[]): Promise<void> => {
    if (disposed) return;
    const wanted = all.filter(({ enabled }) => enabled);
    const kept = outlets.filter(({ config }) => wanted.some((given) => Bun.deepEquals(given, config, true)));
    const ended = outlets.filter((outlet) => !kept.includes(outlet));
    await Promise.all(ended.map((outlet) => outlet[Symbol.asyncDispose]()));
    states.declare(declarationsOf(wanted, all));
    outlets = wanted.map((config) => {
      const before = outlets.find((outlet) => outlet.config.name === config.name);
      return before !== undefined && kept.includes(before) ? before : make(config, before);
    });
    for (const outlet of outlets) outlet.start();
  };
  const apply = (sinks: readonly SinkConfig[]): Promise<void> => {
    const done = applied.then(() => change(sinks));
    // The next change goes on from wherever this one came to; whoever asked for it hears of its failure.
    applied = done.catch((error: unknown) =>
      log.error("the sinks could not be changed", { error: errorText(error) }),
    );
    return done;
  };
  const each = (name: string, act: (signal: Signal) => void): Outlet => {
    const outlet = outletOf(name);
    for (const signal of signalsOf(outlet.config)) act(signal);
    outlet.hurry();
    return outlet;
  };
  return {
    apply,
    ticked: () => {
      for (const outlet of outlets) outlet.ticked();
    },
    facts: () => outlets.flatMap((outlet) => outlet.facts()),
    pause: (name) => {
      each(name, (signal) => states.setPaused({ sink: name, signal }, true));
    },
    resume: (name) => {
      each(name, (signal) => states.setPaused({ sink: name, signal }, false));
    },
    discard: (name, before) => {
      let discarded = 0;
      each(name, (signal) => {
        discarded += states.discard({ sink: name, signal }, states.ordinalAt(signal, before));
      });
      return discarded;
    },
    [Symbol.asyncDispose]: async () => {
      disposed = true;
      await applied;
      await Promise.all(outlets.map((outlet) => outlet[Symbol.asyncDispose]()));
    },
  };
}

/** Those that are off count for what is fed: an operator who turns one off does not ask for a flood at another. */
const declarationsOf = (
  sinks: readonly SinkConfig[],
  all: readonly SinkConfig[],
): readonly SinkDeclaration[] =>
  sinks.flatMap((config) => {
    const { name: sink, start } = config;
    const fed = fedSignals(sink, all);
    return signalsOf(config).map((signal) => ({ sink, signal, start, fed: fed.has(signal) }));
  });
