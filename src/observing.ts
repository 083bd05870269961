// What observes this machine: the backend, what its snapshots add up to, and the names that it learnt.

import type { Config } from "./config-schema.ts";
import { createDnsNames, type DnsNames } from "./identity/dns.ts";
import { createKept, type Kept } from "./kept.ts";
import { createPacketDeltas, type PacketDeltas } from "./ledger-deltas.ts";
import { errorText, type Log } from "./log.ts";
import { createNode, type Node } from "./node.ts";
import type { Backend } from "./snapshot.ts";

/** The keys that backends are opened with. All others change without a packet that nobody saw. */
export type ObservingConfig = Pick<
  Config,
  "dataDir" | "interfaces" | "flows" | "drops" | "dns" | "sockets" | "windows"
>;

export type Observing = {
  readonly backend: Backend;
  readonly node: Node;
  readonly names: DnsNames;
  readonly packetDeltas: PacketDeltas;
};

const keyOf = ({ dataDir, interfaces, flows, drops, dns, sockets, windows }: ObservingConfig) => ({
  ...{ dataDir, interfaces, flows, drops, dns, sockets, windows },
});

export function createObserving(options: {
  readonly backend: Backend;
  readonly namesMax: number;
  readonly now: () => number;
}): Observing {
  const { backend, namesMax, now } = options;
  const names = createDnsNames({ namesMax });
  return { backend, names, node: createNode({ names, now }), packetDeltas: createPacketDeltas() };
}

/** Of parts that were disposed of together, each of which may have failed: the first failure first. */
const failuresIn = (error: unknown): readonly string[] =>
  error instanceof SuppressedError
    ? [...failuresIn(error.suppressed), ...failuresIn(error.error)]
    : [errorText(error)];

/** What the platform cannot give back keeps neither the other parts from closing nor the next ones from opening. */
async function closeBackend(backend: Backend, log: Log): Promise<void> {
  try {
    await backend[Symbol.asyncDispose]();
  } catch (error) {
    log.warn("the backend did not close as it should; all else goes on", {
      error: failuresIn(error).join("; "),
    });
  }
}

export type ObservingKeeper = Kept<ObservingConfig, Observing>;

export const keepObserving = (options: {
  readonly openBackend: (config: ObservingConfig, asked: { readonly log: Log }) => Promise<Backend>;
  readonly now: () => number;
  readonly log: Log;
}): ObservingKeeper =>
  createKept<ObservingConfig, Observing>({
    keyOf,
    open: async (config) => {
      const backend = await options.openBackend(config, { log: options.log });
      return createObserving({ backend, namesMax: config.dns.namesMax, now: options.now });
    },
    close: ({ backend }) => closeBackend(backend, options.log),
  });
