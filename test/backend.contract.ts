// What every Backend must do, whatever platform it reads.

import { describe, expect, test } from "bun:test";
import { countsOf } from "../src/replay-counts.ts";
import type { Backend, Snapshot } from "../src/snapshot.ts";

/** A collector may throw what it cannot do here; any other outcome is checked. */
async function collected(backend: Backend): Promise<ReadonlyMap<string, Snapshot>> {
  const snapshots = new Map<string, Snapshot>();
  for (const { name, collect } of backend.collectors) {
    try {
      snapshots.set(name, await collect(new AbortController().signal));
    } catch (error) {
      expect(error).toBeInstanceOf(Error);
      expect((error as Error).message).not.toBe("");
    }
  }
  return snapshots;
}

function numbersIn(value: unknown): number[] {
  if (typeof value === "number") return [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(numbersIn) : [];
}

function expectPlain(snapshot: Snapshot): void {
  // JSON.stringify refuses a bigint and leaves out what is no data; NaN and infinity come back as null.
  expect(JSON.parse(JSON.stringify(snapshot))).toEqual(snapshot);
  for (const value of numbersIn(snapshot)) expect(Number.isFinite(value)).toBe(true);
}

function expectRecords({ flows = [], drops = [], dnsAnswers = [], dnsErrors = [] }: Snapshot): void {
  for (const flow of flows) {
    expect(flow.packets).toBeGreaterThan(0);
    expect(flow.endAt).toBeGreaterThanOrEqual(flow.startAt);
    expect(flow.verdict === "dropped").toBe(flow.dropReason !== undefined);
    expect(flow.source).not.toBe("");
    expect(flow.destination).not.toBe("");
  }
  const keys = drops.map(({ reason, direction }) => `${direction} ${reason}`);
  expect(new Set(keys).size).toBe(keys.length);
  for (const { name, address } of dnsAnswers) expect([name, address]).not.toContain("");
  for (const { source, destination, code } of dnsErrors) {
    expect([source, destination, code]).not.toContain("");
    expect(code).not.toBe("NOERROR");
  }
}

function expectNoFall(before: ReadonlyMap<string, Snapshot>, after: ReadonlyMap<string, Snapshot>): void {
  for (const [name, snapshot] of after) {
    const earlier = countsOf(before.get(name) ?? {});
    const fallen = [...countsOf(snapshot)].filter(([place, value]) => value < (earlier.get(place) ?? 0));
    expect({ collector: name, fallen }).toEqual({ collector: name, fallen: [] });
  }
}

/**
 * `open` makes a new Backend each time; `traffic`, when given, makes something happen between two ticks.
 */
export function backendContract(options: {
  readonly name: string;
  readonly open: () => Backend | Promise<Backend>;
  readonly ticks?: number;
  readonly traffic?: () => Promise<void>;
}): void {
  const { name, open, ticks = 3, traffic = () => Promise.resolve() } = options;
  describe(`backend ${name}`, () => {
    test("has collectors with names of their own", async () => {
      await using backend = await open();
      const names = backend.collectors.map((collector) => collector.name);
      expect(names.length).toBeGreaterThan(0);
      expect(new Set(names).size).toBe(names.length);
      for (const collector of names) expect(collector).toMatch(/^[a-z][a-z0-9-]*$/);
    });

    test("gives plain data in the shape of the contract, at least some", async () => {
      await using backend = await open();
      let some = 0;
      for (let tick = 0; tick < ticks; tick += 1) {
        await traffic();
        for (const snapshot of (await collected(backend)).values()) {
          expectPlain(snapshot);
          expectRecords(snapshot);
          some += 1;
        }
      }
      expect(some).toBeGreaterThan(0);
    });

    test("never lets a count fall", async () => {
      await using backend = await open();
      let before = await collected(backend);
      for (let tick = 0; tick < ticks; tick += 1) {
        await traffic();
        const after = await collected(backend);
        expectNoFall(before, after);
        before = new Map([...before, ...after]);
      }
    });

    // That of a collector which goes on waiting never comes: the limit of the test ends it.
    test("keeps no one waiting after an abort", async () => {
      await using backend = await open();
      const outcomes = backend.collectors.map(async ({ name: collector, collect }) => {
        try {
          await collect(AbortSignal.abort(new Error("stop")));
          return { collector, ok: true };
        } catch (error) {
          return { collector, ok: error instanceof Error };
        }
      });
      expect((await Promise.all(outcomes)).filter(({ ok }) => !ok)).toEqual([]);
    }, 15_000);

    test("hands over what is left once, before it closes", async () => {
      await using backend = await open();
      await traffic();
      await collected(backend);
      const last = backend.drain?.() ?? {};
      expectPlain(last);
      expectRecords(last);
    });

    test("can be closed twice", async () => {
      const backend = await open();
      await backend[Symbol.asyncDispose]();
      await backend[Symbol.asyncDispose]();
    });
  });
}
