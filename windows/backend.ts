// The Windows Backend: one collector a subject. HNS and VFP give counters by endpoint; flow records need pktmon's stream,
// which no polling has.

import { join } from "node:path";
import { errorText, type Log } from "../src/log.ts";
import type { Backend, Collector } from "../src/snapshot.ts";
import { openEndpoints } from "./endpoints.ts";
import { openIpCollectors } from "./ip-collectors.ts";
import { createPktmon } from "./pktmon.ts";

type Every = { readonly everyMs: number; readonly timeoutMs: number };

export type WindowsOptions = {
  readonly interfaces: {
    readonly include: readonly string[];
    readonly exclude: readonly string[];
    readonly loopback: boolean;
  };
  readonly hns: Every & { readonly endpointsMax: number };
  /** Undefined: not wanted. */
  readonly vfp: Every | undefined;
  readonly pktmon: Every | undefined;
  /** Where it is remembered that a session of pktmon is ours. */
  readonly stateDirectory: string;
  /** Milliseconds; never go back. */
  readonly elapsedMs?: () => number;
  /** Hears what went wrong while nobody collects. */
  readonly log?: Pick<Log, "warn"> | undefined;
};

/** A packet that the switch drops is one in pktmon's counts as well: the drops of the node come from one of the two. */
function dropsOfOne(pktmon: Collector, endpoints: Collector): readonly Collector[] {
  let seen = false;
  return [
    {
      name: pktmon.name,
      async collect(signal) {
        const snapshot = await pktmon.collect(signal);
        seen = snapshot.drops !== undefined;
        return snapshot;
      },
    },
    {
      name: endpoints.name,
      async collect(signal) {
        const { drops, ...sections } = await endpoints.collect(signal);
        return seen || drops === undefined ? sections : { ...sections, drops };
      },
    },
  ];
}

const sessionLeft =
  "a session of pktmon may still run: the next run with windows.pktmon takes it over, and pktmon stop ends it";

export function openWindowsBackend(options: WindowsOptions): Backend {
  const { interfaces, hns, vfp, pktmon, stateDirectory, elapsedMs = () => performance.now(), log } = options;
  const undo = new AsyncDisposableStack();
  const { collector } = undo.use(openEndpoints({ hns, vfp, elapsedMs }));
  const marker = join(stateDirectory, "pktmon-session");
  const left = (error: unknown): void => log?.warn(sessionLeft, { error: errorText(error) });
  const switched =
    pktmon === undefined
      ? [collector]
      : dropsOfOne(undo.use(createPktmon({ ...pktmon, elapsedMs, marker, left })), collector);
  return {
    collectors: [...switched, ...openIpCollectors({ interfaces, elapsedMs })],
    [Symbol.asyncDispose]: () => undo.disposeAsync(),
  };
}
