// What goes between the thread that asks and the worker that answers.

import { errorCode, StoreQueryError } from "./failure.ts";
import type { QueryKind, QueryOf } from "./query-kinds.ts";

/** The file to read. It may be replaced while the worker runs: then its generation differs, or its path. */
export type QueryFile = {
  readonly path: string;
  readonly generation: number;
  readonly nativeBinding?: string | undefined;
  /** How long a query may go on to look at further rows. */
  readonly deadlineMs: number;
};

export type Question = {
  readonly id: number;
  readonly kind: QueryKind;
  readonly query: QueryOf<QueryKind>;
  readonly file: QueryFile;
};

/** Everything that was asked before is answered first. */
export type EndRequest = { readonly end: true };

export type Reply = { readonly id: number } & (
  | { readonly answer: unknown }
  | { readonly failure: QueryFailure }
);

/** With `parameter` the query was wrong; with `code` the file could not be read. */
export type QueryFailure = { readonly message: string } & (
  | { readonly parameter: string }
  | { readonly code: string }
);

export function failureOf(error: unknown): QueryFailure {
  if (error instanceof StoreQueryError) return { parameter: error.parameter, message: error.message };
  return { code: errorCode(error), message: String(error) };
}
