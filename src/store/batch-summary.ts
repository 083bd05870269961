// What a batch holds, in about a byte a row: enough to pass over it without reading a row that cannot match.

import { type AddressRange, parseRange, type StoredAddress } from "./address.ts";
import { bloomOf, mayHold, mix } from "./bloom.ts";
import type { FlowFilter } from "./filter.ts";
import type { EncodedRow } from "./rows.ts";
import { textMax } from "./strings.ts";

/**
 * Version 1: version, masks, number of protocols, protocols, number of drop reasons, their hashes, then the filter of
 * addresses and that of ports, each after its length in two bytes. All little endian.
 */
const version = 1;
/** Fewer rows are read faster than their summary. */
const rowsMin = 64;
const bytesEach = 1.5;
const addressShare = 0.6;
/** Addresses and networks of one batch. With more, their filter would have to be too coarse anyway. */
const addressesMax = 16_384;
const protocolsMax = 32;
const reasonsMax = 32;
/** In place of a number of values or of a length: anything may be there. */
const anyCount = 0xff;

const directions = { ingress: 1, egress: 2 } as const;
const verdicts = { forwarded: 4, dropped: 8 } as const;

/** Values of the rows of a batch. Rows that are added and then undone make it tell less, never wrong. */
export type BatchValues = {
  add(rows: readonly EncodedRow[]): void;
  /** For a batch of so many rows; null when it is too small for one. */
  summary(rows: number): Buffer | null;
};

export function createBatchValues(): BatchValues {
  const addresses = new Set<number>();
  const known = new Set<number>(); // IPv4 addresses whose hashes are there; by a hash one might pass for another.
  const ports = new Uint8Array(65_536 / 8);
  const protocols = new Set<number>();
  const reasons = new Set<string>();
  let masks = 0;
  let lastProtocol = -1;

  const addHashes = (address: StoredAddress, prefixes: typeof prefixesV4 | typeof prefixesV6): void => {
    if (addresses.size > addressesMax) return;
    for (const bits of prefixes) addresses.add(hashOf(address, bits));
  };
  const addAddress = (address: StoredAddress): void => {
    if (typeof address !== "number") addHashes(address, prefixesV6);
    else if (!known.has(address)) {
      if (known.size < addressesMax) known.add(address);
      addHashes(address, prefixesV4);
    }
  };
  const addPort = (port: number): void => {
    ports[port >>> 3] = (ports[port >>> 3] ?? 0) | (1 << (port & 7));
  };

  return {
    add(rows) {
      for (const { record, source, destination } of rows) {
        addAddress(source);
        addAddress(destination);
        addPort(record.sourcePort);
        addPort(record.destinationPort);
        masks |= directions[record.direction] | verdicts[record.verdict];
        if (record.protocol !== lastProtocol) protocols.add(record.protocol);
        lastProtocol = record.protocol;
        if (record.dropReason !== undefined && reasons.size <= reasonsMax) reasons.add(record.dropReason);
      }
    },
    summary(rows) {
      if (rows < rowsMin) return null;
      const head = [
        ...[version, masks],
        ...listed([...protocols], protocolsMax, (protocol) => [protocol]),
        ...listed([...reasons], reasonsMax, (reason) => bytesOf(reasonHash(reason))),
      ];
      const room = rows * bytesEach - head.length - 4;
      const addressRoom = addresses.size > addressesMax ? 0 : room * addressShare;
      const addressFilter = bloomOf(addresses, addressRoom);
      const portFilter = bloomOf(portHashes(ports), Math.min(0xffff, room - addressFilter.length));
      return Buffer.concat([
        Uint8Array.from(head),
        ...[addressFilter, portFilter]
          .flatMap((filter) => [Uint16Array.of(filter.length), filter])
          .map(asBytes),
      ]);
    },
  };
}

const asBytes = ({ buffer, byteOffset, byteLength }: Uint8Array | Uint16Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

const bytesOf = (hash: number): readonly number[] => [0, 8, 16, 24].map((shift) => (hash >>> shift) & 0xff);

function listed<Value>(
  values: readonly Value[],
  max: number,
  bytes: (value: Value) => readonly number[],
): readonly number[] {
  return values.length > max ? [anyCount] : [values.length, ...values.flatMap(bytes)];
}

function portHashes(ports: Uint8Array): ReadonlySet<number> {
  const hashes = new Set<number>();
  for (let port = 0; port < ports.length * 8; port++) {
    const bits = ports[port >>> 3] ?? 0;
    if (bits === 0) port += 7;
    else if (((bits >>> (port & 7)) & 1) === 1) hashes.add(portHash(port));
  }
  return hashes;
}

/** Lengths of the prefixes that are kept of each address, the whole of it first. */
const prefixesV4 = [32, 24, 16] as const;
const prefixesV6 = [128, 64, 48] as const;

const portHash = (port: number): number => mix(port + 0x706f_7274);

function hashOf(address: StoredAddress, bits: number): number {
  if (typeof address === "number") return mix((address >>> (32 - bits)) ^ (bits << 26));
  let hash = mix(bits);
  for (let place = 0; place < bits / 8; place += 2)
    hash = Math.imul(hash ^ (((address[place] ?? 0) << 8) | (address[place + 1] ?? 0)), 0x01000193);
  return mix(hash);
}

function reasonHash(reason: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < Math.min(reason.length, textMax); index++)
    hash = Math.imul(hash ^ reason.charCodeAt(index), 0x01000193);
  return mix(hash);
}

/** Whether a batch with this summary may hold rows that match. */
export type SummaryTest = (summary: Buffer | null) => boolean;

/** Undefined when the filter asks for nothing that a summary could tell of. */
export function summaryTest(filter: FlowFilter): SummaryTest | undefined {
  const tests = [
    ...maskTests(filter),
    ...[filter.addresses, filter.sources, filter.destinations].flatMap(addressTest),
    ...[filter.ports, filter.sourcePorts, filter.destinationPorts].flatMap(portTest),
  ];
  if (tests.length === 0) return undefined;
  return (bytes) => {
    const summary = bytes === null ? undefined : parse(bytes);
    return summary === undefined || tests.every((test) => test(summary));
  };
}

type Summary = {
  readonly masks: number;
  /** Undefined where anything may be there. */
  readonly protocols: Uint8Array | undefined;
  readonly reasons: readonly number[] | undefined;
  readonly addresses: Uint8Array;
  readonly ports: Uint8Array;
};
type Test = (summary: Summary) => boolean;

function maskTests({ protocol, direction, verdict, dropReason }: FlowFilter): Test[] {
  const mask =
    (direction === undefined ? 0 : directions[direction]) | (verdict === undefined ? 0 : verdicts[verdict]);
  // Rows whose reason found no place in the dictionary read "(other)", and the summary has the reason itself.
  const reason = dropReason === undefined || dropReason === "(other)" ? undefined : reasonHash(dropReason);
  return [
    ...(mask === 0 ? [] : [({ masks }: Summary) => (masks & mask) === mask]),
    ...(protocol === undefined ? [] : [({ protocols }: Summary) => protocols?.includes(protocol) ?? true]),
    ...(reason === undefined ? [] : [({ reasons }: Summary) => reasons?.includes(reason) ?? true]),
  ];
}

const anyOf = (hashes: readonly number[], of: (summary: Summary) => Uint8Array): Test[] => [
  (summary) => hashes.some((hash) => mayHold(of(summary), hash)),
];

function addressTest(texts: readonly string[] = []): Test[] {
  const hashes = texts.map((text) => rangeHash(parseRange(text)));
  const known = hashes.filter((hash) => hash !== undefined);
  // One network that is too wide to be told of makes all of them so.
  if (texts.length === 0 || known.length < hashes.length) return [];
  return anyOf(known, ({ addresses }) => addresses);
}

function portTest(ports: readonly number[] = []): Test[] {
  return ports.length === 0 ? [] : anyOf(ports.map(portHash), (summary) => summary.ports);
}

/** Of the longest kept prefix that holds the whole range. */
function rangeHash(range: AddressRange | undefined): number | undefined {
  if (range === undefined) return undefined;
  const bits = prefixOf(range);
  const kept = (typeof range.low === "number" ? prefixesV4 : prefixesV6).find((prefix) => prefix <= bits);
  return kept === undefined ? undefined : hashOf(range.low, kept);
}

function prefixOf({ low, high }: AddressRange): number {
  if (typeof low === "number")
    return typeof high === "number" ? 32 - Math.round(Math.log2(high - low + 1)) : 0;
  if (typeof high === "number") return 0;
  const differs = low.findIndex((byte, index) => byte !== high[index]);
  return differs < 0 ? 128 : differs * 8 + Math.clz32((low[differs] ?? 0) ^ (high[differs] ?? 0)) - 24;
}

/** Undefined for what this version does not know: such a batch is read. */
function parse(bytes: Buffer): Summary | undefined {
  if (bytes[0] !== version) return undefined;
  let place = 2;
  const take = (length: number): Buffer => {
    place += length;
    return bytes.subarray(place - length, place);
  };
  const list = (each: number): Buffer | undefined => {
    const count = take(1)[0] ?? 0;
    return count === anyCount ? undefined : take(count * each);
  };
  const filter = (): Buffer => {
    const [low = 0, high = 0] = take(2);
    return take(low + high * 256);
  };
  const [protocols, reasons, addresses, ports] = [list(1), list(4), filter(), filter()];
  if (place !== bytes.length) return undefined; // Cut short.
  return { masks: bytes[1] ?? 0, protocols, reasons: hashesIn(reasons), addresses, ports };
}

function hashesIn(bytes: Buffer | undefined): readonly number[] | undefined {
  if (bytes === undefined) return undefined;
  return Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readInt32LE(index * 4));
}
