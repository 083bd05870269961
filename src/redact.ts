// Pseudonyms for addresses, so that what is exported tells who talked to whom without telling who they are.

import { createHmac } from "node:crypto";
import type { FlowRecord } from "./flow.ts";
import { formatAddress, parseAddress, parseRange, type StoredAddress } from "./store/address.ts";

export type Redactor = {
  /** The same address always gets the same pseudonym, another address another one. Throws past `addressesMax`. */
  record<Row extends Pick<FlowRecord, "source" | "destination">>(row: Row): Row;
  /** Addresses that were given a pseudonym. */
  addresses(): number;
};

/**
 * What names no machine stays: loopback, unspecified, multicast, broadcast. Of IPv6 multicast the groups that IANA
 * assigned: others hold the end of an address (solicited-node) or the prefix of a site (RFC 3306). Of IPv4's all but
 * 233/8 and 234/8, which hold the number or the prefix of a site (RFC 3180, RFC 6034).
 */
const kept = [
  ...["127.0.0.0/8", "0.0.0.0", "255.255.255.255", "::", "::1"],
  ...["224.0.0.0/5", "232.0.0.0/8", "235.0.0.0/8", "236.0.0.0/6"],
  ...["ff01::/112", "ff02::/112", "ff05::/112"],
  ...["ff02::1:2", "ff02::1:3", "ff05::1:3"], // DHCP relays and servers, LLMNR, DHCP servers.
].flatMap((text) => parseRange(text) ?? []);

function isKept(address: StoredAddress): boolean {
  return kept.some(({ low, high }) => {
    if (typeof address === "number")
      return typeof low === "number" && typeof high === "number" && address >= low && address <= high;
    if (typeof low === "number" || typeof high === "number") return false;
    return Buffer.compare(address, low) >= 0 && Buffer.compare(address, high) <= 0;
  });
}

// Addresses that no network routes: class E for IPv4 but its last one, the half of fc00::/7 that is not assigned.
const classE = 0xf000_0000;
const classEBits = 0x0fff_ffff;

function pseudonym(address: StoredAddress, key: Uint8Array, attempt: number): string {
  const digest = createHmac("sha256", key)
    .update(`${attempt} ${formatAddress(address)}`)
    .digest();
  if (typeof address === "number") return formatAddress(classE + (digest.readUInt32BE(0) & classEBits));
  const name = digest.subarray(0, 16);
  // Multicast stays so, with its flags and its scope.
  if (address[0] === 0xff) name.set(address.subarray(0, 2));
  else name[0] = 0xfc;
  return formatAddress(name);
}

/** With the same key another export gives the same pseudonyms. */
export function createRedactor(options: {
  /** Secret; at least 16 bytes. */
  readonly key: Uint8Array;
  readonly addressesMax?: number;
}): Redactor {
  const { key, addressesMax = 2_000_000 } = options;
  if (key.length < 16) throw new Error(`The key of --redact has ${key.length} bytes; it needs at least 16.`);
  const given = new Map<string, string>();
  const taken = new Set<string>(["255.255.255.255"]);

  const make = (text: string): string => {
    const address = parseAddress(text);
    if (address === undefined || isKept(address)) return text;
    if (given.size >= addressesMax)
      throw new Error(
        `More than ${addressesMax} addresses cannot be redacted at once; export a shorter time.`,
      );
    // 28 bits meet by chance in some ten thousand addresses: the later one tries again.
    for (let attempt = 0; ; attempt++) {
      const name = pseudonym(address, key, attempt);
      if (taken.has(name)) continue;
      taken.add(name);
      given.set(text, name);
      return name;
    }
  };
  const of = (text: string): string => given.get(text) ?? make(text);
  return {
    record: (row) => ({ ...row, source: of(row.source), destination: of(row.destination) }),
    addresses: () => given.size,
  };
}
