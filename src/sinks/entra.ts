// Tokens of Microsoft Entra ID for a sink. The library is loaded by the first token that is asked for.

import { rootCertificates } from "node:tls";
import type { ClientSecretCredentialOptions, TokenCredential } from "@azure/identity";
import type { Env } from "../config.ts";
import type { AuthOptions, Credentials } from "./auth.ts";
import { firstLine } from "./outcome.ts";
import type { WebSinkConfig } from "./schema.ts";
import { CredentialError, readSecret, readToken, reasonOf } from "./secret-file.ts";
import { openTlsFiles, readCertificates, readKey, TlsFileError, type TlsSettings } from "./tls-files.ts";
import { openTokens, type Token } from "./token.ts";
import { openTransport, shownUrl, type Transport, TransportError } from "./transport.ts";

export type EntraConfig = NonNullable<WebSinkConfig["auth"]["entra"]>;

type HttpClient = NonNullable<ClientSecretCredentialOptions["httpClient"]>;
type HttpRequest = Parameters<HttpClient["sendRequest"]>[0];
type HttpHeaders = HttpRequest["headers"];

const clouds: Readonly<
  Record<EntraConfig["cloud"], { readonly authority: string; readonly domain: string }>
> = {
  public: { authority: "https://login.microsoftonline.com", domain: "azure.com" },
  usgovernment: { authority: "https://login.microsoftonline.us", domain: "azure.us" },
  china: { authority: "https://login.chinacloudapi.cn", domain: "azure.cn" },
};

/** What remote write to Azure Monitor wants: the second slash belongs to the name of the resource. */
const defaultScope = "https://monitor.azure.com//.default";

/** The same resource in the cloud of the configuration. */
export const scopeIn = (cloud: EntraConfig["cloud"], scope: string): string =>
  scope.replace(/^(https:\/\/[^/]*\.)azure\.com(?=\/|$)/, `$1${clouds[cloud].domain}`);

/** Where Kubernetes mounts the token of a workload when its webhook names no other place. */
const workloadTokenFile = "/var/run/secrets/azure/tokens/azure-identity-token";

export type Identity = {
  readonly kind: EntraConfig["kind"];
  readonly tenantId?: string;
  readonly clientId?: string;
  readonly tokenFile: string;
  readonly authority: string;
};

/**
 * What the configuration leaves open, a workload finds in the environment that its webhook made. With that environment
 * a managed identity with a client id is such a workload as well, as for all of Azure's libraries.
 */
export function identityOf(entra: EntraConfig, env: Env): Identity {
  const federated = entra.kind === "managed" && (env["AZURE_FEDERATED_TOKEN_FILE"] ?? "") !== "";
  const clientId = entra.clientId ?? env["AZURE_CLIENT_ID"];
  const isWorkload = entra.kind === "workload" || (federated && clientId !== undefined);
  const given = isWorkload
    ? { tenantId: entra.tenantId ?? env["AZURE_TENANT_ID"], clientId }
    : { tenantId: entra.tenantId, clientId: entra.clientId };
  const authority = entra.authorityHost ?? (isWorkload ? env["AZURE_AUTHORITY_HOST"] : undefined);
  return {
    kind: isWorkload ? "workload" : entra.kind,
    ...(given.tenantId === undefined ? {} : { tenantId: given.tenantId }),
    ...(given.clientId === undefined ? {} : { clientId: given.clientId }),
    tokenFile: entra.tokenFile ?? env["AZURE_FEDERATED_TOKEN_FILE"] ?? workloadTokenFile,
    authority: (authority || clouds[entra.cloud].authority).replace(/\/+$/, ""),
  };
}

/**
 * TLS of the token endpoint: an authority of one's own is trusted like the sink. The clouds' own have public
 * certificates, but behind a proxy that opens TLS they have one of the operator's authority.
 */
export function openTokenTls(entra: EntraConfig, caFile: string | undefined): () => TlsSettings {
  const read = openTlsFiles({ caFile });
  if (entra.authorityHost !== undefined || caFile === undefined) return read;
  let last: { readonly own: TlsSettings; readonly both: TlsSettings } | undefined;
  return () => {
    const own = read();
    if (last?.own !== own) last = { own, both: { ca: [...rootCertificates, ...(own.ca ?? [])] } };
    return last.both;
  };
}

/** The library asks for its own kind of headers. */
const headersOf = (headers: Headers): HttpHeaders => ({
  get: (name) => headers.get(name) ?? undefined,
  has: (name) => headers.has(name),
  set: (name, value) => headers.set(name, String(value)),
  delete: (name) => headers.delete(name),
  toJSON: () => Object.fromEntries(headers),
  [Symbol.iterator]: () => headers.entries(),
});

/** What went wrong on the way to the token endpoint: the library's own errors do not tell. */
type Trace = { error?: unknown; place?: string; status?: number; said?: string };

/** All requests of the library go through ours: its own knows neither the sink's TLS nor its proxy, nor an end. */
const openClient = (transport: Transport, signal: AbortSignal, trace: Trace): HttpClient => ({
  sendRequest: async (request) => {
    trace.place = shownUrl(request.url);
    const body = typeof request.body === "string" ? { body: request.body } : {};
    const headers = new Headers([...request.headers]);
    try {
      const answer = await transport.send({
        url: request.url,
        method: request.method,
        headers,
        signal,
        ...body,
      });
      trace.status = answer.status;
      // An answer that is fine may hold a token.
      trace.said = answer.status < 300 ? "its answer cannot be read" : firstLine(answer.body);
      const bodyAsText = new TextDecoder().decode(answer.body);
      return { request, status: answer.status, headers: headersOf(answer.headers), bodyAsText };
    } catch (error) {
      trace.error = error;
      throw error;
    }
  },
});

const clientOptions = (httpClient: HttpClient, authorityHost: string) => ({
  httpClient,
  authorityHost,
  // Otherwise login.microsoftonline.com is asked whether it knows this authority, wherever that is.
  disableInstanceDiscovery: true,
  // Whoever sends paces.
  retryOptions: { maxRetries: 0 },
  redirectOptions: { maxRetries: 0 },
  // Without one the library reads HTTPS_PROXY, and fails on some; our client does not look at this.
  proxyOptions: { host: "http://127.0.0.1", port: 9 },
});

const missing = (key: string, kind: string): CredentialError =>
  new CredentialError(`auth.entra.${key} is not set, which kind ${kind} needs`);

function readCertificate(file: string): string {
  try {
    const certificates = readCertificates("auth.entra.certificateFile", file);
    readKey("auth.entra.certificateFile", file, certificates);
    return certificates.pem;
  } catch (error) {
    if (error instanceof TlsFileError) throw new CredentialError(error.message, { cause: error });
    throw error;
  }
}

type Library = typeof import("@azure/identity");
type Made = { readonly credential: TokenCredential; readonly secret?: string };

/** Files are read anew for each token. */
function makeCredential(
  library: Library,
  entra: EntraConfig,
  identity: Identity,
  httpClient: HttpClient,
): Made {
  const { kind, tenantId, clientId, authority } = identity;
  const options = clientOptions(httpClient, authority);
  if (kind === "managed") {
    const id = clientId === undefined ? {} : { clientId };
    return { credential: new library.ManagedIdentityCredential({ ...id, ...options }) };
  }
  if (tenantId === undefined) throw missing("tenantId", kind);
  if (clientId === undefined) throw missing("clientId", kind);
  if (kind === "workload") {
    const secret = readToken("auth.entra.tokenFile", identity.tokenFile);
    const assertion = () => Promise.resolve(secret);
    return {
      credential: new library.ClientAssertionCredential(tenantId, clientId, assertion, options),
      secret,
    };
  }
  if (kind === "certificate") {
    if (entra.certificateFile === undefined) throw missing("certificateFile", kind);
    const certificate = readCertificate(entra.certificateFile);
    return {
      credential: new library.ClientCertificateCredential(tenantId, clientId, { certificate }, options),
    };
  }
  if (entra.secretFile === undefined) throw missing("secretFile", kind);
  const secret = readSecret("auth.entra.secretFile", entra.secretFile).trim();
  return { credential: new library.ClientSecretCredential(tenantId, clientId, secret, options), secret };
}

/** The library writes much around the issuer's words, and nothing of an answer that it cannot read. */
const wordsOf = (message: string, { said }: Trace): string =>
  /^(network|server|client|unknown)_error\b/.test(message) && said !== undefined
    ? said
    : message.replace(/^(\w+): Error\(s\):.*? - Description: /s, "$1: ");

/** One line: what failed on the way, or else what the issuer says (AADSTS...), never with the secret in it. */
function explain(error: unknown, trace: Trace, secret: string | undefined): CredentialError {
  if (error instanceof CredentialError) return error;
  const status = trace.status === undefined ? "" : ` (HTTP ${trace.status})`;
  // An error of the transport names the place itself.
  const place =
    trace.error instanceof TransportError || trace.place === undefined ? "" : ` from ${trace.place}${status}`;
  const said = wordsOf(reasonOf(trace.error ?? error), trace);
  const clean = secret === undefined ? said : said.replaceAll(secret, "(hidden)");
  const line = firstLine(new TextEncoder().encode(clean));
  return new CredentialError(`no token${place}: ${line}`, { cause: error });
}

export function openEntra(entra: EntraConfig, options: AuthOptions): Credentials {
  const { env, config } = options;
  const identity = identityOf(entra, env);
  const scope = scopeIn(entra.cloud, options.scope ?? defaultScope);
  // A managed identity answers on this machine or its link alone: no proxy reaches it.
  const transport =
    identity.kind === "managed"
      ? openTransport({ tls: () => ({}), proxy: "none", env })
      : openTransport({ tls: openTokenTls(entra, config.tls.caFile), proxy: config.proxy, env });
  const fetchToken = async (signal: AbortSignal): Promise<Token> => {
    const trace: Trace = {};
    let secret: string | undefined;
    try {
      const library = await import("@azure/identity");
      const made = makeCredential(library, entra, identity, openClient(transport, signal, trace));
      secret = made.secret;
      const given = await made.credential.getToken(scope);
      if (given === null) throw new CredentialError("no token: the issuer gave none");
      const { token, expiresOnTimestamp: expiresAt, refreshAfterTimestamp: refreshAt } = given;
      return { token, expiresAt, ...(refreshAt === undefined ? {} : { refreshAt }) };
    } catch (error) {
      throw explain(error, trace, secret);
    }
  };
  // Less than the request that waits for it has, so that it is the token endpoint that is named as slow.
  const timeoutMs = Math.ceil((config.timeout * 2) / 3);
  const tokens = openTokens({ fetchToken, now: options.now, timeoutMs });
  return {
    ...tokens,
    [Symbol.dispose]: () => {
      tokens[Symbol.dispose]();
      transport[Symbol.dispose]();
    },
  };
}
