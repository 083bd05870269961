// Forwarding on a clock of its own, with an upstream that answers as the test says.

import type { ForwarderOptions } from "../src/forward/forwarder-options.ts";
import type { Log, LogFields } from "../src/log.ts";
import { type SinkConfig, sinkSchema } from "../src/sinks/schema.ts";
import type { Capability, Outcome, Parcel, Signal, Sink } from "../src/sinks/sink.ts";
import { type FakeStore, ordinalsIn } from "./drain.store.ts";

export const startAt = Date.UTC(2026, 5, 1, 12);

export type FakeClock = {
  now(): number;
  elapsedMs(): number;
  sleep(ms: number, signal: AbortSignal): Promise<void>;
  /** Lets all that is due within `ms` happen, in order. */
  pass(ms: number): Promise<void>;
  /** Timers that ran out. */
  readonly wakes: number;
};

/** All that was begun goes on as far as it can without the clock. */
const settled = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

export function createClock(): FakeClock {
  type Timer = { readonly atMs: number; readonly fire: () => void };
  let timers: Timer[] = [];
  let elapsedMs = 0;
  let wakes = 0;
  return {
    now: () => startAt + elapsedMs,
    elapsedMs: () => elapsedMs,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        const timer = { atMs: elapsedMs + ms, fire: resolve };
        const stop = () => {
          timers = timers.filter((other) => other !== timer);
          resolve();
        };
        if (signal.aborted) return resolve();
        timers.push(timer);
        signal.addEventListener("abort", stop, { once: true });
      }),
    pass: async (ms) => {
      const endMs = elapsedMs + ms;
      await settled();
      for (;;) {
        const next = timers.reduce<Timer | undefined>(
          (least, timer) => (least === undefined || timer.atMs < least.atMs ? timer : least),
          undefined,
        );
        if (next === undefined || next.atMs > endMs) break;
        elapsedMs = Math.max(elapsedMs, next.atMs);
        timers = timers.filter((timer) => timer !== next);
        wakes += 1;
        next.fire();
        await settled();
      }
      elapsedMs = endMs;
    },
    get wakes() {
      return wakes;
    },
  };
}

export type Told = { readonly level: string; readonly message: string; readonly fields: LogFields };

export function createFakeLog(): { readonly log: Log; readonly told: Told[] } {
  const told: Told[] = [];
  const line =
    (level: string) =>
    (message: string, fields: LogFields = {}) =>
      void told.push({ level, message, fields });
  const [debug, info, warn, error] = [line("debug"), line("info"), line("warn"), line("error")];
  const rest = {
    setLevel: () => {},
    setFormat: () => {},
    flush: () => {},
    counts: () => ({ suppressed: 0, lost: 0 }),
  };
  return { told, log: { debug, info, warn, error, ...rest } };
}

export const anything: Capability = {
  ageMaxMs: Number.POSITIVE_INFINITY,
  outOfOrderMs: Number.POSITIVE_INFINITY,
  spanMaxMs: Number.POSITIVE_INFINITY,
  recordsMax: 100,
  bytesMax: 1e6,
};

export const stored = (more: Partial<Extract<Outcome, { kind: "stored" }>> = {}): Outcome => ({
  ...{ kind: "stored", code: "200" },
  ...more,
});
export const down: Outcome = {
  kind: "again",
  code: "network",
  reason: "network",
  message: "connection refused",
};
export const poison: Outcome = { kind: "refused", code: "400", reason: "4xx", message: "bad record" };

/** What an upstream does with a parcel; it takes what is answered with `stored`. */
export type Answer = (parcel: Parcel, abort: AbortSignal) => Outcome | Promise<Outcome>;
export type Request = {
  readonly at: number;
  readonly parcel: Parcel;
  readonly ordinals: readonly number[];
  readonly outcome: Outcome;
};

export type FakeUpstream = {
  readonly requests: Request[];
  open: (config: SinkConfig) => Sink;
  answer: Answer;
  capability: Partial<Capability>;
  /** Of sinks that differ, by name. */
  capabilities: Readonly<Record<string, Partial<Capability>>>;
  opened: number;
  closed: number;
  /** Requests that are under way, and the most that ever were, by signal. */
  busyMax: number;
  /** Ordinals that it acknowledged. */
  taken(signal?: Signal): ReadonlySet<number>;
};

export function createUpstream(clock: Pick<FakeClock, "now">): FakeUpstream {
  const busy = { flows: 0, metrics: 0 };
  const send = async (parcel: Parcel, abort: AbortSignal): Promise<Outcome> => {
    busy[parcel.signal] += 1;
    upstream.busyMax = Math.max(upstream.busyMax, busy[parcel.signal]);
    const at = clock.now();
    const outcome = await upstream.answer(parcel, abort);
    busy[parcel.signal] -= 1;
    upstream.requests.push({ at, parcel, ordinals: ordinalsIn(parcel.body), outcome });
    return outcome;
  };
  const upstream: FakeUpstream = {
    requests: [],
    answer: () => stored(),
    capability: {},
    capabilities: {},
    ...{ opened: 0, closed: 0, busyMax: 0 },
    open: ({ name }) => {
      upstream.opened += 1;
      const spec = { format: "ndjson", node: "n", cluster: "c", version: "1", externalLabels: {} } as const;
      return {
        signals: ["flows", "metrics"],
        capability: () => ({ ...anything, ...(upstream.capabilities[name] ?? upstream.capability) }),
        encoder: () => spec,
        send,
        facts: () => ({ target: `http://${name}.example`, tokenErrors: 0 }),
        [Symbol.asyncDispose]: async () => {
          upstream.closed += 1;
        },
      };
    },
    taken: (signal = "flows") =>
      new Set(
        upstream.requests
          .filter(({ outcome, parcel }) => outcome.kind === "stored" && parcel.signal === signal)
          .flatMap(({ ordinals }) => ordinals),
      ),
  };
  return upstream;
}

/** A sink of flows as the schema makes it. */
export const sinkConfig = (given: Record<string, unknown> = {}): SinkConfig =>
  sinkSchema.parse({ name: "up", type: "otlp", url: "http://127.0.0.1:9/", signals: ["flows"], ...given });

/** What a forwarder needs, of the clock, the store and the upstream of a test. */
export function forwarderOptions(parts: {
  readonly clock: FakeClock;
  readonly store: FakeStore;
  readonly upstream: Pick<FakeUpstream, "open">;
  readonly log: Log;
  readonly random?: () => number;
}): ForwarderOptions {
  const { clock, store, upstream, log, random = () => 0.5 } = parts;
  const { now, elapsedMs, sleep } = clock;
  return {
    open: (config) => upstream.open(config),
    ...{ states: store, commit: store.commit, batch: store.batch, log, now, elapsedMs, sleep, random },
    rowBytes: () => 100,
    hoursLeft: () => undefined,
  };
}
