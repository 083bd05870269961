// GET /api/v1/ledger: what became of every packet and every row, and whether the laws hold.

import { createRoute, type OpenAPIHono } from "@hono/zod-openapi";
import { checkLaws, type LedgerTotals, type SinkAccount, sinkLaw } from "../store/ledger.ts";
import type { Queries } from "../store/queries.ts";
import { lostSince } from "./flows.ts";
import { rangeOf } from "./parameters.ts";
import { ledgerQuery, summariesWithout } from "./query.ts";
import { badParameterAnswer, jsonAnswer, noStoreAnswer, unauthorizedAnswer } from "./requests.ts";
import { ledgerSchema } from "./schemas.ts";

/** The totals since the store was made, the rows that it holds now, and what became of them at each sink. */
export type ReadLedger = () => {
  readonly totals: LedgerTotals;
  readonly rows: number;
  readonly sinks: readonly SinkAccount[];
};

const route = createRoute({
  method: "get",
  path: "/api/v1/ledger",
  summary: "What became of every packet and every row",
  request: { query: ledgerQuery },
  responses: {
    200: jsonAnswer(
      ledgerSchema,
      "Totals since the store was made, and the laws that they obey; with from, to or since also of that time.",
    ),
    400: badParameterAnswer,
    401: unauthorizedAnswer,
    503: noStoreAnswer,
  },
});

async function rangeAnswer(
  queries: Pick<Queries, "lost" | "summaries">,
  range: { readonly fromAt?: number; readonly toAt?: number },
  limit: number,
) {
  const [{ lost, sinceAt }, throttled] = await Promise.all([
    queries.lost(range),
    queries.summaries({ ...range, limit }),
  ]);
  return { range: { ...range, lost, ...lostSince(sinceAt, range.fromAt) }, throttled };
}

export function ledgerRoute(
  app: OpenAPIHono,
  parts: {
    readonly ledger: ReadLedger;
    readonly queries: Pick<Queries, "lost" | "summaries">;
    readonly now: () => number;
  },
): void {
  app.openapi(route, async (context) => {
    const { limit = summariesWithout, ...times } = context.req.valid("query");
    const range = rangeOf(times, parts.now());
    const asked = Object.keys(range).length > 0;
    const ofRange = asked ? await rangeAnswer(parts.queries, range, limit) : {};
    const { totals, rows, sinks } = parts.ledger();
    const laws = [...checkLaws(totals, rows), ...sinks.map(sinkLaw)].map(({ law, left, right, holds }) => ({
      law,
      ok: holds,
      left,
      right,
    }));
    const accounts = sinks.map(({ sink, signal, offered, counts, pending }) => ({
      ...{ name: sink, signal, offered, counts, pending },
    }));
    return context.json({ totals, laws, sinks: accounts, ...ofRange }, 200);
  });
}
