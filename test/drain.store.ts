// The contract of the states of sinks in memory, and batches of records that are numbers.

import { expect } from "bun:test";
import type { Signal } from "../src/sinks/sink.ts";
import type { Batch, BatchQuery } from "../src/store/sink-batch.ts";
import type {
  DeadLetter,
  PendingRange,
  Progress,
  SinkDeclaration,
  SinkKey,
  SinkState,
  SinkStates,
} from "../src/store/sink-states.ts";

type FakeRecord = { readonly at: number; readonly storedAt: number };
/** What a record is when it is read; `good` unless told otherwise. */
export type Kind = "good" | "filtered" | "missing" | "unencodable";

export type FakeStore = SinkStates & {
  /** Samples come as one step. */
  append(signal: Signal, records: number, at: number): void;
  mark(signal: Signal, ordinal: number, kind: Kind): void;
  batch(query: BatchQuery): Promise<Batch>;
  commit(): void;
  /** Another file from now on. */
  replace(): void;
  setReady(ready: boolean): void;
  /** Offered = counts + pending, for every sink; dead letters tell of all that was rejected. */
  check(): void;
  readonly letters: readonly DeadLetter[];
  readonly queries: readonly BatchQuery[];
  /** Acknowledgements that the file does not have, at most. */
  readonly uncommittedMax: number;
  /** Steps of metrics that make a unit. */
  unitSteps: number;
  /** Thrown by the next queries. */
  failures: number;
};

type Entry = {
  readonly key: SinkKey;
  readonly fed: boolean;
  paused: boolean;
  ranges: PendingRange[];
  counts: Record<string, number>;
  offered: number;
};

const keyOf = ({ sink, signal }: SinkKey): string => `${sink}/${signal}`;
const size = ({ first, last, done }: PendingRange): number => Math.max(0, last - first + 1 - done);
const total = (values: Iterable<number>): number => [...values].reduce((sum, value) => sum + value, 0);

/** The contract of `SinkStates` in memory, and batches of records that are numbers. */
export function createFakeStore(now: () => number): FakeStore {
  const records: Record<Signal, FakeRecord[]> = { flows: [], metrics: [] };
  const kinds: Record<Signal, Map<number, Kind>> = { flows: new Map(), metrics: new Map() };
  const entries = new Map<string, Entry>();
  const letters: DeadLetter[] = [];
  const queries: BatchQuery[] = [];
  let generation = 1;
  let ready = true;
  const uncommitted = { now: 0, most: 0 };
  const newest = (signal: Signal): number => records[signal].length;
  const stateOf = ({ key, paused, ranges, counts, offered }: Entry): SinkState => ({
    ...{ ...key, generation, paused, ranges, counts: { ...counts }, offered },
    pending: total(ranges.map(size)),
  });
  const settle = (entry: Entry, counts: Readonly<Record<string, number>>) => {
    for (const [name, count] of Object.entries(counts).filter(([, some]) => some > 0))
      entry.counts[name] = (entry.counts[name] ?? 0) + count;
  };
  /** Ranges rise, and closed ones that touch are one. */
  const tidy = (ranges: readonly PendingRange[]): PendingRange[] => {
    const joined: PendingRange[] = [];
    for (const range of ranges.toSorted((one, other) => one.first - other.first)) {
      const before = joined.at(-1);
      if (size(range) === 0 && !range.open) continue;
      if (before?.last === range.first - 1 && !before.open && !range.open && range.done === 0)
        joined.splice(-1, 1, { ...before, last: range.last });
      else joined.push(range);
    }
    return joined;
  };
  const advance = (range: PendingRange, { last, complete, counts }: Progress): PendingRange => {
    const done = range.done + total(Object.values(counts));
    if (!complete) return { ...range, unitLast: last, done };
    return { first: last + 1, last: range.last, open: range.open, done: 0 };
  };
  const store: FakeStore = {
    unitSteps: 3,
    failures: 0,
    letters,
    queries,
    get ready() {
      return ready;
    },
    get uncommittedMax() {
      return uncommitted.most;
    },
    commit: () => {
      uncommitted.now = 0;
    },
    setReady: (given) => {
      ready = given;
    },
    declare: (sinks: readonly SinkDeclaration[]) => {
      const known = new Set(sinks.map(keyOf));
      for (const key of entries.keys()) if (!known.has(key)) entries.delete(key);
      for (const { sink, signal, start, fed } of sinks) {
        if (entries.has(keyOf({ sink, signal }))) continue;
        const last = newest(signal);
        const first = start === "oldest" ? 1 : last + 1;
        const ranges = fed ? [] : [{ first, last, open: true, done: 0 }];
        const offered = total(ranges.map(size));
        entries.set(keyOf({ sink, signal }), {
          ...{ key: { sink, signal }, fed, paused: false, ranges, counts: {}, offered },
        });
      }
    },
    all: () => [...entries.values()].map(stateOf),
    state: (key) => {
      const entry = entries.get(keyOf(key));
      return entry === undefined ? undefined : stateOf(entry);
    },
    bounds: (signal) => ({ generation, oldest: 1, newest: newest(signal) }),
    ordinalAt: (signal, at) => {
      const index = records[signal].findIndex(({ storedAt }) => storedAt >= at);
      return index === -1 ? newest(signal) + 1 : index + 1;
    },
    storedAt: (signal, ordinal) => records[signal][ordinal - 1]?.storedAt,
    progress: (progress) => {
      const entry = entries.get(keyOf(progress));
      const range = entry?.ranges.find(({ first }) => first === progress.first);
      if (entry === undefined || range === undefined || progress.generation !== generation) return;
      if ((progress.counts["sent"] ?? 0) > 0) uncommitted.now += 1;
      uncommitted.most = Math.max(uncommitted.most, uncommitted.now);
      const next = advance(range, progress);
      expect(size(range) - size(next)).toBe(total(Object.values(progress.counts)));
      const diverts = progress.divertTo !== undefined;
      const { filtered = 0 } = progress.counts;
      const handed = { filtered, diverted: size(range) - size(next) - filtered };
      settle(entry, diverts ? handed : progress.counts);
      entry.ranges = tidy(entry.ranges.map((other) => (other === range ? next : other)));
      for (const letter of progress.deadLetters ?? [])
        letters.push({ ...letter, sink: progress.sink, signal: progress.signal, id: letters.length + 1 });
      if (progress.divertTo === undefined) return;
      const to = entries.get(keyOf({ ...progress, sink: progress.divertTo }));
      if (to === undefined) throw new Error(`diverted to ${progress.divertTo}, which is not there`);
      to.offered += progress.last - progress.first + 1;
      to.ranges = tidy([...to.ranges, { first: progress.first, last: progress.last, open: false, done: 0 }]);
    },
    split: (key, at) => {
      const entry = entries.get(keyOf(key));
      const open = entry?.ranges.find((range) => range.open);
      if (entry === undefined || open === undefined) throw new Error("nothing to split");
      expect(at).toBeGreaterThan(Math.max(open.first, open.unitLast ?? 0));
      entry.ranges = tidy([
        ...entry.ranges.filter((range) => range !== open),
        { ...open, last: at - 1, open: false },
        { first: at, last: open.last, open: true, done: 0 },
      ]);
    },
    setPaused: (key, paused) => {
      const entry = entries.get(keyOf(key));
      if (entry !== undefined) entry.paused = paused;
    },
    discard: (key, given) => {
      const entry = entries.get(keyOf(key));
      if (entry === undefined) return 0;
      // A unit that was begun stays whole.
      const unit = entry.ranges.find(({ first, unitLast = 0 }) => first < given && unitLast >= given);
      const before = unit?.first ?? given;
      const pending = total(entry.ranges.map(size));
      entry.ranges = tidy(
        entry.ranges.map((range) =>
          range.first >= before
            ? range
            : { first: Math.min(before, range.last + 1), last: range.last, open: range.open, done: 0 },
        ),
      );
      const discarded = pending - total(entry.ranges.map(size));
      settle(entry, { discarded });
      return discarded;
    },
    deadLetters: () => letters,
    deadLettersEvicted: 0,
    unreadable: 0,
    evictedSent: () => ({}),
    open: () => {
      throw new Error("this store is in memory");
    },
    append: (signal, count, at) => {
      for (let index = 0; index < count; index++) records[signal].push({ at, storedAt: now() });
      for (const entry of entries.values()) {
        if (entry.key.signal !== signal || entry.fed) continue;
        entry.offered += count;
        entry.ranges = entry.ranges.map((range) => (range.open ? { ...range, last: newest(signal) } : range));
      }
    },
    mark: (signal, ordinal, kind) => kinds[signal].set(ordinal, kind),
    replace: () => {
      generation += 1;
      for (const entry of entries.values()) {
        settle(entry, { "evicted.file": total(entry.ranges.map(size)) });
        entry.ranges = entry.fed ? [] : [{ first: 1, last: 0, open: true, done: 0 }];
      }
      for (const signal of ["flows", "metrics"] as const) {
        records[signal] = [];
        kinds[signal].clear();
      }
    },
    batch: async (query) => {
      await Promise.resolve();
      queries.push(query);
      if (store.failures-- > 0) throw new Error("the worker is gone");
      store.failures = 0;
      const { signal } = query;
      return readFake(query, generation, unitOf(query, records[signal], store.unitSteps), {
        ...{ records: records[signal], kinds: kinds[signal] },
      });
    },
    check: () => {
      for (const { counts, offered, pending } of store.all())
        expect(total(Object.values(counts)) + pending).toBe(offered);
      const rejected = store
        .all()
        .flatMap(({ counts }) => Object.entries(counts))
        .filter(([name]) => name.startsWith("rejected."));
      expect(total(letters.map((letter) => letter.records))).toBe(total(rejected.map(([, count]) => count)));
    },
  };
  return store;
}

type Placed = { readonly ordinal: number; readonly series?: number };

/** In the order in which they are read. A series is the place that its samples have in each step. */
function unitOf(query: BatchQuery, records: readonly FakeRecord[], unitSteps: number): readonly Placed[] {
  const { first, last, done, signal } = query;
  const ordinals = Array.from({ length: last - first + 1 }, (_, index) => first + index);
  if (signal === "flows") return ordinals.map((ordinal) => ({ ordinal }));
  const steps = Map.groupBy(ordinals, (ordinal) => records[ordinal - 1]?.at ?? 0);
  const taken = [...steps.values()].slice(0, done > 0 ? steps.size : unitSteps);
  const width = Math.max(...taken.map(({ length }) => length));
  return Array.from({ length: width }, (_, series) =>
    taken.flatMap((step) => step[series] ?? []).map((ordinal) => ({ ordinal, series })),
  ).flat();
}

const recordBytes = 20;
const encoder = new TextEncoder();
const decoder = new TextDecoder();
const lineOf = (ordinal: number): string => `${ordinal}`.padStart(recordBytes - 1);

/** Ordinals of a body, in its order. */
export const ordinalsIn = (body: Uint8Array): readonly number[] =>
  decoder.decode(body).split("\n").map(Number);

function readFake(
  query: BatchQuery,
  generation: number,
  order: readonly Placed[],
  { records, kinds }: { readonly records: readonly FakeRecord[]; readonly kinds: ReadonlyMap<number, Kind> },
): Batch {
  const { first, last, done, signal, cutoffAt, recordsMax, bytesMax, oneSeries = false } = query;
  const none = {
    filtered: 0,
    expired: 0,
    missing: 0,
    rejected: 0,
    markers: 0,
    rawBytes: 0,
    firstAt: 0,
    lastAt: 0,
  };
  const empty = { first, last, complete: true, records: 0, ...none };
  if (query.generation !== generation) return { ...empty, stale: true };
  const counts = { filtered: 0, expired: 0, missing: 0, rejected: 0 };
  const body: number[] = [];
  const all = new Set<number | undefined>();
  let read = done;
  for (; read < order.length; read++) {
    const { ordinal, series } = order[read]!;
    if (oneSeries && all.size > 0 && !all.has(series)) break;
    const kind = kinds.get(ordinal) ?? "good";
    const expired = kind === "good" && records[ordinal - 1]!.at < cutoffAt;
    const full =
      body.length >= recordsMax || (body.length + 1) * recordBytes > Math.max(bytesMax, recordBytes);
    if (expired && body.length > 0) break;
    if (kind === "good" && !expired && (full || counts.expired > 0)) break;
    if (expired) counts.expired += 1;
    else if (kind === "good") {
      body.push(ordinal);
      all.add(series);
    } else counts[kind === "unencodable" ? "rejected" : kind] += 1;
  }
  const complete = signal === "flows" || read === order.length;
  const [series] = all;
  const times = body.map((ordinal) => records[ordinal - 1]!.at);
  const bytes = encoder.encode(body.map(lineOf).join("\n"));
  return {
    ...empty,
    ...counts,
    ...{ complete, records: body.length, rawBytes: bytes.length },
    last:
      signal === "flows"
        ? (order[read - 1]?.ordinal ?? first - 1)
        : Math.max(...order.map(({ ordinal }) => ordinal)),
    ...(body.length === 0 ? {} : { body: bytes, firstAt: Math.min(...times), lastAt: Math.max(...times) }),
    ...(counts.rejected > 0 ? { rejectedMessage: "it is no record" } : {}),
    ...(body.length === 1 ? { text: `record ${body[0]}` } : {}),
    ...(series === undefined || all.size > 1 ? {} : { series }),
  };
}
