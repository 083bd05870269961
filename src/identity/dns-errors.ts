// DNS errors on flow records: remembers the responses that were errors until their flows are reported.

import type { FlowRecord } from "../flow.ts";
import type { DnsError } from "../snapshot.ts";

export type DnsErrorsFacts = {
  readonly kept: number;
  readonly max: number;
  /** Errors that were let go without being on a record of both ways, by reason (cumulative). */
  readonly evicted: readonly { readonly reason: string; readonly errors: number }[];
};

export type DnsErrors = {
  learn(errors: readonly DnsError[], atMs: number): void;
  /** The records, with the code on those whose flow had an error; the same list when there is none. */
  mark(flows: readonly FlowRecord[], atMs: number): readonly FlowRecord[];
  facts(): DnsErrorsFacts;
};

const DNS_PORT = 53;
const TCP = 6;
const UDP = 17;

const errorsMaxDefault = 16_384;
// Flows are reported when idle or every `flows.active`: with longer times than this their errors stay unsaid.
const keepMsDefault = 120_000;

type Tuple = Pick<FlowRecord, "source" | "destination" | "sourcePort" | "destinationPort" | "protocol">;

const keyOf = ({ protocol, source, sourcePort, destination, destinationPort }: Tuple): string =>
  `${protocol} ${source} ${sourcePort} ${destination} ${destinationPort}`;

const reverseKeyOf = ({ protocol, source, sourcePort, destination, destinationPort }: Tuple): string =>
  `${protocol} ${destination} ${destinationPort} ${source} ${sourcePort}`;

const carriesDns = ({ protocol }: Tuple): boolean => protocol === UDP || protocol === TCP;

/** `response` and `query` name the flows of each way that had the code: as seen from either end, forwarded or dropped. */
type Known = {
  readonly code: string;
  readonly untilMs: number;
  readonly response: Set<string>;
  readonly query: Set<string>;
};

/** False when the flow of this record had the code in an earlier report. */
function markOnce(told: Set<string>, { direction, verdict }: FlowRecord): boolean {
  const before = told.size;
  return told.add(`${direction} ${verdict}`).size > before;
}

/**
 * An error is of the flow that its response is of, server to client, and of the one that goes the other way with the query.
 * Each gets the code in the first report that follows the error, and not again before there is a new one. An error is
 * forgotten when both ways were reported, or after `keepMs`; at `max` the oldest gives way. Times never go back.
 */
export function createDnsErrors(
  options: { readonly max?: number; readonly keepMs?: number } = {},
): DnsErrors {
  const { max = errorsMaxDefault, keepMs = keepMsDefault } = options;
  // In the order of learning: an error that comes again moves to the end.
  const known = new Map<string, Known>();
  let expired = 0;
  let full = 0;
  const expire = (atMs: number): void => {
    for (const [key, { untilMs }] of known) {
      if (untilMs > atMs) return;
      known.delete(key);
      expired += 1;
    }
  };
  const makeRoom = (): void => {
    const oldest = known.keys().next();
    if (known.size < max || oldest.done) return;
    known.delete(oldest.value);
    full += 1;
  };
  const codeOn = (
    way: "response" | "query",
    options: { readonly key: string; readonly flow: FlowRecord; readonly done: Set<string> },
  ): string | undefined => {
    const { key, flow, done } = options;
    const error = known.get(key);
    if (error === undefined || !markOnce(error[way], flow)) return undefined;
    if (error.response.size > 0 && error.query.size > 0) done.add(key);
    return error.code;
  };
  const codeOf = (flow: FlowRecord, done: Set<string>): string | undefined => {
    const { sourcePort, destinationPort } = flow;
    if ((sourcePort !== DNS_PORT && destinationPort !== DNS_PORT) || !carriesDns(flow)) return undefined;
    const onResponse =
      sourcePort === DNS_PORT ? codeOn("response", { key: keyOf(flow), flow, done }) : undefined;
    if (onResponse !== undefined || destinationPort !== DNS_PORT) return onResponse;
    return codeOn("query", { key: reverseKeyOf(flow), flow, done });
  };
  return {
    learn: (errors, atMs) => {
      if (known.size > 0) expire(atMs);
      for (const error of errors) {
        if (error.sourcePort !== DNS_PORT || !carriesDns(error)) continue;
        const key = keyOf(error);
        known.delete(key);
        makeRoom();
        known.set(key, {
          ...{ code: error.code, untilMs: atMs + keepMs },
          ...{ response: new Set<string>(), query: new Set<string>() },
        });
      }
    },
    mark: (flows, atMs) => {
      if (known.size > 0) expire(atMs);
      if (known.size === 0) return flows;
      const done = new Set<string>();
      let marked: FlowRecord[] | undefined;
      flows.forEach((flow, index) => {
        const dnsError = codeOf(flow, done);
        if (dnsError === undefined) return;
        marked ??= [...flows];
        marked[index] = { ...flow, dnsError };
      });
      // Not before the end: two pods of this node have a flow each of every way, which end together.
      for (const key of done) known.delete(key);
      return marked ?? flows;
    },
    facts: () => ({
      kept: known.size,
      max,
      evicted: [
        { reason: "expired", errors: expired },
        { reason: "full", errors: full },
      ],
    }),
  };
}
