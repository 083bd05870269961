// Where an export takes its rows from: a running appliance, or the file of its store.

import { join } from "node:path";
import { z } from "zod";
import { lostSince } from "../api/flows.ts";
import { flowsMax } from "../api/query.ts";
import type { ExportedFlow } from "../export/format.ts";
import type { Totals } from "../export/manifest.ts";
import { openFileReader } from "../store/file-reader.ts";
import { limitMax } from "../store/query.ts";
import { type Client, knownFlow } from "./client.ts";
import type { ExportQuery } from "./export-query.ts";

export type SourcePage = {
  /** Oldest first. */
  readonly flows: readonly ExportedFlow[];
  readonly cursor: string;
  readonly more: boolean;
  /** Rows that retention took before they could be read. */
  readonly passed: number;
};

export type Missing = Pick<Totals, "lost" | "lostSince">;

export type Source = Disposable & {
  page(cursor: string | undefined, signal: AbortSignal): Promise<SourcePage>;
  /** What the ledger says of the time that was asked for, as it is now. */
  missing(signal: AbortSignal): Promise<Missing>;
};

const missingSchema = z.object({ lost: z.record(z.string(), z.number()), lostSince: z.number().optional() });
const pageSchema = z.object({
  ...missingSchema.shape,
  flows: z.array(knownFlow),
  cursor: z.string(),
  more: z.boolean(),
  passed: z.number(),
});

export function openServerSource(client: Client, { parameters, from, to }: ExportQuery): Source {
  const ask = (changed: Readonly<Record<string, string>>, signal: AbortSignal) => {
    const query = new URLSearchParams(parameters);
    if (from !== undefined) query.set("from", from);
    if (to !== undefined) query.set("to", to);
    for (const [name, value] of Object.entries({ order: "oldest", ...changed })) query.set(name, value);
    return client.get("flows", pageSchema, query, signal);
  };
  return {
    page: (cursor, signal) =>
      ask({ limit: String(flowsMax), ...(cursor === undefined ? {} : { cursor }) }, signal),
    missing: async (signal) => {
      const { lost, lostSince } = await ask({ limit: "1" }, signal);
      return { lost, ...(lostSince === undefined ? {} : { lostSince }) };
    },
    [Symbol.dispose]: () => undefined,
  };
}

export function openFileSource({
  dataDir,
  nativeBinding,
  query: { filter },
}: {
  readonly dataDir: string;
  readonly nativeBinding: string | undefined;
  readonly query: ExportQuery;
}): Source {
  const reader = openFileReader({ path: join(dataDir, "fovea.db"), nativeBinding });
  const { fromAt, toAt } = filter;
  const range = {
    ...(fromAt === undefined ? {} : { fromAt }),
    ...(toAt === undefined ? {} : { toAt }),
  };
  return {
    page: (cursor) => {
      const going = cursor === undefined ? {} : { cursor };
      const page = reader.ask("flows", { ...filter, ...going, order: "oldest", limit: limitMax });
      return Promise.resolve({ ...page, passed: page.lost });
    },
    missing: () => {
      const { lost, sinceAt } = reader.ask("lost", range);
      return Promise.resolve({ lost, ...lostSince(sinceAt, fromAt) });
    },
    [Symbol.dispose]: () => reader[Symbol.dispose](),
  };
}
