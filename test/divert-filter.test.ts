// What a sink's filter leaves out stays out when its records are diverted, and each record that is wanted goes one way, whatever happens meanwhile.

import { afterAll, expect, test } from "bun:test";
import fc from "fast-check";
import { createForwarder, type Forwarder } from "../src/forward/forwarder.ts";
import { type SinkConfig, sinkSchema } from "../src/sinks/schema.ts";
import type { Outcome, Parcel, Sink } from "../src/sinks/sink.ts";
import { anything, createClock, createFakeLog, down, stored } from "./drain.rig.ts";
import { type File, openFile } from "./sink-batch.world.ts";
import { expectLaw, openWorld, removeDirs } from "./sinks.world.ts";
import { flow } from "./store.flows.ts";

afterAll(removeDirs);

/** No record is wanted by both, and some by neither. */
const filters = {
  a: { metrics: ["kappie_*"], include: [{ port: [53] }] },
  b: { metrics: ["net_*"], include: [{ port: [443] }], exclude: [{ verdict: ["dropped"] }] },
};
const ageMaxMs = 60_000;

const web = { type: "otlp", url: "http://127.0.0.1:9/", schedule: { every: "1s" } };
const sources = {
  a: sinkSchema.parse({ ...web, name: "a", divertTo: "old", filter: filters.a }),
  b: sinkSchema.parse({ ...web, name: "b", divertTo: "old", filter: filters.b }),
};
const old = sinkSchema.parse({ ...web, name: "old" });
type Name = "a" | "b" | "old";

/** Which of the sources wants a record of this line. */
function wantedBy(line: string): "a" | "b" | "none" {
  const { key, destinationPort, verdict } = JSON.parse(line);
  if (key === undefined && destinationPort === 53) return "a";
  if (key === undefined) return destinationPort === 443 && verdict !== "dropped" ? "b" : "none";
  if (key.startsWith("kappie_")) return "a";
  return key.startsWith("net_") ? "b" : "none";
}

const which = fc.constantFrom<Name[]>("a", "b", "old");
const event = fc.oneof(
  { weight: 5, arbitrary: fc.record({ rows: fc.integer({ min: 1, max: 9 }), steps: fc.nat(3) }) },
  { weight: 3, arbitrary: fc.record({ passMs: fc.constantFrom(1000, 20_000, 61_000) }) },
  { weight: 3, arbitrary: fc.record({ flip: which }) },
  { weight: 1, arbitrary: fc.record({ restart: fc.constant(true) }) },
  { weight: 1, arbitrary: fc.record({ gone: fc.constantFrom("a", "b", "none") }) },
);
const script = fc.record({
  recordsMax: fc.integer({ min: 1, max: 12 }),
  events: fc.array(event, { minLength: 4, maxLength: 30 }),
});
type Script = typeof script extends fc.Arbitrary<infer T> ? T : never;
type Event = Script["events"][number];

function createRun({ recordsMax }: Script) {
  const clock = createClock();
  const options = { sinks: [], now: clock.now };
  let world = openWorld(options);
  let file: File = openFile(world.dir);
  const away = new Set<Name>(["a", "b"]);
  const taken: Record<Name, string[]> = { a: [], b: [], old: [] };
  let wanted: readonly SinkConfig[] = [sources.a, sources.b, old];
  let rows = 0;

  const take = (name: Name, { body }: Parcel): Outcome => {
    if (away.has(name)) return down;
    const lines = Buffer.from(body).toString().split("\n");
    taken[name].push(...lines.filter((line) => !line.includes('"value":"null"')));
    return stored();
  };
  const open = ({ name }: SinkConfig): Sink => ({
    signals: ["flows", "metrics"],
    capability: () => ({
      ...anything,
      recordsMax,
      ...(name === "old" ? {} : { ageMaxMs }),
    }),
    encoder: () => ({ format: "ndjson", node: "n", cluster: "", version: "1", externalLabels: {} }),
    send: (parcel) => Promise.resolve(take(name as Name, parcel)),
    facts: () => ({ target: name, tokenErrors: 0 }),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  });
  const make = (): Forwarder =>
    createForwarder({
      ...{ open, states: world.states, commit: () => undefined },
      batch: (query) => Promise.resolve(file.read(query)),
      ...{ log: createFakeLog().log, now: clock.now, elapsedMs: clock.elapsedMs, sleep: clock.sleep },
      ...{ random: () => 0.5, rowBytes: () => 100, hoursLeft: () => undefined },
    });
  let forwarder = make();

  const ended = async (work: PromiseLike<void>): Promise<void> => {
    await clock.pass(7000);
    await work;
  };
  const append = async (count: number, steps: number): Promise<void> => {
    for (let step = 0; step < steps; step++) {
      const series = ["kappie_x", "net_x", "secret_x", "kappie_y"].map((name) => ({
        ...{ name, labels: {}, value: step },
      }));
      world.samples.add({ at: clock.now(), series });
      world.store.append({ rows: [], at: clock.now() });
      await clock.pass(10);
    }
    const made = Array.from({ length: count }, () =>
      flow(rows, { endAt: clock.now(), destinationPort: [53, 443, 80][rows++ % 3]! }),
    );
    world.store.append({ rows: made, at: clock.now(), ledger: { "rows.offered": count } });
    forwarder.ticked();
    await clock.pass(100);
  };
  const restart = async (): Promise<void> => {
    await ended(forwarder[Symbol.asyncDispose]());
    file[Symbol.dispose]();
    world.store.close();
    world = openWorld(options, world.dir);
    file = openFile(world.dir);
    forwarder = make();
    await forwarder.apply(wanted);
  };
  const act = async (step: Event): Promise<void> => {
    if ("rows" in step) await append(step.rows, step.steps);
    else if ("passMs" in step) await clock.pass(step.passMs);
    else if ("flip" in step) {
      if (!away.delete(step.flip)) away.add(step.flip);
    } else if ("restart" in step) await restart();
    else {
      // Never all of those that divert, which would open the other to everything.
      wanted = [sources.a, sources.b, old].filter(({ name }) => name !== step.gone);
      await ended(forwarder.apply(wanted));
    }
    expectLaw(world);
  };
  return {
    begin: () => forwarder.apply(wanted),
    act,
    settle: async (): Promise<void> => {
      wanted = [sources.a, sources.b, old];
      await ended(forwarder.apply(wanted));
      away.clear();
      for (let turn = 0; turn < 40; turn++) {
        world.store.append({ rows: [], at: clock.now() });
        forwarder.ticked();
        await clock.pass(30_000);
      }
      expectLaw(world);
    },
    taken,
    states: () => world.states.all(),
    close: async (): Promise<void> => {
      await ended(forwarder[Symbol.asyncDispose]());
      file[Symbol.dispose]();
      world.store.close();
    },
  };
}

test("what a filter leaves out is not diverted, and the rest goes one way", async () => {
  let diverted = 0;
  await fc.assert(
    fc.asyncProperty(script, async (given) => {
      const run = createRun(given);
      await run.begin();
      for (const step of given.events) await run.act(step);
      await run.settle();
      const sum = (sink: Name, count: string): number =>
        run
          .states()
          .filter((state) => state.sink === sink)
          .reduce((all, { counts }) => all + (counts[count] ?? 0), 0);
      expect(run.states().map(({ pending }) => pending)).toEqual([0, 0, 0, 0, 0, 0]);
      for (const name of ["a", "b"] as const) {
        expect(run.taken[name].filter((line) => wantedBy(line) !== name)).toEqual([]);
        const there = [...new Set(run.taken.old.filter((line) => wantedBy(line) === name))];
        expect(there.length).toBe(sum(name, "diverted"));
        const all = [...there, ...run.taken[name]];
        expect(new Set(all).size).toBe(all.length);
        expect(run.taken[name].length).toBe(sum(name, "sent"));
        diverted += there.length;
      }
      expect(run.taken.old.filter((line) => wantedBy(line) === "none")).toEqual([]);
      // What is handed over while its unit is sent makes that go again.
      expect(sum("old", "sent")).toBe(new Set(run.taken.old).size);
      await run.close();
    }),
    { numRuns: 60 },
  );
  expect(diverted).toBeGreaterThan(100);
}, 300_000);
