// What comes back from a request, and what it means by default: the base of each sink's own reading.

import type { Outcome } from "./sink.ts";

/** Read whole, but no further than `bodyBytesMax`. */
export type Answer = {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Uint8Array<ArrayBuffer>;
};

/** A request that got no answer (network, timeout, TLS, no token) has its outcome already. */
export type WebReply = Answer | Extract<Outcome, { kind: "again" }>;

export type Web = AsyncDisposable & {
  /** Never throws. Redirects are not followed: they would send data where the configuration does not say. */
  post(request: {
    /** Default: the URL of the sink. */
    readonly url?: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: Uint8Array<ArrayBuffer>;
    readonly abort: AbortSignal;
  }): Promise<WebReply>;
  facts(): { readonly tokenExpiresAt?: number; readonly tokenErrors: number; readonly clockSkewMs?: number };
};
