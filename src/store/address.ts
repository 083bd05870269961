// Addresses as they stand in the file: IPv4 as an unsigned number, IPv6 as 16 bytes. Text is RFC 5952.

export type StoredAddress = number | Buffer;
export type AddressRange = { readonly low: StoredAddress; readonly high: StoredAddress };

/** Undefined when the text is no address. No zones, no leading zeros in IPv4. */
export function parseAddress(text: string): StoredAddress | undefined {
  return text.includes(":") ? parseV6(text) : parseV4(text);
}

export const formatAddress = (address: StoredAddress): string =>
  typeof address === "number" ? formatV4(address) : formatV6(address);

/** An address, or a network in CIDR notation; bits beyond the prefix are ignored. Undefined when it is neither. */
export function parseRange(text: string): AddressRange | undefined {
  const slash = text.indexOf("/");
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  if (address === undefined) return undefined;
  const bits = typeof address === "number" ? 32 : 128;
  const prefix = slash < 0 ? bits : parsePrefix(text.slice(slash + 1), bits);
  if (prefix === undefined) return undefined;
  return typeof address === "number" ? rangeV4(address, prefix) : rangeV6(address, prefix);
}

const parsePrefix = (text: string, bits: number): number | undefined =>
  /^\d{1,3}$/.test(text) && Number(text) <= bits ? Number(text) : undefined;

function rangeV4(address: number, prefix: number): AddressRange {
  const size = 2 ** (32 - prefix);
  const low = Math.floor(address / size) * size;
  return { low, high: low + size - 1 };
}

function rangeV6(address: Buffer, prefix: number): AddressRange {
  const low = Buffer.from(address);
  const high = Buffer.from(address);
  for (let index = 0; index < 16; index++) {
    const free = 0xff >> Math.min(8, Math.max(0, prefix - index * 8)); // Bits of this byte beyond the prefix.
    low[index] = (address[index] ?? 0) & ~free;
    high[index] = (address[index] ?? 0) | free;
  }
  return { low, high };
}

const zero = 48;
const dot = 46;

// By hand: this runs twice a row, and a regular expression with its captures costs more than the insert.
function parseV4(text: string): number | undefined {
  let address = 0;
  let octet = -1;
  let dots = 0;
  for (let index = 0; index < text.length; index++) {
    const character = text.charCodeAt(index);
    if (character === dot) {
      if (octet < 0 || ++dots > 3) return undefined;
      address = address * 256 + octet;
      octet = -1;
      continue;
    }
    const digit = character - zero;
    if (digit < 0 || digit > 9 || octet === 0) return undefined;
    octet = octet < 0 ? digit : octet * 10 + digit;
    if (octet > 255) return undefined;
  }
  return dots === 3 && octet >= 0 ? address * 256 + octet : undefined;
}

const formatV4 = (address: number): string =>
  `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;

function parseV6(text: string): Buffer | undefined {
  const plain = withoutDotted(text);
  if (plain === undefined) return undefined;
  const gap = plain.indexOf("::");
  const head = parseGroups(gap < 0 ? plain : plain.slice(0, gap));
  const tail = gap < 0 ? [] : parseGroups(plain.slice(gap + 2));
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (gap < 0 ? missing !== 0 : missing < 1) return undefined;
  const address = Buffer.alloc(16);
  for (const [index, group] of head.entries()) address.writeUInt16BE(group, index * 2);
  for (const [index, group] of tail.entries()) address.writeUInt16BE(group, (8 - tail.length + index) * 2);
  return address;
}

/** With the IPv4 tail of `::ffff:192.0.2.1` written as two groups. */
function withoutDotted(text: string): string | undefined {
  if (!text.includes(".")) return text;
  const colon = text.lastIndexOf(":");
  const tail = parseV4(text.slice(colon + 1));
  if (tail === undefined) return undefined;
  return `${text.slice(0, colon + 1)}${(tail >>> 16).toString(16)}:${(tail & 0xffff).toString(16)}`;
}

function parseGroups(text: string): number[] | undefined {
  if (text === "") return [];
  const groups: number[] = [];
  for (const group of text.split(":")) {
    if (group.length > 4 || groups.length === 8 || !/^[0-9a-fA-F]+$/.test(group)) return undefined;
    groups.push(Number.parseInt(group, 16));
  }
  return groups;
}

function formatV6(address: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, index) => address.readUInt16BE(index * 2));
  const mapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
  if (mapped) return `::ffff:${formatV4(address.readUInt32BE(12))}`; // RFC 5952, section 5.
  const run = longestZeros(groups);
  const hex = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(":");
  if (run.length < 2) return hex(groups);
  return `${hex(groups.slice(0, run.start))}::${hex(groups.slice(run.start + run.length))}`;
}

// The first of the longest runs becomes "::".
function longestZeros(groups: readonly number[]): { readonly start: number; readonly length: number } {
  let best = { start: 0, length: 0 };
  let length = 0;
  for (const [index, group] of groups.entries()) {
    length = group === 0 ? length + 1 : 0;
    if (length > best.length) best = { start: index + 1 - length, length };
  }
  return best;
}
