// CSV that a spreadsheet cannot be tricked with, and that reads back as it was.

import { harmless } from "./terminal.ts";

// A spreadsheet takes a cell that begins so for a formula; a leading apostrophe makes it text. One that is there
// already gets another, so that the first can be taken off again.
const formula = /^[=+\-@\t\r']/;
// What looks like an escaped character and is none.
const falseEscape = /\\(?=u[0-9a-f]{4})/g;

function cell(value: string | number): string {
  if (typeof value === "number") return String(value);
  const text = harmless((formula.test(value) ? `'${value}` : value).replace(falseEscape, "\\u005c"));
  return /[",]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** RFC 4180, but for the line end: a bare line feed, which line tools and spreadsheets both read. */
export const csvLine = (values: readonly (string | number)[]): string => `${values.map(cell).join(",")}\n`;

// A cell without quotes, or one in quotes with each quote in it doubled; then a comma or the end.
const cellForm = /([^",]*|"(?:[^"]|"")*")(,|$)/gy;
const escapedForm = /\\u([0-9a-f]{4})/g;

/** What was written as text: without the apostrophe, with the characters that stand there escaped. */
const plainText = (text: string): string =>
  text
    .replace(/^'/, "")
    .replace(escapedForm, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)));

function quotedCells(line: string): readonly string[] | undefined {
  const cells: string[] = [];
  for (const [, cell = "", end] of line.matchAll(cellForm)) {
    cells.push(cell.startsWith('"') ? cell.slice(1, -1).replaceAll('""', '"') : cell);
    if (end === "") return cells;
  }
  return undefined;
}

/** The cells of a line that `csvLine` wrote, given without its end; undefined when it is no such line. */
export const readCsvLine = (line: string): readonly string[] | undefined =>
  (line.includes('"') ? quotedCells(line) : line.split(","))?.map(plainText);
