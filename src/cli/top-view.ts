// How `fovea top` shows an answer: rates of the ranks and of the rest, their share, and what is in them.

import type { z } from "zod";
import type { topSchema } from "../api/schemas.ts";
import { protocolNames } from "../flow.ts";
import { timeText } from "./flow-rows.ts";
import { bar, quantity } from "./quantity.ts";
import { type Column, createTable, type Terminal } from "./table.ts";
import { coloured, cutTo } from "./terminal.ts";

export type Top = z.output<typeof topSchema>;
export type TopBy = Top["by"];
export type TopOrder = Top["order"];

type Sums = Top["total"];
export type TopRow = Sums & {
  readonly key: string;
  /** Of the total, 0 to 1. */
  readonly share: number;
  readonly seconds: number;
};

const titles: Readonly<Record<TopBy, string>> = {
  address: "ADDRESS",
  source: "SOURCE",
  destination: "DESTINATION",
  pair: "SOURCE AND DESTINATION",
  port: "PORT",
  protocol: "PROTOCOL",
  reason: "DROP REASON",
  verdict: "VERDICT",
  direction: "DIRECTION",
};

const barWidth = 16;

/** When it is shown, and since when that appliance runs. */
export type Moment = { readonly now: number; readonly startedAt: number };

/** What was summed up: the minute that goes on as far as it has gone, the first one of all from the start on. */
export function rangeOf({ fromAt, toAt }: Top, { now, startedAt }: Moment) {
  const start = startedAt > fromAt && startedAt < fromAt + 60_000 ? startedAt : fromAt;
  const end = Math.min(toAt, Math.max(now, start));
  return { start, end, seconds: Math.max(1, (end - start) / 1000) };
}

const nameOf = (by: TopBy, key: string): string => {
  if (by === "protocol") return protocolNames[Number(key)] ?? key;
  if (by === "port" && key === "0") return "none, or a client's";
  return key === "" ? "none" : key;
};

const isNothing = ({ records, packets, bytes }: Sums): boolean => records + packets + bytes === 0;

/** The ranks, and below them the rest. By address each record counts at both its ends, so shares are of twice the total. */
export function topRows(top: Top, moment: Moment): readonly TopRow[] {
  const { by, order, ranks, other } = top;
  const { seconds } = rangeOf(top, moment);
  const all = [...ranks, { ...other, key: "other" }].reduce((sum, row) => sum + row[order], 0);
  const share = (row: Sums) => (all === 0 ? 0 : row[order] / all);
  return [
    ...ranks.map((rank) => ({ ...rank, key: nameOf(by, rank.key), share: share(rank), seconds })),
    ...(isNothing(other) ? [] : [{ ...other, key: "other", share: share(other), seconds }]),
  ];
}

const columnsOf = (by: TopBy): readonly Column<TopRow>[] => [
  { title: titles[by], rank: 1, widthMin: 15, value: ({ key }) => key },
  { title: "BYTES/s", rank: 2, right: true, value: ({ bytes, seconds }) => quantity(bytes / seconds, "B") },
  { title: "PACKETS/s", rank: 3, right: true, value: ({ packets, seconds }) => quantity(packets / seconds) },
  { title: "BYTES", rank: 5, right: true, value: ({ bytes }) => quantity(bytes, "B") },
  { title: "PACKETS", rank: 6, right: true, value: ({ packets }) => quantity(packets) },
  { title: "RECORDS", rank: 7, right: true, value: ({ records }) => quantity(records) },
  { title: "SHARE", rank: 2, right: true, value: ({ share }) => `${(share * 100).toFixed(1)} %` },
  { title: "", rank: 4, value: ({ share }) => bar(share, barWidth), colour: () => "green" },
];

const dayMs = 86_400_000;

/** As in "1.24 MB/s, 850 packets/s, by address, most bytes first, 11:55:00 to 12:00:04". */
export function topTitle(top: Top, moment: Moment): string {
  const { start, end, seconds } = rangeOf(top, moment);
  const { total, by, order, complete } = top;
  // "11-21 12:00:04.000": the day only where it helps, and no milliseconds.
  const time = (at: number) => timeText(at).slice(end - start < dayMs ? 6 : 0, -4);
  const rates = `${quantity(total.bytes / seconds, "B")}/s, ${quantity(total.packets / seconds)} packets/s`;
  const sure = complete ? "" : "; too many to tell all apart, others may belong here";
  return `${rates}, by ${by}, most ${order} first, ${time(start)} to ${time(end)}${sure}`;
}

export function topLines(top: Top, moment: Moment, terminal: Terminal): readonly string[] {
  const rows = topRows(top, moment);
  if (rows.length === 0) return ["nothing was seen in that time"];
  return createTable(columnsOf(top.by), terminal).lines(rows);
}

export const views: readonly (readonly [key: string, by: TopBy, word: string])[] = [
  ["t", "address", "talkers"],
  ["s", "source", "sources"],
  ["d", "destination", "destinations"],
  ["c", "pair", "conversations"],
  ["p", "port", "ports"],
  ["o", "protocol", "protocols"],
  ["r", "reason", "drop reasons"],
  ["v", "verdict", "verdicts"],
];
export const orderKeys: readonly (readonly [key: string, order: TopOrder, word: string])[] = [
  ["b", "bytes", "bytes"],
  ["k", "packets", "packets"],
  ["n", "records", "records"],
];

/** The keys with what they do, on as many lines as that takes; those in force stand out. */
function keyLines({ by, order }: Pick<Top, "by" | "order">, { columns, colours }: Wide): readonly string[] {
  const chosen: readonly string[] = [by, order];
  const keys = [["q", "", "quit"] as const, ...views, ...orderKeys];
  const lines: string[][] = [];
  let width = columns;
  for (const [key, value, word] of keys) {
    const text = `${key} ${word}`;
    if (width + 2 + text.length > columns) {
      lines.push([]);
      width = -2;
    }
    width += 2 + text.length;
    lines.at(-1)?.push(coloured(text, chosen.includes(value) ? "bold" : "grey", colours));
  }
  return lines.map((words) => words.join("  "));
}

type Wide = Terminal & { readonly columns: number };

/** Ranks that a screen has room for, beside title, titles of the table, `other`, keys, and distance between them. */
export const ranksOf = (size: { readonly columns: number; readonly rows: number }): number =>
  Math.max(
    1,
    size.rows - 5 - keyLines({ by: "address", order: "bytes" }, { ...size, colours: false }).length,
  );

/** The whole screen; a problem takes the place of the title. */
export function topScreen(top: Top, moment: Moment, terminal: Wide, problem?: string): readonly string[] {
  const { columns, colours } = terminal;
  const title = problem ?? topTitle(top, moment);
  return [
    coloured(cutTo(title, columns), problem === undefined ? "bold" : "red", colours),
    "",
    ...topLines(top, moment, terminal),
    "",
    ...keyLines(top, terminal),
  ];
}
