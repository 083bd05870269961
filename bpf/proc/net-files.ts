// Parsers of the counter files under /proc/net: text in, numbers by the kernel's own names out.

import type { InterfaceCounters, Statistics } from "../../src/snapshot.ts";

/** Statistics by the prefix that the kernel puts before the colon (Tcp, TcpExt, UDP6). */
export type Sections = Readonly<Record<string, Statistics | undefined>>;

/**
 * Undefined for what is not a count. Past 2^53 the nearest double, which is what Prometheus keeps too: octets of a fast
 * link get there within days, and a rate over them is as good as before.
 */
function readCount(text: string | undefined): number | undefined {
  return text !== undefined && /^-?\d{1,20}$/.test(text) ? Number(text) : undefined;
}

const countError = (text: string | undefined, what: string): Error =>
  new Error(`${what} is "${text ?? ""}", not a count`);

/** Values by name; the two lists are of one length. */
function zipCounts(
  names: readonly string[],
  values: readonly string[],
  where: string,
): Record<string, number> {
  const counts: Record<string, number> = {};
  names.forEach((name, index) => {
    const value = readCount(values[index]);
    if (value === undefined) throw countError(values[index], `${where} ${name}`);
    counts[name] = value;
  });
  return counts;
}

// The kernel ends each of these files with a newline: without one the read was cut, perhaps inside a number.
function linesOf(text: string, file: string): string[] {
  if (!text.endsWith("\n")) throw new Error(`${file} is cut short after ${text.length} characters`);
  return text.slice(0, -1).split("\n");
}

const words = (text: string): string[] => text.trim().split(/\s+/);

function splitPrefix(line: string, file: string): { prefix: string; rest: string[] } {
  const colon = line.indexOf(":");
  if (colon < 1) throw new Error(`${file}: no section name in "${line.slice(0, 60)}"`);
  const rest = line.slice(colon + 1).trim();
  return { prefix: line.slice(0, colon), rest: rest === "" ? [] : rest.split(/\s+/) };
}

/**
 * snmp and netstat: a line of names, then a line of values, both with the section's prefix. IcmpMsg repeats the pair
 * for every 16 ICMP types, so sections of one name are joined.
 */
export function parsePairedLines(text: string, file: string): Sections {
  const sections: Record<string, Statistics> = {};
  const lines = linesOf(text, file);
  for (let at = 0; at < lines.length; at += 2) {
    const { prefix, rest: names } = splitPrefix(lines[at] ?? "", file);
    const { prefix: again, rest: values } = splitPrefix(lines[at + 1] ?? "", file);
    if (again !== prefix || values.length !== names.length)
      throw new Error(
        `${file}: ${names.length} names of ${prefix}, then ${values.length} values of ${again}`,
      );
    sections[prefix] = { ...sections[prefix], ...zipCounts(names, values, `${file} ${prefix}`) };
  }
  return sections;
}

/** snmp6: one name and one value a line. */
export function parseNamedValues(text: string, file: string): Statistics {
  const names: string[] = [];
  const values: string[] = [];
  for (const line of linesOf(text, file)) {
    const [name = "", value = "", ...more] = words(line);
    if (more.length > 0) throw new Error(`${file}: ${more.length + 1} values of ${name}, not one`);
    names.push(name);
    values.push(value);
  }
  return zipCounts(names, values, file);
}

/** sockstat and sockstat6: a prefix, then names and values in turn on the same line. */
export function parseSocketUse(text: string, file: string): Sections {
  const sections: Record<string, Statistics> = {};
  for (const line of linesOf(text, file)) {
    const { prefix, rest } = splitPrefix(line, file);
    const names = rest.filter((_, index) => index % 2 === 0);
    const values = rest.filter((_, index) => index % 2 === 1);
    sections[prefix] = zipCounts(names, values, `${file} ${prefix}`);
  }
  return sections;
}

// The names of struct rtnl_link_stats64 for the kernel's column headings; a heading not among them keeps its own.
const deviceStatistics: Readonly<Record<string, string>> = {
  rx_bytes: "rx_bytes",
  rx_packets: "rx_packets",
  rx_errs: "rx_errors",
  rx_drop: "rx_dropped",
  rx_fifo: "rx_fifo_errors",
  rx_frame: "rx_frame_errors",
  rx_compressed: "rx_compressed",
  rx_multicast: "multicast",
  tx_bytes: "tx_bytes",
  tx_packets: "tx_packets",
  tx_errs: "tx_errors",
  tx_drop: "tx_dropped",
  tx_fifo: "tx_fifo_errors",
  tx_colls: "collisions",
  tx_carrier: "tx_carrier_errors",
  tx_compressed: "tx_compressed",
};

export const deviceStatisticNames: readonly string[] = Object.values(deviceStatistics);

function deviceColumns(heading: string | undefined, file: string): string[] {
  const [, receive, transmit, ...more] = (heading ?? "").split("|");
  if (receive === undefined || transmit === undefined || more.length > 0)
    throw new Error(`${file}: "${heading ?? ""}" is not the heading of a device table`);
  const named = (side: string, prefix: string) => words(side).map((column) => `${prefix}_${column}`);
  const columns = [...named(receive, "rx"), ...named(transmit, "tx")];
  return columns.map((column) => deviceStatistics[column] ?? column);
}

/** dev: two lines of heading, then one line an interface. */
export function parseDevices(text: string, file: string): InterfaceCounters[] {
  const [, heading, ...rows] = linesOf(text, file);
  const columns = deviceColumns(heading, file);
  return rows.map((row) => {
    const colon = row.lastIndexOf(":");
    const name = row.slice(0, Math.max(colon, 0)).trim();
    const values = words(row.slice(colon + 1));
    if (name === "" || values.length !== columns.length)
      throw new Error(
        `${file}: ${values.length} values in "${row.trim().slice(0, 60)}", not ${columns.length}`,
      );
    return { interface: name, statistics: zipCounts(columns, values, `${file} ${name}`) };
  });
}
