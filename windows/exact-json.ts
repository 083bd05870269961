// JSON of the system's tools and services with 64-bit counts kept exact, which JSON.parse alone rounds beyond 2^53.

const whole = /^-?\d+$/;

/** `source` is the number as it is written; engines without it cannot tell, and the rounded number is kept. */
type Context = { readonly source?: string };

function exactNumber(this: unknown, _key: string, value: unknown, context?: Context): unknown {
  if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
  const source = context?.source;
  return source !== undefined && whole.test(source) ? BigInt(source) : value;
}

/** Integers beyond 2^53 have 16 digits or more; a text without such a run needs no second pass, which costs far more. */
const long = /\d{16}/;

/** JSON.parse, but integers beyond 2^53 are bigint. Throws a SyntaxError for what is no JSON. */
export const parseExact = (text: string): unknown =>
  long.test(text) ? JSON.parse(text, exactNumber) : JSON.parse(text);

/** All ones: what HNS and the switch write into a field that they have no count for. */
const notAvailable = 2n ** 64n - 1n;

function integerOf(value: unknown): bigint | undefined {
  if (typeof value === "bigint") return value;
  // Beyond 2^53 a number has lost digits already, and a count that is nearly right would rise by steps.
  if (typeof value === "number") return Number.isSafeInteger(value) ? BigInt(value) : undefined;
  if (typeof value === "string" && /^\s*\d{1,20}\s*$/.test(value)) return BigInt(value.trim());
  return undefined;
}

/** A count of 64 bits, or a string of digits; undefined for anything else, negative, fractional or "not available". */
export function countOf(value: unknown): bigint | undefined {
  const count = integerOf(value);
  return count !== undefined && count >= 0n && count < notAvailable ? count : undefined;
}
