// The states of sinks in one open file, and where in it the ordinals stand.

import type { Signal } from "../sinks/sink.ts";
import { sampleNames } from "./sample-totals.ts";
import type { SignalView } from "./sink-record.ts";
import type { SinkKey } from "./sink-states.ts";
import type { Database, Statement } from "./sqlite.ts";

export type View = Readonly<Record<Signal, SignalView>>;

export type StateRow = { readonly sink: string; readonly signal: string; readonly state: string };

export type SinkFile = {
  readonly database: Database;
  view(): View;
  states(): readonly StateRow[];
  put(row: StateRow): void;
  remove(row: Omit<StateRow, "state">): void;
  /** When the record was stored, or nearly; undefined when it is not in the file. Epoch milliseconds. */
  storedAt(key: Pick<SinkKey, "signal">, ordinal: number): number | undefined;
  /** The first that was stored at or after `at`, or a little before; undefined when there is none. */
  ordinalAt(key: Pick<SinkKey, "signal">, at: number): number | undefined;
};

export function openSinkFile(database: Database): SinkFile {
  const all = database.prepare<unknown[], StateRow>("SELECT sink, signal, state FROM sink_states");
  const put = database.prepare(
    `INSERT INTO sink_states (sink, signal, state) VALUES (?, ?, ?)
     ON CONFLICT (sink, signal) DO UPDATE SET state = excluded.state`,
  );
  const remove = database.prepare("DELETE FROM sink_states WHERE sink = ? AND signal = ?");
  const times = { flows: openFlowTimes(database), metrics: openSampleTimes(database) };
  return {
    database,
    view: openView(database),
    states: () => all.all(),
    put: ({ sink, signal, state }) => void put.run(sink, signal, state),
    remove: ({ sink, signal }) => void remove.run(sink, signal),
    storedAt: ({ signal }, ordinal) => times[signal].storedAt(ordinal),
    ordinalAt: ({ signal }, at) => times[signal].ordinalAt(at),
  };
}

function openView(database: Database): () => View {
  const state = database.prepare<unknown[], [string, number]>("SELECT name, value FROM state").raw();
  const evicted = database
    .prepare<unknown[], [string, number]>(
      "SELECT name, value FROM ledger WHERE name IN ('rows.evicted.age', 'rows.evicted.size')",
    )
    .raw();
  const oldestRow = database.prepare<unknown[], number | null>("SELECT min(seq) FROM flows").pluck();
  const firstBlock = database
    .prepare<unknown[], number | null>("SELECT total - samples + 1 FROM sample_blocks ORDER BY id LIMIT 1")
    .pluck();
  return () => {
    const states = new Map(state.all());
    const of = (name: string): number => states.get(name) ?? 0;
    const rows = new Map(evicted.all());
    const generation = of("generation");
    const seq = of("seq");
    const flows: SignalView = {
      ...{ generation, head: seq, oldest: oldestRow.get() ?? seq + 1 },
      age: rows.get("rows.evicted.age") ?? 0,
      size: rows.get("rows.evicted.size") ?? 0,
    };
    const [head, age, size] = [of(sampleNames.stored), of(sampleNames.age), of(sampleNames.size)];
    // Without blocks, all that is gone stood before the first step.
    const oldest = firstBlock.get() ?? age + size + of(sampleNames.damaged) + 1;
    return { flows, metrics: { generation, head, oldest: Math.min(oldest, head + 1), age, size } };
  };
}

type Times = {
  storedAt(ordinal: number): number | undefined;
  ordinalAt(at: number): number | undefined;
};

function openFlowTimes(database: Database): Times {
  const batchOf = database
    .prepare<unknown[], [lastSeq: number, at: number]>(
      "SELECT last_seq, at FROM batches WHERE first_seq <= ? ORDER BY first_seq DESC LIMIT 1",
    )
    .raw();
  const batches = openTable(database, { table: "batches", id: "first_seq", columns: "at" });
  return {
    storedAt(seq) {
      const [lastSeq, at] = batchOf.get(seq) ?? [0, 0];
      return seq <= lastSeq ? at : undefined;
    },
    // The time of a batch is that of its newest rows.
    ordinalAt: (at) => batches.first(([, batchAt]) => batchAt >= at)?.[0],
  };
}

function openSampleTimes(database: Database): Times {
  const blocks = openTable(database, {
    table: "sample_blocks",
    columns: "total, start_at, end_at, samples",
  });
  // A total stands behind the bytes of its step, which may be many: looked up, it costs no more than they do.
  const steps = openTable(database, { table: "sample_steps", columns: "total, at" });
  const before = database
    .prepare<unknown[], number | null>("SELECT total FROM sample_steps WHERE id < ? ORDER BY id DESC LIMIT 1")
    .pluck();
  const within = (row: Row, ordinal: number): number => {
    const [, total = 0, startAt = 0, endAt = 0, samples = 1] = row;
    const share = (ordinal - (total - samples)) / Math.max(1, samples);
    return Math.round(startAt + (endAt - startAt) * Math.max(0, share));
  };
  return {
    storedAt(ordinal) {
      const block = blocks.first(([, total]) => total >= ordinal);
      if (block !== undefined) return within(block, ordinal);
      return steps.first(([, total]) => total >= ordinal)?.[2];
    },
    /** Of a block its first: whole steps are asked for, and where they end in it is not known here. */
    ordinalAt(at) {
      const block = blocks.first(([, , , endAt = 0]) => endAt >= at);
      if (block !== undefined) return block[1] - (block[4] ?? 0) + 1;
      const step = steps.first(([, , stepAt = 0]) => stepAt >= at);
      if (step === undefined) return undefined;
      return (before.get(step[0]) ?? blocks.last()?.[1] ?? 0) + 1; // Before the oldest where that is not known.
    },
  };
}

type Row = readonly [id: number, value: number, ...more: number[]];

/**
 * Looks up rows of which some value rises with their id, in steps that halve what is left: ids have gaps, and the
 * values no index. Where a clock went back, it finds one of those that were written about then.
 */
function openTable(
  database: Database,
  { table, id = "id", columns }: { readonly table: string; readonly id?: string; readonly columns: string },
) {
  const row = (rest: string): Statement<Row> =>
    database.prepare<unknown[], Row>(`SELECT ${id}, ${columns} FROM ${table} ${rest}`).raw();
  const [oldest, newest] = [row(`ORDER BY ${id} LIMIT 1`), row(`ORDER BY ${id} DESC LIMIT 1`)];
  const from = row(`WHERE ${id} >= ? ORDER BY ${id} LIMIT 1`);
  return {
    last: (): Row | undefined => newest.get(),
    first(reaches: (row: Row) => boolean): Row | undefined {
      const [start, end] = [oldest.get(), newest.get()];
      if (start === undefined || end === undefined || !reaches(end)) return undefined;
      let found = end;
      for (let low = start[0], high = end[0]; low < high; ) {
        const middle = Math.floor((low + high) / 2);
        const next = from.get(middle) ?? end;
        if (reaches(next)) {
          found = next;
          high = middle;
        } else low = next[0] + 1;
      }
      return found;
    },
  };
}
