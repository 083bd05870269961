// What an answer means unless a sink knows better: the status as an outcome.

import type { Outcome } from "./sink.ts";
import type { Answer, WebReply } from "./web-reply.ts";

const retryAfterMaxMs = 3_600_000;
const lineLengthMax = 256;
// Of the body: a line of this length is found in it or not at all.
const linePrefixBytes = 8192;

/**
 * One line that tells what the body says: of text the first, of JSON and HTML all as far as it fits. What looks like
 * the credentials that were sent is hidden, as some servers and proxies repeat the request.
 */
export function firstLine(body: Uint8Array): string {
  const text = new TextDecoder().decode(body.subarray(0, linePrefixBytes)).trim();
  const wanted = /^[[{]/.test(text)
    ? text
    : text.startsWith("<")
      ? text.replace(/<(style|script)\b.*?<\/\1>/gis, " ").replace(/<[^>]*>/g, " ")
      : (text.split(/[\r\n]/, 1)[0] ?? "");
  const line = wanted
    .replace(/[\p{C}\s]+/gu, " ")
    .replace(/\b(bearer|basic)\s+[\w.~+/=-]{8,}/gi, "$1 (hidden)")
    .trim();
  return line.length > lineLengthMax ? `${line.slice(0, lineLengthMax)}...` : line;
}

/** Seconds or a date (RFC 9110, 10.2.3). A date is taken by the receiver's own clock where the answer tells it. */
export function retryAfterMs(headers: Headers, now: number): number | undefined {
  const given = headers.get("retry-after")?.trim() ?? "";
  if (/^\d{1,15}$/.test(given)) return Math.min(Number(given) * 1000, retryAfterMaxMs);
  const until = Date.parse(given);
  // Date.parse takes much for a date; those of HTTP begin with the name of a day.
  if (Number.isNaN(until) || !/^[A-Z][a-z]{2}/.test(given)) return undefined;
  const theirs = Date.parse(headers.get("date") ?? "");
  return Math.min(Math.max(until - (Number.isNaN(theirs) ? now : theirs), 0), retryAfterMaxMs);
}

const said = ({ status, body }: Answer, advice = ""): string => {
  const line = firstLine(body);
  return `HTTP ${status}${advice === "" ? "" : `: ${advice}`}${line === "" ? "" : `: ${line}`}`;
};

function targetOf({ headers }: Answer): string {
  const location = headers.get("location") ?? "";
  if (/^(https?:)?\/\//i.test(location) && URL.canParse(location, "http://unknown"))
    return `to ${new URL(location, "http://unknown").host}`;
  return location === "" ? "without saying where to" : "to another path";
}

const advices: Readonly<Record<number, string>> = {
  401: "the credentials were not accepted; check auth of this sink",
  403: "not allowed; give this identity the role to write (a new role takes up to 30 minutes)",
  404: "there is no such path; check url of this sink",
  405: "this path takes no data; check url of this sink",
  407: "the proxy wants a user and a password",
};

const reasons = {
  401: "auth",
  403: "forbidden",
  404: "not_found",
  405: "not_found",
  407: "auth",
  408: "throttled",
  429: "throttled",
} as const;

type Known = keyof typeof reasons;
const isKnown = (status: number): status is Known => Object.hasOwn(reasons, status);
const slow: readonly number[] = [403, 404, 405];

type Again = Extract<Outcome, { kind: "again" }>;

function again(answer: Answer, reason: Again["reason"], now: number): Again {
  const { status, headers } = answer;
  const afterMs = status === 408 || status === 429 || status >= 500 ? retryAfterMs(headers, now) : undefined;
  return {
    kind: "again",
    code: String(status),
    reason,
    message: said(answer, advices[status]),
    ...(afterMs === undefined ? {} : { afterMs }),
    ...(slow.includes(status) ? { slow: true } : {}),
  };
}

/** The status alone decides: a sink whose receiver says more in the body, or in another 2xx, reads that itself. */
export function outcomeOf(reply: WebReply, now: number = Date.now()): Outcome {
  if ("kind" in reply) return reply;
  const { status } = reply;
  const code = String(status);
  if (status >= 200 && status < 300) return { kind: "stored", code };
  if (status >= 300 && status < 400) {
    const advice = `it redirects ${targetOf(reply)}, which is not followed; check url of this sink`;
    return { kind: "again", code, reason: "redirect", message: `HTTP ${status}: ${advice}`, slow: true };
  }
  if (status === 413) return { kind: "too_large", code, message: said(reply) };
  if (isKnown(status)) return again(reply, reasons[status], now);
  if (status >= 400 && status < 500) return { kind: "refused", code, reason: "4xx", message: said(reply) };
  return again(reply, status >= 500 && status < 600 ? "server" : "other", now);
}
