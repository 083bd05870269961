// The appliance without a kernel: its parts as the binary puts them together, with a load that a collector makes up.

import { createRequestCounts } from "../../src/api/requests.ts";
import { type Assembly, assemble } from "../../src/assembly.ts";
import type { ConfigInput } from "../../src/config-schema.ts";
import { keepDoor } from "../../src/door.ts";
import type { FlowRecord } from "../../src/flow.ts";
import { createLog, writeStderr } from "../../src/log.ts";
import { keepObserving } from "../../src/observing.ts";
import { loadSettings } from "../../src/settings.ts";
import type { Snapshot } from "../../src/snapshot.ts";
import { createThrottle } from "../../src/throttle.ts";
import { flow } from "../store.flows.ts";

/** So many records a call, of flows that come again and again, as flows do; times are those of the tick. */
export function createFlowLoad(rate: number): () => readonly FlowRecord[] {
  const pool = Array.from({ length: 50_000 }, (_, index) => flow(index));
  let next = 0;
  return () => {
    const endAt = Date.now();
    return Array.from({ length: rate }, (): FlowRecord => {
      next = (next + 1) % pool.length;
      return { ...(pool[next] ?? flow(0)), startAt: endAt - 900, endAt };
    });
  };
}

export function assembleLoad(overrides: ConfigInput, collect: () => Snapshot): Promise<Assembly> {
  const settings = loadSettings({
    env: {},
    overrides: { node: "bench", cluster: "bench", ...overrides },
    starting: true,
  });
  const log = createLog({ level: "warn", format: "text", now: Date.now, write: writeStderr });
  return assemble(settings, {
    build: { version: "bench", commit: "", bun: Bun.version, os: process.platform, arch: process.arch },
    log,
    now: Date.now,
    startedAt: Date.now(),
    counts: createRequestCounts(),
    throttle: createThrottle({
      settings: settings.throttle,
      elapsedMs: () => performance.now(),
      now: Date.now,
    }),
    observing: keepObserving({
      openBackend: () =>
        Promise.resolve({
          collectors: [{ name: "load", collect }],
          [Symbol.asyncDispose]: () => Promise.resolve(),
        }),
      now: Date.now,
      log,
    }),
    door: keepDoor({ log }),
    loadAddonLibraries: () => Promise.resolve(),
    configStatus: () => ({
      ...{ reloaded: 0, refused: 0, problems: [], warnings: [], rejected: [], rejectedTotal: {} },
      agentConfig: settings.agentConfig,
    }),
    runtimeDir: undefined,
  });
}
