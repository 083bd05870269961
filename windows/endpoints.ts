// The collector of endpoints: HNS now and then, the switch's counters beside it, both added up by the table.

import type { Collector, Snapshot } from "../src/snapshot.ts";
import { createEndpointTable } from "./endpoint-table.ts";
import { createHnsClient } from "./hns-client.ts";
import { createVfp } from "./vfp.ts";

export type EndpointsOptions = {
  readonly hns: { readonly everyMs: number; readonly timeoutMs: number; readonly endpointsMax: number };
  /** Undefined: what the switch counts is not asked for. */
  readonly vfp: { readonly everyMs: number; readonly timeoutMs: number } | undefined;
  /** Milliseconds; never go back. */
  readonly elapsedMs: () => number;
};

const noSwitch = { poll: () => {}, counters: () => new Map(), facts: () => ({ failures: [], limits: [] }) };

const noFlows =
  "HNS and VFP count by endpoint: there are no flow records, DNS or round trip times on Windows";

/** What was read last, or why nothing was. */
type Last = { readonly snapshot: Snapshot } | { readonly error: unknown };

/** Resolves with the promise, or when the signal aborts. */
async function until(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const aborted = Promise.withResolvers<void>();
  const stop = () => aborted.resolve();
  signal.addEventListener("abort", stop, { once: true });
  await Promise.race([promise, aborted.promise]);
  signal.removeEventListener("abort", stop);
}

export function openEndpoints(
  options: EndpointsOptions,
): AsyncDisposable & { readonly collector: Collector } {
  const { hns, vfp, elapsedMs } = options;
  const undo = new AsyncDisposableStack();
  const client = undo.use(createHnsClient({ timeoutMs: hns.timeoutMs, endpointsMax: hns.endpointsMax }));
  const ports = vfp === undefined ? noSwitch : undo.use(createVfp({ ...vfp, elapsedMs }));
  const table = createEndpointTable({ endpointsMax: hns.endpointsMax });
  const closed = new AbortController();
  undo.defer(() => closed.abort(new Error("the backend is closed")));
  let last: Last | undefined;
  let running: Promise<void> | undefined;
  let dueMs = Number.NEGATIVE_INFINITY;

  const read = async (): Promise<Snapshot> => {
    const reading = await client.read(closed.signal);
    ports.poll(reading.endpoints);
    const { failures, limits } = ports.facts();
    const { endpointUse, ...sections } = table.take(reading, ports.counters());
    return {
      ...sections,
      endpointUse: { ...endpointUse, failures: [...endpointUse.failures, ...failures] },
      limits: [noFlows, ...reading.limits, ...limits],
    };
  };
  const refresh = async (): Promise<void> => {
    try {
      last = { snapshot: await read() };
    } catch (error) {
      last = { error };
    } finally {
      running = undefined;
    }
  };
  /** A tick waits for the first answer alone: HNS may take longer than ticks last, and later ones have the one before. */
  const collect = async (signal: AbortSignal): Promise<Snapshot> => {
    if (running === undefined && elapsedMs() >= dueMs) {
      dueMs = elapsedMs() + hns.everyMs;
      running = refresh();
    }
    if (last === undefined && running !== undefined) await until(running, signal);
    if (last === undefined) throw new Error("HNS has not answered yet");
    if ("error" in last) throw last.error;
    return last.snapshot;
  };
  return {
    collector: { name: "endpoints", collect },
    [Symbol.asyncDispose]: () => undo.disposeAsync(),
  };
}
