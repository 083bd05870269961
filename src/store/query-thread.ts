// The thread of the query worker: starts it, matches answers with questions, and tells when it is gone.

import { StoreUnreadableError } from "./failure.ts";
import type { EndRequest, Question, Reply } from "./query-message.ts";

export type QueryThread = {
  /** Rejects with StoreUnreadableError when the thread ends without an answer. */
  ask(question: Omit<Question, "id">): Promise<Reply>;
  /** Rejects what waits. */
  abandon(message: string): void;
  /** Answers what was asked, then ends. Resolves when the thread is gone. */
  end(): Promise<void>;
};

/** For an end that was asked for; then the thread is stopped wherever it is. */
const endMsMax = 2000;

/** Of the worker. In the binary each entry point lies where it does in the checkout, and this module beside them all. */
export const entryPoint = (): URL =>
  new URL(Bun.isStandaloneExecutable ? "./src/store/query-worker.ts" : "./query-worker.ts", import.meta.url);

export function startThread({
  entry,
  ended,
}: {
  readonly entry: URL;
  /** Called once, whatever ended the thread. */
  readonly ended: () => void;
}): QueryThread {
  const worker = new Worker(entry, { smol: true });
  const waiting = new Map<number, PromiseWithResolvers<Reply>>();
  const gone = Promise.withResolvers<void>();
  let problem = "it ended";
  let lastId = 0;

  const abandon = (message: string): void => {
    for (const asked of waiting.values()) asked.reject(new StoreUnreadableError(message));
    waiting.clear();
  };

  worker.addEventListener("message", ({ data }: MessageEvent<Reply>) => {
    waiting.get(data.id)?.resolve(data);
    waiting.delete(data.id);
  });
  worker.addEventListener("error", ({ message }) => {
    problem = message;
    worker.terminate();
  });
  worker.addEventListener("close", () => {
    abandon(`The query worker is gone: ${problem}`);
    ended();
    gone.resolve();
  });
  return {
    ask(question) {
      const asked = Promise.withResolvers<Reply>();
      waiting.set(++lastId, asked);
      worker.postMessage({ ...question, id: lastId } satisfies Question);
      return asked.promise;
    },
    abandon,
    async end() {
      worker.postMessage({ end: true } satisfies EndRequest);
      const timer = setTimeout(() => worker.terminate(), endMsMax);
      await gone.promise;
      clearTimeout(timer);
    },
  };
}
