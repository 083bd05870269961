// Asks for performance counters through a worker: whoever asks waits for the deadline and no longer.

import type { PortSample } from "./performance-names.ts";

export type PerformanceReply =
  | { readonly ports: readonly PortSample[] }
  /** Why this machine has no such counters. */
  | { readonly absent: string }
  | { readonly failure: string };

export type PerformanceReader = Disposable & {
  /** Throws in one line when there was no answer in time, or an earlier question has none yet. */
  read(signal: AbortSignal): Promise<PerformanceReply>;
};

/** In the binary each entry point lies where it does below the root, and this module in the one of the process. */
const entryPoint = (): URL =>
  new URL(
    Bun.isStandaloneExecutable ? "./windows/performance-worker.ts" : "./performance-worker.ts",
    import.meta.url,
  );

type Thread = {
  readonly worker: Worker;
  asked: PromiseWithResolvers<PerformanceReply> | undefined;
};

function startThread(gone: () => void): Thread {
  const worker = new Worker(entryPoint(), { smol: true });
  worker.unref(); // A provider that hangs must not keep the process.
  const thread: Thread = { worker, asked: undefined };
  const answer = (reply: PerformanceReply): void => {
    thread.asked?.resolve(reply);
    thread.asked = undefined;
  };
  const end = (problem: string): void => {
    gone();
    answer({ failure: `the worker that reads performance counters is gone: ${problem}` });
  };
  worker.addEventListener("message", ({ data }: MessageEvent<PerformanceReply>) => answer(data));
  worker.addEventListener("error", ({ message }) => {
    end(message.replace(/\s+/g, " "));
    worker.terminate();
  });
  worker.addEventListener("close", () => end("it ended"));
  return thread;
}

export function createPerformanceReader({ timeoutMs }: { readonly timeoutMs: number }): PerformanceReader {
  let thread: Thread | undefined;
  const stop = (): void => {
    const stopped = thread;
    thread = undefined;
    stopped?.worker.terminate();
  };
  const started = (): Thread => {
    if (thread !== undefined) return thread;
    const fresh = startThread(() => {
      if (thread === fresh) thread = undefined;
    });
    thread = fresh;
    return fresh;
  };
  const ask = async (asking: Thread, signal: AbortSignal): Promise<PerformanceReply> => {
    const asked = Promise.withResolvers<PerformanceReply>();
    asking.asked = asked;
    const aborted = (): void => asked.reject(new Error("performance counters are not needed any more"));
    const late = new Error(`performance counters were not read within ${timeoutMs} ms`);
    const timer = setTimeout(() => asked.reject(late), timeoutMs);
    signal.addEventListener("abort", aborted);
    try {
      asking.worker.postMessage("read");
      return await asked.promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", aborted);
    }
  };
  return {
    async read(signal) {
      signal.throwIfAborted();
      // After the deadline the question is still open, until the thread has answered: no second one joins it.
      if (thread?.asked !== undefined)
        throw new Error("performance counters are still being read since an earlier round");
      const reply = await ask(started(), signal);
      if ("absent" in reply) stop(); // Nothing to read here: its memory is not kept.
      return reply;
    },
    [Symbol.dispose]: stop,
  };
}
