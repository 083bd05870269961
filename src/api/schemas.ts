// What the API answers, as zod schemas: the types of the routes and the OpenAPI document come from them.

import { z } from "@hono/zod-openapi";
import { evictReasons } from "../flow.ts";
import { topKeys, topOrders } from "../store/top-groups.ts";
import { directions, dropKeys, verdicts } from "./query.ts";

const count = z.int().min(0);
const epochMs = z.number().openapi({ description: "Epoch milliseconds." });
const list = <T extends z.ZodType>(item: T) => z.array(item).readonly();
export const errorSchema = z
  .strictObject({
    error: z.strictObject({
      parameter: z.string().optional().openapi({ description: "The parameter or header that is wrong." }),
      line: z.int().min(1).optional().openapi({ description: "The line of the body that is wrong." }),
      message: z.string(),
    }),
  })
  .openapi("Error");

const port = z.int().min(0).max(65_535);

/** A flow without its place in a store. */
const recordShape = {
  startAt: epochMs,
  endAt: epochMs,
  source: z.string(),
  destination: z.string(),
  sourcePort: port,
  destinationPort: port,
  protocol: z.int().min(0).max(255).openapi({ description: "IANA protocol number." }),
  icmpType: z.int().min(0).max(255).optional(),
  icmpCode: z.int().min(0).max(255).optional(),
  direction: z.enum(directions),
  verdict: z.enum(verdicts),
  dropReason: z.string().optional(),
  packets: count,
  bytes: count.openapi({ description: "Bytes at layer 2, headers of every segment included." }),
  tcpFlags: z.int().min(0).max(255),
  interface: z.string(),
  rttUs: z.number().min(0).optional().openapi({ description: "Smoothed round trip time, microseconds." }),
  retransmits: count.optional(),
  dnsError: z.string().optional().openapi({ description: "The response code of DNS that was an error." }),
  node: z.string().optional().openapi({ description: "The node that it was imported from." }),
  evictReason: z.enum(evictReasons),
};

/** A record that is imported; the seq that it may have is that of another store. */
export const importLineSchema = z.strictObject({ seq: count.optional(), ...recordShape });

export const flowSchema = z
  .strictObject({
    seq: count.openapi({ description: "Place in the store; grows with each row." }),
    ...recordShape,
  })
  .openapi("Flow");

const lostCounts = z.record(z.string(), count).openapi({
  description: "By the names of the ledger, such as rows.throttled.window; empty when nothing is missing.",
});
const lostSince = epochMs.optional().openapi({
  description: "The counts reach back to here, and not to the beginning of the range.",
});

export const flowsSchema = z
  .strictObject({
    flows: list(flowSchema),
    cursor: z.string().nullable().openapi({
      description: "Give it back as `cursor` to go on. Null when newest come first and none is left.",
    }),
    more: z.boolean().openapi({ description: "Whether rows are left to look at now; a page may be empty." }),
    lost: lostCounts,
    lostSince,
    passed: count.openapi({ description: "Rows after the given cursor that retention had removed." }),
  })
  .openapi("Flows");

export const dropsSchema = z
  .strictObject({
    by: z.enum(dropKeys),
    drops: list(z.strictObject({ key: z.string(), packets: count, bytes: count, rows: count })),
    complete: z
      .boolean()
      .openapi({ description: "False: the range holds too many rows; these are its newest." }),
  })
  .openapi("Drops");

const countsShape = { records: count, packets: count, bytes: count };

export const topSchema = z
  .strictObject({
    by: z.enum(topKeys),
    order: z.enum(topOrders),
    ranks: list(z.strictObject({ key: z.string(), ...countsShape })),
    total: z.strictObject(countsShape).openapi({ description: "Every record of the range that fits, once." }),
    other: z.strictObject(countsShape).openapi({
      description:
        "What no rank has. By address each record has two ends: ranks and this are twice the total.",
    }),
    unnamed: z.strictObject(countsShape).openapi({
      description:
        "Records of which ends and ports are not known, as they were not among the greatest of their minute or hour: " +
        "the most that a rank may lack.",
    }),
    fromAt: epochMs.openapi({ description: "What was summed up, from here" }),
    toAt: epochMs.openapi({
      description: "to here: whole minutes, or whole hours where the minutes are gone.",
    }),
    complete: z
      .boolean()
      .openapi({ description: "False: there were too many keys to tell all apart; others may belong here." }),
  })
  .openapi("Top");

const summarySchema = z.strictObject({
  startAt: epochMs,
  endAt: epochMs,
  rows: count,
  packets: count,
  bytes: count,
  by: list(
    z.strictObject({
      verdict: z.enum(verdicts),
      direction: z.enum(directions),
      protocol: z.int().min(0).max(255).openapi({ description: "IANA protocol number; 255 is all others." }),
      rows: count,
      packets: count,
      bytes: count,
    }),
  ),
});

export const ledgerSchema = z
  .strictObject({
    totals: z
      .record(z.string(), count)
      .openapi({ description: "By name, such as packets.seen or rows.kept, since the store was made." }),
    laws: list(z.strictObject({ law: z.string(), ok: z.boolean(), left: count, right: count })).openapi({
      description: "Each law, whether it holds, and both sides of it.",
    }),
    sinks: list(
      z.strictObject({
        name: z.string(),
        signal: z.string(),
        offered: count,
        counts: z.record(z.string(), count),
        pending: count,
      }),
    ).openapi({ description: "What became of the records at each sink, since the store was made." }),
    range: z
      .strictObject({ fromAt: epochMs.optional(), toAt: epochMs.optional(), lost: lostCounts, lostSince })
      .optional()
      .openapi({ description: "Of the time that was asked for: what history does not have." }),
    throttled: list(summarySchema)
      .optional()
      .openapi({ description: "Intervals of that time in which rows were throttled, newest first." }),
  })
  .openapi("Ledger");

const seriesShape = { name: z.string(), labels: z.record(z.string(), z.string()) };

export const seriesSchema = z
  .strictObject({
    series: list(z.strictObject(seriesShape)),
    complete: z.boolean().openapi({ description: "Whether these are all." }),
  })
  .openapi("Series");

const sampleValue = z
  .union([z.number(), z.enum(["NaN", "+Inf", "-Inf"])])
  .nullable()
  .openapi({ description: "Null: the series ended here." });
export type SampleValue = z.output<typeof sampleValue>;

export const samplesSchema = z
  .strictObject({
    fromAt: epochMs,
    toAt: epochMs,
    series: list(
      z.strictObject({
        ...seriesShape,
        points: list(z.tuple([epochMs, sampleValue])).openapi({ description: "Time and value." }),
      }),
    ),
    complete: z
      .boolean()
      .openapi({ description: "False: series or points were left out; ask for fewer, or with a step." }),
  })
  .openapi("Samples");

export const importedSchema = z
  .strictObject({ kept: count, evicted: count.openapi({ description: "Rows that made room for them." }) })
  .openapi("Imported");
export const importFileSchema = z.strictObject({ rows: count }).openapi("ImportFile");

const collectorSchema = z.strictObject({
  name: z.string(),
  success: z.boolean(),
  error: z.string().optional(),
  durationMs: z.number(),
  failures: count,
  lastSuccessAt: epochMs.optional(),
  limits: list(z.string()).openapi({ description: "What it cannot see here, and why." }),
});

const storeSchema = z.strictObject({
  mode: z.enum(["disk", "memory"]).openapi({ description: "memory: rows are gone when the process ends." }),
  problem: z.string().optional().openapi({ description: "Why the store is not on disk." }),
  path: z.string(),
  rows: count,
  bytes: count,
  bytesMax: count,
  oldestAt: epochMs.optional(),
  newestAt: epochMs.optional(),
  recoveries: list(z.strictObject({ at: epochMs, reason: z.string(), movedTo: z.string() })).openapi({
    description: "Files that could not be used, and where they are now.",
  }),
});

const throttleSchema = z.strictObject({
  enabled: z.boolean(),
  mode: z.enum(["window", "smooth"]),
  rate: z.number().openapi({ description: "Records an interval." }),
  window: count.openapi({ description: "Intervals that the average is taken over." }),
  intervalMs: z.number(),
  reserve: z.number().openapi({ description: "Share of the budget beside it for what matters, 0 to 1." }),
  print: z.boolean(),
  limit: z.number().openapi({ description: "The most records at once, without the reserve." }),
  rateNow: z.number().openapi({ description: "Records kept an interval, without the reserve." }),
  windowUse: z.number().openapi({ description: "Spent part of the limit, 0 to 1." }),
  reserveUse: z.number().optional().openapi({ description: "Spent part of the reserve, 0 to 1." }),
  active: z.boolean().openapi({ description: "Whether a record was thrown away just now." }),
  interval: count.openapi({ description: "Number of the interval." }),
});

const flowLogSchema = z.strictObject({
  file: z.string(),
  lines: count,
  bytes: count,
  lost: z.record(z.string(), count).openapi({ description: "Lines that could not be written, by reason." }),
  failing: z.boolean(),
  files: count.openapi({ description: "Rotated files that are there." }),
  rotations: count,
  removed: z.strictObject({ count, age: count }).openapi({ description: "Rotated files, by why they went." }),
  compressed: count,
  failures: count,
});

const rollupsSchema = z.strictObject({
  offered: count.openapi({ description: "Records: written, lost or pending." }),
  written: count,
  lost: count,
  pending: count,
  pendingKeys: count,
  pendingMinutes: count,
  folded: count.openapi({ description: "Records whose ends found no place in their minute." }),
  minuteRows: count,
  hourRows: count,
  oldestMinuteAt: epochMs.optional(),
  oldestHourAt: epochMs.optional(),
});

const byReason = list(z.strictObject({ reason: z.string(), samples: count }));
const sampleFactsSchema = z.strictObject({
  series: count,
  seriesMax: count,
  pendingSteps: count,
  samples: count,
  bytes: count,
  oldestAt: epochMs.optional(),
  lost: byReason,
  evicted: byReason,
});

const rejectionSchema = z.strictObject({
  file: z.string(),
  line: z.int().optional(),
  key: z.string(),
  value: z.string(),
  message: z.string(),
});

const streamsSchema = z.strictObject({
  open: count,
  max: count,
  served: count,
  refused: count,
  cutOff: count.openapi({
    description: "Streams whose client took too little, or whose store was replaced.",
  }),
  rowsUnsent: count.openapi({ description: "Rows that those clients did not get." }),
});

export const statusSchema = z
  .strictObject({
    version: z.string(),
    commit: z.string(),
    node: z.string(),
    cluster: z.string(),
    startedAt: epochMs,
    uptimeSeconds: z.number(),
    ticks: count,
    ticksSkipped: count,
    uplinks: list(z.string()),
    attached: list(z.string()).openapi({ description: "Interfaces that packets are counted on." }),
    flows: z.strictObject({ live: count, max: count }).optional(),
    collectors: list(collectorSchema),
    store: storeSchema,
    config: z.strictObject({
      file: z.string().optional().openapi({ description: "The file that is watched." }),
      reloaded: count,
      refused: count,
      problems: list(z.string()).openapi({ description: "Why the file as it is now was not applied." }),
      rejected: list(rejectionSchema).openapi({ description: "Values that are not in force as written." }),
    }),
    throttle: throttleSchema,
    filters: z
      .strictObject({ include: count, exclude: count })
      .openapi({ description: "Rules of each list." }),
    flowLog: flowLogSchema.optional().openapi({ description: "Absent where none is written." }),
    rollups: rollupsSchema,
    samples: sampleFactsSchema.optional().openapi({ description: "Absent where none are taken." }),
    streams: streamsSchema,
    sinks: list(
      z.strictObject({ name: z.string(), signal: z.string(), state: z.string(), pending: count }),
    ).openapi({ description: "One a sink and signal; /api/v1/sinks tells more." }),
    api: z.strictObject({ connections: count, refused: count }),
    warnings: list(z.string()),
  })
  .openapi("Status");

export const readySchema = z.strictObject({ ready: z.boolean(), reasons: list(z.string()) }).openapi("Ready");

export type FlowsAnswer = z.output<typeof flowsSchema>;
export type StatusAnswer = z.output<typeof statusSchema>;
