// The filters of flows on the command line, by their names in the API; the server says what is wrong with a value.

import type { Command } from "commander";
import { directions, verdicts } from "../api/query.ts";
import { flag, several } from "./flags.ts";

type Filter = readonly [flags: string, name: string, description: string];

export const rangeFilters: readonly Filter[] = [
  ["--since <duration>", "since", "how far back, as in 10m"],
  ["--from <time>", "from", "from this time on: RFC 3339, epoch milliseconds, or -10m"],
  ["--to <time>", "to", "before this time"],
];

export const flowFilters: readonly Filter[] = [
  ["--address <address>", "address", "source or destination, an address or a CIDR; may be repeated"],
  ["--source <address>", "source", "source address or CIDR; may be repeated"],
  ["--destination <address>", "destination", "destination address or CIDR; may be repeated"],
  ["--port <port>", "port", "source or destination port; may be repeated"],
  ["--source-port <port>", "sourcePort", "source port; may be repeated"],
  ["--destination-port <port>", "destinationPort", "destination port; may be repeated"],
  ["--protocol <protocol>", "protocol", "name such as tcp, or number"],
  ["--direction <direction>", "direction", directions.join(" or ")],
  ["--verdict <verdict>", "verdict", verdicts.join(" or ")],
  ["--reason <reason>", "reason", "the kernel's name of the drop reason"],
];

const listed = new Set(["address", "source", "destination", "port", "sourcePort", "destinationPort"]);

export const queryVariable = (name: string): string =>
  `FOVEA_QUERY_${name.replace(/[A-Z]/g, "_$&").toUpperCase()}`;

export function addFilters(verb: Command, filters: readonly Filter[]): void {
  for (const [flags, name, description] of filters)
    verb.addOption(flag(flags, description, queryVariable(name), listed.has(name) ? several : undefined));
}

/** The filters that were given, as parameters of the API. */
export function queryOf(
  options: Readonly<Record<string, unknown>>,
  filters: readonly Filter[],
): URLSearchParams {
  const query = new URLSearchParams();
  for (const [, name] of filters) {
    const value = options[name];
    if (value !== undefined) for (const one of [value].flat()) query.append(name, String(one));
  }
  return query;
}
