// The kinds of queries: what answers each, in the worker or, for a store in memory, on the thread that asks.

import { topDrops } from "./drops.ts";
import { importedFile } from "./imports.ts";
import { lostIn } from "./lost.ts";
import { queryFlows, type Reader } from "./query.ts";
import { querySamples, querySeries } from "./sample-query.ts";
import { readBatch } from "./sink-batch.ts";
import { querySummaries } from "./summaries.ts";
import { queryTop } from "./top.ts";

/** A function (reader, query) => answer a kind. Query and answer must survive a structured clone. */
const queryKinds = {
  flows: queryFlows,
  drops: topDrops,
  lost: lostIn,
  samples: querySamples,
  series: querySeries,
  summaries: querySummaries,
  top: queryTop,
  imported: importedFile,
  batch: readBatch,
} as const;

export type QueryKind = keyof typeof queryKinds;
export type QueryOf<Kind extends QueryKind> = Parameters<(typeof queryKinds)[Kind]>[1];
export type AnswerOf<Kind extends QueryKind> = ReturnType<(typeof queryKinds)[Kind]>;

/** Throws StoreQueryError for a wrong parameter, and what the database throws. */
export function answerQuery<Kind extends QueryKind>(
  reader: Reader,
  kind: Kind,
  query: QueryOf<Kind>,
): AnswerOf<Kind> {
  // The compiler does not see that function and query are of one kind.
  const answer = queryKinds[kind] as (reader: Reader, query: QueryOf<Kind>) => AnswerOf<Kind>;
  return answer(reader, query);
}
