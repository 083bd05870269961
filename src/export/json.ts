// The JSON of an export: one document, written in lines so that it streams, read back line by line.

import { harmlessJson } from "../cli/terminal.ts";
import type { FlowRecord } from "../flow.ts";
import { type ExportedFlow, type Put, type RowReader, type RowWriter, readRecord } from "./format.ts";
import { readLines } from "./lines.ts";
import { type Head, issueText, readHead, type Totals, totalsSchema } from "./manifest.ts";

// The first line, and the beginning of the last; each line between is one flow, with a comma behind all but the last.
const headStart = '{"fovea": ';
const headEnd = ', "flows": [';
const tailStart = "], ";

export function jsonWriter(head: Head, put: Put): RowWriter {
  let before = `${headStart}${harmlessJson(head)}${headEnd}\n`;
  let ending = "";
  return {
    rows: async (flows: readonly ExportedFlow[]) => {
      if (flows.length === 0) return;
      await put(before + flows.map((flow) => harmlessJson(flow)).join(",\n"));
      before = ",\n";
      ending = "\n";
    },
    end: (totals: Totals) => {
      const start = ending === "" ? before : ending;
      return put(`${start}${tailStart}${harmlessJson(totals).slice(1)}\n`);
    },
  };
}

export const isJson = (start: string): boolean => start.startsWith(headStart);

function parsed(text: string, line: number): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`line ${line} is no JSON`);
  }
}

function headOf(line: string): Head {
  if (!line.startsWith(headStart) || !line.endsWith(headEnd))
    throw new Error("line 1 is not the beginning of an export");
  return readHead(parsed(line.slice(headStart.length, -headEnd.length), 1));
}

function totalsOf(line: string, number: number): Totals {
  const { data, error } = totalsSchema.safeParse(parsed(`{${line.slice(tailStart.length)}`, number));
  if (error !== undefined) throw new Error(`line ${number} is wrong: ${issueText(error)}`);
  return data;
}

/** Reads the lines between the first and the last one, and checks that they are all there. */
function createRecords() {
  let rows = 0;
  let open = true; // A further flow may follow: there is none before, or a comma.
  let totals: Totals | undefined;
  const record = (text: string, number: number): FlowRecord => {
    if (!open) throw new Error(`line ${number - 1} has no comma at its end`);
    open = text.endsWith(",");
    const read = readRecord(parsed(open ? text.slice(0, -1) : text, number));
    if (typeof read === "string") throw new Error(`line ${number} is wrong: ${read}`);
    rows++;
    return read;
  };
  return {
    /** Undefined for the last line. */
    read(text: string, number: number): FlowRecord | undefined {
      if (totals !== undefined) throw new Error(`line ${number} stands behind the end of the export`);
      if (!text.startsWith(tailStart)) return record(text, number);
      totals = totalsOf(text, number);
      if (open && rows > 0) throw new Error(`line ${number - 1} has a comma and no flow follows it`);
      return undefined;
    },
    end(): void {
      if (totals === undefined) throw new Error("its last line is missing: the file was cut off");
      if (totals.rows !== rows) throw new Error(`it holds ${rows} rows and says that it has ${totals.rows}`);
    },
  };
}

export function openJson(path: string): RowReader {
  const [start] = readLines(path);
  const head = headOf(start?.lines[0] ?? "");
  return {
    head,
    *batches() {
      const records = createRecords();
      for (const { lines, first } of readLines(path)) {
        const texts = first === 1 ? lines.slice(1) : lines;
        const from = Math.max(first, 2);
        yield texts.flatMap((text, index) => records.read(text, from + index) ?? []);
      }
      records.end();
    },
    [Symbol.dispose]: () => undefined,
  };
}
