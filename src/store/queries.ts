// Queries in a worker on a connection of its own: a heavy one delays no tick and no scrape.

import { StoreQueryError, StoreUnreadableError } from "./failure.ts";
import { type LostQuery, lostOf, withPending } from "./lost.ts";
import type { AnswerOf, QueryKind, QueryOf } from "./query-kinds.ts";
import type { QueryFailure } from "./query-message.ts";
import { entryPoint, type QueryThread, startThread } from "./query-thread.ts";
import type { Rollups } from "./rollups.ts";
import type { Store } from "./store.ts";
import type { TopQuery } from "./top-groups.ts";

/** Each rejects with StoreQueryError for a wrong parameter and with StoreUnreadableError when there is no answer. */
export type Queries = AsyncDisposable & {
  flows(query: QueryOf<"flows">): Promise<AnswerOf<"flows">>;
  drops(query: QueryOf<"drops">): Promise<AnswerOf<"drops">>;
  lost(query: QueryOf<"lost">): Promise<AnswerOf<"lost">>;
  samples(query: QueryOf<"samples">): Promise<AnswerOf<"samples">>;
  series(query: QueryOf<"series">): Promise<AnswerOf<"series">>;
  summaries(query: QueryOf<"summaries">): Promise<AnswerOf<"summaries">>;
  /** What is in no file yet is part of it. */
  top(query: QueryOf<"top">): Promise<AnswerOf<"top">>;
  batch(query: QueryOf<"batch">): Promise<AnswerOf<"batch">>;
  facts(): QueriesFacts;
};

export type QueriesFacts = {
  /** Whether there is a worker now. */
  readonly running: boolean;
  readonly waiting: number;
  /** Since the start. That a query was wrong is an answer too. */
  readonly answered: number;
  readonly failed: number;
  /** Refused because too many waited. */
  readonly refused: number;
  /** From question to answer, all of them together. */
  readonly seconds: number;
  readonly started: number;
  /** Workers that ended without being told to. */
  readonly crashed: number;
};

export type QueriesOptions = {
  readonly store: Pick<Store, "place" | "ask" | "readFailed" | "readDone" | "ledger" | "pendingMinutes">;
  /** Has what the tables of the rollups do not have yet. */
  readonly rollups?: Pick<Rollups, "pending">;
  readonly nativeBinding?: string | undefined;
  /** The worker ends after so long without a query; default a minute. */
  readonly idleMs?: number;
  /** How long a query of rows goes on looking before it gives what it found; default 100. */
  readonly deadlineMs?: number;
  /** Queries that may wait; more are refused. Default 32. */
  readonly queriesMax?: number;
  /** Default: the worker that reads the store. */
  readonly entry?: URL;
};

/** The worker is started by the first query. Dispose before the store: it reads the store's file. */
export function openQueries(options: QueriesOptions): Queries {
  const { store, rollups, queriesMax = 32 } = options;
  const counts = { answered: 0, failed: 0, refused: 0, seconds: 0 };
  const worker = createWorker({ idleMs: options.idleMs ?? 60_000, entry: options.entry ?? entryPoint() });
  const queue = createQueue();
  let closed = false;

  const answer = async <Kind extends QueryKind>(
    kind: Kind,
    query: QueryOf<Kind>,
  ): Promise<AnswerOf<Kind>> => {
    if (closed) throw new StoreUnreadableError("The store is closed.");
    return answerOf(options, worker, kind, query);
  };

  const ask = async <Kind extends QueryKind>(kind: Kind, query: QueryOf<Kind>): Promise<AnswerOf<Kind>> => {
    if (queue.waiting() >= queriesMax) {
      counts.refused++;
      throw new StoreUnreadableError(`The store is busy: ${queriesMax} queries wait already. Try again.`);
    }
    const startMs = performance.now();
    try {
      const found = await queue.inTurn(() => answer(kind, query));
      counts.answered++;
      return found;
    } catch (error) {
      if (error instanceof StoreQueryError) counts.answered++;
      else counts.failed++;
      throw error;
    } finally {
      counts.seconds += (performance.now() - startMs) / 1000;
    }
  };

  const lost = async (query: LostQuery): Promise<AnswerOf<"lost">> => {
    if (query.fromAt === undefined && query.toAt === undefined) return lostOf(store.ledger());
    const pending = store.pendingMinutes(); // Before the question: counted twice rather than not at all.
    return withPending(await ask("lost", query), pending, query);
  };

  const top = async (query: TopQuery): Promise<AnswerOf<"top">> =>
    ask("top", rollups === undefined ? query : { ...query, pending: rollups.pending(query) });

  return {
    flows: (query) => ask("flows", query),
    drops: (query) => ask("drops", query),
    lost,
    samples: (query) => ask("samples", query),
    series: (query) => ask("series", query),
    summaries: (query) => ask("summaries", query),
    top,
    batch: (query) => ask("batch", query),
    facts: () => ({ ...worker.facts(), waiting: queue.waiting(), ...counts }),
    async [Symbol.asyncDispose]() {
      closed = true;
      await worker.close("The store is closed.");
    },
  };
}

/**
 * One after the other. Between two queries nobody reads the file: only then can the whole log be written back and begin
 * anew, and readers that follow each other without a pause would make it grow until rows are lost.
 */
function createQueue() {
  let last: Promise<unknown> = Promise.resolve();
  let waiting = 0;
  return {
    waiting: () => waiting,
    async inTurn<Answer>(work: () => Promise<Answer>): Promise<Answer> {
      waiting++;
      const turn = last.then(work);
      last = Promise.allSettled([turn]);
      try {
        return await turn;
      } finally {
        waiting--;
      }
    },
  };
}

async function answerOf<Kind extends QueryKind>(
  { store, nativeBinding, deadlineMs = 100 }: QueriesOptions,
  worker: QueryWorker,
  kind: Kind,
  query: QueryOf<Kind>,
): Promise<AnswerOf<Kind>> {
  const { mode, path, generation } = store.place();
  if (mode === "memory") {
    worker.retire(); // It holds a file that is not in use.
    return store.ask(kind, query);
  }
  const reply = await worker.ask({ kind, query, file: { path, generation, nativeBinding, deadlineMs } });
  store.readDone();
  if ("failure" in reply) throw errorOf(store, reply.failure, generation);
  return reply.answer as AnswerOf<Kind>;
}

/** What the direct read would have thrown; the store learns of what is wrong with its file. */
function errorOf(store: QueriesOptions["store"], failure: QueryFailure, generation: number): Error {
  const { message } = failure;
  if ("parameter" in failure) return new StoreQueryError(failure.parameter, message);
  store.readFailed({ ...failure, generation });
  return new StoreUnreadableError(`The store could not be read: ${message}`);
}

type QueryWorker = ReturnType<typeof createWorker>;

/** A thread while there is something to ask. */
function createWorker({ idleMs, entry }: { readonly idleMs: number; readonly entry: URL }) {
  const endings = new Set<Promise<void>>();
  let thread: QueryThread | undefined;
  let idle: ReturnType<typeof setTimeout> | undefined;
  let started = 0;
  let crashed = 0;

  const start = (): QueryThread => {
    started++;
    const ended = (): void => {
      if (thread !== fresh) return; // It was told to end.
      thread = undefined;
      crashed++;
    };
    const fresh = startThread({ entry, ended });
    return fresh;
  };

  const retire = (): void => {
    clearTimeout(idle);
    const ending = thread?.end();
    thread = undefined;
    if (ending === undefined) return;
    endings.add(ending);
    void ending.then(() => endings.delete(ending));
  };

  return {
    async ask(question: Parameters<QueryThread["ask"]>[0]) {
      clearTimeout(idle);
      thread ??= start();
      try {
        return await thread.ask(question);
      } finally {
        if (thread !== undefined) idle = setTimeout(retire, idleMs);
      }
    },
    retire,
    async close(message: string): Promise<void> {
      thread?.abandon(message);
      retire();
      await Promise.all(endings);
    },
    facts: () => ({ running: thread !== undefined, started, crashed }),
  };
}
