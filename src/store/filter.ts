// What a query asks for, checked, as a condition of SQL.

import type { Direction, Verdict } from "../flow.ts";
import { type AddressRange, parseRange } from "./address.ts";
import { StoreQueryError } from "./failure.ts";

/** Several values of one key: any of them. Several keys: all of them. */
export type FlowFilter = {
  /** Epoch milliseconds of the last packet, from inclusive, to exclusive. */
  readonly fromAt?: number;
  readonly toAt?: number;
  /** Addresses and networks in CIDR notation, of either end. */
  readonly addresses?: readonly string[];
  readonly sources?: readonly string[];
  readonly destinations?: readonly string[];
  /** Of either end. */
  readonly ports?: readonly number[];
  readonly sourcePorts?: readonly number[];
  readonly destinationPorts?: readonly number[];
  /** IANA protocol number. */
  readonly protocol?: number;
  readonly direction?: Direction;
  readonly verdict?: Verdict;
  readonly dropReason?: string;
};

export type Parameter = number | Buffer;
export type Condition = { readonly sql: string; readonly parameters: readonly Parameter[] };

/** More values than this of one key are refused: each one is a test of every row. */
export const valuesMax = 64;

// Keys of the filter and the columns of which any may have the value.
const addressKeys = [
  ["addresses", ["source", "destination"]],
  ["sources", ["source"]],
  ["destinations", ["destination"]],
] as const;
const portKeys = [
  ["ports", ["source_port", "destination_port"]],
  ["sourcePorts", ["source_port"]],
  ["destinationPorts", ["destination_port"]],
] as const;

/** Undefined when no row can match. Throws StoreQueryError with the name of a wrong key. */
export function conditionOf(
  filter: FlowFilter,
  findString: (text: string) => number | undefined,
): Condition | undefined {
  const reason = filter.dropReason === undefined ? undefined : findString(filter.dropReason);
  const parts = [
    ...timeCondition(filter),
    ...addressKeys.flatMap(([key, ends]) => addressCondition(key, ends, filter[key])),
    ...portKeys.flatMap(([key, ends]) => portCondition(key, ends, filter[key])),
    ...numberCondition("protocol", "protocol", filter.protocol, 0xff),
    ...nameCondition("direction", filter.direction, ["ingress", "egress"]),
    ...nameCondition("verdict", filter.verdict, ["forwarded", "dropped"]),
    ...(reason === undefined ? [] : [{ sql: "drop_reason = ?", parameters: [reason] }]),
  ];
  if (filter.dropReason !== undefined && reason === undefined) return undefined;
  return {
    sql: parts.map(({ sql }) => ` AND ${sql}`).join(""),
    parameters: parts.flatMap(({ parameters }) => parameters),
  };
}

/** How many ranges of addresses a row may be compared with: what makes one filter slower than another. */
export const addressTests = (filter: FlowFilter): number =>
  addressKeys.reduce((sum, [key, ends]) => sum + (filter[key]?.length ?? 0) * ends.length, 0);

export function checkTimes({ fromAt, toAt }: Pick<FlowFilter, "fromAt" | "toAt">): void {
  for (const [name, value] of [
    ["fromAt", fromAt],
    ["toAt", toAt],
  ] as const) {
    if (value !== undefined && !Number.isFinite(value))
      throw new StoreQueryError(name, `${name} is ${value}, not a time in epoch milliseconds.`);
  }
}

function timeCondition(filter: FlowFilter): Condition[] {
  checkTimes(filter);
  const { fromAt, toAt } = filter;
  return [
    ...(fromAt === undefined ? [] : [{ sql: "end_at >= ?", parameters: [fromAt] }]),
    ...(toAt === undefined ? [] : [{ sql: "end_at < ?", parameters: [toAt] }]),
  ];
}

function addressCondition(
  key: string,
  ends: readonly string[],
  addresses: readonly string[] = [],
): Condition[] {
  checkSize(key, addresses);
  if (addresses.length === 0) return [];
  const ranges = addresses.map((text) => rangeOf(key, text));
  const test = ends.map((end) => `${end} BETWEEN ? AND ?`).join(" OR ");
  return [
    {
      sql: `(${ranges.map(() => test).join(" OR ")})`,
      parameters: ranges.flatMap(({ low, high }) => ends.flatMap(() => [low, high])),
    },
  ];
}

function rangeOf(key: string, text: string): AddressRange {
  const range = parseRange(text);
  if (range === undefined)
    throw new StoreQueryError(key, `"${text}" is neither an address nor a network such as 10.0.0.0/8.`);
  return range;
}

function portCondition(key: string, ends: readonly string[], ports: readonly number[] = []): Condition[] {
  checkSize(key, ports);
  if (ports.length === 0) return [];
  for (const port of ports) checkNumber(key, port, 0xffff);
  const list = ports.map(() => "?").join(", ");
  return [
    {
      sql: `(${ends.map((end) => `${end} IN (${list})`).join(" OR ")})`,
      parameters: ends.flatMap(() => ports),
    },
  ];
}

function numberCondition(name: string, column: string, value: number | undefined, max: number): Condition[] {
  if (value === undefined) return [];
  checkNumber(name, value, max);
  return [{ sql: `${column} = ?`, parameters: [value] }];
}

/** The place of the name in `names` is its number in the file, the key's name that of the column. */
function nameCondition(name: string, value: string | undefined, names: readonly string[]): Condition[] {
  if (value === undefined) return [];
  const number = names.indexOf(value);
  if (number < 0) throw new StoreQueryError(name, `${name} is "${value}", not one of ${names.join(", ")}.`);
  return [{ sql: `${name} = ?`, parameters: [number] }];
}

function checkNumber(name: string, value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max)
    throw new StoreQueryError(name, `${name}: ${value} is not a whole number from 0 to ${max}.`);
}

function checkSize(name: string, values: readonly unknown[]): void {
  if (values.length > valuesMax)
    throw new StoreQueryError(name, `${name} has ${values.length} values, at most ${valuesMax} are taken.`);
}
