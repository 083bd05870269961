// The collector of drops that pktmon counts in every component of the network stack; asked for by configuration alone.

import type { Collector, Snapshot } from "../src/snapshot.ts";
import { createDropSums, type DropSums, parseDropCounters } from "./pktmon-counters.ts";
import { createPktmonSession, NoSessionError, type PktmonSession } from "./pktmon-session.ts";
import { createSpawner, SpawnError, type Spawner } from "./spawn.ts";

export type PktmonOptions = {
  readonly everyMs: number;
  /** For one process. */
  readonly timeoutMs: number;
  /** Milliseconds; never go back. */
  readonly elapsedMs?: () => number;
  readonly spawner?: Spawner;
  /** Path of a file of ours; see PktmonSessionOptions. */
  readonly marker?: string;
  /** For the end in all; default 3 s. */
  readonly endMs?: number;
  /** Hears why a session may have been left behind at the end. */
  readonly left?: (error: unknown) => void;
};

/** Its disposal never throws, and takes `endMs` at most. */
export type Pktmon = AsyncDisposable &
  Collector & {
    /** Whether a round runs. */
    atWork(): boolean;
  };

/** What became of the last round. */
type Last = { readonly limit: string } | { readonly error: unknown } | "read";

async function readDrops(session: PktmonSession, sums: DropSums, signal: AbortSignal): Promise<void> {
  const { fresh } = await session.ensure(signal);
  if (fresh) sums.restart();
  const output = await session.counters(signal);
  try {
    sums.take(parseDropCounters(output));
  } catch (error) {
    const why = error instanceof Error ? error.message : `${error}`;
    throw new Error(`pktmon.exe counters --json printed what makes no sense: ${why}`, { cause: error });
  }
}

const outcomeOf = (error: unknown): Last => {
  if (error instanceof NoSessionError) return { limit: error.message };
  if (error instanceof SpawnError && error.problem === "missing")
    return {
      limit: "There is no pktmon.exe in the system directory: drops of the network stack are not seen.",
    };
  return { error };
};

/** A service that stops has 20 s for all of its parts. */
const defaultEndMs = 3000;

/** Of the time for the end: then what still runs is broken off, which may take time as well. */
const overShare = 2 / 3;

/** Stops the session; throws when the time is up, and breaks off what still runs a little before. */
async function stopWithin(endMs: number, over: AbortController, stop: () => Promise<void>): Promise<void> {
  const late = Promise.withResolvers<never>();
  const breaking = setTimeout(() => over.abort(), endMs * overShare);
  const leaving = setTimeout(
    () => late.reject(new Error(`pktmon.exe did not end within ${endMs} ms`)),
    endMs,
  );
  try {
    await Promise.race([stop(), late.promise]);
  } finally {
    clearTimeout(breaking);
    clearTimeout(leaving);
  }
}

/**
 * A round begins in the background when one is due; what the last one read is given at once. The sum is exact; a component
 * that drops for two reasons between two rounds has both counted under the later one.
 */
export function createPktmon(options: PktmonOptions): Pktmon {
  const { everyMs, timeoutMs, elapsedMs = () => performance.now(), spawner = createSpawner() } = options;
  const { marker, endMs = defaultEndMs, left = () => undefined } = options;
  const sums = createDropSums();
  const closing = new AbortController();
  const over = new AbortController();
  const session = createPktmonSession({ spawner, timeoutMs, over: over.signal, marker });
  let running: Promise<void> | undefined;
  let dueMs = Number.NEGATIVE_INFINITY;
  let last: Last | undefined;
  let known = false;

  const round = async (): Promise<void> => {
    try {
      await readDrops(session, sums, closing.signal);
      known = true;
      last = "read";
    } catch (error) {
      last = outcomeOf(error);
      if (over.signal.aborted) left(error);
    } finally {
      running = undefined;
    }
  };
  const end = async (): Promise<void> => {
    closing.abort();
    try {
      await stopWithin(endMs, over, async () => {
        await running;
        await session.stop();
      });
    } catch (error) {
      left(error); // The marker lets the next process take the session over.
    }
  };
  let ended: Promise<void> | undefined;
  return {
    name: "pktmon",
    collect(): Snapshot {
      if (!closing.signal.aborted && running === undefined && elapsedMs() >= dueMs) {
        dueMs = elapsedMs() + everyMs;
        running = round();
      }
      if (typeof last === "object" && "error" in last) throw last.error;
      return {
        ...(known ? { drops: sums.totals() } : {}),
        ...(typeof last === "object" ? { limits: [last.limit] } : {}),
      };
    },
    atWork: () => running !== undefined,
    [Symbol.asyncDispose]: () => (ended ??= end()),
  };
}
