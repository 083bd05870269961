// What `fovea config check` finds wrong with the files and the credentials of a sink, without sending anything.

import { statSync } from "node:fs";
import { isLoopbackHost } from "../api/auth.ts";
import type { Env } from "../config.ts";
import { isOpenToAll } from "../private-file.ts";
import { identityOf } from "./entra.ts";
import { ProxyError, proxyFor } from "./proxy.ts";
import type { SinkConfig, WebSinkConfig } from "./schema.ts";
import { CredentialError, readSecret, readToken, tokenEndsAt } from "./secret-file.ts";
import { type Certificates, readCertificates, readKey, TlsFileError } from "./tls-files.ts";

/** `key` is the path of the key within the sink. */
export type SinkProblem = { readonly key: string; readonly message: string };

type Checked = { readonly config: WebSinkConfig; readonly env: Env; readonly now: number };

/** The problem, when it is one of those that speak of a file or a setting. */
function problemOf(key: string, check: () => unknown): readonly SinkProblem[] {
  try {
    check();
    return [];
  } catch (error) {
    if (error instanceof CredentialError || error instanceof TlsFileError || error instanceof ProxyError)
      return [{ key, message: error.message.replace(`${key} `, "") }];
    throw error;
  }
}

/** Of a file that can be read; that it cannot be is told by reading it. */
function openness(key: string, file: string): readonly SinkProblem[] {
  const stat = statSync(file, { throwIfNoEntry: false });
  if (stat === undefined || !isOpenToAll(stat.mode)) return [];
  return [{ key, message: `${file} is open to every user of this machine; run: chmod o-rwx ${file}` }];
}

function secretFile(key: string, file: string, read: () => unknown): readonly SinkProblem[] {
  const problems = problemOf(key, read);
  return problems.length > 0 ? problems : openness(key, file);
}

const days = (at: number): string => new Date(at).toISOString().slice(0, 10);

function validity(key: string, file: string, { list }: Certificates, now: number): readonly SinkProblem[] {
  const [leaf] = list;
  if (leaf === undefined) return [];
  const [from, to] = [Date.parse(leaf.validFrom), Date.parse(leaf.validTo)];
  if (to < now) return [{ key, message: `the certificate in ${file} expired on ${days(to)}` }];
  if (from > now) return [{ key, message: `the certificate in ${file} is not valid before ${days(from)}` }];
  return [];
}

/** Old authorities stay in bundles for years: it matters only when no other is left. */
function authorities(file: string, now: number): readonly SinkProblem[] {
  const key = "tls.caFile";
  const problems = problemOf(key, () => readCertificates(key, file));
  if (problems.length > 0) return problems;
  const { list } = readCertificates(key, file);
  if (list.some(({ validTo }) => Date.parse(validTo) >= now)) return [];
  return [{ key, message: `all certificates in ${file} have expired` }];
}

/** A certificate and its key, in two files or in one. */
function pair(
  cert: { readonly key: string; readonly file: string },
  key: { readonly key: string; readonly file: string },
  now: number,
): readonly SinkProblem[] {
  const unreadable = problemOf(cert.key, () => readCertificates(cert.key, cert.file));
  if (unreadable.length > 0) return unreadable;
  const certificates = readCertificates(cert.key, cert.file);
  return [
    ...validity(cert.key, cert.file, certificates, now),
    ...secretFile(key.key, key.file, () => readKey(key.key, key.file, certificates)),
  ];
}

function tlsProblems({ config, now }: Checked): readonly SinkProblem[] {
  const { caFile, certFile, keyFile } = config.tls;
  const ca = caFile === undefined ? [] : authorities(caFile, now);
  if (certFile === undefined && keyFile === undefined) return ca;
  if (certFile === undefined || keyFile === undefined) {
    const [set, unset] = certFile === undefined ? ["keyFile", "certFile"] : ["certFile", "keyFile"];
    return [...ca, { key: `tls.${unset}`, message: `is not set, but tls.${set} is; set both or none` }];
  }
  const files = [
    { key: "tls.certFile", file: certFile },
    { key: "tls.keyFile", file: keyFile },
  ] as const;
  return [...ca, ...pair(files[0], files[1], now)];
}

/** A token that can be read, and says that it is over. */
function expiry(key: string, file: string, now: number): readonly SinkProblem[] {
  const endsAt = tokenEndsAt(readToken(key, file));
  if (endsAt === undefined || endsAt > now) return [];
  return [{ key, message: `the token in ${file} expired at ${new Date(endsAt).toISOString()}` }];
}

function fileProblems({ config, now }: Checked): readonly SinkProblem[] {
  const { bearerFile, basic, apiKey } = config.auth;
  const problems: SinkProblem[] = [];
  if (bearerFile !== undefined) {
    const key = "auth.bearerFile";
    const unusable = secretFile(key, bearerFile, () => readToken(key, bearerFile));
    problems.push(...unusable, ...(unusable.length > 0 ? [] : expiry(key, bearerFile, now)));
  }
  if (basic !== undefined) {
    const key = "auth.basic.passwordFile";
    problems.push(...secretFile(key, basic.passwordFile, () => readSecret(key, basic.passwordFile)));
    if (basic.user.includes(":"))
      problems.push({ key: "auth.basic.user", message: "holds a colon, which would end it (RFC 7617)" });
  }
  if (apiKey !== undefined) {
    const key = "auth.apiKey.keyFile";
    problems.push(...secretFile(key, apiKey.keyFile, () => readToken(key, apiKey.keyFile)));
  }
  return problems;
}

const needs = {
  secret: ["tenantId", "clientId", "secretFile"],
  certificate: ["tenantId", "clientId", "certificateFile"],
  workload: ["tenantId", "clientId"],
  managed: [],
} as const;

type EntraKey = (typeof needs)[keyof typeof needs][number];

const variables: Readonly<Partial<Record<EntraKey, string>>> = {
  tenantId: "AZURE_TENANT_ID",
  clientId: "AZURE_CLIENT_ID",
};

function missingKeys({ config: { auth }, env }: Checked): readonly SinkProblem[] {
  if (auth.entra === undefined) return [];
  const identity = identityOf(auth.entra, env);
  const { kind } = identity;
  const has = { ...auth.entra, ...identity };
  return needs[kind]
    .filter((key) => (has[key] ?? "") === "")
    .map((key) => {
      const other = kind === "workload" ? `, and neither is ${variables[key]}` : "";
      return { key: `auth.entra.${key}`, message: `is not set${other}, but kind ${kind} needs it` };
    });
}

/** The library signs with RSA, whatever the key. */
function rsaAlone(key: string, file: string): readonly SinkProblem[] {
  const type = readCertificates(key, file).list[0]?.publicKey.asymmetricKeyType;
  if (type === "rsa") return [];
  return [{ key, message: `the key in ${file} is ${type}; Entra takes RSA alone` }];
}

function entraFiles({ config: { auth }, env, now }: Checked): readonly SinkProblem[] {
  const { entra } = auth;
  if (entra === undefined) return [];
  const { kind, tokenFile } = identityOf(entra, env);
  const { secretFile: secret, certificateFile: certificate } = entra;
  if (kind === "secret" && secret !== undefined) {
    const key = "auth.entra.secretFile";
    return secretFile(key, secret, () => readSecret(key, secret));
  }
  if (kind === "certificate" && certificate !== undefined) {
    const both = { key: "auth.entra.certificateFile", file: certificate };
    const problems = pair(both, both, now);
    return problems.length > 0 ? problems : rsaAlone(both.key, certificate);
  }
  // Kubernetes writes the token of a workload, for an hour and with a mode of its own.
  const key = "auth.entra.tokenFile";
  if (kind !== "workload") return [];
  const problems = problemOf(key, () => readToken(key, tokenFile));
  return problems.length > 0 ? problems : expiry(key, tokenFile, now);
}

function authProblems(checked: Checked): readonly SinkProblem[] {
  const { auth } = checked.config;
  const kinds = (["bearerFile", "basic", "apiKey", "entra"] as const).filter(
    (kind) => auth[kind] !== undefined,
  );
  const both = kinds.map((kind) => `auth.${kind}`).join(" and ");
  return [
    ...(kinds.length > 1 ? [{ key: "auth", message: `has ${both}; keep one of them` }] : []),
    ...fileProblems(checked),
    ...missingKeys(checked),
    ...entraFiles(checked),
  ];
}

const isInTheClear = (url: string): boolean =>
  URL.canParse(url) && new URL(url).protocol === "http:" && !isLoopbackHost(new URL(url).host);

/** A secret that is sent without TLS is everybody's on the way. */
function clearProblems({ config: { url, auth } }: Checked): readonly SinkProblem[] {
  const hasSecret = Object.values(auth).some((kind) => kind !== undefined);
  const issuer = auth.entra?.authorityHost;
  const problems: SinkProblem[] = [];
  if (hasSecret && isInTheClear(url)) {
    const { host } = new URL(url);
    problems.push({
      key: "url",
      message: `would send the credentials to ${host} without TLS; write https://, or drop auth`,
    });
  }
  if (issuer !== undefined && !issuer.toLowerCase().startsWith("https:"))
    problems.push({ key: "auth.entra.authorityHost", message: "is no https:// URL, and secrets go there" });
  return problems;
}

const proxyProblems = ({ config, env }: Checked): readonly SinkProblem[] =>
  problemOf("proxy", () => proxyFor(config.proxy, env, config.url));

/** Empty where all is right. The environment is what the sink would find. */
export function checkSinkFiles(
  config: SinkConfig,
  { env = process.env, now = Date.now() }: { readonly env?: Env; readonly now?: number } = {},
): readonly SinkProblem[] {
  if (config.type === "file") return [];
  const checked = { config, env, now };
  return [tlsProblems, authProblems, clearProblems, proxyProblems].flatMap((check) => check(checked));
}
