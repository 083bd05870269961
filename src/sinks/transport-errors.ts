// Why a request got no answer, in words that tell what to do; never the words of the runtime, which hold whole URLs.

export type TransportFailure = {
  readonly code: "network" | "timeout" | "tls";
  readonly message: string;
};

const certificateWords: Readonly<Record<string, string>> = {
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "its certificate is of no trusted authority; set tls.caFile",
  UNABLE_TO_GET_ISSUER_CERT: "its certificate is of no trusted authority; set tls.caFile",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "its certificate is of no trusted authority; set tls.caFile",
  SELF_SIGNED_CERT_IN_CHAIN: "its certificate is of no trusted authority; set tls.caFile",
  DEPTH_ZERO_SELF_SIGNED_CERT: "its certificate is signed by itself; set tls.caFile to it",
  ERR_TLS_CERT_ALTNAME_INVALID: "its certificate is for another name; correct url or set tls.serverName",
  CERT_HAS_EXPIRED: "its certificate has expired, or the clock of this machine is wrong",
  CERT_NOT_YET_VALID: "its certificate is not valid yet, or the clock of this machine is wrong",
  EPROTO:
    "the TLS handshake failed: this port speaks no TLS, or wants a client certificate (tls.certFile, tls.keyFile)",
};

const networkWords: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused: nothing listens there, or a firewall refuses",
  ECONNRESET: "the connection was closed before the answer was complete",
  ECONNABORTED: "the connection was closed before the answer was complete",
  EPIPE: "the connection was closed before the request was sent",
  ENOTFOUND: "its name is not known to DNS",
  EAI_AGAIN: "DNS does not answer",
  EAI_FAIL: "DNS does not answer",
  DNSException: "DNS does not answer",
  EHOSTUNREACH: "no route to this host",
  ENETUNREACH: "no route to its network",
  ENETDOWN: "the network of this machine is down",
  FailedToOpenSocket: "no connection can be opened",
  Malformed_HTTP_Response: "what answers there speaks no HTTP",
  UnrequestedUpgrade: "what answers there speaks no HTTP",
  InvalidHTTPResponse: "what answers there speaks no HTTP",
};

const isTls = (code: string): boolean =>
  code in certificateWords ||
  /^(ERR_TLS|ERR_SSL|ERR_OSSL|CERT_|CRL_|UNABLE_TO_|ERROR_IN_CERT|SELF_SIGNED|DEPTH_ZERO|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH|HOSTNAME_MISMATCH)/.test(
    code,
  );

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";

/** Bun names the status that the proxy gave; it is three digits and no more that is taken from there. */
function proxyWords(error: unknown): string {
  const status = /: (\d{3})\b/.exec(error instanceof Error ? error.message : "")?.[1] ?? "no";
  const advice = status === "407" ? ": it wants a user and a password" : "";
  return `the proxy opens no tunnel (status ${status})${advice}`;
}

export function failureOf(error: unknown): TransportFailure {
  const code = codeOf(error);
  const name = error instanceof Error ? error.name : "";
  if (name === "TimeoutError" || code === "ETIMEDOUT" || code === "ConnectionTimeout")
    return { code: "timeout", message: "no connection in time" };
  if (isTls(code))
    return { code: "tls", message: certificateWords[code] ?? `its certificate is refused (${code})` };
  if (code === "ERR_PROXY_TUNNEL") return { code: "network", message: proxyWords(error) };
  return { code: "network", message: networkWords[code] ?? `the request failed (${code || name})` };
}
