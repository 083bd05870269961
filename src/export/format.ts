// What the formats of an export have in common: rows one after the other, in batches, written and read.

import type { z } from "zod";
import { type flowSchema, importLineSchema } from "../api/schemas.ts";
import type { FlowRecord } from "../flow.ts";
import { checkRow } from "../store/rows.ts";
import { type Head, issueText, type Totals } from "./manifest.ts";

export const exportFormats = ["json", "csv", "sqlite"] as const;
export type ExportFormat = (typeof exportFormats)[number];

/** A flow with its place in the store that it is exported from. */
export type ExportedFlow = z.output<typeof flowSchema>;

/** What takes the text of a format; resolves when it takes more. */
export type Put = (text: string) => Promise<void>;

export type RowWriter = {
  rows(flows: readonly ExportedFlow[]): Promise<void>;
  end(totals: Totals): Promise<void>;
};

export type RowReader = Disposable & {
  /** What the file says of itself; a CSV says nothing. */
  readonly head?: Head;
  /** All rows in batches. Throws what is wrong, and where: a record, the end that is missing. */
  batches(): Iterable<readonly FlowRecord[]>;
};

/** Rows that are read in one go, so that whoever waits for something else is not kept waiting. */
export const batchRows = 1000;

/** A record that the store takes, without the seq that it had elsewhere, or what is wrong with it. */
export function readRecord(value: unknown): FlowRecord | string {
  const { data, error } = importLineSchema.safeParse(value);
  if (error !== undefined) return issueText(error);
  const { seq: _, ...rest } = data;
  const record = rest as FlowRecord; // JSON has no undefined: what zod takes for undefined is absent.
  const checked = checkRow(record);
  if (typeof checked !== "string") return record;
  if (checked === "address") return `"${record.source}" or "${record.destination}" is no address`;
  return `its ${checked} is wrong`;
}
