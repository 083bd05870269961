// Which appliance a verb asks, and how it shows who it is: the flags that all such verbs share.

import { networkInterfaces } from "node:os";
import type { Command } from "commander";
import { isLoopback } from "../api/auth.ts";
import type { Config } from "../config-schema.ts";
import { printListen } from "../config-units.ts";
import { type Client, createClient, type Server } from "./client.ts";
import { configFileFlag, readConfig } from "./config.ts";
import { flag } from "./flags.ts";
import { UsageError, type World } from "./world.ts";

export type ServerOptions = {
  config?: string;
  server?: string;
  tokenFile?: string;
  ca?: string;
  cert?: string;
  key?: string;
};

export const addServerFlags = (verb: Command): Command =>
  verb
    .addOption(flag("--server <url>", "of another appliance than the one configured here", "FOVEA_SERVER"))
    .addOption(flag("--token-file <file>", "file with the bearer token", "FOVEA_API_TOKEN_FILE"))
    .addOption(flag("--ca <file>", "authority of the server's certificate", "FOVEA_CLIENT_CA"))
    .addOption(flag("--cert <file>", "client certificate for mutual TLS", "FOVEA_CLIENT_CERT"))
    .addOption(flag("--key <file>", "its key", "FOVEA_CLIENT_KEY"))
    .addOption(configFileFlag());

/** The appliance of this machine's configuration, as a client on this machine reaches it. */
function localServer({ listen, api }: Config): Server {
  const { tokenFile, tls } = api;
  const unspecified: Record<string, string> = { "0.0.0.0": "127.0.0.1", "::": "::1" };
  const host = unspecified[listen.host] ?? listen.host;
  const scheme = tls.certFile === undefined ? "http" : "https";
  const url = `${scheme}://${printListen({ host, port: listen.port })}`;
  return { url, ...(tokenFile === undefined ? {} : { tokenFile }) };
}

function namedServer(text: string): Server {
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1]?.toLowerCase();
  if (scheme !== undefined && scheme !== "http" && scheme !== "https")
    throw new UsageError(`--server "${text}" begins with ${scheme}://; it takes http:// or https://`);
  const url = URL.parse(scheme === undefined ? `http://${text}` : text);
  if (url === null) throw new UsageError(`--server "${text}" is no URL such as http://127.0.0.1:10093`);
  return { url: url.origin };
}

/** Packets to an address of this machine never leave it. */
function staysHere(hostname: string): boolean {
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  if (host === "localhost" || isLoopback(host)) return true;
  return Object.values(networkInterfaces()).some((addresses) =>
    addresses?.some(({ address }) => address === host),
  );
}

function serverOf(world: World, options: ServerOptions): Server {
  const { server, tokenFile, ca, cert, key } = options;
  const base = server === undefined ? localServer(readConfig(world, options.config)) : namedServer(server);
  const token = tokenFile ?? base.tokenFile;
  const { protocol, hostname } = new URL(base.url);
  if (token !== undefined && protocol === "http:" && !staysHere(hostname))
    throw new UsageError(
      `${base.url} would carry the token in the clear: use https://, or a tunnel to loopback`,
    );
  return {
    ...base,
    ...(token === undefined ? {} : { tokenFile: token }),
    ...(ca === undefined ? {} : { caFile: ca }),
    ...(cert === undefined ? {} : { certFile: cert }),
    ...(key === undefined ? {} : { keyFile: key }),
  };
}

export const clientOf = (world: World, options: ServerOptions): Client =>
  createClient(serverOf(world, options));
