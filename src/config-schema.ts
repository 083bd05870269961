// The configuration: every key with its default, its range and its text form.

import { hostname } from "node:os";
import { z } from "zod";
import {
  amount,
  bytes,
  choice,
  day,
  duration,
  flag,
  gib,
  hour,
  kib,
  mib,
  path,
  second,
  section,
  share,
  text,
  unwrapped,
} from "./config-fields.ts";
import {
  type Listen,
  parseListen,
  printDuration,
  printListen,
  printShare,
  printSize,
} from "./config-units.ts";
import { excludeRuleSchema, filterRuleSchema, rulesMax } from "./filter-rules.ts";
import { places } from "./places.ts";
import { printSinks, sinksField } from "./sinks/config.ts";
import type { SinkConfig } from "./sinks/schema.ts";

const glob = text("is a name or a pattern such as eth* (quoted)");
const rules = <S extends z.ZodType>(rule: S) =>
  z.array(rule, "is a list of rules").max(rulesMax, `has more than ${rulesMax} rules`).default([]);

/** One of the documented keys: throttle-settings.ts reads it as the reference agent does, and refuses nothing. */
const lenient = () => z.unknown().optional();

const globs = (fallback: readonly string[]) =>
  z
    .array(glob, 'is a list of names or patterns: ["eth*"]')
    .max(256, "has more than 256 entries")
    .default([...fallback]);

const listen = z
  .string("is HOST:PORT")
  .transform((given, context): Listen => {
    const parsed = parseListen(given);
    if (parsed === undefined)
      context.addIssue(
        `"${given}" is not HOST:PORT, [IPV6]:PORT; every address is 0.0.0.0:PORT or [::]:PORT`,
      );
    return parsed ?? z.NEVER;
  })
  .prefault("127.0.0.1:10093");

export const metricNames = ["kappie", "networkobservability", "fluentbit"] as const;

// The ring buffer of a BPF map: a power of two of whole pages.
const powerOfTwo = (size: number) => (Number.isInteger(Math.log2(size)) ? "" : "is no power of two");

export const configSchema = section({
  node: text("is the name of this machine, as text")
    .max(253, "is longer than 253 characters")
    .default(() => hostname()),
  cluster: z
    .string("is the name of a cluster, as text")
    .max(253, "is longer than 253 characters")
    .default(""),
  listen,
  dataDir: text("is the path of a directory").default(places.dataDir),
  tick: duration({ default: "1s", min: 100, max: 60 * second }),
  log: section({
    level: choice(["debug", "info", "warn", "error"], "info"),
    /** auto: text on a terminal, JSON elsewhere. */
    format: choice(["auto", "json", "text"], "auto"),
  }).prefault({}),
  interfaces: section({
    include: globs(["*"]),
    exclude: globs([]),
    loopback: flag(false),
    uplinks: z
      .union(
        [z.literal("auto"), z.array(text("is the name of an interface")).min(1).max(256)],
        "is auto or a list of interfaces: [eth0]",
      )
      .default("auto"),
    /** auto: tcx where the kernel has it, else clsact. */
    attach: choice(["auto", "tcx", "clsact"], "auto"),
  }).prefault({}),
  flows: section({
    idle: duration({ default: "10s", min: second, max: hour }),
    active: duration({ default: "30s", min: second, max: hour }),
    max: amount({ default: 131_072, min: 1024, max: 16_777_216 }),
    tableBytes: bytes({ default: "32MiB", min: mib, max: 4 * gib }),
    spillBytes: bytes({ default: "4MiB", min: 64 * kib, max: 256 * mib, rule: powerOfTwo }),
  }).prefault({}),
  drops: section({ max: amount({ default: 16_384, min: 256, max: 1_048_576 }) }).prefault({}),
  dns: section({
    enabled: flag(true),
    namesMax: amount({ default: 16_384, min: 0, max: 1_048_576 }),
  }).prefault({}),
  sockets: section({
    remotesMax: amount({ default: 100, min: 0, max: 10_000 }),
    namespacesMax: amount({ default: 256, min: 1, max: 65_536 }),
    every: duration({ default: "10s", min: 100, max: hour }),
  }).prefault({}),
  windows: section({
    /** How often HNS is asked for its endpoints; ticks between have the last answer. */
    hnsEvery: duration({ default: "10s", min: second, max: hour }),
    hnsTimeout: duration({ default: "5s", min: 100, max: 300 * second }),
    endpointsMax: amount({ default: 10_000, min: 16, max: 100_000 }),
    /** Counters of the virtual switch, one port at a time. */
    vfp: flag(true),
    vfpEvery: duration({ default: "30s", min: second, max: hour }),
    vfpTimeout: duration({ default: "5s", min: 100, max: 300 * second }),
    /** Drops by pktmon: it has one session for the whole machine, which this one then takes. */
    pktmon: flag(false),
    pktmonEvery: duration({ default: "30s", min: second, max: hour }),
  }).prefault({}),
  metrics: section({
    names: z
      .array(
        z.enum(metricNames, `is one of ${metricNames.join(", ")}`),
        `is a list of ${metricNames.join(", ")}`,
      )
      .default(["kappie"]),
    seriesMax: amount({ default: 20_000, min: 100, max: 1_000_000 }),
  }).prefault({}),
  throttle: section({
    throttle_enabled: lenient(),
    throttle_rate: lenient(),
    throttle_window: lenient(),
    throttle_interval: lenient(),
    throttle_print: lenient(),
    /** window: the documented moving average. smooth: a token bucket. */
    mode: choice(["window", "smooth"], "window"),
    /** Of the budget, and beside it, for records that matter. */
    reserve: share("20%"),
    /** Where a configuration map of Container Insights is mounted, if there is one. */
    agentConfig: text("is the path of a directory").default(places.agentConfigDir),
  }).prefault({}),
  filters: section({
    include: rules(filterRuleSchema),
    exclude: rules(excludeRuleSchema),
    /** With ContainerNetworkLog custom resources: their rules join those above. */
    files: z
      .array(text("is the path of a file"), "is a list of paths")
      .max(16, "has more than 16 entries")
      .default([]),
  }).prefault({}),
  store: section({
    bytesMax: bytes({ default: "1GiB", min: mib, max: 1024 * gib }),
    ageMax: duration({ default: "7d", min: 60 * second, max: 3650 * day }),
  }).prefault({}),
  rollups: section({
    /** Kept a minute and an hour; the rest is one sum. */
    keysMax: amount({ default: 1000, min: 10, max: 100_000 }),
    minuteAgeMax: duration({ default: "30d", min: hour, max: 3650 * day }),
    hourAgeMax: duration({ default: "400d", min: hour, max: 3650 * day }),
  }).prefault({}),
  samples: section({
    enabled: flag(true),
    step: duration({ default: "15s", min: second, max: 300 * second }),
    ageMax: duration({ default: "30d", min: hour, max: 3650 * day }),
  }).prefault({}),
  flowLog: section({
    enabled: flag(false),
    file: text("is the path of a file").default(places.flowLogFile),
    bytesMax: bytes({ default: "10MiB", min: 64 * kib, max: gib }),
    filesMax: amount({ default: 5, min: 1, max: 1000 }),
    ageMax: duration({ default: "7d", min: 60 * second, max: 3650 * day }),
    compress: flag(true),
  }).prefault({}),
  api: section({
    tokenFile: path(),
    openMetrics: flag(false),
    tls: section({ certFile: path(), keyFile: path(), clientCaFile: path() }).prefault({}),
    bodyMax: bytes({ default: "1MiB", min: kib, max: 64 * mib }),
    connectionsMax: amount({ default: 256, min: 1, max: 65_536 }),
    streamsMax: amount({ default: 16, min: 0, max: 1024 }),
  }).prefault({}),
  /** Where flow records and metrics are sent. */
  sinks: sinksField,
});

/** Paths as in the file; durations in milliseconds, sizes in bytes. */
export type Config = z.output<typeof configSchema>;
/** What may be given: every key optional, in its text form. */
export type ConfigInput = z.input<typeof configSchema>;

/** One key that takes a value: its path, and what reads that value. */
export type ConfigKey = { readonly path: readonly string[]; readonly schema: z.ZodType };

function keysUnder(shape: Readonly<Record<string, unknown>>, path: readonly string[]): ConfigKey[] {
  return Object.entries(shape).flatMap(([name, schema]): ConfigKey[] => {
    const inner = unwrapped(schema);
    if (inner instanceof z.ZodObject) return keysUnder(inner.shape, [...path, name]);
    return schema instanceof z.ZodType ? [{ path: [...path, name], schema }] : [];
  });
}

export const configKeys = (): readonly ConfigKey[] => keysUnder(configSchema.shape, []);

type Printer = (value: unknown) => unknown;
const asNumber =
  (print: (value: number) => string): Printer =>
  (value) =>
    typeof value === "number" ? print(value) : value;
const printers: readonly (readonly [RegExp, Printer])[] = [
  [/^listen$/, (value) => printListen(value as Listen)],
  [
    /^(tick|flows\.(idle|active)|sockets\.every|samples\.step|windows\..*(Every|Timeout))$|[aA]geMax$/,
    asNumber(printDuration),
  ],
  [/^throttle\.reserve$/, asNumber(printShare)],
  [/(Bytes|\.bytesMax|\.bodyMax)$/, asNumber(printSize)],
  [/^sinks$/, (value) => printSinks(value as readonly SinkConfig[])],
];

/** The text form of a value at a path, as it may stand in the file. */
export const printValue = (path: string, value: unknown): unknown =>
  printers.find(([pattern]) => pattern.test(path))?.[1](value) ?? value ?? null;
