// The credentials of a sink: the header of its requests that carries them.

import type { Env } from "../config.ts";
import { openEntra } from "./entra.ts";
import type { WebSinkConfig } from "./schema.ts";
import { CredentialError, readSecret, readToken, whileUnchanged } from "./secret-file.ts";

export type CredentialFacts = { readonly tokenExpiresAt?: number; readonly tokenErrors: number };

export type Credentials = Disposable & {
  /** Of the header: mostly Authorization. */
  readonly name: string;
  /** Undefined where none are configured. Rejects with CredentialError, or with the reason of the signal. */
  header(abort: AbortSignal): Promise<string | undefined>;
  /** The server said 401: the next header has a new token. */
  rejected(): void;
  facts(): CredentialFacts;
};

export type AuthOptions = {
  readonly config: Pick<WebSinkConfig, "auth" | "tls" | "proxy" | "timeout">;
  readonly env: Env;
  /** Epoch milliseconds. */
  readonly now: () => number;
  /** What an Entra token is for, as in the public cloud. */
  readonly scope?: string;
};

export const authorization = "Authorization";

const none: Credentials = {
  name: authorization,
  header: () => Promise.resolve(undefined),
  rejected: () => undefined,
  facts: () => ({ tokenErrors: 0 }),
  [Symbol.dispose]: () => undefined,
};

/** From a file, which is read again whenever it changes: a 401 changes nothing of it. */
function openFileCredentials(file: string, read: () => string, name = authorization): Credentials {
  const current = whileUnchanged([file], read);
  let tokenErrors = 0;
  const header = async (): Promise<string> => {
    try {
      return current();
    } catch (error) {
      tokenErrors += 1;
      throw error;
    }
  };
  return {
    name,
    header,
    rejected: () => undefined,
    facts: () => ({ tokenErrors }),
    [Symbol.dispose]: () => undefined,
  };
}

/** RFC 7617: the first colon ends the user. */
function basicHeader(user: string, passwordFile: string): string {
  if (user.includes(":"))
    throw new CredentialError("auth.basic.user holds a colon, which would end it (RFC 7617)");
  const password = readSecret("auth.basic.passwordFile", passwordFile);
  return `Basic ${Buffer.from(`${user}:${password}`, "utf8").toString("base64")}`;
}

export function openAuth(options: AuthOptions): Credentials {
  const { bearerFile, basic, apiKey, entra } = options.config.auth;
  if (entra !== undefined) return openEntra(entra, options);
  if (basic !== undefined)
    return openFileCredentials(basic.passwordFile, () => basicHeader(basic.user, basic.passwordFile));
  if (bearerFile !== undefined)
    return openFileCredentials(bearerFile, () => `Bearer ${readToken("auth.bearerFile", bearerFile)}`);
  if (apiKey !== undefined)
    return openFileCredentials(
      apiKey.keyFile,
      () => readToken("auth.apiKey.keyFile", apiKey.keyFile),
      apiKey.header,
    );
  return none;
}
