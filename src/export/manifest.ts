// What an export says of itself: where it is from, what was asked for, and what is missing of that time.

import { z } from "zod";
import { rowsVersion } from "../store/schema.ts";

/** Of the files themselves; what a record may hold goes by the schema in which rows changed last. */
export const exportFormat = 1;

const count = z.int().min(0);
const time = z.iso.datetime();

/** Counts by the names of the ledger, those that are not zero. */
const lost = z.record(z.string(), count);

const headShape = {
  format: z.literal(exportFormat),
  /** Of the records: that of the store of the fovea that wrote the file. */
  schema: z.int().min(1),
  /** Of that fovea. */
  version: z.string(),
  /** Where the rows are from; what that node had imported itself names its own. */
  node: z.string().min(1),
  cluster: z.string(),
  /** When the export began; epoch milliseconds. */
  exportedAt: z.int(),
  /** The time that was asked for, of the last packet: from inclusive, to exclusive. Absent where there is no bound. */
  from: time.optional(),
  to: time.optional(),
  /** By the names of the API. Addresses are withheld when the file is redacted. */
  filters: z.record(z.string(), z.array(z.string()).readonly()),
  redacted: z.boolean(),
};

const totalsShape = {
  rows: count,
  lost,
  /** Epoch milliseconds: what is missing before is not known. */
  lostSince: z.number().optional(),
};

/** What is known before the first row. */
const headSchema = z.strictObject(headShape);
/** What is known after the last one. */
export const totalsSchema = z.strictObject(totalsShape);
const manifestSchema = z.strictObject({ ...headShape, ...totalsShape });
const sidecarSchema = z.strictObject({
  ...headShape,
  ...totalsShape,
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});

export type Head = z.output<typeof headSchema>;
export type Totals = z.output<typeof totalsSchema>;
export type Manifest = Head & Totals;
export type Sidecar = Manifest & { readonly sha256: string };

/** The file beside an export that holds its manifest and its SHA-256. */
export const sidecarOf = (file: string): string => `${file}.manifest.json`;

const versionsSchema = z.object({ format: z.int(), schema: z.int(), version: z.string() });

/** Throws for what a newer fovea wrote, before anything else of it is looked at. */
function checkVersions(value: unknown): void {
  const { data } = versionsSchema.safeParse(value);
  if (data === undefined || (data.format <= exportFormat && data.schema <= rowsVersion)) return;
  throw new Error(
    `was written by fovea ${data.version} with format ${data.format} and schema ${data.schema}; this one knows ` +
      `them up to ${exportFormat} and ${rowsVersion}: import it with the newer version`,
  );
}

/** The first thing that zod found wrong, in one sentence. */
export function issueText({ issues }: z.ZodError): string {
  const [issue] = issues;
  const place = issue?.path.join(".") ?? "";
  return `${place === "" ? "" : `${place}: `}${issue?.message ?? "is wrong"}`;
}

function readAs<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  checkVersions(value);
  const { data, error } = schema.safeParse(value);
  if (error !== undefined) throw new Error(`has a manifest that is wrong: ${issueText(error)}`);
  return data;
}

/** Each throws what is wrong, as the second half of a sentence about the file. */
export const readHead = (value: unknown): Head => readAs(headSchema, value);
export const readManifest = (value: unknown): Manifest => readAs(manifestSchema, value);
export const readSidecar = (value: unknown): Sidecar => readAs(sidecarSchema, value);
