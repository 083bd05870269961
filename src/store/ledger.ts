// The ledger: what became of every packet and every row, and the laws that its counts obey.

import { type MinuteCount, minuteOf } from "./minutes.ts";

/** Why a count of one of these families grew is the last part of the name: `rows.lost.disk_full`. */
export const reasonFamilies = [
  "packets.untracked",
  "rows.filtered",
  "rows.throttled",
  "rows.invalid",
  "rows.lost",
  "rows.evicted",
] as const;
export type ReasonFamily = (typeof reasonFamilies)[number];

/**
 * `packets.duplicate` are those of the aggregated that were seen on more than one interface. `rows.offered` is what
 * the platform handed over, before filter and throttle.
 */
const plainNames = [
  "packets.seen",
  "packets.aggregated",
  "packets.duplicate",
  "rows.offered",
  "rows.kept",
] as const;

export type LedgerName = (typeof plainNames)[number] | `${ReasonFamily}.${string}`;

/** What was counted since the last append. */
export type LedgerDeltas = Readonly<Partial<Record<LedgerName, number>>>;

/** Since the store was first made; only names that were ever counted. */
export type LedgerTotals = Readonly<Record<string, number>>;

/** Reasons of one family; any further one counts as `other`, so that the laws still hold. */
export const reasonsMax = 64;
const reasonLengthMax = 64;

export type LedgerEntries = {
  /** Totals of the names that changed. */
  readonly totals: readonly (readonly [name: string, value: number])[];
  /** To be added to what the minutes have. */
  readonly minutes: readonly MinuteCount[];
};

export type Ledger = {
  /** Counts what is so whether or not the next write succeeds. Without `at` the ledger by minute does not tell of it. */
  add(deltas: LedgerDeltas, at?: number): void;
  /** Tells the ledger by minute what the totals have already. */
  addMinutes(counts: readonly MinuteCount[]): void;
  /** What a write at `at` must leave in the file, with what it adds itself. */
  entriesWith(deltas: LedgerDeltas, at: number): LedgerEntries;
  /** The write of `entriesWith(deltas, at)` was committed. */
  settle(deltas: LedgerDeltas): void;
  totals(): LedgerTotals;
  /** Whether something was counted that is in no file. */
  readonly pending: boolean;
  /** Goes on in another file, which holds `stored`. Returns all that was counted so far, to be added there. */
  moveTo(stored: LedgerTotals): LedgerDeltas;
  /** Counts that were no count or had no known name, since the start: a mistake of the caller. */
  readonly refused: number;
};

/** `minutesMax`: counts of minutes that wait for a disk. */
export function createLedger(stored: LedgerTotals, { minutesMax = pendingMinutesMax } = {}): Ledger {
  let settled = new Map<string, number>(Object.entries(stored));
  const pending = new Map<string, number>();
  const minutes = createPendingMinutes(Math.min(minutesMax, pendingMinutesMax));
  let refused = 0;

  const boundedName = (name: string): string | undefined => {
    if ((plainNames as readonly string[]).includes(name)) return name;
    const family = reasonFamilies.find((prefix) => name.startsWith(`${prefix}.`));
    if (family === undefined) return undefined;
    if (settled.has(name) || pending.has(name)) return name;
    const reason = name.slice(family.length + 1);
    const known = [...settled.keys(), ...pending.keys()].filter((other) => other.startsWith(`${family}.`));
    const fits = reason !== "" && reason.length <= reasonLengthMax && new Set(known).size < reasonsMax - 1;
    return fits ? name : `${family}.other`;
  };

  const checked = function* (deltas: LedgerDeltas): Iterable<readonly [name: string, delta: number]> {
    for (const [written, delta] of Object.entries(deltas)) {
      if (delta === undefined || delta === 0) continue;
      const name = Number.isSafeInteger(delta) && delta > 0 ? boundedName(written) : undefined;
      if (name === undefined) refused++;
      else yield [name, delta];
    }
  };

  const withDeltas = (deltas: LedgerDeltas): Map<string, number> => {
    const counts = new Map(pending);
    for (const [name, delta] of checked(deltas)) increase(counts, name, delta);
    return counts;
  };

  const withSettled = (name: string, count: number): number => (settled.get(name) ?? 0) + count;

  return {
    add(deltas, at) {
      for (const [name, delta] of checked(deltas)) {
        increase(pending, name, delta);
        if (at !== undefined) minutes.add({ at: minuteOf(at), name, value: delta });
      }
    },
    addMinutes(counts) {
      for (const count of counts) minutes.add(count);
    },
    entriesWith(deltas, at) {
      const own = [...checked(deltas)].map(([name, value]) => ({ at: minuteOf(at), name, value }));
      return {
        totals: [...withDeltas(deltas)].map(([name, count]) => [name, withSettled(name, count)]),
        minutes: [...minutes.all(), ...own],
      };
    },
    settle(deltas) {
      for (const [name, count] of withDeltas(deltas)) settled.set(name, withSettled(name, count));
      pending.clear();
      minutes.clear();
    },
    totals() {
      const totals = new Map(settled);
      for (const [name, count] of pending) totals.set(name, withSettled(name, count));
      return Object.fromEntries([...totals].toSorted(([a], [b]) => (a < b ? -1 : 1)));
    },
    get pending() {
      return pending.size > 0;
    },
    moveTo(next) {
      const counted = new Map(settled);
      for (const [name, count] of pending) counted.set(name, withSettled(name, count));
      pending.clear();
      settled = new Map(Object.entries(next));
      return Object.fromEntries(counted);
    },
    get refused() {
      return refused;
    },
  };
}

function increase(counts: Map<string, number>, name: string, delta: number): void {
  counts.set(name, (counts.get(name) ?? 0) + delta);
}

/** Minutes that wait for a disk: more than a day of the names that are usually counted. */
const pendingMinutesMax = 16_384;

/** When full, what comes goes to the newest minute that the name has: no count is lost, only its time. */
function createPendingMinutes(countsMax: number) {
  const counts = new Map<string, { readonly at: number; readonly name: string; value: number }>();
  const newest = new Map<string, { value: number }>();
  return {
    add({ at, name, value }: MinuteCount): void {
      const key = `${at} ${name}`;
      const known = counts.get(key) ?? (counts.size >= countsMax ? newest.get(name) : undefined);
      if (known !== undefined) {
        known.value += value;
        return;
      }
      const count = { at, name, value };
      counts.set(key, count);
      newest.set(name, count);
    },
    all: (): readonly MinuteCount[] => [...counts.values()],
    clear(): void {
      counts.clear();
      newest.clear();
    },
  };
}

/** The sum of a family over its reasons, or the count of a plain name; 0 when it was never counted. */
export function totalOf(totals: LedgerTotals, name: (typeof plainNames)[number] | ReasonFamily): number {
  const prefix = `${name}.`;
  let sum = totals[name] ?? 0;
  for (const [other, count] of Object.entries(totals)) if (other.startsWith(prefix)) sum += count;
  return sum;
}

/** One law with both sides as they stand. */
export type LedgerLaw = {
  readonly law: string;
  readonly left: number;
  readonly right: number;
  readonly holds: boolean;
};

/** The laws of the ledger; with `storedRows` also that of the rows in the store. */
export function checkLaws(totals: LedgerTotals, storedRows?: number): readonly LedgerLaw[] {
  const sum = (...names: readonly Parameters<typeof totalOf>[1][]): number =>
    names.reduce((total, name) => total + totalOf(totals, name), 0);
  const law = (text: string, left: number, right: number): LedgerLaw => ({
    law: text,
    left,
    right,
    holds: left === right,
  });
  return [
    law(
      "packets: seen = aggregated + untracked",
      sum("packets.seen"),
      sum("packets.aggregated", "packets.untracked"),
    ),
    law(
      "rows: offered = kept + filtered + throttled + invalid + lost",
      sum("rows.offered"),
      sum("rows.kept", "rows.filtered", "rows.throttled", "rows.invalid", "rows.lost"),
    ),
    ...(storedRows === undefined
      ? []
      : [law("rows: kept = stored + evicted", sum("rows.kept"), storedRows + sum("rows.evicted"))]),
  ];
}

/** What became of the records that were there for a sink. */
export type SinkAccount = {
  readonly sink: string;
  readonly signal: string;
  readonly offered: number;
  readonly counts: Readonly<Record<string, number>>;
  readonly pending: number;
};

/** The law of one sink: each record that was offered to it is counted once. */
export function sinkLaw({ sink, signal, offered, counts, pending }: SinkAccount): LedgerLaw {
  const right = Object.values(counts).reduce((sum, count) => sum + count, pending);
  const ends = "sent + filtered + rejected + expired + diverted + discarded + evicted + pending";
  return {
    law: `sink ${sink}, ${signal}: offered = ${ends}`,
    left: offered,
    right,
    holds: offered === right,
  };
}
