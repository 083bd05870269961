// Asks a running appliance through its API.

import { readFileSync } from "node:fs";
import { z } from "zod";
import { flowSchema } from "../api/schemas.ts";
import { errorText } from "../log.ts";
import { decodeText } from "../text-file.ts";
import { UsageError } from "./world.ts";

export type Server = {
  /** Scheme, host and port; no path. */
  readonly url: string;
  readonly tokenFile?: string;
  /** Authority of the server's certificate, where the system's do not know it. */
  readonly caFile?: string;
  /** What to show to a server that asks for mutual TLS. */
  readonly certFile?: string;
  readonly keyFile?: string;
};

/** A newer server may say more than this client knows: what it does not know, it passes over. */
export const knownFlow = z.object(flowSchema.shape);
export type Flow = z.output<typeof knownFlow>;

export type Client = {
  /** The answer of a path below `/api/v1`; throws Unreachable, Refused and UsageError. */
  get<Schema extends z.ZodType>(
    path: string,
    schema: Schema,
    query: URLSearchParams,
    signal: AbortSignal,
  ): Promise<z.output<Schema>>;
  /** Lines of an answer that goes on, as many at once as have come. Throws Unreachable when it breaks off. */
  lines(path: string, query: URLSearchParams, signal: AbortSignal): AsyncGenerator<readonly string[], void>;
  /** Sends a body of lines, with headers of its own. */
  post<Schema extends z.ZodType>(
    path: string,
    schema: Schema,
    sent: { readonly headers: Readonly<Record<string, string>>; readonly body: string },
    signal: AbortSignal,
  ): Promise<z.output<Schema>>;
};

/** Nobody answers, or not to the end: it may do so later. */
export class Unreachable extends Error {
  override readonly name = "Unreachable";
}

/** An answer that is none of what was asked for. */
export class Refused extends Error {
  override readonly name = "Refused";
  readonly status: number;
  /** What is wrong with the request, where one parameter is. */
  readonly parameter: string | undefined;
  constructor(message: string, { status, parameter }: { status: number; parameter?: string | undefined }) {
    super(message);
    this.status = status;
    this.parameter = parameter;
  }
}

/** Whether the next try may do better: nobody answers, or the fault is the appliance's, which may be starting. */
export const mayPass = (error: unknown): boolean =>
  error instanceof Unreachable || (error instanceof Refused && error.status >= 500);

const failureSchema = z.object({
  error: z.object({
    parameter: z.string().optional(),
    line: z.number().optional(),
    message: z.string(),
  }),
});

const answerMs = 30_000;
// Three heartbeats of a stream.
const silentMs = 45_000;

// Without it Bun sends the request, token included, to the proxy that HTTP_PROXY names, even for loopback. An object
// because Bun's types know of no `false` here.
const direct: object = { proxy: false };

function readText(path: string, what: string): string {
  try {
    return decodeText(readFileSync(path));
  } catch (error) {
    throw new Error(`${what} ${path} cannot be read: ${errorText(error)}`, { cause: error });
  }
}

function tlsOf({ caFile, certFile, keyFile }: Server): { tls?: Record<string, string> } {
  const tls = {
    ...(caFile === undefined ? {} : { ca: readText(caFile, "--ca") }),
    ...(certFile === undefined ? {} : { cert: readText(certFile, "--cert") }),
    ...(keyFile === undefined ? {} : { key: readText(keyFile, "--key") }),
  };
  return Object.keys(tls).length === 0 ? {} : { tls };
}

// What went wrong, as Bun words it, to what helps.
const remedies: readonly (readonly [RegExp, string])[] = [
  [/refused/i, "is fovea running there? Start it, or name another with --server"],
  [/handshake/i, "it may want https://, or for mutual TLS --cert and --key"],
  [/certificate/i, "its certificate is not trusted; name its authority with --ca"],
  // So does a TLS server that is spoken to in the clear.
  [
    /ECONNRESET|closed unexpectedly/i,
    "it closed the connection; it may have ended, or want https://, or for mutual TLS --cert and --key",
  ],
];

/** What Bun advises the author of a program says nothing to its user. */
const advice = /\.? For more information, pass `verbose.*$/;

function unreachable(url: string, error: unknown): Unreachable {
  const told = errorText(error);
  const why = remedies.find(([pattern]) => pattern.test(told))?.[1] ?? told.replace(advice, "");
  return new Unreachable(`${url} does not answer: ${why}`);
}

/** What a refusal means for the one who typed the command. */
function refusal(url: string, status: number, body: string, token: boolean): Error {
  const { data } = failureSchema.safeParse(parsed(body));
  const { parameter, line, message = `status ${status}` } = data?.error ?? {};
  if (status === 401)
    return new Refused(
      `${url} ${token ? "does not accept the token" : "needs a token"}; name its file with --token-file`,
      { status },
    );
  // A cursor and the headers of an import are ours: no flag sets them.
  if (status === 400 && parameter !== undefined && !/^(cursor|fovea-.*)$/.test(parameter))
    return new UsageError(`--${parameter.replace(/[A-Z]/g, "-$&").toLowerCase()} ${message}`);
  const place = line === undefined ? (parameter ?? "") : `line ${line}`;
  return new Refused(`${url} answers: ${place} ${message}`.replace("  ", " "), { status, parameter });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // No JSON: the caller says what it asked and what status came back.
  }
}

/** Sends a request; an answer that is none of success is thrown. */
type Ask = (path: string, given: RequestInit, signal: AbortSignal) => Promise<Response>;

function createAsk(server: Server): Ask {
  const token = server.tokenFile === undefined ? undefined : readText(server.tokenFile, "token file").trim();
  const authorization: Record<string, string> =
    token === undefined ? {} : { Authorization: `Bearer ${token}` };
  const tls = tlsOf(server);
  return async (path, { headers, ...given }, signal) => {
    const response = await fetch(`${server.url}/api/v1/${path}`, {
      ...given,
      headers: { ...(headers as Record<string, string>), ...authorization },
      signal,
      ...direct,
      redirect: "error", // The token is meant for this server alone.
      ...tls,
    });
    if (response.ok) return response;
    throw refusal(server.url, response.status, await response.text(), token !== undefined);
  };
}

const isTold = (error: unknown): boolean => error instanceof Refused || error instanceof UsageError;

export function createClient(server: Server): Client {
  const ask = createAsk(server);
  const whole = async <Schema extends z.ZodType>(
    path: string,
    schema: Schema,
    given: RequestInit,
    signal: AbortSignal,
  ): Promise<z.output<Schema>> => {
    let body: string;
    try {
      const limited = AbortSignal.any([signal, AbortSignal.timeout(answerMs)]);
      body = await (await ask(path, given, limited)).text();
    } catch (error) {
      signal.throwIfAborted();
      throw isTold(error) ? error : unreachable(server.url, error);
    }
    const answer = schema.safeParse(parsed(body));
    if (answer.success) return answer.data;
    throw new Error(`${server.url} answers, but not as fovea does: is it another program?`);
  };
  const json = { Accept: "application/json" };
  return {
    get: (path, schema, query, signal) => whole(`${path}?${query}`, schema, { headers: json }, signal),
    post: (path, schema, { headers, body }, signal) =>
      whole(path, schema, { method: "POST", headers: { ...json, ...headers }, body }, signal),
    lines: (path, query, signal) => readLines(server.url, ask, `${path}?${query}`, signal),
  };
}

/** Lines as they come. A connection that is silent for too long is taken for dead. */
async function* readLines(
  url: string,
  ask: Ask,
  path: string,
  stop: AbortSignal,
): AsyncGenerator<readonly string[], void> {
  using silence = createSilence(silentMs);
  const signal = AbortSignal.any([stop, silence.signal]);
  const decoder = new TextDecoder();
  let rest = "";
  try {
    const { body } = await ask(path, { headers: { Accept: "application/x-ndjson" } }, signal);
    for await (const chunk of body ?? []) {
      silence.broken();
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      if (lines.length > 0) yield lines;
    }
  } catch (error) {
    stop.throwIfAborted();
    throw isTold(error) ? error : unreachable(url, error);
  }
}

function createSilence(ms: number): Disposable & { readonly signal: AbortSignal; broken(): void } {
  const controller = new AbortController();
  const abort = () => controller.abort(new Error(`nothing came for ${ms / 1000} s`));
  let timer = setTimeout(abort, ms);
  return {
    signal: controller.signal,
    broken: () => {
      clearTimeout(timer);
      timer = setTimeout(abort, ms);
    },
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}
