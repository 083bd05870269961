// Puts the parts together that one configuration asks for: store, API, backend, loop; and takes them apart again.

import { type Admission, createAdmission } from "./admission.ts";
import { type ApiParts, apiApp } from "./api/app.ts";
import { isLoopback } from "./api/auth.ts";
import type { RequestCounts } from "./api/requests.ts";
import { createStreams, type Streams } from "./api/streams.ts";
import { type Appliance, createAppliance, type Outlets } from "./appliance.ts";
import type { Config } from "./config-schema.ts";
import type { Door, DoorKeeper } from "./door.ts";
import { createExposition, type Exposition } from "./exposition.ts";
import { createFilter } from "./filter.ts";
import { createFlowLog, type FlowLog } from "./flow-log.ts";
import type { Forwarder } from "./forward/forwarder.ts";
import { openForwarding } from "./forwarding.ts";
import type { Guard } from "./guard.ts";
import { type History, openHistory } from "./history.ts";
import type { DnsNames } from "./identity/dns.ts";
import { importRows, rowsImported } from "./import-rows.ts";
import { errorText, type Log } from "./log.ts";
import { createLoop, type Loop } from "./loop.ts";
import {
  type BuildFacts,
  type ConfigFacts,
  diskFacts,
  type MetricView,
  processFacts,
} from "./metrics-view.ts";
import type { ObservingKeeper } from "./observing.ts";
import { createSampler } from "./sampler.ts";
import type { Settings } from "./settings.ts";
import { type ConfigStatus, readStatus } from "./status.ts";
import type { Throttle } from "./throttle.ts";

/** What outlives a change of the configuration. */
export type Surroundings = {
  readonly build: BuildFacts;
  readonly log: Log;
  readonly now: () => number;
  readonly startedAt: number;
  readonly counts: RequestCounts;
  /** Goes on with what it has admitted when other parts are opened anew. */
  readonly throttle: Throttle;
  readonly observing: ObservingKeeper;
  readonly door: DoorKeeper;
  readonly configStatus: () => ConfigStatus;
  /** Loads what the SQLite addon needs from outside itself; files go into this directory where memory does not do. */
  readonly loadAddonLibraries: (directory: string) => Promise<void>;
  /** Absent where modes of files say enough. */
  readonly guard?: Guard | undefined;
  /** A directory of the service manager that goes with the process. */
  readonly runtimeDir: string | undefined;
};

export type Assembly = AsyncDisposable & {
  readonly url: string;
  /** Ticks until the signal aborts; `ticked` is called after each one. */
  run(signal: AbortSignal, ticked: () => void): Promise<void>;
  /** Takes over what can change while all parts stay; false when parts must be opened anew. */
  apply(settings: Settings): boolean;
};

/** Parts of a running assembly that the scrape and the status read. */
type Running = Omit<Surroundings, "door" | "observing"> & {
  readonly settings: () => Settings;
  readonly config: () => Config;
  readonly history: History;
  readonly flowLog?: FlowLog;
  readonly streams: Streams;
  readonly forwarder: Forwarder;
  readonly names: DnsNames;
  readonly appliance: Appliance;
  readonly loop: Loop;
  readonly door: Door;
};

function configFacts({ reloaded, refused, problems, rejectedTotal }: ConfigStatus): ConfigFacts {
  return { reloaded, refused, lastRefused: problems.length > 0, rejected: rejectedTotal };
}

function viewOf(running: Running): MetricView {
  const { build, appliance, names, loop, log, history, counts, startedAt, throttle, streams } = running;
  const { node, cluster, dataDir } = running.config();
  const { open, refused } = running.door.server.connections();
  return {
    nodeName: node,
    cluster,
    node: appliance.model(),
    build,
    process: processFacts(startedAt),
    names: names.facts(),
    loop: loop.facts(),
    log: log.counts(),
    store: appliance.storeFacts(),
    ledger: history.store.ledger(),
    throttle: throttle.facts(),
    rollups: history.rollups.facts(),
    samples: history.samples.facts(),
    queries: history.queries.facts(),
    streams: streams.facts(),
    evictedSent: history.sinkStates.evictedSent(),
    upstream: {
      now: running.now(),
      sinks: running.forwarder.facts(),
      deadLettersEvicted: history.sinkStates.deadLettersEvicted,
    },
    ...diskFacts(dataDir),
    ...(running.flowLog === undefined ? {} : { flowLog: running.flowLog.facts() }),
    http: { requests: counts.all(), connections: open, refused },
    config: configFacts(running.configStatus()),
  };
}

/** Made anew when its part of the configuration changes. */
function createScrapes({ settings }: Pick<Running, "settings">): () => Exposition {
  // The configuration map asks for the metrics of the agent itself, which its users' dashboards know by these names.
  const make = ({ config: { metrics }, internalMetrics: own }: Settings) =>
    createExposition({ ...metrics, names: own ? [...metrics.names, "fluentbit"] : metrics.names });
  let { config, internalMetrics } = settings();
  let exposition = make(settings());
  return () => {
    const now = settings();
    if (now.config.metrics !== config.metrics || now.internalMetrics !== internalMetrics) {
      ({ config, internalMetrics } = now);
      exposition = make(now);
    }
    return exposition;
  };
}

function apiParts(running: Running, scrapes: () => Exposition): ApiParts {
  const { build, history, appliance, now, counts, log, config, streams, forwarder, door } = running;
  const { store, queries, sinkStates } = history;
  return {
    version: build.version,
    access: {
      loopback: isLoopback(door.address),
      mutualTls: config().api.tls.clientCaFile !== undefined,
      openMetrics: () => config().api.openMetrics,
      ...(door.token === undefined ? {} : { token: door.token }),
    },
    scrape: (accept) => scrapes().render(viewOf(running), accept),
    unready: appliance.unready,
    status: () => readStatus(running),
    queries,
    streams,
    imports: {
      rowsImported: (sha256) => rowsImported(store, sha256),
      importRows: (part) => importRows(store, part),
    },
    sinks: {
      ...forwarder,
      deadLetters: sinkStates.deadLetters,
      deadLettersEvicted: () => sinkStates.deadLettersEvicted,
    },
    ledger: () => ({ totals: store.ledger(), rows: store.stats().rows, sinks: forwarder.facts() }),
    now,
    counts,
    failed: (error, path) => log.error("a request failed", { path, error: errorText(error) }),
  };
}

// Keys that are read anew each time they are used, and those of the log.
const withoutLive = (config: Config): unknown => ({
  ...config,
  // What goes upstream bears their names.
  ...(config.sinks.length > 0 ? {} : { node: "", cluster: "" }),
  tick: 0,
  metrics: config.metrics.seriesMax,
  throttle: undefined,
  filters: undefined,
  sinks: undefined,
  log: undefined,
  api: { ...config.api, openMetrics: false },
});

const openStreams = ({ store, queries }: History, streamsMax: number, log: Log): Streams =>
  createStreams({
    source: {
      flows: queries.flows,
      ledger: store.ledger,
      head: () => ({ generation: store.place().generation, seq: store.stats().lastSeq }),
    },
    streamsMax,
    failed: (error) => log.warn("a stream ended: the store cannot be read", { error: errorText(error) }),
  });

function openFlowLog({ node, flowLog }: Config, { log, now }: Surroundings, names: DnsNames): FlowLog {
  const { file, bytesMax, filesMax, ageMax, compress } = flowLog;
  return createFlowLog({
    ...{ file, bytesMax, filesMax, compress, now },
    ageMaxMs: ageMax,
    nodeName: node,
    names: (address) => {
      const name = names.nameOf(address, now());
      return name === undefined ? [] : [name];
    },
    failed: (error) => log.error("the flow log has a problem", { error: errorText(error) }),
    recovered: (lines) => log.info("the flow log is written again", { file, linesLost: lines }),
  });
}

const filterOf = ({ filters }: Settings) =>
  filters.include.length + filters.exclude.length === 0 ? undefined : createFilter(filters);

/** Where records and samples go beside the rows; `view` is what a sample is taken of. */
function outletsOf(options: {
  readonly history: History;
  readonly flowLog: FlowLog | undefined;
  readonly samples: Config["samples"];
  readonly now: () => number;
  readonly series: () => Parameters<History["samples"]["add"]>[0]["series"];
}): Outlets {
  const { history, flowLog, samples, now, series } = options;
  const sampler = createSampler({ stepMs: () => samples.step, now, elapsedMs: () => performance.now() });
  return {
    summaries: history.summaries.add,
    sample: () => {
      const at = samples.enabled ? sampler.due() : undefined;
      if (at !== undefined) history.samples.add({ at, series: series() });
    },
    log: (rows, summaries) => flowLog?.write(rows, summaries),
  };
}

const sameParts = (before: Settings, changed: Settings): boolean =>
  Bun.deepEquals(withoutLive(before.config), withoutLive(changed.config));

/** What the parts do not ask for by themselves. */
function takeOver({ throttle, forwarder, log }: Running, admission: Admission, changed: Settings): void {
  throttle.apply(changed.throttle);
  admission.setFilter(filterOf(changed));
  forwarder
    .apply(changed.config.sinks)
    .catch((error: unknown) => log.error("the sinks are as they were", { error: errorText(error) }));
}

/** Throws when a part cannot be opened; then those before it are closed again. */
export async function assemble(settings: Settings, surroundings: Surroundings): Promise<Assembly> {
  const { log, now, throttle, observing: kept } = surroundings;
  const { config } = settings;
  let live = settings;
  let ticked = () => {};
  await using undo = new AsyncDisposableStack();
  // Last of all, when rows are kept and the API is closed: the kernel takes its time for each interface.
  undo.defer(kept.leave);
  undo.defer(surroundings.door.leave);
  const history = undo.use(await openHistory({ ...surroundings, config }));
  // The port before the backend: one that is taken is told at once, and nothing was attached to the kernel for it.
  const door = await surroundings.door.open(config);
  undo.defer(door.server.answered);
  undo.defer(door.answer);
  const streams = undo.use(openStreams(history, config.api.streamsMax, log));
  const observing = await kept.open(config);
  const { names } = observing;
  const flowLog = config.flowLog.enabled ? undo.use(openFlowLog(config, surroundings, names)) : undefined;
  const admission = createAdmission({ throttle, filter: filterOf(settings) });
  throttle.apply(settings.throttle);
  const scrapes = createScrapes({ settings: () => live });
  const series = () => scrapes().series(viewOf(running));
  const outlets = outletsOf({ history, flowLog, samples: config.samples, now, series });
  const { store } = history;
  const { stays } = kept;
  const appliance = createAppliance({ observing, stays, store, log, admission, throttle, outlets });
  const { version } = surroundings.build;
  const forwarder = openForwarding({ history, config: () => live.config, version, log, now });
  // Before the last append, which then holds what was acknowledged meanwhile.
  undo.defer(appliance.finish);
  undo.use(forwarder);
  const tick = async (signal: AbortSignal) => {
    await appliance.tick(signal);
    streams.ticked();
    forwarder.ticked();
    ticked();
  };
  const loop = createLoop({ tickMs: () => live.config.tick, tick });
  const running: Running = {
    ...surroundings,
    ...(flowLog === undefined ? {} : { flowLog }),
    settings: () => live,
    config: () => live.config,
    ...{ history, streams, forwarder, names, appliance, loop, door },
  };
  const app = apiApp(apiParts(running, scrapes));
  door.answer((request) => app.fetch(request));
  await forwarder.apply(config.sinks);
  const parts = undo.move();
  return {
    url: door.server.url,
    run: (signal, onTick) => {
      ticked = onTick;
      return loop.run(signal);
    },
    apply: (changed) => {
      if (!sameParts(live, changed) || !surroundings.door.fits(changed.config)) return false;
      live = changed;
      takeOver(running, admission, changed);
      return true;
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}
