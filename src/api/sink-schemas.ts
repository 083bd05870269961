// What the API answers about sinks.

import { z } from "@hono/zod-openapi";

const count = z.int().min(0);
const epochMs = z.number().openapi({ description: "Epoch milliseconds." });
const list = <T extends z.ZodType>(item: T) => z.array(item).readonly();
const byName = z.record(z.string(), count);

const phases = ["live", "catching_up", "retrying", "paused", "scheduled", "waiting"] as const;

export const sinkSchema = z
  .strictObject({
    name: z.string(),
    signal: z.enum(["flows", "metrics"]),
    type: z.string(),
    target: z.string().openapi({ description: "Scheme, host and path, or a directory." }),
    state: z.enum(phases).openapi({
      description:
        "live: all that is due was sent. catching_up: a backlog goes out beside live data. retrying: the last " +
        "request failed. paused: by an operator. scheduled: outside its windows. waiting: the store is not on disk.",
    }),
    connected: z.boolean().optional().openapi({ description: "Absent before the first request." }),
    pending: z.strictObject({
      records: count,
      bytes: count.openapi({ description: "About what they take in the store." }),
      oldestAt: epochMs.optional(),
      oldestAgeSeconds: z.number().min(0).optional(),
      live: count,
      backlog: count,
    }),
    bufferHoursLeft: z
      .number()
      .min(0)
      .optional()
      .openapi({ description: "Until retention would take what is pending, at the present rate." }),
    offered: count.openapi({ description: "offered = the sum of counts + pending.records" }),
    counts: byName.openapi({ description: "What became of the rest, since the store was made." }),
    sentBytes: count,
    requests: byName.openapi({ description: "By status or kind of failure, since the start." }),
    retries: byName,
    partialSuccesses: count,
    writtenMismatches: count,
    staleMarkers: count,
    backoffSeconds: z.number().min(0),
    lastSentAt: epochMs.optional(),
    lastError: z
      .strictObject({ at: epochMs, code: z.string(), reason: z.string(), message: z.string(), times: count })
      .optional(),
    tokenExpiresAt: epochMs.optional(),
    tokenErrors: count,
    clockSkewMs: z.number().optional(),
    files: z
      .strictObject({
        completed: count,
        leftovers: count.openapi({ description: "Completed after a crash, or after their disk was away." }),
        damaged: count.openapi({ description: "Could not be completed, and were put aside." }),
        removed: count.openapi({ description: "Gave way to newer ones: more than totalMax was there." }),
        removedBytes: count,
      })
      .optional()
      .openapi({ description: "Of a sink that writes files, all its signals together, since the start." }),
  })
  .openapi("Sink");

export const sinksSchema = z
  .strictObject({
    sinks: list(sinkSchema).openapi({ description: "One a sink and signal." }),
    deadLettersEvicted: count.openapi({ description: "Dead letters that gave way to newer ones." }),
  })
  .openapi("Sinks");

export const pausedSchema = z.strictObject({ sink: z.string(), paused: z.boolean() }).openapi("Paused");

export const discardedSchema = z
  .strictObject({ records: count.openapi({ description: "Records that were given up." }) })
  .openapi("Discarded");

export const deadLettersSchema = z
  .strictObject({
    deadLetters: list(
      z.strictObject({
        id: count,
        sink: z.string(),
        signal: z.enum(["flows", "metrics"]),
        at: epochMs,
        reason: z.string(),
        code: z.string(),
        message: z.string(),
        records: count,
        text: z.string().openapi({ description: "The record, or the first of them." }),
      }),
    ),
  })
  .openapi("DeadLetters");

export type SinkAnswer = z.output<typeof sinkSchema>;
export type DeadLetterAnswer = z.output<typeof deadLettersSchema>["deadLetters"][number];
