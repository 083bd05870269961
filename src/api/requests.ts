// Counts of answered requests by route, method and code, and what the routes share.

import type { Context } from "hono";
import { errorSchema } from "./schemas.ts";

/** Bun refuses a head of more than 16 KiB; a query that needs more than this is a mistake. */
export const urlCharsMax = 8192;

export type RequestCount = {
  readonly route: string;
  readonly method: string;
  readonly code: string;
  readonly count: number;
};

export type RequestCounts = {
  add(route: string, method: string, status: number): void;
  all(): readonly RequestCount[];
};

const methods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

/** Bounded by the routes of the API, the known methods and the codes that they answer. */
export function createRequestCounts(): RequestCounts {
  const counts = new Map<string, { route: string; method: string; code: string; count: number }>();
  return {
    add: (route, given, status) => {
      const method = methods.has(given) ? given : "other";
      const key = `${route} ${method} ${status}`;
      const known = counts.get(key);
      if (known === undefined) counts.set(key, { route, method, code: String(status), count: 1 });
      else known.count += 1;
    },
    all: () => [...counts.values()],
  };
}

export const jsonAnswer = <Schema>(schema: Schema, description: string) => ({
  description,
  content: { "application/json": { schema } },
});

export const badParameterAnswer = jsonAnswer(errorSchema, "A query parameter is unknown or wrong.");
export const noStoreAnswer = jsonAnswer(errorSchema, "The store is not open.");
export const unauthorizedAnswer = jsonAnswer(errorSchema, "The bearer token is missing or wrong.");

/** Whether the Accept header asks for one JSON value a line. */
export const wantsLines = ({ req }: Context): boolean =>
  /application\/(x-)?nd-?json/i.test(req.header("accept") ?? "");
