// Stores with states of sinks for the tests: what is put in, and the law that must hold.

import { expect } from "bun:test";
import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Part } from "../src/store/part.ts";
import { createSamples, type Samples } from "../src/store/samples.ts";
import {
  createSinkStates,
  type Progress,
  type SinkDeclaration,
  type SinkKey,
  type SinkState,
  type SinkStates,
} from "../src/store/sink-states.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { flows } from "./store.flows.ts";

const dirs: string[] = [];

export function newDir(): string {
  const dir = mkdtempSync(join(tmpdir(), "fovea-sinks-"));
  dirs.push(dir);
  return dir;
}

export function removeDirs(): void {
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true });
}

export const startAt = Date.UTC(2026, 0, 1);
export const second = 1000;

export const lake = { sink: "lake", signal: "flows" } as const satisfies SinkKey;
export const archive = { sink: "archive", signal: "flows" } as const satisfies SinkKey;
export const gauge = { sink: "lake", signal: "metrics" } as const satisfies SinkKey;

export const declared = (key: SinkKey, changes: Partial<SinkDeclaration> = {}): SinkDeclaration => ({
  ...key,
  ...{ start: "oldest", fed: false },
  ...changes,
});

/** A part whose next transaction is undone, when it is told to. */
export type Undoing = Part & { undo: boolean };

function createUndoing(): Undoing {
  const part: Undoing = {
    undo: false,
    open: () => ({
      due: () => part.undo,
      pages: () => 0,
      write() {
        if (part.undo) throw new Error("the transaction is to be undone");
      },
      settle() {},
    }),
  };
  return part;
}

export type World = {
  readonly dir: string;
  readonly states: SinkStates;
  readonly samples: Samples;
  readonly undoing: Undoing;
  readonly store: Store;
};

type Options = {
  readonly sinks: readonly SinkDeclaration[];
  readonly ageMaxMs?: number;
  readonly bytesMax?: number;
  readonly now?: () => number;
};

export function openWorld(options: Options, dir = newDir()): World {
  const { sinks, ageMaxMs = 1e12, bytesMax = 2 ** 20, now = () => startAt } = options;
  const states = createSinkStates({
    readFailed: ({ message }) => {
      throw new Error(message);
    },
  });
  const samples = createSamples({ ageMaxMs, seriesMax: 100 });
  const undoing = createUndoing();
  states.declare(sinks);
  const parts = [samples, states, undoing];
  return { dir, states, samples, undoing, store: openStore({ dir, bytesMax, ageMaxMs, now, parts }) };
}

/** Rows, and steps of so many series. */
export function append(
  { store, samples }: World,
  at: number,
  { rows = 0, series = 0 }: { readonly rows?: number; readonly series?: number },
): number {
  if (series > 0)
    samples.add({
      at,
      series: Array.from({ length: series }, (_, index) => ({
        ...{ name: "up", labels: { index: String(index) }, value: at + index },
      })),
    });
  return store.append({ rows: flows(rows), at, ledger: { "rows.offered": rows } }).kept;
}

export const stateOf = ({ states }: Pick<World, "states">, key: SinkKey): SinkState => {
  const state = states.state(key);
  if (state === undefined) throw new Error(`there is no state of ${key.sink}, ${key.signal}`);
  return state;
};

export const pending = (state: SinkState): string =>
  state.ranges.map(({ first, last, open }) => `${first}-${last}${open ? "+" : ""}`).join(" ");

/** What a sink reports of ordinals that it is done with; all sent, unless it says otherwise. */
export function done(
  { states }: Pick<World, "states">,
  key: SinkKey,
  { first, last }: { readonly first: number; readonly last: number },
  changes: Partial<Progress> = {},
): void {
  const generation = states.state(key)?.generation ?? 0;
  const counts = { sent: last - first + 1 };
  states.progress({ ...key, generation, first, last, complete: true, counts, ...changes });
}

export function expectLaw({ states }: Pick<World, "states">): void {
  for (const { sink, signal, counts, offered, pending: left, ranges } of states.all()) {
    const counted = Object.values(counts).reduce((sum, count) => sum + count, 0);
    expect([sink, signal, counted + left]).toEqual([sink, signal, offered]);
    const waiting = ranges.reduce((sum, range) => sum + range.last - range.first + 1 - range.done, 0);
    expect(waiting).toBe(left);
  }
}

/** What a file that nobody closed holds of the states: after a kill, or while it is open. */
export function written(dir: string, sinks: readonly SinkDeclaration[]): readonly SinkState[] {
  const copy = newDir();
  for (const name of ["fovea.db", "fovea.db-wal"])
    if (existsSync(join(dir, name))) copyFileSync(join(dir, name), join(copy, name));
  const { states, store } = openWorld({ sinks }, copy);
  try {
    return states.all();
  } finally {
    store.close();
  }
}

export function sql(dir: string, text: string): unknown[] {
  const database = openDatabase({ path: join(dir, "fovea.db") });
  try {
    const statement = database.prepare(text);
    return statement.reader ? statement.raw().all() : [statement.run()];
  } finally {
    database.close();
  }
}
