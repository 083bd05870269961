// Which proxy a request goes through: as configured, or as HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say.

import ipaddr from "ipaddr.js";
import type { Env } from "../config.ts";

/** `env`, `none`, or the URL of a proxy. */
export type ProxySetting = string;

/** The small letters win, as everywhere. */
const variable = (env: Env, name: string): string =>
  (env[name.toLowerCase()] || env[name.toUpperCase()] || "").trim();

const portOf = (url: URL): string => url.port || (url.protocol === "https:" ? "443" : "80");

const bareHost = (host: string): string =>
  host
    .toLowerCase()
    .replace(/^\[(.*)\]$/, "$1")
    .replace(/\.$/, "");

/** A host, with a port where one is written. IPv6 with a port stands in brackets. */
function parsePattern(text: string): { readonly host: string; readonly port?: string } {
  const bracketed = /^(\[[^\]]*\])(?::(\d+))?$/.exec(text);
  const plain = /^([^:]*):(\d+)$/.exec(text);
  const [, host, port] = bracketed ?? plain ?? [undefined, text];
  return { host: bareHost(host ?? ""), ...(port === undefined ? {} : { port }) };
}

function inRange(host: string, range: string): boolean {
  if (!ipaddr.isValid(host) || !ipaddr.isValidCIDR(range)) return false;
  const address = ipaddr.process(host);
  const [base, bits] = ipaddr.parseCIDR(range);
  return address.kind() === base.kind() && address.match(base, bits);
}

/** `example.com`, `.example.com` and `*.example.com` all mean the host and what is below it, as for curl. */
function matches(url: URL, pattern: string): boolean {
  if (pattern === "*") return true;
  const host = bareHost(url.hostname);
  if (pattern.includes("/")) return inRange(host, pattern);
  const wanted = parsePattern(pattern);
  if (wanted.port !== undefined && wanted.port !== portOf(url)) return false;
  const name = wanted.host.replace(/^\*?\./, "");
  if (name === "") return false;
  if (ipaddr.isValid(host) && ipaddr.isValid(name))
    return ipaddr.process(host).toString() === ipaddr.process(name).toString();
  return host === name || host.endsWith(`.${name}`);
}

const isExempt = (url: URL, env: Env): boolean =>
  variable(env, "NO_PROXY")
    .split(/[\s,]+/)
    .some((pattern) => pattern !== "" && matches(url, pattern));

/** The environment names a proxy that cannot be used. */
export class ProxyError extends Error {}

/** Undefined: straight. Throws ProxyError for what is no proxy that can be used. */
export function proxyFor(setting: ProxySetting, env: Env, target: string): string | undefined {
  if (setting === "none") return undefined;
  if (setting !== "env") return setting;
  const url = new URL(target);
  if (isExempt(url, env)) return undefined;
  const name = url.protocol === "https:" ? "HTTPS_PROXY" : "HTTP_PROXY";
  const given = variable(env, name) || variable(env, "ALL_PROXY");
  if (given === "") return undefined;
  const proxy = given.includes("://") ? given : `http://${given}`;
  // The value may hold a password: it is not shown.
  if (!URL.canParse(proxy) || !/^https?:/i.test(proxy))
    throw new ProxyError(
      `${name} or ALL_PROXY of the environment is no http:// or https:// URL; correct or unset it`,
    );
  return proxy;
}
