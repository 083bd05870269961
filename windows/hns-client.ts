// Asks HNS through a worker, because HNS may not answer for minutes: whoever asks waits for the deadline and no longer.

import {
  type HnsFailed,
  type HnsFailure,
  type HnsFindings,
  type HnsReading,
  HnsReadingError,
  hnsFailures,
} from "./hns-reading.ts";

export type HnsQuestion = {
  /** A file of the system directory. */
  readonly library: string;
  readonly endpointsMax: number;
  readonly budgetMs: number;
};

export type HnsReply =
  | { readonly findings: HnsFindings; readonly failed: HnsFailed }
  | { readonly source: HnsFailure; readonly message: string };

export type HnsClient = AsyncDisposable & {
  /**
   * Throws in one line what is wrong, the reason of the signal, or that an earlier reading is still at work. A reading
   * that came to its end after its deadline is what the next call gives.
   */
  read(signal: AbortSignal): Promise<HnsReading>;
};

export type HnsClientOptions = {
  readonly timeoutMs: number;
  readonly endpointsMax: number;
  /** Milliseconds; never go back. */
  readonly elapsedMs?: () => number;
  /** For tests: another library than that of Windows, another entry point of the worker. */
  readonly library?: string;
  readonly entry?: URL;
};

/** In the binary each entry point lies where it does below the root, and this module in the one of the process. */
const entryPoint = (): URL =>
  new URL(Bun.isStandaloneExecutable ? "./windows/hns-worker.ts" : "./hns-worker.ts", import.meta.url);

type Pending = PromiseWithResolvers<HnsReply> & {
  readonly sinceMs: number;
  /** Who asked waits no longer. */
  left: boolean;
};

/** The worker stops a little before nobody waits for it any longer, so that its report of how far it came is heard. */
const budgetOf = (timeoutMs: number): number => timeoutMs * 0.9;

const seconds = (ms: number): string => `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;

/**
 * A worker that asks one question at a time. `busySinceMs` is undefined as soon as it has answered, or is gone. What it
 * answers when nobody waits any longer is kept: one reply, because nothing more is asked before it is taken.
 */
function createAsker(entry: URL, elapsedMs: () => number) {
  let worker: Worker | undefined;
  let pending: Pending | undefined;
  let late: HnsReply | undefined;

  const answer = (reply: HnsReply): void => {
    pending?.resolve(reply);
    pending = undefined;
  };
  const start = (): Worker => {
    const started = new Worker(entry, { smol: true });
    started.unref(); // A call that hangs must not keep the process.
    const gone = (problem: string): void => {
      if (worker !== started) return;
      worker = undefined;
      answer({ source: "hns-worker", message: `the worker that asks HNS is gone: ${problem}` });
    };
    started.addEventListener("message", ({ data }: MessageEvent<HnsReply>) => {
      if (pending?.left === true) late = data;
      answer(data);
    });
    started.addEventListener("error", ({ message }) => {
      gone(message.replace(/\s+/g, " "));
      started.terminate();
    });
    started.addEventListener("close", () => gone("it ended"));
    return started;
  };
  return {
    busySinceMs: (): number | undefined => pending?.sinceMs,
    ask(question: HnsQuestion): Promise<HnsReply> {
      pending = { ...Promise.withResolvers<HnsReply>(), sinceMs: elapsedMs(), left: false };
      const { promise } = pending;
      worker ??= start();
      worker.postMessage(question);
      return promise;
    },
    leave(): void {
      if (pending !== undefined) pending.left = true;
    },
    takeLate(): HnsReply | undefined {
      const reply = late;
      late = undefined;
      return reply;
    },
    /** Waits for no call that hangs: the thread ends with it, or with the process. */
    stop(): void {
      const stopped = worker;
      worker = undefined;
      answer({ source: "hns-worker", message: "HNS is no longer asked: the backend is closed" });
      stopped?.terminate();
    },
  };
}

/** Settles with the promise, or rejects when the time is over or the signal says so, whichever comes first. */
async function within<T>(promise: Promise<T>, timeoutMs: number, signal: AbortSignal): Promise<T> {
  const end = Promise.withResolvers<never>();
  const aborted = (): void => end.reject(signal.reason);
  const timer = setTimeout(() => {
    const message = `HNS has not answered within ${seconds(timeoutMs)}; is the service hns at work?`;
    end.reject(new HnsReadingError("hns-deadline", message));
  }, timeoutMs);
  signal.addEventListener("abort", aborted, { once: true });
  try {
    return await Promise.race([promise, end.promise]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", aborted);
  }
}

export function createHnsClient(options: HnsClientOptions): HnsClient {
  const { timeoutMs, endpointsMax, elapsedMs = () => performance.now() } = options;
  const { library = "vmcompute.dll", entry = entryPoint() } = options;
  const asker = createAsker(entry, elapsedMs);
  const failures = new Map<HnsFailure, number>(hnsFailures.map((source) => [source, 0]));
  const count = (failed: HnsFailed): void => {
    for (const source of hnsFailures)
      failures.set(source, (failures.get(source) ?? 0) + (failed[source] ?? 0));
  };
  let closed = false;

  const askWithin = async (signal: AbortSignal): Promise<HnsReply> => {
    const asked = asker.ask({ library, endpointsMax, budgetMs: budgetOf(timeoutMs) });
    try {
      return await within(asked, timeoutMs, signal);
    } catch (error) {
      asker.leave();
      throw error;
    }
  };
  const ask = async (signal: AbortSignal): Promise<HnsFindings> => {
    const busySinceMs = asker.busySinceMs();
    if (busySinceMs !== undefined) {
      const since = seconds(elapsedMs() - busySinceMs);
      const message = `HNS is still at work since ${since} on what it was asked before; is the service hns at work?`;
      throw new HnsReadingError("hns-deadline", message);
    }
    const reply = asker.takeLate() ?? (await askWithin(signal));
    if ("message" in reply) throw new HnsReadingError(reply.source, reply.message);
    count(reply.failed);
    return reply.findings;
  };
  return {
    async read(signal) {
      signal.throwIfAborted();
      if (closed) throw new Error("HNS is no longer asked: the backend is closed");
      try {
        const findings = await ask(signal);
        return {
          ...findings,
          failures: [...failures].map(([source, failed]) => ({ source, failures: failed })),
        };
      } catch (error) {
        if (error instanceof HnsReadingError) count({ [error.source]: 1 });
        throw error;
      }
    },
    [Symbol.asyncDispose]() {
      closed = true;
      asker.stop();
      return Promise.resolve();
    },
  };
}
