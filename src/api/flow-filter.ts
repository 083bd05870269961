// From the parameters of a request to the filter of the store.

import type { FlowFilter } from "../store/filter.ts";
import { rangeOf } from "./parameters.ts";
import type { FlowsQuery, StreamQuery } from "./query.ts";

/** What was not asked is absent. */
export function filterOf(query: FlowsQuery | StreamQuery, now: number): FlowFilter {
  const { address, source, destination, port, sourcePort, destinationPort } = query;
  const { protocol, direction, verdict, reason } = query;
  return {
    ...rangeOf(query, now),
    ...(address === undefined ? {} : { addresses: address }),
    ...(source === undefined ? {} : { sources: source }),
    ...(destination === undefined ? {} : { destinations: destination }),
    ...(port === undefined ? {} : { ports: port }),
    ...(sourcePort === undefined ? {} : { sourcePorts: sourcePort }),
    ...(destinationPort === undefined ? {} : { destinationPorts: destinationPort }),
    ...(protocol === undefined ? {} : { protocol }),
    ...(direction === undefined ? {} : { direction }),
    ...(verdict === undefined ? {} : { verdict }),
    ...(reason === undefined ? {} : { dropReason: reason }),
  };
}
