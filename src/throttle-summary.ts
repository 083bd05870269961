// What a throttled interval leaves behind: how much was not kept, by verdict, direction and protocol.

import type { Direction, Verdict } from "./flow.ts";

type Counts = { readonly rows: number; readonly packets: number; readonly bytes: number };

export type ThrottleGroup = Counts & {
  readonly verdict: Verdict;
  readonly direction: Direction;
  /** IANA protocol number; `otherProtocol` stands for all that did not fit. */
  readonly protocol: number;
};

export type ThrottleSummary = Counts & {
  /** The interval, epoch milliseconds by the wall clock as it stood when the interval was first used. */
  readonly startAt: number;
  readonly endAt: number;
  readonly by: readonly ThrottleGroup[];
};

/** Distinct protocols that one summary tells apart. */
export const protocolsMax = 16;
/** IANA keeps 255 reserved: no packet has it. */
export const otherProtocol = 255;
/** Summaries that wait to be taken. */
const summariesMax = 1024;

const verdicts: readonly Verdict[] = ["forwarded", "dropped"];
const directions: readonly Direction[] = ["ingress", "egress"];
const cellsOfProtocol = verdicts.length * directions.length;

export type Tally = {
  /** `record` gives the group and its packets and bytes; it stands for so many rows. */
  add(record: Omit<ThrottleGroup, "rows">, rowCount: number): void;
  /** All that was added since the last call; undefined when there was nothing. */
  take(): (Counts & { readonly by: readonly ThrottleGroup[] }) | undefined;
};

/** A record that is thrown away was never checked: what is no count of it must not spoil a sum, which no file takes. */
const countOf = (value: number): number => (Number.isInteger(value) && value > 0 ? value : 0);

/** Adds up without making garbage: this runs once a throttled row. */
export function createTally(): Tally {
  // Protocols in the order in which they came, the one for all others last.
  const protocols: number[] = [];
  const places = new Int8Array(256).fill(-1);
  const cells = (protocolsMax + 1) * cellsOfProtocol;
  const rows = new Float64Array(cells);
  const packets = new Float64Array(cells);
  const bytes = new Float64Array(cells);
  let added = 0;

  const placeOf = (protocol: number): number => {
    const known = places[protocol] ?? protocolsMax;
    if (known >= 0) return known;
    if (protocols.length === protocolsMax || protocol === otherProtocol) return protocolsMax;
    places[protocol] = protocols.push(protocol) - 1;
    return protocols.length - 1;
  };

  const groupOf = (cell: number): ThrottleGroup => ({
    verdict: verdicts[(cell >> 1) & 1] ?? "forwarded",
    direction: directions[cell & 1] ?? "ingress",
    protocol: protocols[Math.floor(cell / cellsOfProtocol)] ?? otherProtocol,
    rows: rows[cell] ?? 0,
    packets: packets[cell] ?? 0,
    bytes: bytes[cell] ?? 0,
  });

  const clear = () => {
    protocols.length = 0;
    places.fill(-1);
    for (const counts of [rows, packets, bytes]) counts.fill(0);
    added = 0;
  };

  return {
    add(record, rowCount) {
      const cell =
        placeOf(record.protocol) * cellsOfProtocol +
        (record.verdict === "dropped" ? 2 : 0) +
        (record.direction === "egress" ? 1 : 0);
      rows[cell] = (rows[cell] ?? 0) + rowCount;
      packets[cell] = (packets[cell] ?? 0) + countOf(record.packets);
      bytes[cell] = (bytes[cell] ?? 0) + countOf(record.bytes);
      added += rowCount;
    },
    take() {
      if (added === 0) return undefined;
      const by = Array.from(rows.keys(), groupOf).filter((group) => group.rows > 0);
      const sum = (key: keyof Counts) => by.reduce((total, group) => total + group[key], 0);
      const taken = { rows: added, packets: sum("packets"), bytes: sum("bytes"), by };
      clear();
      return taken;
    },
  };
}

function merged(a: ThrottleSummary, b: ThrottleSummary): ThrottleSummary {
  const tally = createTally();
  for (const group of [...a.by, ...b.by]) tally.add(group, group.rows);
  const sums = tally.take() ?? { rows: 0, packets: 0, bytes: 0, by: [] };
  // The wall clock may have gone back between the two.
  return { startAt: Math.min(a.startAt, b.startAt), endAt: Math.max(a.endAt, b.endAt), ...sums };
}

export type Summaries = {
  add(summary: ThrottleSummary): void;
  /** Oldest first; each is given once. */
  take(): readonly ThrottleSummary[];
};

/** Beyond `max` the oldest two become one that covers both: times get coarser, no count is lost. */
export function createSummaries({ max = summariesMax } = {}): Summaries {
  let waiting: ThrottleSummary[] = [];
  return {
    add(summary) {
      waiting.push(summary);
      const [first, second] = waiting;
      if (waiting.length > max && first !== undefined && second !== undefined)
        waiting.splice(0, 2, merged(first, second));
    },
    take() {
      const taken = waiting;
      waiting = [];
      return taken;
    },
  };
}
