// The table: a line a figure, its budget beside it, what else there is to know of it below.

import type { BenchRow } from "./row.ts";

const NAME_WIDTH = 62;
const VALUE_WIDTH = 18;
const BUDGET_WIDTH = 22;

/** Digits after the point, by unit; the rest has one. */
const digitsOf: Readonly<Record<string, number>> = { times: 3, "%": 3, "rows/s": 0 };

function figure(value: number, unit: string): string {
  const digits = digitsOf[unit] ?? 1;
  const text = value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return `${text} ${unit}`;
}

function budgetText({ budget, unit }: BenchRow): string {
  if (budget?.max !== undefined && budget.max === budget.min) return `= ${figure(budget.max, unit)}`;
  if (budget?.max !== undefined) return `<= ${figure(budget.max, unit)}`;
  if (budget?.min !== undefined) return `>= ${figure(budget.min, unit)}`;
  return "";
}

export function verdict({ value, budget }: BenchRow): "ok" | "over" | "" {
  if (budget === undefined) return "";
  const within = value <= (budget.max ?? Number.POSITIVE_INFINITY) && value >= (budget.min ?? 0);
  return within ? "ok" : "over"; // What is no number is over.
}

function line(row: BenchRow): string {
  const [value, budget] = [figure(row.value, row.unit), budgetText(row)];
  return `${row.name.padEnd(NAME_WIDTH)}${value.padStart(VALUE_WIDTH)}  ${budget.padEnd(BUDGET_WIDTH)}${verdict(row)}`;
}

/** One section of the table; `aside` says how it was measured. */
export function sectionText(name: string, aside: string, rows: readonly BenchRow[]): string {
  const lines = rows.flatMap((row) => [
    line(row).trimEnd(),
    ...(row.note === undefined ? [] : [`    ${row.note}`]),
  ]);
  return [`\n[${name}] ${aside}`, ...lines].join("\n");
}

export function summary(rows: readonly BenchRow[]): string {
  const over = rows.filter((row) => verdict(row) === "over");
  const within = rows.filter((row) => verdict(row) === "ok").length;
  const names = over.map((row) => `\n  ${row.name}: ${figure(row.value, row.unit)}, ${budgetText(row)}`);
  return `\n${within} within budget, ${over.length} over${over.length > 0 ? ":" : ""}${names.join("")}`;
}
