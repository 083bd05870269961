// How long what waits for an upstream is safe from retention.

const hourMs = 3_600_000;
/** Of less history no rate can be told. */
const spanMsMin = 60_000;

export type Buffer = {
  /** What the history of this signal takes now, and what it may. */
  readonly bytes: number;
  readonly bytesMax: number;
  readonly ageMaxMs: number;
  /** Of its oldest record, epoch milliseconds; absent when there is none. */
  readonly oldestAt?: number;
};

/**
 * Hours until retention would take the oldest pending record, if data goes on to come as it came so far; undefined
 * while that is not known. `oldestPendingAt` is absent when nothing waits: then what comes next is meant.
 */
export function hoursLeft(
  { bytes, bytesMax, ageMaxMs, oldestAt }: Buffer,
  { now, oldestPendingAt = now }: { readonly now: number; readonly oldestPendingAt?: number | undefined },
): number | undefined {
  const spanMs = oldestAt === undefined ? 0 : now - oldestAt;
  if (spanMs < spanMsMin || bytes <= 0) return undefined;
  // A full history holds what it holds now; another grows on in the same way until it is full.
  const capacityMs = Math.min(ageMaxMs, spanMs * Math.max(1, bytesMax / bytes));
  return Math.max(0, capacityMs - (now - oldestPendingAt)) / hourMs;
}
