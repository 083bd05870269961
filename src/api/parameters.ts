// Kinds of query parameters as zod schemas: times, addresses, ports, words; and what a wrong one is told.

import { z } from "@hono/zod-openapi";
import ipaddr from "ipaddr.js";
import { parseDuration } from "../config-units.ts";
import { protocolNames } from "../flow.ts";
import { ParameterError } from "./parameter-error.ts";

/** A moment that may be relative: what it is depends on when it is asked. */
export type When = (now: number) => number;

const rfc3339 = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2})$/i;

/** Of RFC 3339, epoch milliseconds, `now` or a time ago such as `-10m`; undefined when the text is none of these. */
export function parseWhen(text: string): When | undefined {
  if (text === "now") return (now) => now;
  // Fewer digits are most likely seconds, and would be a date in January 1970.
  if (/^\d{12,15}$/.test(text)) return () => Number(text);
  const ago = text.startsWith("-") ? parseDuration(text.slice(1)) : undefined;
  if (ago !== undefined) return (now) => now - ago;
  const at = rfc3339.test(text) && isOnClock(text) ? Date.parse(text.toUpperCase()) : Number.NaN;
  return Number.isNaN(at) ? undefined : () => at;
}

/** Date.parse takes the 31st of February for the 3rd of March, and 24:00 for the next day. */
function isOnClock(text: string): boolean {
  const written = text.slice(0, "2026-01-31T12:00".length).toUpperCase();
  const at = Date.parse(`${written}Z`);
  return !Number.isNaN(at) && new Date(at).toISOString().startsWith(written);
}

const protocolNumbers = new Map(
  Object.entries(protocolNames).map(([number, name]) => [name, Number(number)]),
);

/** An IANA number, from the number itself or a name such as `tcp`. */
export function parseProtocol(text: string): number | undefined {
  const named = protocolNumbers.get(text.toLowerCase());
  if (named !== undefined) return named;
  return /^\d{1,3}$/.test(text) && Number(text) <= 255 ? Number(text) : undefined;
}

/** Canonical text of an address or a prefix (`10.0.0.0/8`, host bits cleared). */
export function parseAddress(text: string): string | undefined {
  const [host = "", length, ...rest] = text.split("/");
  if (rest.length > 0 || !(ipaddr.IPv4.isValidFourPartDecimal(host) || ipaddr.IPv6.isValid(host)))
    return undefined;
  if (host.includes("%")) return undefined; // A zone is no part of what packets carry.
  const address = ipaddr.parse(host);
  if (length === undefined) return address.toString();
  const bits = address.kind() === "ipv4" ? 32 : 128;
  if (!/^\d{1,3}$/.test(length) || Number(length) > bits) return undefined;
  const network = address.kind() === "ipv4" ? ipaddr.IPv4 : ipaddr.IPv6;
  return `${network.networkAddressFromCIDR(`${host}/${length}`).toString()}/${Number(length)}`;
}

const twice = "is given more than once";

const once = <T>(parse: (text: string) => T | undefined, told: string, missing: string) =>
  z
    .string({ error: ({ input }) => (input === undefined ? missing : twice) })
    .transform((text, context): T => {
      const value = parse(text.trim());
      if (value === undefined) context.addIssue(`"${text}" ${told}`);
      return value ?? z.NEVER;
    });

/** A parameter that is given once, read by `parse`; its type in the OpenAPI document is a string. */
export const parameter = <T>(parse: (text: string) => T | undefined, told: string, description: string) =>
  once(parse, told, "is missing").optional().openapi({ type: "string", description });

/** A parameter that the route cannot do without; `missing` is told where it is not given. */
export const needed = <T>(
  parse: (text: string) => T | undefined,
  { told, missing, description }: Readonly<Record<"told" | "missing" | "description", string>>,
) => once(parse, told, missing).openapi({ type: "string", description });

/** How often one parameter may be repeated. */
const repeatMax = 64;

export const repeated = <T>(parse: (text: string) => T | undefined, told: string, description: string) =>
  z
    .union([z.string(), z.array(z.string()).max(repeatMax)], `is given more than ${repeatMax} times`)
    .transform((given, context): readonly T[] =>
      [given].flat().map((text) => {
        const value = parse(text.trim());
        if (value === undefined) context.addIssue(`"${text}" ${told}`);
        return value ?? z.NEVER;
      }),
    )
    .optional()
    .openapi({ type: "array", items: { type: "string" }, description: `${description} May be repeated.` });

const when = (description: string) =>
  parameter(
    parseWhen,
    "is no time; write 2026-01-31T12:00:00Z, epoch milliseconds, or a time ago such as -10m",
    `${description} RFC 3339, epoch milliseconds, or a time ago such as -10m.`,
  );

export const addresses = (description: string) =>
  repeated(parseAddress, "is no address and no CIDR such as 10.0.0.0/8", description);

function wholeFrom(min: number, max: number): (text: string) => number | undefined {
  return (text) =>
    /^\d{1,10}$/.test(text) && Number(text) >= min && Number(text) <= max ? Number(text) : undefined;
}

export const port = (description: string) =>
  repeated(wholeFrom(0, 65_535), "is no port from 0 to 65535", description);

export const choice = <const T extends string>(names: readonly T[], description: string) =>
  z
    .enum(names, {
      error: ({ input }) => (Array.isArray(input) ? twice : `is one of ${names.join(", ")}`),
    })
    .optional()
    .openapi({ description });

/** A name that we did not make up: a drop reason, a node, a metric. */
export const plainText = (text: string) => (/^\P{Cc}{1,128}$/u.test(text) ? text : undefined);

/** What the route does without it is said in the OpenAPI document; the route does it. */
export const limit = ({ max, without }: { readonly max: number; readonly without?: number }) =>
  parameter(wholeFrom(1, max), `is no whole number from 1 to ${max}`, "How many at the most.").openapi({
    type: "integer",
    minimum: 1,
    maximum: max,
    ...(without === undefined ? {} : { default: without }),
  });

export const duration = (description: string) =>
  parameter(parseDuration, "is no duration; write 30s, 10m, 2h or 7d", description);

/** A duration that something is divided by. */
export const step = (description: string) =>
  parameter(
    (text) => parseDuration(text) || undefined,
    "is no duration above zero; write 30s, 10m, 2h or 7d",
    description,
  );

export const protocol = (description: string) =>
  parameter(parseProtocol, "is no protocol: a name such as tcp, or a number", description);

export const onePort = (description: string) =>
  parameter(wholeFrom(0, 65_535), "is no port from 0 to 65535", description);

/** The three that name a time range; `what` are the things whose time it is. */
export const range = (what: string) => ({
  from: when(`Only ${what} at or after this time.`),
  to: when(`Only ${what} before this time.`),
  since: duration("In place of `from`: how long ago, as in 10m."),
});

/** `from`, `to` and `since` of a query in epoch milliseconds. Throws ParameterError where the end is before the start. */
export function rangeOf(
  query: {
    readonly from?: When | undefined;
    readonly to?: When | undefined;
    readonly since?: number | undefined;
  },
  now: number,
): { readonly fromAt?: number; readonly toAt?: number } {
  const fromAt = query.since === undefined ? query.from?.(now) : now - query.since;
  const toAt = query.to?.(now);
  if (fromAt !== undefined && toAt !== undefined && toAt < fromAt)
    throw new ParameterError("to", query.since === undefined ? "is before from" : "is longer ago than since");
  return { ...(fromAt === undefined ? {} : { fromAt }), ...(toAt === undefined ? {} : { toAt }) };
}
