// One forwarder with its upstream, store and clock, set up and told of for a test.

import type { ForwardFacts } from "../src/forward/facts.ts";
import { createForwarder, type Forwarder } from "../src/forward/forwarder.ts";
import type { Signal } from "../src/sinks/sink.ts";
import {
  createClock,
  createFakeLog,
  createUpstream,
  type FakeClock,
  type FakeUpstream,
  forwarderOptions,
  sinkConfig,
  type Told,
} from "./drain.rig.ts";
import { createFakeStore, type FakeStore } from "./drain.store.ts";

export type World = AsyncDisposable & {
  readonly clock: FakeClock;
  readonly store: FakeStore;
  readonly upstream: FakeUpstream;
  readonly forwarder: Forwarder;
  readonly told: readonly Told[];
  /** Appends records of this moment, and tells of it. */
  append(records: number, signal?: Signal): void;
  /** A turn of so many ms: appends, then lets the time pass; checks the accounts after each. */
  ticks(
    count: number,
    options?: { readonly ms?: number; readonly records?: number; readonly signal?: Signal },
  ): Promise<void>;
  facts(sink?: string): ForwardFacts;
  /** Ordinals that were sent, request by request. */
  sent(): readonly (readonly number[])[];
};

export type WorldOptions = {
  readonly config?: Record<string, unknown>;
  readonly capability?: FakeUpstream["capability"];
  readonly random?: () => number;
  /** Records of flows that are there before forwarding begins. */
  readonly before?: number;
};

export async function createWorld({
  config,
  capability = {},
  random,
  before = 0,
}: WorldOptions = {}): Promise<World> {
  const clock = createClock();
  const store = createFakeStore(clock.now);
  const upstream = createUpstream(clock);
  const { log, told } = createFakeLog();
  upstream.capability = capability;
  const forwarder = createForwarder(
    forwarderOptions({ clock, store, upstream, log, ...(random === undefined ? {} : { random }) }),
  );
  if (before > 0) store.append("flows", before, clock.now());
  await forwarder.apply([sinkConfig(config)]);
  const append = (records: number, signal: Signal = "flows") => {
    store.append(signal, records, clock.now());
    forwarder.ticked();
  };
  return {
    ...{ clock, store, upstream, forwarder, told, append },
    ticks: async (count, { ms = 1000, records = 0, signal = "flows" } = {}) => {
      for (let tick = 0; tick < count; tick++) {
        if (records > 0) append(records, signal);
        else forwarder.ticked();
        await clock.pass(ms);
        store.check();
      }
    },
    facts: (sink = "up") => forwarder.facts().find((facts) => facts.sink === sink)!,
    sent: () => upstream.requests.map(({ ordinals }) => ordinals),
    [Symbol.asyncDispose]: async () => {
      const done = forwarder[Symbol.asyncDispose]();
      await clock.pass(20_000);
      await done;
    },
  };
}
