// A node without a kernel: admission, throttle and the store with all its parts, on clocks that a test drives.

import { join } from "node:path";
import { createAdmission } from "../src/admission.ts";
import { type Appliance, createAppliance } from "../src/appliance.ts";
import { createFilter, type Filter } from "../src/filter.ts";
import type { FlowRecord } from "../src/flow.ts";
import { createFlowLog, type FlowLog } from "../src/flow-log.ts";
import { type History, openHistory } from "../src/history.ts";
import { createLog } from "../src/log.ts";
import { createObserving } from "../src/observing.ts";
import type { Settings } from "../src/settings.ts";
import type { PacketLedger } from "../src/snapshot.ts";
import type { SampleStep } from "../src/store/sample-pending.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import type { Throttle } from "../src/throttle.ts";

/** `at` is the wall clock, epoch milliseconds; `ms` never goes back. */
export type Clocks = { at: number; ms: number };

export type NodeOptions = {
  readonly dir: string;
  readonly clocks: Clocks;
  readonly settings: Pick<Settings, "throttle" | "filters"> & {
    readonly config: Pick<Settings["config"], "store" | "rollups" | "samples" | "metrics">;
  };
  /** Outlives the node when its parts are opened anew. */
  readonly throttle: Throttle;
  /** Where the flow log goes; without, there is none. */
  readonly flowLogFile?: string;
};

/** What became of the records of a tick before the store. */
export type Fates = {
  readonly rows: readonly FlowRecord[];
  readonly unkept: readonly FlowRecord[];
  /** Those of the unkept that the filter refused. */
  readonly filtered: ReadonlySet<FlowRecord>;
};

export type NodeRig = AsyncDisposable & {
  readonly history: History;
  readonly appliance: Appliance;
  readonly flowLog?: FlowLog;
  /** Lines of the log, as JSON. */
  readonly lines: readonly string[];
  /** One tick with these records; a step of samples goes along where one is given. */
  tick(records: readonly FlowRecord[], sample?: SampleStep): Promise<Fates>;
  /** What can change while all parts stay. */
  apply(settings: NodeOptions["settings"]): void;
  /** Rows of a statement on the file, read by another connection. */
  sql<Row>(text: string): Row[];
};

export function readSql<Row>(dir: string, text: string): Row[] {
  const database = openDatabase({ path: join(dir, "fovea.db"), readonly: true, timeoutMs: 1000 });
  try {
    return database.prepare(text).all() as Row[];
  } finally {
    database.close();
  }
}

const filterOf = ({ filters }: NodeOptions["settings"]) =>
  filters.include.length + filters.exclude.length === 0 ? undefined : createFilter(filters);

/** A filter that remembers what it refused. */
function watched(filter: Filter | undefined, refused: Set<FlowRecord>): Filter {
  return (record) => {
    const reason = filter?.(record);
    if (reason !== undefined) refused.add(record);
    return reason;
  };
}

function flowLogOf({ flowLogFile, clocks }: NodeOptions): FlowLog | undefined {
  if (flowLogFile === undefined) return undefined;
  return createFlowLog({
    ...{ file: flowLogFile, bytesMax: 1e9, filesMax: 2, ageMaxMs: 1e12, compress: false },
    ...{ nodeName: "node-1", now: () => clocks.at, failed: () => undefined, recovered: () => undefined },
  });
}

export async function openNode(options: NodeOptions): Promise<NodeRig> {
  const { dir, clocks, settings, throttle } = options;
  const now = () => clocks.at;
  const lines: string[] = [];
  const log = createLog({ level: "info", format: "json", now, write: (line) => lines.push(line) });
  const history = await openHistory({
    ...{ config: { ...settings.config, dataDir: dir }, log, now, runtimeDir: undefined },
    loadAddonLibraries: () => Promise.resolve(),
  });
  const flowLog = flowLogOf(options);
  const admission = createAdmission({ throttle });
  const filtered = new Set<FlowRecord>();
  const apply = (changed: NodeOptions["settings"]): void => {
    throttle.apply(changed.throttle);
    admission.setFilter(watched(filterOf(changed), filtered));
  };
  apply(settings);
  let given: readonly FlowRecord[] = [];
  let step: SampleStep | undefined;
  let fates: Fates = { rows: [], unkept: [], filtered };
  let seen = 0;
  const collect = () => {
    seen += given.length;
    const packets: PacketLedger = { seen: seen + 1, aggregated: seen, duplicate: 0, untracked: [parse] };
    return { flows: given, packets };
  };
  const appliance = createAppliance({
    observing: createObserving({
      backend: { collectors: [{ name: "load", collect }], [Symbol.asyncDispose]: () => Promise.resolve() },
      namesMax: 10,
      now,
    }),
    stays: () => false,
    store: history.store,
    ...{ log, throttle },
    admission: {
      ...admission,
      sort: (records) => {
        filtered.clear();
        const admitted = admission.sort(records);
        fates = { ...admitted, filtered: new Set(filtered) };
        return admitted;
      },
    },
    outlets: {
      summaries: history.summaries.add,
      sample: () => {
        if (step !== undefined) history.samples.add(step);
      },
      log: (rows, summaries) => flowLog?.write(rows, summaries),
    },
  });
  return {
    ...{ history, appliance, lines },
    ...(flowLog === undefined ? {} : { flowLog }),
    async tick(records, sample) {
      [given, step] = [records, sample];
      await appliance.tick(new AbortController().signal);
      [given, step] = [[], undefined];
      return fates;
    },
    apply,
    sql: (text) => readSql(dir, text),
    async [Symbol.asyncDispose]() {
      appliance.finish();
      await flowLog?.[Symbol.asyncDispose]();
      await history[Symbol.asyncDispose]();
    },
  };
}

const parse = { reason: "parse", packets: 1 };
