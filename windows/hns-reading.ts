// One reading of HNS: the list of endpoints, then the counts of each. Runs in the worker; `get` may block.

import type { EndpointReading } from "./counters.ts";
import {
  type EndpointCounts,
  HnsError,
  type ListedEndpoint,
  parseEndpoints,
  parseStatistics,
} from "./hns-parse.ts";
import { win32CodeOf } from "./system.ts";

/** What a reading may fail of: the list, the counts of one endpoint, the time that it may take, the worker itself. */
export const hnsFailures = ["hns-list", "hns-stats", "hns-deadline", "hns-worker"] as const;
export type HnsFailure = (typeof hnsFailures)[number];

/** What one reading found. */
export type HnsFindings = {
  /** Those that it did not come to have the counts that were read of them last. */
  readonly endpoints: readonly EndpointReading[];
  readonly remote: number;
  /** Local endpoints beyond the bound: they are not read. */
  readonly overflow: number;
  /** Ids of local endpoints that are there, but are not in this reading: beyond the bound, or their counts failed. */
  readonly unread?: readonly string[];
  /** Ids of local endpoints that no reading has come to yet. */
  readonly waiting?: readonly string[];
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

/** What was last read of each endpoint within the bound, where anything was: the one that is asked next at the head. */
type Turns = ReadonlyMap<string, EndpointCounts | undefined>;

/** Those that had a turn before go first, so that none comes and goes with the order of the list. */
function chooseEndpoints(
  local: readonly ListedEndpoint[],
  turns: Turns,
  endpointsMax: number,
): { readonly chosen: readonly ListedEndpoint[]; readonly beyond: readonly ListedEndpoint[] } {
  const listed = new Map(local.map((endpoint) => [endpoint.facts.id, endpoint]));
  const ordered = [...new Set([...turns.keys(), ...listed.keys()])].flatMap((id) => listed.get(id) ?? []);
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

/** What came of those that were asked. One that is gone is in neither. */
type Statistics = {
  readonly read: ReadonlyMap<string, EndpointCounts>;
  readonly failed: readonly string[];
  readonly firstFailure: string;
  /** Not asked: the time was over. */
  readonly rest: readonly ListedEndpoint[];
};

function readStatistics(options: {
  readonly get: (path: string) => string;
  readonly chosen: readonly ListedEndpoint[];
  /** Looked at between two requests: none can be broken off. */
  readonly isOver: () => boolean;
}): Statistics {
  const { get, chosen, isOver } = options;
  const read = new Map<string, EndpointCounts>();
  const failed: string[] = [];
  let firstFailure = "";
  for (const [index, { facts, spelling }] of chosen.entries()) {
    // The first is asked however long the list took: else a slow list would keep all of them from being read for ever.
    if (index > 0 && isOver()) return { read, failed, firstFailure, rest: chosen.slice(index) };
    const path = `/endpointstats/${spelling}`;
    try {
      read.set(facts.id, parseStatistics(get(path), path));
    } catch (error) {
      if (!(error instanceof HnsError)) throw error;
      if (isDenied(error)) throw new HnsReadingError("hns-stats", explained(error));
      if (isGone(error)) continue; // Between the list and here its container ended.
      firstFailure ||= error.message;
      failed.push(facts.id);
    }
  }
  return { read, failed, firstFailure, rest: [] };
}

/** Those that were not asked are the next ones, with what was known of them; one that failed is not known any more. */
const turnsAfter = ({ read, failed, rest }: Statistics, before: Turns): Turns =>
  new Map([
    ...rest.map(({ facts }) => [facts.id, before.get(facts.id)] as const),
    ...failed.map((id) => [id, undefined] as const),
    ...read,
  ]);

type Reading = Statistics & {
  readonly chosen: readonly ListedEndpoint[];
  readonly beyond: readonly ListedEndpoint[];
  readonly waiting: readonly string[];
  readonly tookMs: number;
};

const progressOf = ({ read, chosen, tookMs }: Reading): string =>
  `HNS is slow: ${read.size} of ${chosen.length} endpoints were read in ${Math.round(tookMs)} ms`;

function checkReading(reading: Reading): void {
  const { read, failed, firstFailure, rest } = reading;
  if (read.size > 0) return;
  if (failed.length > 0)
    throw new HnsReadingError("hns-stats", `HNS gives no statistics of any endpoint: ${firstFailure}`);
  if (rest.length > 0) throw new HnsReadingError("hns-deadline", progressOf(reading));
}

function limitsOf(reading: Reading): readonly string[] {
  const { chosen, beyond, failed, firstFailure, rest, waiting } = reading;
  const limits: string[] = [];
  if (beyond.length > 0)
    limits.push(`${beyond.length} endpoints beyond the bound of ${chosen.length} are in no count`);
  if (failed.length > 0)
    limits.push(`the counts of ${failed.length} endpoints cannot be read; the first: ${firstFailure}`);
  if (rest.length > 0) {
    const none = waiting.length === 0 ? "" : `, ${waiting.length} of them have none yet`;
    limits.push(`${progressOf(reading)}; the others come next and keep their last values${none}`);
  }
  return limits;
}

function findingsOf(reading: Reading, turns: Turns, remote: number): HnsFindings {
  const { chosen, beyond, failed, waiting } = reading;
  return {
    endpoints: chosen.flatMap(({ facts }) => {
      const counts = turns.get(facts.id);
      return counts === undefined ? [] : [{ ...facts, ...counts }];
    }),
    remote,
    overflow: beyond.length,
    unread: [...failed, ...beyond.map(({ facts }) => facts.id)],
    waiting,
    limits: limitsOf(reading),
  };
}

export type HnsReader = {
  /** Throws HnsReadingError where nothing was read. */
  read(get: (path: string) => string): { readonly findings: HnsFindings; readonly failed: HnsFailed };
};

/** Ends a reading when its budget is spent, and begins the next one where it stopped, so that all get their turn. */
export function createHnsReader(options: {
  readonly endpointsMax: number;
  readonly budgetMs: number;
  /** Milliseconds; never go back. */
  readonly elapsedMs: () => number;
}): HnsReader {
  const { endpointsMax, budgetMs, elapsedMs } = options;
  let turns: Turns = new Map();
  return {
    read(get) {
      const startMs = elapsedMs();
      const tookMs = (): number => elapsedMs() - startMs;
      const { local, remote, malformed } = readList(get);
      const choice = chooseEndpoints(local, turns, endpointsMax);
      const statistics = readStatistics({ get, chosen: choice.chosen, isOver: () => tookMs() > budgetMs });
      turns = turnsAfter(statistics, turns);
      const ids = statistics.rest.map(({ facts }) => facts.id);
      const waiting = ids.filter((id) => turns.get(id) === undefined);
      const reading = { ...choice, ...statistics, waiting, tookMs: tookMs() };
      checkReading(reading);
      return {
        findings: findingsOf(reading, turns, remote),
        failed: {
          "hns-list": malformed,
          "hns-stats": statistics.failed.length,
          "hns-deadline": ids.length > 0 ? 1 : 0,
        },
      };
    },
  };
}
