// DNS responses that were errors, with the ends that they had where they were seen, until they are handed over.

import type { DnsError } from "../src/snapshot.ts";
import { dnsEvent } from "./contract.gen.ts";
import { ipv6Text } from "./proc/address.ts";

const tupleOf = (event: DataView) => ({
  source: ipv6Text(event, dnsEvent.source),
  destination: ipv6Text(event, dnsEvent.destination),
  sourcePort: event.getUint16(dnsEvent.sourcePort),
  destinationPort: event.getUint16(dnsEvent.destinationPort),
  protocol: event.getUint8(dnsEvent.protocol),
});

/**
 * One error a 5-tuple, the last one: a message is seen on several interfaces, and translation on the way gives it other
 * ends there, each of which is a flow of its own. At `max` between two takes what is new is counted and left out.
 */
export function createDnsErrorList(options: { readonly max: number }) {
  let errors = new Map<string, DnsError>();
  let left = 0;
  return {
    /** `event` is a dns_event of a response with this code. */
    see(event: DataView, code: string): void {
      const tuple = tupleOf(event);
      const key = Object.values(tuple).join(" ");
      if (errors.size >= options.max && !errors.has(key)) left++;
      else errors.set(key, { ...tuple, code });
    },
    /** Errors since the last call. */
    take(): readonly DnsError[] {
      const taken = [...errors.values()];
      if (errors.size > 0) errors = new Map();
      return taken;
    },
    /** How many sights of errors were left out so far. */
    left: (): number => left,
  };
}
