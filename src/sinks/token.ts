// A token in use: fetched once for all that wait, renewed before it ends while the old one still serves.

import type { Credentials } from "./auth.ts";
import { until } from "./transport.ts";

export type Token = {
  readonly token: string;
  /** Epoch milliseconds. */
  readonly expiresAt: number;
  /** The issuer wants it renewed from then on. */
  readonly refreshAt?: number;
};

/** A renewal in the background has nobody to throw to. */
type Fetched = { readonly token: Token } | { readonly error: unknown };

const renewBeforeMs = 300_000;
// What is sent now must arrive before the token ends.
const marginMs = 30_000;
// Between renewals in the background that fail.
const pauseMs = 30_000;

/** `fetchToken` rejects with CredentialError; its signal aborts after `timeoutMs` and at the end. */
export function openTokens(options: {
  readonly fetchToken: (signal: AbortSignal) => Promise<Token>;
  readonly now: () => number;
  readonly timeoutMs: number;
}): Credentials {
  const { now } = options;
  const ended = new AbortController();
  let token: Token | undefined;
  let running: Promise<Fetched> | undefined;
  let renewNotBefore = 0;
  let tokenErrors = 0;

  const fetchOnce = async (): Promise<Fetched> => {
    const timeout = new AbortController();
    const late = new Error(`no answer within ${options.timeoutMs / 1000} s`);
    const timer = setTimeout(() => timeout.abort(late), options.timeoutMs);
    try {
      token = await options.fetchToken(AbortSignal.any([ended.signal, timeout.signal]));
      return { token };
    } catch (error) {
      tokenErrors += 1;
      renewNotBefore = now() + pauseMs;
      return { error };
    } finally {
      clearTimeout(timer);
      running = undefined;
    }
  };
  const fetching = (): Promise<Fetched> => {
    running ??= fetchOnce();
    return running;
  };
  const isDue = ({ expiresAt, refreshAt = Number.POSITIVE_INFINITY }: Token): boolean =>
    now() >= Math.min(expiresAt - renewBeforeMs, refreshAt) && now() >= renewNotBefore;

  const header = async (abort: AbortSignal): Promise<string> => {
    const usable = token !== undefined && now() < token.expiresAt - marginMs ? token : undefined;
    // A failure is counted; it matters only once the old one has ended, and is then told.
    if (usable !== undefined && isDue(usable)) void fetching();
    if (usable !== undefined) return `Bearer ${usable.token}`;
    const fetched = await until(abort, fetching());
    if ("error" in fetched) throw fetched.error;
    return `Bearer ${fetched.token.token}`;
  };
  return {
    name: "Authorization",
    header,
    rejected: () => {
      token = undefined;
    },
    facts: () => ({
      tokenErrors,
      ...(token === undefined ? {} : { tokenExpiresAt: token.expiresAt }),
    }),
    [Symbol.dispose]: () => ended.abort(),
  };
}
