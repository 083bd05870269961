// Runs a tool of the system directory with bounds: one process at a time, so long, so much output, and then it is ended.

import { systemPath } from "./system.ts";

export type SpawnProblem = "missing" | "denied" | "timeout" | "output" | "aborted" | "busy" | "failed";

/** A tool that gave no answer at all. An exit code other than 0 is an answer. */
export class SpawnError extends Error {
  readonly problem: SpawnProblem;
  constructor(problem: SpawnProblem, message: string, options?: ErrorOptions) {
    super(message, options);
    this.problem = problem;
  }
}

export type SpawnRequest = {
  /** A bare name in the system directory. */
  readonly file: string;
  readonly arguments: readonly string[];
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
};

export type SpawnAnswer = {
  readonly exitCode: number;
  readonly output: Uint8Array;
  /** What it wrote to its error output; kept to the same bound. */
  readonly errors: Uint8Array;
};

export type Spawner = { run(request: SpawnRequest): Promise<SpawnAnswer> };

/** The counters of one port take some 2 kB; those of all components of a large host some 200. */
const outputBytesMax = 4 * 2 ** 20;

/** A process that a driver holds in the kernel does not end when it is told to; nobody waits longer than this for it. */
const endMsMax = 2000;

/** What a tool needs of the environment; ours may hold secrets of sinks. */
const passedOn = ["SystemRoot", "SystemDrive", "windir", "ProgramData", "TEMP", "TMP"] as const;

const environment = (): Record<string, string> =>
  Object.fromEntries(passedOn.map((name) => [name, process.env[name] ?? ""]).filter(([, text]) => text));

function startProcess({ file, arguments: list }: SpawnRequest) {
  try {
    return Bun.spawn([systemPath(file), ...list], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      env: environment(),
      windowsHide: true,
    });
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    const problem =
      code === "ENOENT" ? "missing" : code === "EACCES" || code === "EPERM" ? "denied" : "failed";
    const why = problem === "missing" ? "it is not in the system directory" : `${error}`;
    throw new SpawnError(problem, `${file} cannot be started: ${why}`, { cause: error });
  }
}

type Process = ReturnType<typeof startProcess>;

/** Stops at the bound, and when `stop` does: what a process left behind may keep the pipe open for ever. */
async function readBounded(stream: ReadableStream<Uint8Array>, stop: AbortSignal): Promise<Uint8Array> {
  const reader = stream.getReader();
  const cancel = (): void => void Promise.allSettled([reader.cancel()]); // What becomes of the rest is of no interest.
  stop.addEventListener("abort", cancel);
  const chunks: Uint8Array[] = [];
  try {
    for (let bytes = 0; ; ) {
      const { done, value } = await reader.read();
      if (done) return Buffer.concat(chunks);
      bytes += value.length;
      if (bytes > outputBytesMax)
        throw new SpawnError("output", `it wrote more than ${outputBytesMax} bytes`);
      chunks.push(value);
    }
  } finally {
    stop.removeEventListener("abort", cancel);
  }
}

type Outcome = { readonly answer: SpawnAnswer } | { readonly error: unknown };

/** Gives the error when the time is up or the caller has no more use for an answer. */
function deadline({ timeoutMs, signal }: SpawnRequest): Disposable & { readonly passed: Promise<Outcome> } {
  const { promise, resolve } = Promise.withResolvers<Outcome>();
  const pass = (problem: SpawnProblem, message: string): void =>
    resolve({ error: new SpawnError(problem, message) });
  const timer = setTimeout(() => pass("timeout", `it did not end within ${timeoutMs} ms`), timeoutMs);
  const abort = (): void => pass("aborted", "it is not needed any more");
  signal?.addEventListener("abort", abort);
  return {
    passed: promise,
    [Symbol.dispose]() {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    },
  };
}

async function readAll({ stdout, stderr, exited }: Process, stop: AbortSignal): Promise<Outcome> {
  try {
    const [output, errors, exitCode] = await Promise.all([
      readBounded(stdout, stop),
      readBounded(stderr, stop),
      exited,
    ]);
    return { answer: { exitCode, output, errors } };
  } catch (error) {
    return { error };
  }
}

async function answerOf(child: Process, request: SpawnRequest): Promise<SpawnAnswer> {
  using limit = deadline(request);
  const stop = new AbortController();
  const outcome = await Promise.race([readAll(child, stop.signal), limit.passed]);
  if ("answer" in outcome) return outcome.answer;
  const { error } = outcome;
  stop.abort();
  child.kill(9);
  await Promise.race([child.exited, Bun.sleep(endMsMax)]);
  if (!(error instanceof SpawnError)) throw error;
  throw new SpawnError(error.problem, `${request.file} was ended: ${error.message}`, { cause: error });
}

/** Never more than one process: a request while another runs, or one that would not end is still there, is refused. */
export function createSpawner(): Spawner {
  let current: Process | undefined;
  return {
    async run(request) {
      if (current !== undefined && current.exitCode === null && current.signalCode === null) {
        const before = `the one before (process ${current.pid}) still runs`;
        throw new SpawnError("busy", `${request.file} was not started: ${before}`);
      }
      if (request.signal?.aborted === true)
        throw new SpawnError("aborted", `${request.file} was not started: it is not needed any more`);
      current = startProcess(request);
      return await answerOf(current, request);
    },
  };
}

/** For messages: the first line that says something, of what a tool wrote. */
export function firstLine(bytes: Uint8Array): string {
  const line = decodeOutput(bytes)
    .split(/\r?\n/)
    .map((text) => text.trim())
    .find((text) => text !== "");
  return (line ?? "").slice(0, 200);
}

const zeroShare = (bytes: Uint8Array): number => {
  const head = bytes.subarray(0, 256);
  return head.filter((byte) => byte === 0).length / Math.max(1, head.length);
};

/**
 * Tools write UTF-8, UTF-16 or the code page of the console, and do not say which. Names and numbers are ASCII in all of
 * them; texts of other languages may come out as replacement characters.
 */
export function decodeOutput(bytes: Uint8Array): string {
  const marked = bytes[0] === 0xff && bytes[1] === 0xfe;
  const encoding = marked || zeroShare(bytes) > 0.3 ? "utf-16le" : "utf-8";
  return new TextDecoder(encoding).decode(bytes);
}
