// What was dropped most: by reason, by the far address, by destination port.

import { formatAddress, type StoredAddress } from "./address.ts";
import { StoreQueryError } from "./failure.ts";
import { checkTimes } from "./filter.ts";
import type { Reader } from "./query.ts";
import type { Span } from "./spans.ts";

export type DropKey = "reason" | "address" | "port";

export type DropQuery = {
  /** Epoch milliseconds of the last packet, from inclusive, to exclusive. */
  readonly fromAt?: number;
  readonly toAt?: number;
  readonly by: DropKey;
  /** Default 10, at most 1,000. */
  readonly limit?: number;
};

export type DropRank = {
  /** The reason's name, the address or the port as text. */
  readonly key: string;
  readonly rows: number;
  readonly packets: number;
  readonly bytes: number;
};

export type DropRanking = {
  /** Most packets first. */
  readonly drops: readonly DropRank[];
  readonly scanned: number;
  /** False when the time range holds more rows than one call looks at: then these are its newest. */
  readonly complete: boolean;
};

const dropLimitMax = 1000;

// The far end is the source of what comes in and the destination of what goes out.
const keyColumns: Readonly<Record<DropKey, string>> = {
  reason: "drop_reason",
  address: "CASE direction WHEN 0 THEN source ELSE destination END",
  port: "destination_port",
};

type RankRow = readonly [key: StoredAddress | null, rows: number, packets: number, bytes: number];

export function topDrops(reader: Reader, { fromAt, toAt, by, limit = 10 }: DropQuery): DropRanking {
  checkTimes({ ...(fromAt === undefined ? {} : { fromAt }), ...(toAt === undefined ? {} : { toAt }) });
  if (!Object.hasOwn(keyColumns, by))
    throw new StoreQueryError("by", `by is "${String(by)}", not reason, address or port.`);
  if (!Number.isInteger(limit) || limit < 1 || limit > dropLimitMax)
    throw new StoreQueryError("limit", `limit: ${limit} is not a whole number from 1 to ${dropLimitMax}.`);
  const ranks = new Map<string, DropRank>();
  const endMs = performance.now() + reader.deadlineMs;
  let scanned = 0;
  let rest: Span | undefined = reader.held();
  do {
    const { scanMax } = reader;
    const slice = reader.spans({
      within: rest,
      order: "newest",
      fromAt,
      toAt,
      dropped: true,
      rowsMax: scanMax,
    });
    for (const span of slice.spans) addSpan(ranks, reader, { span, by, fromAt, toAt });
    scanned += slice.rows;
    rest = slice.rest;
  } while (rest !== undefined && performance.now() < endMs);
  const drops = [...ranks.values()]
    .toSorted((a, b) => b.packets - a.packets || b.rows - a.rows || (a.key < b.key ? -1 : 1))
    .slice(0, limit);
  return { drops, scanned, complete: rest === undefined };
}

function addSpan(
  ranks: Map<string, DropRank>,
  reader: Reader,
  {
    span,
    by,
    fromAt = Number.MIN_SAFE_INTEGER,
    toAt = Number.MAX_SAFE_INTEGER,
  }: {
    readonly span: Span;
    readonly by: DropKey;
    readonly fromAt?: number | undefined;
    readonly toAt?: number | undefined;
  },
): void {
  const statement = reader.prepare(
    `SELECT ${keyColumns[by]}, count(*), total(packets), total(bytes) FROM flows
     WHERE seq BETWEEN ? AND ? AND end_at >= ? AND end_at < ? AND verdict = 1 GROUP BY 1`,
  );
  for (const row of statement.all(span.first, span.last, fromAt, toAt) as RankRow[]) {
    const [value, rows, packets, bytes] = row;
    const key = keyText(value, by, reader);
    const known = ranks.get(key) ?? { key, rows: 0, packets: 0, bytes: 0 };
    ranks.set(key, {
      key,
      rows: known.rows + rows,
      packets: known.packets + packets,
      bytes: known.bytes + bytes,
    });
  }
}

function keyText(value: StoredAddress | null, by: DropKey, { strings }: Reader): string {
  if (by === "address" && value !== null) return formatAddress(value);
  if (by === "reason") return typeof value === "number" ? strings.text(value) : "";
  return String(value);
}
