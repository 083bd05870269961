// The history of this node: the store with what is written beside its rows, and the worker that answers from it.

import { join } from "node:path";
import type { Config } from "./config-schema.ts";
import type { Guard } from "./guard.ts";
import { errorText, type Log } from "./log.ts";
import { noStore } from "./no-store.ts";
import type { Part } from "./store/part.ts";
import { openQueries, type Queries } from "./store/queries.ts";
import { createRollups, type Rollups } from "./store/rollups.ts";
import { createSamples, type Samples } from "./store/samples.ts";
import { createSinkStates, type SinkStates } from "./store/sink-states.ts";
import { addonDirs, unpackAddon } from "./store/sqlite.ts";
import { openStore, type Store } from "./store/store.ts";
import { createStoredSummaries, type StoredSummaries } from "./store/summaries.ts";

export type History = AsyncDisposable & {
  readonly store: Store;
  readonly queries: Queries;
  readonly rollups: Rollups;
  readonly samples: Samples;
  readonly summaries: StoredSummaries;
  /** What each sink has not sent yet. */
  readonly sinkStates: SinkStates;
};

export type HistoryOptions = {
  readonly config: Pick<Config, "dataDir" | "store" | "rollups" | "samples" | "metrics">;
  readonly log: Log;
  readonly now: () => number;
  readonly runtimeDir: string | undefined;
  /** Loads what the SQLite addon needs from outside itself; files go into this directory where memory does not do. */
  readonly loadAddonLibraries: (directory: string) => Promise<void>;
  readonly guard?: Guard | undefined;
};

/** Throws when another process has the store, or a newer version wrote it; without SQLite there is a store of nothing. */
export async function openHistory(options: HistoryOptions): Promise<History> {
  const { config, now } = options;
  const { minuteAgeMax, hourAgeMax, keysMax } = config.rollups;
  const rollups = createRollups({ keysMax, minuteAgeMaxMs: minuteAgeMax, hourAgeMaxMs: hourAgeMax, now });
  const samples = createSamples({
    ageMaxMs: config.samples.ageMax,
    // A series that is gone keeps its place until its last samples go: pods come and go for as long as that.
    seriesMax: Math.max(50_000, 4 * config.metrics.seriesMax),
  });
  const summaries = createStoredSummaries({ ageMaxMs: minuteAgeMax });
  let opened: Store | undefined;
  const sinkStates = createSinkStates({ readFailed: (failure) => opened?.readFailed(failure) });
  await using undo = new AsyncDisposableStack();
  // What is to be sent comes last: in one transaction with what it is told of.
  const { store, nativeBinding } = await openRows(options, [rollups, summaries, samples, sinkStates]);
  undo.use(store);
  opened = store;
  const queries = undo.use(openQueries({ store, rollups, nativeBinding }));
  const parts = undo.move();
  return {
    ...{ store, queries, rollups, samples, summaries, sinkStates },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

async function openRows(
  { config, log, now, runtimeDir, loadAddonLibraries, guard }: HistoryOptions,
  parts: readonly Part[],
): Promise<{ readonly store: Store; readonly nativeBinding?: string | undefined }> {
  const { dataDir, store } = config;
  const { bytesMax, ageMax } = store;
  let nativeBinding: string | undefined;
  guard?.enterDataDir(dataDir);
  try {
    await loadAddonLibraries(join(dataDir, "native"));
    nativeBinding = await unpackAddon({ dirs: addonDirs({ dataDir, runtimeDir }), guard });
  } catch (error) {
    // No directory takes the addon, so there is no SQLite: the scrape goes on without.
    const problem = errorText(error);
    log.error("there is no store; every row is lost", { reason: problem });
    return { store: noStore({ problem, bytesMax }) };
  }
  return {
    store: openStore({ dir: dataDir, bytesMax, ageMaxMs: ageMax, now, nativeBinding, parts }),
    nativeBinding,
  };
}
