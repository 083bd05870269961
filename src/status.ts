// How the appliance does, as the status of the API tells it.

import type { StatusAnswer } from "./api/schemas.ts";
import type { Streams } from "./api/streams.ts";
import type { Appliance } from "./appliance.ts";
import type { Door } from "./door.ts";
import type { FlowLog } from "./flow-log.ts";
import type { Forwarder } from "./forward/forwarder.ts";
import type { History } from "./history.ts";
import type { Loop } from "./loop.ts";
import type { BuildFacts } from "./metrics-view.ts";
import type { NodeModel } from "./node.ts";
import type { Settings } from "./settings.ts";
import { checkLaws, sinkLaw } from "./store/ledger.ts";
import type { Store } from "./store/store.ts";
import type { Throttle } from "./throttle.ts";
import { type Rejection, rejectionText } from "./throttle-settings.ts";

export type ConfigStatus = {
  readonly file?: string;
  /** Changes that were applied, and that were refused, since the start. */
  readonly reloaded: number;
  readonly refused: number;
  /** Why the file as it is now is not in force; empty when it is. */
  readonly problems: readonly string[];
  /** Variables that mean nothing. */
  readonly warnings: readonly string[];
  /** Values that are not in force as they were written. */
  readonly rejected: readonly Rejection[];
  /** Such values since the start, by key; counted once for each load that was taken over. */
  readonly rejectedTotal: Readonly<Record<string, number>>;
  /** The configuration map of Container Insights that is in force, if there is one. */
  readonly agentConfig: Settings["agentConfig"];
};

export type StatusParts = {
  readonly build: BuildFacts;
  readonly now: () => number;
  readonly startedAt: number;
  readonly settings: () => Settings;
  readonly configStatus: () => ConfigStatus;
  readonly history: Pick<History, "store" | "rollups" | "samples">;
  readonly throttle: Throttle;
  readonly flowLog?: FlowLog;
  readonly streams: Streams;
  readonly forwarder: Pick<Forwarder, "facts">;
  readonly appliance: Appliance;
  readonly loop: Loop;
  readonly door: Pick<Door, "token" | "server">;
};

function storeStatus(store: Store): StatusAnswer["store"] {
  const { mode, memoryReason, path, rows, bytes, bytesMax, oldestAt, newestAt, recoveries } = store.stats();
  return {
    mode,
    ...(memoryReason === undefined ? {} : { problem: memoryReason }),
    path,
    rows,
    bytes: bytes.database + bytes.wal,
    bytesMax,
    ...(oldestAt === undefined ? {} : { oldestAt }),
    ...(newestAt === undefined ? {} : { newestAt }),
    recoveries,
  };
}

/** What an operator should look at, one sentence each. */
function warningsOf({ configStatus, history, appliance, door, forwarder }: StatusParts): readonly string[] {
  const { store } = history;
  const { rows } = store.stats();
  const sinks = forwarder.facts();
  const tokenProblem = door.token?.problem();
  return [
    ...configStatus().problems,
    ...configStatus().warnings,
    ...configStatus().rejected.map(rejectionText),
    ...(tokenProblem === undefined ? [] : [`${tokenProblem}; the last good token stays in force`]),
    ...appliance.unready(),
    ...sinks.flatMap(({ sink, signal, phase, lastError }) =>
      phase === "retrying" && lastError !== undefined
        ? [`sink ${sink} does not get its ${signal}: ${lastError.message}`]
        : [],
    ),
    ...[...checkLaws(store.ledger(), rows), ...sinks.map(sinkLaw)]
      .filter(({ holds }) => !holds)
      .map(({ law, left, right }) => `the ledger does not add up: ${law}, ${left} is not ${right}`),
    ...appliance
      .model()
      .health.flatMap(({ name, success, error = "" }) =>
        success ? [] : [`collector ${name} fails: ${error}`],
      ),
  ];
}

function nodeStatus({ state, health }: NodeModel) {
  const { totals, attached = [], flowTable } = state;
  return {
    uplinks: totals?.uplinks ?? [],
    attached,
    ...(flowTable === undefined ? {} : { flows: { live: flowTable.live, max: flowTable.max } }),
    collectors: health,
  };
}

function flowLogStatus({ flowLog, settings }: StatusParts): Pick<StatusAnswer, "flowLog"> {
  return flowLog === undefined
    ? {}
    : { flowLog: { file: settings().config.flowLog.file, ...flowLog.facts() } };
}

function historyStatus(parts: StatusParts) {
  const { history, settings, throttle, streams, forwarder } = parts;
  const { config, filters } = settings();
  return {
    store: storeStatus(history.store),
    throttle: throttle.facts(),
    filters: { include: filters.include.length, exclude: filters.exclude.length },
    rollups: history.rollups.facts(),
    ...(config.samples.enabled ? { samples: history.samples.facts() } : {}),
    ...flowLogStatus(parts),
    streams: streams.facts(),
    sinks: forwarder.facts().map(({ sink, signal, phase, pending }) => ({
      ...{ name: sink, signal, state: phase, pending },
    })),
  };
}

export function readStatus(parts: StatusParts): StatusAnswer {
  const { build, now, startedAt, settings, configStatus, appliance, loop, door } = parts;
  const { node, cluster } = settings().config;
  const { file, reloaded, refused, problems, rejected } = configStatus();
  const { ticks, skipped } = loop.facts();
  const { open, refused: turnedAway } = door.server.connections();
  return {
    version: build.version,
    commit: build.commit,
    node,
    cluster,
    startedAt,
    uptimeSeconds: Math.max(0, now() - startedAt) / 1000,
    ticks,
    ticksSkipped: skipped,
    ...nodeStatus(appliance.model()),
    ...historyStatus(parts),
    config: { ...(file === undefined ? {} : { file }), reloaded, refused, problems, rejected },
    api: { connections: open, refused: turnedAway },
    warnings: warningsOf(parts),
  };
}
