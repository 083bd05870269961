// How `fovea flows` shows flows: columns of the table, cells of the CSV.

import { protocolNames } from "../flow.ts";
import type { Flow } from "./client.ts";
import { csvLine } from "./csv.ts";
import type { Column } from "./table.ts";
import type { Colour } from "./terminal.ts";

const protocolText = (protocol: number): string => protocolNames[protocol] ?? String(protocol);

// As tcpdump writes them.
export const flagLetters = ["F", "S", "R", "P", "A", "U", "E", "C"] as const;
const flagsText = (flags: number): string =>
  flagLetters.filter((_, bit) => (flags & (1 << bit)) !== 0).join("");

const two = (value: number): string => String(value).padStart(2, "0");

/** Wall clock of this machine, without the year. */
export function timeText(at: number): string {
  const date = new Date(at);
  const day = `${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return `${day} ${time}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

const hasPorts = ({ sourcePort, destinationPort }: Flow): boolean =>
  sourcePort !== 0 || destinationPort !== 0;

/** ICMP has a type and a code in place of ports: 8/0 is an echo request. */
const icmpText = ({ icmpType, icmpCode }: Flow): string =>
  icmpType === undefined ? "" : `${icmpType}/${icmpCode ?? 0}`;

/** What became of the packets, and of the question that was in them. */
function verdictText({ verdict, dropReason, dnsError }: Flow): string {
  const text = verdict === "dropped" ? (dropReason ?? "dropped") : verdict;
  return dnsError === undefined ? text : `${text} ${dnsError}`;
}

function verdictColour({ verdict, dnsError }: Flow): Colour | undefined {
  if (verdict === "dropped") return "red";
  return dnsError === undefined ? undefined : "yellow";
}

export const flowColumns: readonly Column<Flow>[] = [
  { title: "TIME", rank: 5, value: ({ endAt }) => timeText(endAt) },
  { title: "DIRECTION", rank: 6, value: ({ direction }) => direction },
  { title: "PROTO", rank: 3, value: ({ protocol }) => protocolText(protocol) },
  { title: "SOURCE", rank: 1, widthMin: 15, value: ({ source }) => source },
  { title: "SPORT", rank: 2, value: (flow) => (hasPorts(flow) ? flow.sourcePort : "") },
  { title: "DESTINATION", rank: 1, widthMin: 15, value: ({ destination }) => destination },
  { title: "DPORT", rank: 2, value: (flow) => (hasPorts(flow) ? flow.destinationPort : icmpText(flow)) },
  {
    title: "VERDICT",
    rank: 3,
    widthMin: 9,
    value: verdictText,
    colour: verdictColour,
  },
  { title: "PACKETS", rank: 4, value: ({ packets }) => packets },
  { title: "BYTES", rank: 4, value: ({ bytes }) => bytes },
  { title: "FLAGS", rank: 7, value: ({ tcpFlags }) => flagsText(tcpFlags) },
  { title: "RTT µs", rank: 8, value: ({ rttUs }) => rttUs ?? "" },
  { title: "RETRANSMITS", rank: 9, value: ({ retransmits }) => retransmits ?? "" },
  { title: "INTERFACE", rank: 10, widthMin: 9, value: (flow) => flow.interface },
  { title: "END", rank: 11, value: ({ evictReason }) => evictReason },
  { title: "NODE", rank: 12, value: ({ node }) => node ?? "" },
];

type Cell = readonly [name: string, value: (flow: Flow) => string | number];

// The names of the JSON; times as spreadsheets read them.
const cells: readonly Cell[] = [
  ["seq", ({ seq }) => seq],
  ["startAt", ({ startAt }) => new Date(startAt).toISOString()],
  ["endAt", ({ endAt }) => new Date(endAt).toISOString()],
  ["direction", ({ direction }) => direction],
  ["verdict", ({ verdict }) => verdict],
  ["dropReason", ({ dropReason }) => dropReason ?? ""],
  ["protocol", ({ protocol }) => protocolText(protocol)],
  ["source", ({ source }) => source],
  ["sourcePort", ({ sourcePort }) => sourcePort],
  ["destination", ({ destination }) => destination],
  ["destinationPort", ({ destinationPort }) => destinationPort],
  ["icmpType", ({ icmpType }) => icmpType ?? ""],
  ["icmpCode", ({ icmpCode }) => icmpCode ?? ""],
  ["packets", ({ packets }) => packets],
  ["bytes", ({ bytes }) => bytes],
  ["tcpFlags", ({ tcpFlags }) => flagsText(tcpFlags)],
  ["interface", (flow) => flow.interface],
  ["rttUs", ({ rttUs }) => rttUs ?? ""],
  ["retransmits", ({ retransmits }) => retransmits ?? ""],
  ["dnsError", ({ dnsError }) => dnsError ?? ""],
  ["evictReason", ({ evictReason }) => evictReason],
  ["node", ({ node }) => node ?? ""],
];

export const csvHeader = (): string => csvLine(cells.map(([name]) => name));
export const csvRow = (flow: Flow): string => csvLine(cells.map(([, value]) => value(flow)));
