// The whole appliance in this process: its own loop, API and scrape, over a load and clocks that a test drives.

import { createRequestCounts } from "../../src/api/requests.ts";
import { assemble } from "../../src/assembly.ts";
import type { ConfigInput } from "../../src/config-schema.ts";
import { keepDoor } from "../../src/door.ts";
import type { FlowRecord } from "../../src/flow.ts";
import { createLog } from "../../src/log.ts";
import { keepObserving } from "../../src/observing.ts";
import { loadSettings } from "../../src/settings.ts";
import { createThrottle } from "../../src/throttle.ts";
import type { Clocks } from "../node.rig.ts";

export type AssemblyWorld = AsyncDisposable & {
  readonly url: string;
  readonly lines: readonly string[];
  /** Waits for so many further ticks. */
  ticks(count: number): Promise<void>;
  json<Answer>(path: string): Promise<Answer>;
  /** The value of a series in a scrape, NaN when it is not there. */
  scraped(series: string): Promise<number>;
};

export type LedgerAnswer = {
  readonly totals: Readonly<Record<string, number>>;
  readonly laws: readonly { readonly ok: boolean }[];
};

const build = { version: "0", commit: "", bun: Bun.version, os: process.platform, arch: process.arch };

/** Each tick moves the clocks by `stepMs`, and offers what `load` gives. */
export async function openAssembly(options: {
  readonly overrides: ConfigInput;
  readonly clocks: Clocks;
  readonly stepMs: number;
  readonly load: () => readonly FlowRecord[];
}): Promise<AssemblyWorld> {
  const { overrides, clocks, stepMs, load } = options;
  const settings = loadSettings({
    overrides: { listen: "127.0.0.1:0", tick: "100ms", ...overrides },
    env: {},
    starting: true,
  });
  const now = () => clocks.at;
  const lines: string[] = [];
  const log = createLog({ level: "info", format: "json", now, write: (line) => lines.push(line) });
  let seen = 0;
  const collect = () => {
    clocks.at += stepMs;
    clocks.ms += stepMs;
    const flows = load();
    seen += flows.length;
    return { flows, packets: { seen, aggregated: seen, duplicate: 0, untracked: [] } };
  };
  const assembly = await assemble(settings, {
    ...{ build, log, now, startedAt: clocks.at, counts: createRequestCounts(), runtimeDir: undefined },
    throttle: createThrottle({ settings: settings.throttle, elapsedMs: () => clocks.ms, now }),
    observing: keepObserving({
      openBackend: () =>
        Promise.resolve({
          collectors: [{ name: "load", collect }],
          [Symbol.asyncDispose]: () => Promise.resolve(),
        }),
      now,
      log,
    }),
    door: keepDoor({ log }),
    configStatus: () => ({
      ...{ file: "", warnings: [], reloaded: 0, refused: 0, problems: [], rejected: [], rejectedTotal: {} },
      agentConfig: settings.agentConfig,
    }),
    loadAddonLibraries: () => Promise.resolve(),
  });
  const stop = new AbortController();
  let done = 0;
  let waiting: { readonly at: number; readonly wake: () => void } | undefined;
  const running = assembly.run(stop.signal, () => {
    done += 1;
    if (waiting !== undefined && done >= waiting.at) waiting.wake();
  });
  const get = async (path: string): Promise<Response> => {
    const response = await fetch(new URL(path, assembly.url));
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response;
  };
  return {
    url: assembly.url,
    lines,
    async ticks(count) {
      const { promise, resolve } = Promise.withResolvers<void>();
      waiting = { at: done + count, wake: resolve };
      await Promise.race([promise, running.then(() => Promise.reject(new Error("The loop has ended.")))]);
    },
    json: async <Answer>(path: string) => (await (await get(path)).json()) as Answer,
    async scraped(series) {
      const line = (await (await get("/metrics")).text())
        .split("\n")
        .find((text) => text.startsWith(`${series} `));
      return Number(line?.slice(series.length + 1) ?? Number.NaN);
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
      await assembly[Symbol.asyncDispose]();
    },
  };
}
