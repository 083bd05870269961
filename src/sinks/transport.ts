// One HTTP request over the TLS and the proxy of a sink, its answer read with a bound and within a time.

import type { Env } from "../config.ts";
import { plainBody } from "./content-coding.ts";
import { ProxyError, type ProxySetting, proxyFor } from "./proxy.ts";
import { reasonOf } from "./secret-file.ts";
import { TlsFileError, type TlsSettings } from "./tls-files.ts";
import type { TransportFailure } from "./transport-errors.ts";
import { failureOf } from "./transport-errors.ts";
import type { Answer } from "./web-reply.ts";

/** Of an answer; the rest is dropped, and the connection with it. */
export const bodyBytesMax = 65_536;

// Load balancers let go of idle connections after one to four minutes.
const idleSeconds = 50;
const idleSocketsMax = 4;

export type TransportRequest = {
  readonly url: string;
  readonly method: string;
  readonly headers: Headers;
  readonly body?: Uint8Array<ArrayBuffer> | string;
  /** Ends the request, wherever it is; it then throws the signal's reason. */
  readonly signal: AbortSignal;
};

export type Transport = Disposable & {
  /** Throws TransportError. Redirects are not followed. */
  send(request: TransportRequest): Promise<Answer>;
};

/** No answer: the message names the place without its query, and what to do. */
export class TransportError extends Error {
  readonly code: TransportFailure["code"];
  constructor({ code, message }: TransportFailure, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Without user, query and fragment, which may hold secrets. */
export function shownUrl(url: string): string {
  if (!URL.canParse(url)) return "(no URL)";
  const { protocol, host, pathname } = new URL(url);
  return `${protocol}//${host}${pathname}`;
}

/** The promise, or the reason of the signal as soon as it aborts, even where the work itself does not heed it. */
export async function until<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort);
  if (signal.aborted) onAbort();
  work.then(resolve, reject);
  try {
    return await promise;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

async function readBody(response: Response, signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  const reader = response.body?.getReader();
  if (reader === undefined) return new Uint8Array();
  const parts: Uint8Array[] = [];
  let length = 0;
  let ended = false;
  while (!ended && length < bodyBytesMax) {
    const { done, value } = await until(signal, reader.read());
    ended = done;
    if (done) break;
    parts.push(value);
    length += value.byteLength;
  }
  // The rest is not read: this closes the connection.
  if (!ended) await until(signal, reader.cancel());
  const body = new Uint8Array(Math.min(length, bodyBytesMax));
  let offset = 0;
  for (const part of parts) {
    body.set(part.subarray(0, bodyBytesMax - offset), offset);
    offset += part.byteLength;
  }
  return body;
}

/** Bun's own reading of the environment is turned off: it knows neither `none` nor our exemptions. */
const proxyOption = (proxy: string | undefined): Bun.FetchProxyOption =>
  proxy === undefined ? false : { url: proxy, respectNoProxy: false };

/** Bun unpacks an answer before it can be bounded, whatever was asked for. Its types do not know that it need not. */
const fixed = { redirect: "manual", decompress: false } as const;

/** No file is read for a request without TLS. */
const plain: TlsSettings = {};

const openSession = ({ ca, cert, key, serverName }: TlsSettings): Bun.FetchSession =>
  new Bun.FetchSession({
    tls: {
      // Whatever NODE_TLS_REJECT_UNAUTHORIZED says.
      rejectUnauthorized: true,
      ...(ca === undefined ? {} : { ca: [...ca] }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
      ...(serverName === undefined ? {} : { serverName }),
    },
    keepAlive: { idleTimeout: idleSeconds, maxIdleSockets: idleSocketsMax },
  });

/** `tls` gives another object when a file has changed: connections of the old one are not used again. */
export function openTransport(options: {
  readonly tls: () => TlsSettings;
  readonly proxy: ProxySetting;
  readonly env: Env;
}): Transport {
  let current: { readonly tls: TlsSettings; readonly session: Bun.FetchSession } | undefined;
  const sessionFor = (url: string): Bun.FetchSession => {
    const tls = /^https:/i.test(url) ? options.tls() : plain;
    if (current?.tls !== tls) {
      current?.session.close();
      current = { tls, session: openSession(tls) };
    }
    return current.session;
  };
  const send = async ({ url, signal, method, headers, body }: TransportRequest): Promise<Answer> => {
    const place = `${method} ${shownUrl(url)}`;
    let through = "";
    try {
      const proxy = proxyFor(options.proxy, options.env, url);
      if (proxy !== undefined) through = ` through the proxy ${new URL(proxy).host}`;
      const request = { method, headers, signal, ...fixed, proxy: proxyOption(proxy) };
      const sent = sessionFor(url).fetch(url, body === undefined ? request : { ...request, body });
      const response = await until(signal, sent);
      return {
        status: response.status,
        headers: response.headers,
        body: await plainBody(await readBody(response, signal), response.headers, bodyBytesMax),
      };
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      const { code, message } = error instanceof TransportError ? error : explained(error);
      throw new TransportError({ code, message: `${place}${through}: ${message}` }, { cause: error });
    }
  };
  return { send, [Symbol.dispose]: () => current?.session.close() };
}

function explained(error: unknown): TransportFailure {
  if (error instanceof TlsFileError) return { code: "tls", message: reasonOf(error) };
  if (error instanceof ProxyError) return { code: "network", message: reasonOf(error) };
  return failureOf(error);
}
