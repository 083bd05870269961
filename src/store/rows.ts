// Flow records to the columns of a row and back; what cannot be a row is named by reason.

import type { FlowRecord } from "../flow.ts";
import { formatAddress, parseAddress, type StoredAddress } from "./address.ts";
import { storedEvictReasons } from "./schema.ts";
import type { Strings } from "./strings.ts";
import { textMax } from "./strings.ts";

/** A record with the number that it has in the store. */
export type StoredFlow = FlowRecord & { readonly seq: number };

/** Why a record is no row: the reasons of `rows.invalid`. */
export type InvalidReason = "shape" | "time" | "address" | "port" | "protocol" | "count" | "name";

// Null, not undefined: it goes into the file.
export type Column = number | Buffer | null;

/** A row in the order of `columns`, without its seq. */
export type EncodedRow = {
  readonly record: FlowRecord;
  readonly source: StoredAddress;
  readonly destination: StoredAddress;
  readonly evictReason: number;
};

export const columns = [
  "seq",
  "end_at",
  "verdict",
  "direction",
  "protocol",
  "source",
  "destination",
  "source_port",
  "destination_port",
  "drop_reason",
  "packets",
  "bytes",
  "duration_ms",
  "tcp_flags",
  "interface",
  "evict_reason",
  "rtt_us",
  "retransmits",
  "icmp_type",
  "icmp_code",
  "dns_error",
  "node",
] as const;

/** Inserts so many rows in one call, which costs a quarter less than one call each. */
export const groupRows = 16;

export function insertSql(rows: 1 | typeof groupRows): string {
  const one = `(${columns.map(() => "?").join(", ")})`;
  return `INSERT INTO flows (${columns.join(", ")}) VALUES ${Array.from({ length: rows }, () => one).join(", ")}`;
}

/** The columns of the file, in the order of `columns`, as `raw()` reads them. */
export type RawRow = readonly [
  seq: number,
  endAt: number,
  verdict: number,
  direction: number,
  protocol: number,
  source: StoredAddress,
  destination: StoredAddress,
  sourcePort: number,
  destinationPort: number,
  dropReason: number | null,
  packets: number,
  bytes: number,
  durationMs: number,
  tcpFlags: number,
  interfaceId: number,
  evictReason: number,
  rttUs: number | null,
  retransmits: number | null,
  icmpType: number | null,
  icmpCode: number | null,
  dnsError: number | null,
  node: number | null,
];

const evictNumbers: ReadonlyMap<unknown, number> = new Map(
  storedEvictReasons.map((reason, number) => [reason, number]),
);

const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
const isByte = (value: unknown): boolean => isCount(value) && (value as number) <= 0xff;
const isPort = (value: unknown): boolean => isCount(value) && (value as number) <= 0xffff;
const isTime = (value: unknown): boolean =>
  Number.isFinite(value) && (value as number) >= 0 && (value as number) < 1e15;
const isAbsentOr = (value: unknown, is: (value: unknown) => boolean): boolean =>
  value === undefined || is(value);

/** Checks a record as if no type had: it may come from a recording. Never throws. */
export function checkRow(record: FlowRecord | null): EncodedRow | InvalidReason {
  if (typeof record !== "object" || record === null) return "shape";
  const wrong = checkNumbers(record) ?? checkNames(record);
  if (wrong !== undefined) return wrong;
  const source = addressOf(record.source);
  const destination = addressOf(record.destination);
  if (source === undefined || destination === undefined) return "address";
  return { record, source, destination, evictReason: evictNumbers.get(record.evictReason) ?? 0 };
}

const addressOf = (text: unknown): StoredAddress | undefined =>
  typeof text === "string" ? parseAddress(text) : undefined;

function checkNumbers(record: FlowRecord): InvalidReason | undefined {
  if (!isTime(record.startAt) || !isTime(record.endAt)) return "time";
  if (!isPort(record.sourcePort) || !isPort(record.destinationPort)) return "port";
  if (!isByte(record.protocol)) return "protocol";
  if (!isAbsentOr(record.icmpType, isByte) || !isAbsentOr(record.icmpCode, isByte)) return "protocol";
  if (!isCount(record.packets) || !isCount(record.bytes) || !isByte(record.tcpFlags)) return "count";
  if (!isAbsentOr(record.rttUs, isCount) || !isAbsentOr(record.retransmits, isCount)) return "count";
  return undefined;
}

function checkNames(record: FlowRecord): InvalidReason | undefined {
  if (record.direction !== "ingress" && record.direction !== "egress") return "name";
  if (record.verdict !== "forwarded" && record.verdict !== "dropped") return "name";
  if (typeof record.interface !== "string" || !evictNumbers.has(record.evictReason)) return "name";
  const { dropReason, dnsError, node } = record;
  if (dropReason !== undefined && typeof dropReason !== "string") return "name";
  if (dnsError !== undefined && typeof dnsError !== "string") return "name";
  if (node !== undefined && typeof node !== "string") return "name";
  return undefined;
}

/** Adds the parameters of one row of `insertSql`. Milliseconds are whole in the file. */
export function pushColumns(
  parameters: Column[],
  { record, source, destination, evictReason }: EncodedRow,
  { seq, strings }: { readonly seq: number; readonly strings: Strings },
): void {
  const endAt = Math.trunc(record.endAt);
  parameters.push(
    seq,
    endAt,
    record.verdict === "dropped" ? 1 : 0,
    record.direction === "egress" ? 1 : 0,
    record.protocol,
    source,
    destination,
    record.sourcePort,
    record.destinationPort,
    record.dropReason === undefined ? null : strings.use(cut(record.dropReason), seq),
    record.packets,
    record.bytes,
    endAt - Math.trunc(record.startAt),
    record.tcpFlags,
    strings.use(cut(record.interface), seq),
    evictReason,
    record.rttUs ?? null,
    record.retransmits ?? null,
    record.icmpType ?? null,
    record.icmpCode ?? null,
    record.dnsError === undefined ? null : strings.use(cut(record.dnsError), seq),
    record.node === undefined ? null : strings.use(cut(record.node), seq),
  );
}

const cut = (text: string): string => (text.length <= textMax ? text : text.slice(0, textMax));

// Up to 5,000 rows a page: fields are set where they are, instead of spread from objects made for that.
export function decodeRow(row: RawRow, strings: Pick<Strings, "text">): StoredFlow {
  const [seq, endAt, verdict, direction, protocol, source, destination, sourcePort, destinationPort] = row;
  const flow: { -readonly [Key in keyof StoredFlow]: StoredFlow[Key] } = {
    seq,
    startAt: endAt - row[12],
    endAt,
    source: formatAddress(source),
    destination: formatAddress(destination),
    sourcePort,
    destinationPort,
    protocol,
    direction: direction === 1 ? "egress" : "ingress",
    verdict: verdict === 1 ? "dropped" : "forwarded",
    packets: row[10],
    bytes: row[11],
    tcpFlags: row[13],
    interface: strings.text(row[14]),
    evictReason: storedEvictReasons[row[15]] ?? "idle",
  };
  if (row[9] !== null) flow.dropReason = strings.text(row[9]);
  if (row[16] !== null) flow.rttUs = row[16];
  if (row[17] !== null) flow.retransmits = row[17];
  if (row[18] !== null) flow.icmpType = row[18];
  if (row[19] !== null) flow.icmpCode = row[19];
  if (row[20] !== null) flow.dnsError = strings.text(row[20]);
  if (row[21] !== null) flow.node = strings.text(row[21]);
  return flow;
}
