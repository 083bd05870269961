// Flow records for the tests of the store: typical ones by number, and arbitrary ones.

import fc from "fast-check";
import { type EvictReason, evictReasons, type FlowRecord } from "../src/flow.ts";
import { formatAddress } from "../src/store/address.ts";

export const startAt = Date.UTC(2026, 0, 1);

/** A record that differs from its neighbours in most fields; every eighth is IPv6, every tenth dropped. */
export function flow(number: number, changes: Partial<FlowRecord> = {}): FlowRecord {
  const hash = (number * 2_654_435_761) >>> 0;
  const v6 = number % 8 === 7;
  const dropped = number % 10 === 9;
  const endAt = startAt + number * 10;
  return {
    startAt: endAt - (hash % 30_000),
    endAt,
    source: v6 ? `2001:db8::${(hash & 0xffff).toString(16)}` : `10.${hash & 255}.${(hash >>> 8) & 255}.7`,
    destination: v6 ? "2001:db8:1::53" : `192.168.1.${hash % 250}`,
    sourcePort: 32_768 + (hash % 28_000),
    destinationPort: number % 2 === 0 ? 443 : 53,
    protocol: number % 3 === 0 ? 17 : 6,
    direction: number % 2 === 0 ? "egress" : "ingress",
    verdict: dropped ? "dropped" : "forwarded",
    ...(dropped ? { dropReason: number % 20 === 9 ? "NETFILTER_DROP" : "NO_SOCKET" } : {}),
    packets: 1 + (hash % 5000),
    bytes: 60 + (hash % 5_000_000),
    tcpFlags: number % 3 === 0 ? 0 : 27,
    interface: `eth${number % 4}`,
    ...(number % 3 === 1 ? { rttUs: hash % 100_000, retransmits: hash % 3 } : {}),
    evictReason: "idle",
    ...changes,
  };
}

export const flows = (count: number, from = 0): FlowRecord[] =>
  Array.from({ length: count }, (_, index) => flow(from + index));

const v4 = fc.nat(0xffff_ffff).map(formatAddress);
const v6 = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => formatAddress(Buffer.from(bytes)));
// Few values, so that filters meet rows.
const address = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.constantFrom("10.0.0.1", "10.0.0.2", "10.9.0.1", "2001:db8::1", "fe80::1", "200.1.2.3"),
  },
  v4,
  v6,
);
const count = fc.oneof(fc.nat(), fc.constantFrom(0, 2 ** 32, Number.MAX_SAFE_INTEGER));
const byte = fc.nat(255);

/** Any record that can be stored. Times lie within a minute, in no order. */
export const anyFlow: fc.Arbitrary<FlowRecord> = fc
  .record(
    {
      startAt: fc.nat(60_000).map((ms) => startAt + ms),
      endAt: fc.nat(60_000).map((ms) => startAt + ms),
      source: address,
      destination: address,
      sourcePort: fc.constantFrom(0, 53, 443, 65_535),
      destinationPort: fc.constantFrom(0, 53, 443, 8080),
      protocol: fc.constantFrom(1, 6, 17, 255),
      direction: fc.constantFrom("ingress" as const, "egress" as const),
      verdict: fc.constantFrom("forwarded" as const, "dropped" as const),
      packets: count,
      bytes: count,
      tcpFlags: byte,
      interface: fc.constantFrom("", "eth0", "veth1", "(other)", "x".repeat(128)),
      evictReason: fc.constantFrom<EvictReason[]>(...evictReasons),
      icmpType: byte,
      icmpCode: byte,
      dropReason: fc.constantFrom("NO_SOCKET", "NETFILTER_DROP"),
      rttUs: count,
      retransmits: count,
    },
    {
      requiredKeys: [
        "startAt",
        "endAt",
        "source",
        "destination",
        "sourcePort",
        "destinationPort",
        "protocol",
        "direction",
        "verdict",
        "packets",
        "bytes",
        "tcpFlags",
        "interface",
        "evictReason",
      ],
    },
  )
  .map((record) => record as FlowRecord);
