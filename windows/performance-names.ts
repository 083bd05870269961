// Which performance counters of the virtual switch are read, by names that differ in spaces, and what they count.

import type { Direction } from "../src/flow.ts";
import type { EndpointFacts, SwitchCounters } from "./counters.ts";
import { meaningOf, type NamedCount, switchCountersFrom } from "./vfp-names.ts";

/** All counters of one instance; an instance is a port of the switch. */
export type PortSample = { readonly instance: string; readonly counts: readonly NamedCount[] };

const guids = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/gi;

const withoutSpaces = (text: string): string => text.replace(/\s+/g, "");

/** `VFP Port Total Inbound Dropped Network Packets` and the like; those of averages are no counts. */
const set = /^VFPPort(?:Total)?(Inbound|Outbound)(?:Dropped)?Network(?:Packets|Traffic)$/i;

/** Inbound is what goes into the endpoint, as everywhere at a port of the switch. */
export function directionOfSet(name: string): Direction | undefined {
  const [, side] = set.exec(withoutSpaces(name)) ?? [];
  if (side === undefined) return undefined;
  return side.toLowerCase() === "inbound" ? "ingress" : "egress";
}

/** The words between: `ACL` of `Total Inbound Dropped ACL Packets`; none for the total of all reasons. */
const dropped = /^Dropped(.*?)Packets$/i;

/** Undefined for counters that nobody asks for, and for the total, which stands beside its parts. */
export function meaningOfCounter(name: string): NamedCount["meaning"] | undefined {
  const label = withoutSpaces(name).replace(/^(?:Total)?(?:Inbound|Outbound)/i, "");
  const known = meaningOf(label);
  if (known !== undefined) return known;
  const [, reason] = dropped.exec(label) ?? [];
  return reason === undefined || reason === "" || /^Network$/i.test(reason) ? undefined : { drop: reason };
}

export type PortIndex = ReadonlyMap<string, PortSample>;

/** By every GUID in the name of an instance; of two that have the same one, the first counts. */
export const indexPorts = (list: readonly PortSample[]): PortIndex =>
  new Map(
    list
      .toReversed()
      .flatMap((sample) =>
        [...sample.instance.matchAll(guids)].map(([guid]) => [guid.toLowerCase(), sample] as const),
      ),
  );

/** An instance is named after the port, or after the endpoint, which is the port's friendly name. */
export function portCountersOf(index: PortIndex, { id, port }: EndpointFacts): SwitchCounters | undefined {
  const found = (port === undefined ? undefined : index.get(port)) ?? index.get(id);
  return found === undefined ? undefined : switchCountersFrom("performance-counters", found.counts);
}
