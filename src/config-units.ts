// Text forms of durations, sizes, shares and listen addresses in the configuration: parse and print.

const msPerUnit: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

const bytesPerUnit: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

export type Listen = { readonly host: string; readonly port: number };

/** Milliseconds of "500ms", "1s", "1.5m", "2h" or "7d"; undefined when the text is none of these. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?) ?(ms|s|m|h|d)$/.exec(text.trim());
  if (match === null) return undefined;
  const ms = Number(match[1]) * (msPerUnit[match[2] ?? ""] ?? Number.NaN);
  return wholeCount(ms);
}

/** Bytes of "32MiB", "64KB" (1000), "512B" or plain digits; undefined when the text is none of these. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?) ?([a-z]*)$/i.exec(text.trim());
  if (match === null) return undefined;
  const unit = (match[2] ?? "").toLowerCase() || "b";
  return wholeCount(Number(match[1]) * (bytesPerUnit[unit] ?? Number.NaN));
}

/** 0 to 1 of "20%" or "12.5%"; undefined when the text is none of these. */
export function parseShare(text: string): number | undefined {
  const match = /^(\d{1,3}(?:\.\d{1,6})?) ?%$/.exec(text.trim());
  const percent = Number(match?.[1]);
  return percent <= 100 ? percent / 100 : undefined;
}

// 1.1s is 1100 ms, whatever floating point makes of it.
function wholeCount(value: number): number | undefined {
  const whole = Math.round(value);
  const exact = Math.abs(value - whole) <= 1e-6 * Math.max(1, whole);
  return exact && Number.isSafeInteger(whole) ? whole : undefined;
}

/** Of "127.0.0.1:10093", "[::1]:10093" or "name:10093"; undefined when the text is none of these. */
export function parseListen(text: string): Listen | undefined {
  const match = /^(?:\[([0-9a-f:.]+(?:%[\w.-]+)?)\]|([^:[\]\s]+)):(\d{1,5})$/i.exec(text.trim());
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65_535) return undefined;
  return { host, port };
}

function largestUnit(value: number, units: readonly (readonly [string, number])[]): string | undefined {
  for (const [name, size] of units) if (value >= size && value % size === 0) return `${value / size}${name}`;
  return undefined;
}

/** The shortest text that parseDuration turns into the same number. */
export const printDuration = (ms: number): string =>
  largestUnit(ms, [
    ["d", 86_400_000],
    ["h", 3_600_000],
    ["m", 60_000],
    ["s", 1000],
  ]) ?? `${ms}ms`;

/** The shortest text, in powers of 1024, that parseSize turns into the same number. */
export const printSize = (bytes: number): string =>
  largestUnit(bytes, [
    ["TiB", 2 ** 40],
    ["GiB", 2 ** 30],
    ["MiB", 2 ** 20],
    ["KiB", 2 ** 10],
  ]) ?? `${bytes}B`;

/** The text that parseShare turns into the same number; 0.07 times 100 is 7.000000000000001. */
export const printShare = (share: number): string => `${Number((share * 100).toFixed(6))}%`;

export const printListen = ({ host, port }: Listen): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
