// Laws of the drain under random faults: every record is accounted for, and all that an upstream can take arrives.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { createForwarder, type Forwarder } from "../src/forward/forwarder.ts";
import type { Outcome, Parcel, Signal } from "../src/sinks/sink.ts";
import {
  createClock,
  createFakeLog,
  createUpstream,
  forwarderOptions,
  poison,
  sinkConfig,
  stored,
} from "./drain.rig.ts";
import { createFakeStore, ordinalsIn } from "./drain.store.ts";

const again = (more: Partial<Extract<Outcome, { kind: "again" }>> = {}): Outcome => ({
  ...{ kind: "again", code: "503", reason: "server", message: "not now" },
  ...more,
});

/** What the upstream does with one request that it could take. `lost`: it takes it, and the answer does not arrive. */
const faults = {
  none: () => stored(),
  away: () => again({ code: "network", reason: "network" }),
  slow: () => again({ code: "403", reason: "forbidden", slow: true }),
  throttled: () => again({ code: "429", reason: "throttled", afterMs: 7000 }),
  lost: () => again({ code: "timeout", reason: "timeout" }),
  reencode: () => ({ kind: "reencode", code: "415", message: "another one" }) as const,
  partial: ({ records }: Parcel) =>
    stored({ rejected: { records: Math.ceil(records / 2), reason: "partial", message: "half of them" } }),
  fewer: () => stored({ mismatch: 1 }),
} as const;
type Fault = keyof typeof faults;
const faultNames = Object.keys(faults) as Fault[];

const event = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant("append"), count: fc.integer({ min: 1, max: 12 }) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("pass"), ms: fc.constantFrom(1, 700, 5000, 30_000) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("pause") }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("resume") }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("discard"), ageMs: fc.constantFrom(10_000, 60_000) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("replace"), every: fc.constantFrom("1s", "5s") }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("restart") }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("unread") }) },
);

const script = fc.record({
  signal: fc.constantFrom<Signal[]>("flows", "metrics"),
  recordsMax: fc.integer({ min: 1, max: 6 }),
  largest: fc.integer({ min: 1, max: 6 }),
  outOfOrderMs: fc.constantFrom(0, 40_000, Number.POSITIVE_INFINITY),
  ageMaxMs: fc.constantFrom(60_000, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY),
  bytesPerSecond: fc.constantFrom(0, 0, 300),
  requestMs: fc.constantFrom(0, 50, 3000),
  faults: fc.array(fc.constantFrom(...faultNames), { maxLength: 20 }),
  odd: fc.dictionary(
    fc.integer({ min: 1, max: 40 }).map(String),
    fc.constantFrom("poison", "filtered", "missing", "unencodable"),
    { maxKeys: 4 },
  ),
  events: fc.array(event, { minLength: 1, maxLength: 16 }),
});
type Script = typeof script extends fc.Arbitrary<infer T> ? T : never;

function createRun(given: Script) {
  const { signal, recordsMax, outOfOrderMs, ageMaxMs, requestMs } = given;
  const clock = createClock();
  const store = createFakeStore(clock.now);
  const upstream = createUpstream(clock);
  const arrived = new Set<number>();
  const left = [...given.faults];
  upstream.capability = { recordsMax, outOfOrderMs, ageMaxMs };
  upstream.answer = async (parcel, abort) => {
    if (requestMs > 0) await clock.sleep(requestMs, abort);
    if (abort.aborted) return again({ code: "network", reason: "network" });
    const ordinals = ordinalsIn(parcel.body);
    if (ordinals.some((ordinal) => given.odd[ordinal] === "poison")) return poison;
    if (parcel.records > given.largest) return { kind: "too_large", code: "413", message: "too large" };
    const fault = left.shift() ?? "none";
    const outcome = faults[fault](parcel);
    if (outcome.kind === "stored" || fault === "lost") for (const ordinal of ordinals) arrived.add(ordinal);
    return outcome;
  };
  for (const [ordinal, kind] of Object.entries(given.odd))
    if (kind !== "poison") store.mark(signal, Number(ordinal), kind);
  return { clock, store, upstream, arrived, key: { sink: "up", signal } };
}

type Run = ReturnType<typeof createRun>;

const configOf = ({ signal, bytesPerSecond }: Script, every: string) =>
  sinkConfig({ signals: [signal], pace: { bytesPerSecond }, schedule: { every } });

async function ended({ clock }: Run, work: PromiseLike<void>): Promise<void> {
  await clock.pass(7000);
  await work;
}

async function play(given: Script, run: Run): Promise<Forwarder> {
  const { clock, store, upstream, key } = run;
  const make = (): Forwarder =>
    createForwarder(forwarderOptions({ clock, store, upstream, log: createFakeLog().log }));
  let forwarder = make();
  await forwarder.apply([configOf(given, "5s")]);
  for (const step of given.events) {
    if (step.kind === "append") {
      store.append(key.signal, step.count, clock.now());
      forwarder.ticked();
      await clock.pass(1000);
    } else if (step.kind === "pass") await clock.pass(step.ms);
    else if (step.kind === "pause") forwarder.pause("up");
    else if (step.kind === "resume") forwarder.resume("up");
    else if (step.kind === "discard") forwarder.discard("up", clock.now() - step.ageMs);
    else if (step.kind === "replace") await ended(run, forwarder.apply([configOf(given, step.every)]));
    else if (step.kind === "unread") store.failures = 2;
    else {
      await ended(run, forwarder[Symbol.asyncDispose]());
      forwarder = make();
      await forwarder.apply([configOf(given, "5s")]);
    }
    store.check();
  }
  return forwarder;
}

const isRising = (values: readonly number[]): boolean =>
  values.every((value, index) => index === 0 || value > values[index - 1]!);

function checkEnd(given: Script, { store, upstream, arrived, key }: Run): void {
  const { counts, pending, offered } = store.state(key)!;
  expect(pending).toBe(0);
  const { sent = 0, diverted = 0, ...rest } = counts;
  const lost = Object.entries(rest).reduce((sum, [, count]) => sum + count, 0);
  expect(diverted).toBe(0);
  expect(sent + lost).toBe(offered);
  // What did not arrive was told of; what is told of as sent arrived.
  expect(sent).toBeLessThanOrEqual(arrived.size);
  expect(offered - arrived.size).toBeLessThanOrEqual(lost);
  expect(upstream.busyMax).toBeLessThanOrEqual(1);
  const acknowledged = upstream.requests
    .filter(({ outcome }) => outcome.kind === "stored")
    .flatMap(({ ordinals }) => ordinals);
  // What is discarded while it is sent makes the rest of that body go again.
  const discards = given.events.some(({ kind }) => kind === "discard");
  if (!discards) expect(new Set(acknowledged).size).toBe(acknowledged.length);
  if (!discards && given.outOfOrderMs === 0 && key.signal === "flows")
    expect(isRising(acknowledged)).toBe(true);
  const clean = given.faults.every((fault) => fault !== "partial" && fault !== "fewer");
  const poisoned = Object.values(given.odd).filter((kind) => kind === "poison").length;
  if (clean) expect(counts["rejected.4xx"] ?? 0).toBeLessThanOrEqual(poisoned);
}

test("whatever an upstream does, every record is accounted for and arrives if it can", async () => {
  await fc.assert(
    fc.asyncProperty(script, async (given) => {
      const run = createRun(given);
      const forwarder = await play(given, run);
      forwarder.resume("up");
      await run.clock.pass(7_200_000);
      run.store.check();
      checkEnd(given, run);
      await ended(run, forwarder[Symbol.asyncDispose]());
    }),
    { numRuns: 10_000 },
  );
}, 300_000);
