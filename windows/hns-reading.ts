// One reading of HNS: the list of endpoints, then the counts of each. Runs in the worker; `get` may block.

import type { EndpointReading } from "./counters.ts";
import { HnsError, type ListedEndpoint, parseEndpoints, parseStatistics } from "./hns-parse.ts";
import { win32CodeOf } from "./system.ts";

/** What a reading may fail of: the list, the counts of one endpoint, the time that it may take, the worker itself. */
export const hnsFailures = ["hns-list", "hns-stats", "hns-deadline", "hns-worker"] as const;
export type HnsFailure = (typeof hnsFailures)[number];

/** What one reading found. */
export type HnsFindings = {
  readonly endpoints: readonly EndpointReading[];
  readonly remote: number;
  /** Local endpoints beyond the bound: they are not read. */
  readonly overflow: number;
  /** Ids of local endpoints that are there, but are not in this reading: beyond the bound, or their counts failed. */
  readonly unread?: readonly string[];
  readonly limits: readonly string[];
};

export type HnsReading = HnsFindings & {
  /** Cumulative, by HnsFailure. */
  readonly failures: readonly { readonly source: string; readonly failures: number }[];
};

/** Counts of what failed in one reading. */
export type HnsFailed = Readonly<Partial<Record<HnsFailure, number>>>;

/** A reading that came to nothing. */
export class HnsReadingError extends Error {
  override readonly name = "HnsReadingError";
  readonly source: HnsFailure;
  constructor(source: HnsFailure, message: string) {
    super(message);
    this.source = source;
  }
}

const listPath = "/endpoints/";

const accessDenied = 5;
const elementNotFound = 1168;
/** HCN_E_ENDPOINT_NOT_FOUND. */
const endpointNotFound = 0x803b_0002 | 0;

const isDenied = (error: HnsError): boolean => win32CodeOf(error.code ?? 0) === accessDenied;

/** Without a code the text decides, which is in the system's language: elsewhere such an answer counts as a failure. */
function isGone({ code, message }: HnsError): boolean {
  if (code === undefined) return /\bnot found\b/i.test(message);
  return win32CodeOf(code) === elementNotFound || code === endpointNotFound;
}

/** What to do about it, where that is known. */
function explained(error: HnsError): string {
  if (!isDenied(error)) return error.message;
  return `HNS refuses this account; run Fovea as SYSTEM or as an administrator (${error.message})`;
}

/** Those that were read before go first, so that none comes and goes with the order of the list. */
function chooseEndpoints(
  local: readonly ListedEndpoint[],
  known: ReadonlySet<string>,
  endpointsMax: number,
): { readonly chosen: readonly ListedEndpoint[]; readonly beyond: readonly ListedEndpoint[] } {
  if (local.length <= endpointsMax) return { chosen: local, beyond: [] };
  const ordered = [
    ...local.filter(({ facts }) => known.has(facts.id)),
    ...local.filter(({ facts }) => !known.has(facts.id)),
  ];
  return { chosen: ordered.slice(0, endpointsMax), beyond: ordered.slice(endpointsMax) };
}

function readList(get: (path: string) => string) {
  try {
    return parseEndpoints(get(listPath), listPath);
  } catch (error) {
    if (!(error instanceof HnsError)) throw error;
    throw new HnsReadingError("hns-list", explained(error));
  }
}

type Statistics = {
  readonly endpoints: readonly EndpointReading[];
  readonly failed: readonly string[];
  readonly firstFailure: string;
};

function readStatistics(options: {
  readonly get: (path: string) => string;
  readonly chosen: readonly ListedEndpoint[];
  /** Called before each request; throws when the time is over. */
  readonly checkTime: (done: number) => void;
}): Statistics {
  const { get, chosen, checkTime } = options;
  const endpoints: EndpointReading[] = [];
  const failed: string[] = [];
  let firstFailure = "";
  for (const [index, { facts, spelling }] of chosen.entries()) {
    checkTime(index);
    const path = `/endpointstats/${spelling}`;
    try {
      endpoints.push({ ...facts, ...parseStatistics(get(path), path) });
    } catch (error) {
      if (!(error instanceof HnsError)) throw error;
      if (isDenied(error)) throw new HnsReadingError("hns-stats", explained(error));
      if (isGone(error)) continue; // Between the list and here its container ended.
      firstFailure ||= error.message;
      failed.push(facts.id);
    }
  }
  if (failed.length > 0 && endpoints.length === 0)
    throw new HnsReadingError("hns-stats", `HNS gives no statistics of any endpoint: ${firstFailure}`);
  return { endpoints, failed, firstFailure };
}

function limitsOf(overflow: number, endpointsMax: number, { failed, firstFailure }: Statistics): string[] {
  const limits: string[] = [];
  if (overflow > 0) limits.push(`${overflow} endpoints beyond the bound of ${endpointsMax} are in no count`);
  if (failed.length > 0)
    limits.push(`the counts of ${failed.length} endpoints cannot be read; the first: ${firstFailure}`);
  return limits;
}

export type HnsReader = {
  /** Throws HnsReadingError. */
  read(get: (path: string) => string): { readonly findings: HnsFindings; readonly failed: HnsFailed };
};

/** Remembers which endpoints it read last. `budgetMs` is looked at between two requests: none can be broken off. */
export function createHnsReader(options: {
  readonly endpointsMax: number;
  readonly budgetMs: number;
  /** Milliseconds; never go back. */
  readonly elapsedMs: () => number;
}): HnsReader {
  const { endpointsMax, budgetMs, elapsedMs } = options;
  let known: ReadonlySet<string> = new Set();
  return {
    read(get) {
      const startMs = elapsedMs();
      const { local, remote, malformed } = readList(get);
      const { chosen, beyond } = chooseEndpoints(local, known, endpointsMax);
      known = new Set(chosen.map(({ facts }) => facts.id));
      const checkTime = (done: number): void => {
        const tookMs = elapsedMs() - startMs;
        if (tookMs <= budgetMs) return;
        const progress = `${done} of ${chosen.length} endpoints`;
        throw new HnsReadingError(
          "hns-deadline",
          `HNS is slow: ${progress} were read in ${Math.round(tookMs)} ms`,
        );
      };
      const statistics = readStatistics({ get, chosen, checkTime });
      return {
        findings: {
          endpoints: statistics.endpoints,
          remote,
          overflow: beyond.length,
          unread: [...statistics.failed, ...beyond.map(({ facts }) => facts.id)],
          limits: limitsOf(beyond.length, endpointsMax, statistics),
        },
        failed: { "hns-list": malformed, "hns-stats": statistics.failed.length },
      };
    },
  };
}
