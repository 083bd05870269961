// What history does not have, in one sentence.

import { timeText } from "./flow-rows.ts";

export type Counts = Readonly<Record<string, number>>;

// Families of the ledger and their words, in the order in which they are told.
const families: readonly (readonly [family: string, word: string])[] = [
  ["rows.throttled", "throttled"],
  ["rows.lost", "lost"],
  ["rows.invalid", "invalid"],
  ["rows.filtered", "filtered"],
  ["rows.evicted", "evicted"],
  ["packets.untracked", "in no flow"],
];

const digits = new Intl.NumberFormat("en-US");
export const counted = (count: number): string => digits.format(count);

/** Packets without addresses, such as ARP, are no flows, and missing in none. */
const isMissing = (name: string, family: string): boolean =>
  (name === family || name.startsWith(`${family}.`)) && !/^packets\..*not_ip$/.test(name);

function sumsOf(lost: Counts): readonly (readonly [family: string, word: string, count: number])[] {
  const entries = Object.entries(lost);
  return families.flatMap(([family, word]) => {
    const count = entries.reduce((sum, [name, value]) => sum + (isMissing(name, family) ? value : 0), 0);
    return count === 0 ? [] : [[family, word, count] as const];
  });
}

/** As in "1,204 rows of this time were throttled, 20 evicted"; undefined when nothing is missing. */
export function missingText(lost: Counts, ofWhat = ""): string | undefined {
  const sums = sumsOf(lost);
  const [first, ...rows] = sums.filter(([family]) => family.startsWith("rows."));
  const packets = sums.filter(([family]) => family.startsWith("packets."));
  const told = [
    ...(first === undefined ? [] : [`${counted(first[2])} ${rowsWere(first[2], ofWhat)} ${first[1]}`]),
    ...rows.map(([, word, count]) => `${counted(count)} ${word}`),
    ...packets.map(
      ([, word, count]) =>
        `${counted(count)} ${packetsAre(count, first === undefined ? ofWhat : "")} ${word}`,
    ),
  ];
  return told.length === 0 ? undefined : told.join(", ");
}

const rowsWere = (count: number, ofWhat: string): string =>
  count === 1 ? `row${ofWhat} was` : `rows${ofWhat} were`;

const packetsAre = (count: number, ofWhat: string): string =>
  count === 1 ? `packet${ofWhat} is` : `packets${ofWhat} are`;

/** What is missing of the time that was asked for; empty when nothing is. */
export function missingOf({
  lost,
  lostSince,
}: {
  readonly lost: Counts;
  readonly lostSince?: number | undefined;
}): readonly string[] {
  const text = missingText(lost, " of this time");
  if (text === undefined) return [];
  const since = lostSince === undefined ? "" : `, counted from ${timeText(lostSince)} on`;
  // What was counted in the rollups, whatever became of the row.
  const inTotals = Object.keys(lost).some((name) => name.startsWith("rows."));
  return [`${text}${since}${inTotals ? ": fovea top has the totals" : ""}`];
}
