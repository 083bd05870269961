// What a batch came to: which count each of its records goes to, and which are told of as dead letters.

import type { Outcome } from "../sinks/sink.ts";
import type { Batch } from "../store/sink-batch.ts";
import type { NewDeadLetter, SinkCounts } from "../store/sink-states.ts";
import type { Failure } from "./tally.ts";

export type Settlement = { readonly counts: SinkCounts; readonly deadLetters: readonly NewDeadLetter[] };

const messageCharsMax = 1024;

/** How many ordinals a batch is done with. */
export const doneOf = ({ records, filtered, expired, missing, rejected }: Batch): number =>
  records + filtered + expired + missing + rejected;

const letter = (batch: Batch, failure: Failure, records: number, at: number): NewDeadLetter => ({
  at,
  reason: failure.reason,
  code: failure.code,
  message: failure.message.slice(0, messageCharsMax),
  records,
  text: batch.text ?? "",
});

/** What a batch is done with without a request: all of it but its records. */
export function settleUnsent(batch: Batch, at: number, diverts: boolean): Settlement {
  const { filtered, expired, missing, rejected, rejectedMessage = "it cannot be encoded" } = batch;
  const encode = { code: "encode", reason: "encode", message: rejectedMessage };
  return {
    counts: {
      filtered,
      [diverts ? "diverted" : "expired.age"]: expired,
      "evicted.damaged": missing,
      "rejected.encode": rejected,
    },
    deadLetters: rejected > 0 ? [letter(batch, encode, rejected, at)] : [],
  };
}

/** The receiver has it, or most of it. */
export function settleStored(
  batch: Batch,
  outcome: Extract<Outcome, { kind: "stored" }>,
  at: number,
): Settlement {
  const unsent = settleUnsent(batch, at, false);
  const { code, rejected, mismatch = 0 } = outcome;
  // A receiver may tell of more than it was sent.
  const refused = Math.min(rejected?.records ?? 0, batch.records);
  const missed = Math.min(mismatch, batch.records - refused);
  const message = `the receiver says that it has ${batch.records - refused - missed} of ${batch.records} records`;
  const counts: Record<string, number> = { ...unsent.counts, sent: batch.records - refused - missed };
  const deadLetters = [...unsent.deadLetters];
  const lose = (failure: Failure, records: number) => {
    const name = `rejected.${failure.reason}`;
    counts[name] = (counts[name] ?? 0) + records;
    deadLetters.push(letter(batch, failure, records, at));
  };
  if (rejected !== undefined && refused > 0) lose({ ...rejected, code }, refused);
  if (missed > 0) lose({ code, reason: "partial", message }, missed);
  return { counts, deadLetters };
}

/** The receiver will never have its records. */
export function settleRejected(batch: Batch, failure: Failure, at: number): Settlement {
  const unsent = settleUnsent(batch, at, false);
  const name = `rejected.${failure.reason}`;
  return {
    counts: { ...unsent.counts, [name]: (unsent.counts[name] ?? 0) + batch.records },
    deadLetters: [...unsent.deadLetters, letter(batch, failure, batch.records, at)],
  };
}

export const withoutZeros = (counts: SinkCounts): SinkCounts =>
  Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0));
