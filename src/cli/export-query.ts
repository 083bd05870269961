// What an export asks for: the flags of `fovea flows`, checked here, since nobody else may be there to do it.

import { filterOf } from "../api/flow-filter.ts";
import { ParameterError } from "../api/parameter-error.ts";
import { type FlowsQuery, flowsQuery } from "../api/query.ts";
import type { FlowFilter } from "../store/filter.ts";
import { flowFilters, queryOf, rangeFilters } from "./flow-flags.ts";
import { UsageError } from "./world.ts";

export type ExportQuery = {
  readonly filter: FlowFilter;
  /** The same without the time, as parameters of the API. */
  readonly parameters: URLSearchParams;
  /** The time as it stands in parameters of the API and in the manifest: RFC 3339. */
  readonly from?: string;
  readonly to?: string;
};

/** The last millisecond that RFC 3339 has a year for. */
const latestAt = Date.UTC(10_000, 0) - 1;
const timeText = (at: number): string => new Date(Math.min(Math.max(at, 0), latestAt)).toISOString();

function given(parameters: URLSearchParams): Record<string, string | string[]> {
  return Object.fromEntries(
    [...new Set(parameters.keys())].map((name) => {
      const values = parameters.getAll(name);
      return [name, values.length === 1 ? (values[0] ?? "") : values];
    }),
  );
}

const wrong = (name: string, message: string): UsageError =>
  new UsageError(`--${name.replace(/[A-Z]/g, "-$&").toLowerCase()} ${message}`);

function checkedFilter(query: FlowsQuery, now: number): FlowFilter {
  try {
    return filterOf(query, now);
  } catch (error) {
    throw error instanceof ParameterError ? wrong(error.parameter, error.message) : error;
  }
}

/** Times that are relative are told from `now`, epoch milliseconds, once for all pages. Throws UsageError. */
export function exportQueryOf(options: Readonly<Record<string, unknown>>, now: number): ExportQuery {
  const parameters = queryOf(options, flowFilters);
  const asked = flowsQuery.safeParse({
    ...given(parameters),
    ...given(queryOf(options, rangeFilters)),
  });
  if (asked.error !== undefined) {
    const [issue] = asked.error.issues;
    throw wrong(String(issue?.path[0]), issue?.message ?? "is wrong");
  }
  const filter = checkedFilter(asked.data, now);
  const { fromAt, toAt } = filter;
  return {
    filter,
    parameters,
    ...(fromAt === undefined ? {} : { from: timeText(fromAt) }),
    ...(toAt === undefined ? {} : { to: timeText(toAt) }),
  };
}
