// Opens the sink that a configuration asks for: one line a type.

import type { Env } from "../config.ts";
import { printSize } from "../config-units.ts";
import type { Log } from "../log.ts";
import { azureLogsScope, createAzureLogsSink } from "./azure-logs.ts";
import { createFileSink } from "./file.ts";
import { createLokiSink } from "./loki.ts";
import { createOtlpSink } from "./otlp.ts";
import { createRemoteWriteSink } from "./remote-write.ts";
import type { FileSinkConfig, SinkConfig, WebSinkConfig } from "./schema.ts";
import type { Sink } from "./sink.ts";
import { openWeb } from "./web.ts";
import type { Web } from "./web-reply.ts";

export type SinkSurroundings = {
  readonly identity: { readonly node: string; readonly cluster: string; readonly version: string };
  readonly now: () => number;
  readonly env: Env;
  readonly log: Pick<Log, "warn">;
};

const warnOfRemoval = ({ name, directory, totalMax }: FileSinkConfig, log: Pick<Log, "warn">): void =>
  log.warn("the oldest files of a sink give way: carry complete ones away sooner, or raise totalMax", {
    ...{ sink: name, directory, totalMax: printSize(totalMax) },
  });

/** Throws what says why the sink cannot be opened; its files are read when they are needed, not here. */
export function openSink(config: SinkConfig, surroundings: SinkSurroundings): Sink {
  const { identity, now, env, log } = surroundings;
  const webOf = (web: WebSinkConfig, scope?: string): Web =>
    openWeb({ config: web, version: identity.version, now, env, ...(scope === undefined ? {} : { scope }) });
  switch (config.type) {
    case "remote-write":
      return createRemoteWriteSink({ config, web: webOf(config), identity });
    case "otlp":
      return createOtlpSink({ config, web: webOf(config), identity });
    case "loki":
      return createLokiSink({ config, web: webOf(config), identity });
    case "azure-logs":
      return createAzureLogsSink({ config, web: webOf(config, azureLogsScope), identity });
    case "file":
      return createFileSink({ config, identity, now, onRemoval: () => warnOfRemoval(config, log) });
  }
}
