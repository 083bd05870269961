// The log: structured lines on stderr, limited by message, without secrets.

import { writeSync } from "node:fs";

/** What went wrong, with its causes, on one line. */
export function errorText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? "" : errorText(error.cause);
  const message = error.message === "" ? error.name : error.message;
  return cause === "" || message.includes(cause) ? message : `${message}: ${cause}`;
}

const logLevels = ["debug", "info", "warn", "error"] as const;
/** warn: nothing was lost. error: something was. */
export type LogLevel = (typeof logLevels)[number];
export type LogFormat = "json" | "text";
/** The names of the line's own parts are taken. */
export type LogFields = Readonly<Record<string, unknown>> & {
  readonly time?: never;
  readonly level?: never;
  readonly message?: never;
};

/** `message` is constant text, because lines are limited by it; what varies stands in the fields. */
export type Log = {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  setLevel(level: LogLevel): void;
  setFormat(format: LogFormat): void;
  /** Tells what was suppressed and not yet told. */
  flush(): void;
  /** Lines that the limit held back, and lines that could not be written. */
  counts(): { readonly suppressed: number; readonly lost: number };
};

// Of one message: this many lines in this time.
const burstMax = 10;
const windowMs = 10_000;
const messagesMax = 1024;
const valueCharsMax = 2048;

const secretName = /(token|secret|passw(or)?d|authorization|cookie|credential|api_?key|private_?key)s?$/i;

/** Hides what a client or a user may have put into a text: bearer tokens, passwords of URLs. */
const withoutSecrets = (text: string): string =>
  text
    .replace(/\b(bearer|basic)\s+[\w.~+/=-]{8,}/gi, "$1 [hidden]")
    .replace(/(:\/\/[^/\s:@]*):[^/\s@]+@/g, "$1:[hidden]@");

/** A text, a number or a boolean: what stands in a field. */
function plainValue(name: string, value: unknown): unknown {
  if (secretName.test(name)) return "[hidden]";
  if (value instanceof Error) return plainValue(name, errorText(value));
  if (typeof value === "string") {
    const shown = withoutSecrets(value);
    return shown.length > valueCharsMax ? `${shown.slice(0, valueCharsMax)}…` : shown;
  }
  if (typeof value === "bigint" || typeof value === "symbol" || typeof value === "function")
    return String(value);
  return typeof value === "object" && value !== null
    ? plainValue(name, JSON.stringify(value, plainInside))
    : value;
}

const plainInside = (name: string, value: unknown): unknown =>
  typeof value === "object" && !(value instanceof Error) && !secretName.test(name)
    ? value
    : plainValue(name, value);

type Line = {
  readonly level: LogLevel;
  readonly at: number;
  readonly message: string;
  readonly fields: LogFields;
};

const jsonLine = ({ level, at, message, fields }: Line): string =>
  JSON.stringify({ time: new Date(at).toISOString(), level, message, ...fields });

// Whatever could end the line, move the cursor or be taken for another field is quoted.
const textValue = (value: unknown): string =>
  typeof value === "string" && !/^[\w./:@%+*[\]-]+$/.test(value) ? JSON.stringify(value) : String(value);

const textLine = ({ level, at, message, fields }: Line): string => {
  const shown = Object.entries(fields).map(([name, value]) => ` ${name}=${textValue(value)}`);
  return `${new Date(at).toISOString()} ${level.toUpperCase().padEnd(5)} ${message}${shown.join("")}`;
};

const printers = { json: jsonLine, text: textLine } as const;

type Window = { since: number; lines: number; suppressed: number; level: LogLevel };

/** Decides which lines of a message may pass. */
function createLimit(now: () => number) {
  const windows = new Map<string, Window>();
  const windowOf = (message: string, level: LogLevel): Window => {
    // Past the bound, all further messages share one window.
    const key = windows.has(message) || windows.size < messagesMax ? message : "";
    const known = windows.get(key);
    if (known !== undefined) return known;
    const opened = { since: now(), lines: 0, suppressed: 0, level };
    windows.set(key, opened);
    return opened;
  };
  return {
    /** How many lines were suppressed before this one; undefined when this one is suppressed too. */
    pass: (message: string, level: LogLevel): number | undefined => {
      const window = windowOf(message, level);
      const suppressed = window.suppressed;
      // A clock that was set back opens a new window too.
      if (Math.abs(now() - window.since) >= windowMs) Object.assign(window, { since: now(), lines: 0 });
      window.lines += 1;
      window.suppressed = window.lines > burstMax ? suppressed + 1 : 0;
      return window.lines > burstMax ? undefined : suppressed;
    },
    /** Every message with suppressed lines that no later line has told of. */
    pending: (): readonly { message: string; level: LogLevel; suppressed: number }[] => {
      const held = [...windows].filter(([, window]) => window.suppressed > 0);
      return held.map(([message, window]) => {
        const { suppressed, level } = window;
        window.suppressed = 0;
        return { message: message === "" ? "other messages" : message, level, suppressed };
      });
    },
  };
}

/** `write` gets whole lines; one that it throws on is counted as lost. */
export function createLog(options: {
  readonly level: LogLevel;
  readonly format: LogFormat;
  readonly now: () => number;
  readonly write: (line: string) => void;
}): Log {
  const { now, write } = options;
  const limit = createLimit(now);
  let print = printers[options.format];
  let levelMin = logLevels.indexOf(options.level);
  let suppressed = 0;
  let lost = 0;
  const put = (level: LogLevel, message: string, fields: LogFields) => {
    try {
      const plain = Object.entries(fields).map(([name, value]) => [name, plainValue(name, value)]);
      write(`${print({ level, at: now(), message, fields: Object.fromEntries(plain) })}\n`);
    } catch {
      lost += 1; // A log that cannot be written must not stop what it tells of; the metric has the count.
    }
  };
  const line =
    (level: LogLevel) =>
    (message: string, fields: LogFields = {}) => {
      if (logLevels.indexOf(level) < levelMin) return;
      const before = limit.pass(message, level);
      if (before === undefined) suppressed += 1;
      else put(level, message, before === 0 ? fields : { ...fields, suppressed: before });
    };
  return {
    debug: line("debug"),
    info: line("info"),
    warn: line("warn"),
    error: line("error"),
    setLevel: (level) => {
      levelMin = logLevels.indexOf(level);
    },
    setFormat: (format) => {
      print = printers[format];
    },
    flush: () => {
      for (const held of limit.pending()) put(held.level, held.message, { suppressed: held.suppressed });
    },
    counts: () => ({ suppressed, lost }),
  };
}

/** Descriptor 2, at once: the last line before an exit is written too. */
export function writeStderr(line: string): void {
  writeSync(2, line);
}
