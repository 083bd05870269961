// The CSV of an export: the columns of `fovea flows -o csv`, and how they are read back.

import { parseProtocol } from "../api/parameters.ts";
import { readCsvLine } from "../cli/csv.ts";
import { csvHeader, csvRow, flagLetters } from "../cli/flow-rows.ts";
import type { FlowRecord } from "../flow.ts";
import { type ExportedFlow, type Put, type RowReader, type RowWriter, readRecord } from "./format.ts";
import { readLines } from "./lines.ts";

export function csvWriter(put: Put): RowWriter {
  let header = csvHeader();
  const rows = (flows: readonly ExportedFlow[]): Promise<void> => {
    const text = header + flows.map(csvRow).join("");
    header = "";
    return put(text);
  };
  return { rows, end: () => rows([]) };
}

// Each takes the text of a cell; what it cannot read stays text, which the check of the record then refuses.
type Read = (text: string) => unknown;

const whole: Read = (text) => (/^\d{1,16}$/.test(text) ? Number(text) : text);
const time: Read = (text) => {
  const at = Date.parse(text);
  return Number.isNaN(at) ? text : at;
};
const plain: Read = (text) => text;
const optional =
  (read: Read): Read =>
  (text) =>
    text === "" ? undefined : read(text);

const flags: Read = (text) => {
  const bits = [...text].map((letter) => (flagLetters as readonly string[]).indexOf(letter));
  return bits.includes(-1) ? text : bits.reduce((sum, bit) => sum | (1 << bit), 0);
};

const readers: Readonly<Record<string, Read>> = {
  startAt: time,
  endAt: time,
  protocol: (text) => parseProtocol(text) ?? text,
  tcpFlags: flags,
  ...Object.fromEntries(
    ["seq", "sourcePort", "destinationPort", "packets", "bytes"].map((name) => [name, whole]),
  ),
  ...Object.fromEntries(
    ["icmpType", "icmpCode", "rttUs", "retransmits"].map((name) => [name, optional(whole)]),
  ),
  ...Object.fromEntries(["dropReason", "dnsError", "node"].map((name) => [name, optional(plain)])),
};

type Field = { readonly name: string; readonly read: Read };

const fieldsOf = (header: string): readonly Field[] =>
  header.split(",").map((name) => ({ name, read: readers[name] ?? plain }));

function recordOf(line: string, fields: readonly Field[]): FlowRecord | string {
  const cells = readCsvLine(line);
  if (cells === undefined) return "a quote is missing";
  if (cells.length !== fields.length) return `it has ${cells.length} cells, not ${fields.length}`;
  const record: Record<string, unknown> = {};
  for (const [index, { name, read }] of fields.entries()) {
    const value = read(cells[index] ?? "");
    if (value !== undefined) record[name] = value;
  }
  return readRecord(record);
}

const withoutReturn = (line: string): string => (line.endsWith("\r") ? line.slice(0, -1) : line);

const header = (): string => csvHeader().trimEnd();

export const isCsv = (start: string): boolean => withoutReturn(start.split("\n")[0] ?? "") === header();

export function openCsv(path: string): RowReader {
  return {
    *batches() {
      const fields = fieldsOf(header());
      for (const { lines, first } of readLines(path))
        yield lines.flatMap((line, index) => {
          const number = first + index;
          if (number === 1) return [];
          const record = recordOf(withoutReturn(line), fields);
          if (typeof record === "string") throw new Error(`line ${number} is wrong: ${record}`);
          return record;
        });
    },
    [Symbol.dispose]: () => undefined,
  };
}
