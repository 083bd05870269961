// Where a verb writes: a stream, its width, and what happens when nobody reads it any more.

import { fstatSync, openSync } from "node:fs";
import { type Tty, type TtyStream, ttyOf } from "./screen.ts";
import { harmlessJson } from "./terminal.ts";

export type Output = {
  /** Resolves when the text is handed over; throws ClosedOutput when the reader has gone. */
  write(text: string): Promise<void>;
  /** Width of the terminal; absent when it is none. */
  readonly columns?: number;
  readonly colours: boolean;
  /** Aborts when the reader goes, also while nothing is written; absent where that cannot be told. */
  readonly gone?: () => AbortSignal;
  /** Of a terminal: the whole screen. */
  readonly tty?: Tty;
};

/** The reader has gone, as in `fovea flows | head`: nothing to report. */
export class ClosedOutput extends Error {
  override readonly name = "ClosedOutput";
}

type Stream = {
  readonly fd?: number;
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  write(text: string, done: (error?: Error | null) => void): boolean;
  on(event: "error" | "resize", listener: (error: Error) => void): unknown;
  off?(event: "resize", listener: () => void): unknown;
};

const isTty = (stream: Stream): stream is Stream & TtyStream =>
  stream.isTTY === true && stream.fd !== undefined && stream.off !== undefined;

const isClosed = (error: Error): boolean =>
  "code" in error && (error.code === "EPIPE" || error.code === "ERR_STREAM_DESTROYED");

function isPipe(fd: number): boolean {
  try {
    return process.platform === "linux" && fstatSync(fd).isFIFO();
  } catch {
    return false; // Closed from the beginning, as by `>&-`.
  }
}

/**
 * A write to a pipe without a reader fails, but `fovea flows --follow | head -1` may have nothing to write for long. The
 * kernel tells at once those who watch the pipe; this watches through a descriptor of its own.
 */
function watchReader(fd: number): AbortSignal {
  const controller = new AbortController();
  const ignore = () => undefined;
  const close = () => controller.abort(new ClosedOutput("the reader has gone"));
  const socket = { open: ignore, data: ignore, drain: ignore, error: ignore, close };
  const watch = async (): Promise<void> => {
    try {
      const options: Bun.FdSocketOptions = { fd: openSync(`/proc/self/fd/${fd}`, "w"), socket };
      // Bun has types for these options, and no overload that takes them.
      await Bun.connect(options as unknown as Bun.UnixSocketOptions);
    } catch {
      // Not to be watched: then the next write tells.
    }
  };
  void watch();
  return controller.signal;
}

/** NO_COLOR counts when it is not empty, as https://no-color.org has it. */
export function streamOutput(stream: Stream, env: Readonly<Record<string, string | undefined>>): Output {
  const terminal = stream.isTTY === true;
  const noColour = (env["NO_COLOR"] ?? "") !== "" || env["TERM"] === "dumb";
  // Without a listener an EPIPE would end the process with a stack; the callback below tells of it.
  stream.on("error", () => undefined);
  return {
    write: (text) =>
      new Promise((resolve, reject) => {
        stream.write(text, (error) => {
          if (error === undefined || error === null) resolve();
          else reject(isClosed(error) ? new ClosedOutput(error.message) : error);
        });
      }),
    colours: terminal && !noColour,
    ...(stream.fd !== undefined && isPipe(stream.fd) ? { gone: () => watchReader(stream.fd ?? 1) } : {}),
    ...(terminal ? { columns: stream.columns || 80 } : {}),
    ...(isTty(stream) ? { tty: ttyOf(stream) } : {}),
  };
}

/** Prints a value as indented JSON, and one line feed. */
export const printJson = (output: Output, value: unknown): Promise<void> =>
  output.write(`${harmlessJson(value, 2)}\n`);

export const printLines = (output: Output, lines: readonly string[]): Promise<void> =>
  output.write(lines.map((line) => `${line}\n`).join(""));
