// The HTTP client of the sinks: one POST with credentials, TLS, proxy and a time, whose failures are outcomes.

import type { Env } from "../config.ts";
import { openAuth } from "./auth.ts";
import type { WebSinkConfig } from "./schema.ts";
import { CredentialError } from "./secret-file.ts";
import type { Outcome } from "./sink.ts";
import { openTlsFiles } from "./tls-files.ts";
import { openTransport, shownUrl, TransportError, until } from "./transport.ts";
import type { Answer, Web } from "./web-reply.ts";

// A slower answer tells too little about the moment at which the receiver read its clock.
const skewElapsedMaxMs = 5000;
// Date has whole seconds: on average it is this much behind.
const dateMeanErrorMs = 500;

type Again = Extract<Outcome, { kind: "again" }>;
type Request = Parameters<Web["post"]>[0];

type Deadline = Disposable & { readonly signal: AbortSignal; readonly isOver: () => boolean };

/** Aborts when `abort` does or after the time; lets go of `abort`, which outlives many requests. */
function openDeadline(abort: AbortSignal, timeoutMs: number): Deadline {
  const controller = new AbortController();
  let over = false;
  const onAbort = () => controller.abort(abort.reason);
  const timer = setTimeout(() => {
    over = true;
    controller.abort(new DOMException("time is over", "TimeoutError"));
  }, timeoutMs);
  abort.addEventListener("abort", onAbort);
  if (abort.aborted) onAbort();
  return {
    signal: controller.signal,
    isOver: () => over,
    [Symbol.dispose]: () => {
      clearTimeout(timer);
      abort.removeEventListener("abort", onAbort);
    },
  };
}

function headersOf(
  configured: WebSinkConfig["headers"],
  request: Request["headers"],
  fixed: {
    readonly agent: string;
    readonly secret: { readonly name: string; readonly value: string | undefined };
  },
): Headers {
  // Answers are short: compressed ones only cost.
  const headers = new Headers({ "User-Agent": fixed.agent, "Accept-Encoding": "identity" });
  for (const given of [configured, request])
    for (const [name, value] of Object.entries(given)) headers.set(name, value);
  const { name, value } = fixed.secret;
  if (value !== undefined) headers.set(name, value);
  return headers;
}

function failed(error: unknown, place: string, timeoutMs: number, deadline: Deadline): Again {
  if (deadline.isOver()) {
    const message = `${place}: no whole answer within ${timeoutMs / 1000} s; see timeout of this sink`;
    return { kind: "again", code: "timeout", reason: "timeout", message };
  }
  if (deadline.signal.aborted)
    return { kind: "again", code: "network", reason: "other", message: `${place}: stopped before an answer` };
  if (error instanceof CredentialError)
    return { kind: "again", code: "auth", reason: "auth", message: `${place}: ${error.message}` };
  if (error instanceof TransportError)
    return { kind: "again", code: error.code, reason: error.code, message: error.message };
  // What is thrown here speaks of the request itself; it is named, not quoted, as it may quote a header.
  const message = `${place}: the request cannot be made (${error instanceof Error ? error.name : typeof error})`;
  return { kind: "again", code: "network", reason: "other", message };
}

/** How far our clock is ahead of that of an answer. */
function skewOf({ headers }: Answer, now: number, elapsedMs: number): number | undefined {
  const theirs = Date.parse(headers.get("date") ?? "");
  if (Number.isNaN(theirs) || elapsedMs >= skewElapsedMaxMs) return undefined;
  return Math.round(now - elapsedMs / 2 - (theirs + dateMeanErrorMs));
}

export function openWeb(options: {
  readonly config: WebSinkConfig;
  readonly version: string;
  /** Epoch milliseconds. */
  readonly now: () => number;
  readonly env: Env;
  /** Of an Entra token, as in the public cloud; for the others its domain is replaced. */
  readonly scope?: string;
}): Web {
  const { config, now, env } = options;
  const transport = openTransport({ tls: openTlsFiles(config.tls), proxy: config.proxy, env });
  const credentials = openAuth(options);
  const agent = `fovea/${options.version}`;
  let clockSkewMs: number | undefined;

  const answerTo = async ({ url, headers, body }: Request & { url: string }, signal: AbortSignal) => {
    const value = await until(signal, credentials.header(signal));
    const secret = { name: credentials.name, value };
    const given = headersOf(config.headers, headers, { agent, secret });
    const startMs = performance.now();
    const answer = await transport.send({ url, method: "POST", headers: given, body, signal });
    clockSkewMs = skewOf(answer, now(), performance.now() - startMs) ?? clockSkewMs;
    if (answer.status === 401) credentials.rejected();
    return answer;
  };
  return {
    post: async (request) => {
      const url = request.url ?? config.url;
      using deadline = openDeadline(request.abort, config.timeout);
      try {
        return await answerTo({ ...request, url }, deadline.signal);
      } catch (error) {
        return failed(error, `POST ${shownUrl(url)}`, config.timeout, deadline);
      }
    },
    facts: () => ({ ...credentials.facts(), ...(clockSkewMs === undefined ? {} : { clockSkewMs }) }),
    [Symbol.asyncDispose]: () => {
      credentials[Symbol.dispose]();
      transport[Symbol.dispose]();
      return Promise.resolve();
    },
  };
}
