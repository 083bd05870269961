// The configuration of a sink: what every one has, and what each type adds.

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
} from "../config-fields.ts";
import { parseDuration, printDuration, printShare } from "../config-units.ts";
import { excludeRuleSchema, filterRuleSchema, rulesMax } from "../filter-rules.ts";
import { parseWindow } from "../forward/window.ts";
import { hasHiddenValue, secretWord } from "./secret-names.ts";

export const sinksMax = 16;
const listMax = 256;

const name = z
  .string("is the name of this sink, as text")
  .regex(
    /^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$/,
    "is no name: small letters, digits, dots and dashes, at most 63",
  );

/** What is wrong with a URL. A wire secret in it would stand in logs and in the API. */
function urlFault(given: string): string | undefined {
  const parsed = URL.canParse(given) ? new URL(given) : undefined;
  if (parsed === undefined) return `"${shownUrl(given)}" is no URL; write https://host/path`;
  const { protocol, username, password } = parsed;
  if (username !== "" || password !== "")
    return "holds a user or a password; set auth.basic with a passwordFile instead";
  // Of what is no URL of a host, the scheme may be the name of a user: user:password@host.
  if (protocol !== "http:" && protocol !== "https:")
    return /^[a-z][a-z0-9+.-]*:\/\//i.test(given)
      ? `has the scheme ${protocol.slice(0, -1)}; a sink's URL is http or https`
      : "has no scheme; write https://host/path";
  if (parsed.hash !== "") return "has a fragment (#...), which no server ever sees";
  return queryFault(parsed);
}

function queryFault({ href, searchParams }: URL): string | undefined {
  if (hasHiddenValue(href)) return "was printed without what its query says; write the values again";
  // The word alone is quoted: what has no value may be a secret itself.
  const word = [...searchParams.keys()].map(secretWord).find((found) => found !== undefined);
  if (word === undefined) return undefined;
  return `has "${word}" in its query, which sounds like a secret; it belongs into a file: auth.apiKey has header and keyFile`;
}

/** A password may hold slashes as well; whatever stands before the last @ may be one, and a query may hold a token. */
const shownUrl = (given: string): string =>
  given
    .replace(/^([a-z]+:\/\/)?.*@/is, "$1(hidden)@")
    .replace(/\?.*$/s, "?...")
    .slice(0, 80);

const url = z.string("is a URL, as text").superRefine((given, context) => {
  const fault = urlFault(given);
  if (fault !== undefined) context.addIssue(fault);
});

const proxy = z
  .string("is env, none or a URL")
  .superRefine((given, context) => {
    if (given === "env" || given === "none") return;
    const fault = urlFault(given);
    if (fault !== undefined) context.addIssue(`is neither env nor none, and as a URL ${fault}`);
  })
  .default("env");

/** Any reach, or a duration; undefined: what the type usually has. */
const reach = (max: number) =>
  z
    .string("is a duration with a unit, such as 20m or 7d, or any")
    .transform((given, context) => {
      const ms = given.trim() === "any" ? Number.POSITIVE_INFINITY : parseDuration(given);
      if (ms === undefined) context.addIssue(`"${given}" is neither a duration, such as 20m or 7d, nor any`);
      else if (ms !== Number.POSITIVE_INFINITY && ms > max)
        context.addIssue(`${given} is more than ${printDuration(max)}; write any for no limit`);
      return ms ?? z.NEVER;
    })
    .optional();

const rules = <S extends z.ZodType>(rule: S) =>
  z.array(rule, "is a list of rules").max(rulesMax, `has more than ${rulesMax} rules`).default([]);

const window = z
  .string("is a window of time: 22:00-06:00, or sat,sun 00:00-24:00")
  .refine(
    (given) => parseWindow(given) !== undefined,
    "is no window: write 22:00-06:00, or sat,sun 00:00-24:00",
  );
const windows = () =>
  z.array(window, 'is a list of windows: ["22:00-06:00"]').max(32, "has more than 32 entries").default([]);

const zone = z
  .string("is the name of a time zone")
  .refine((given) => isZone(given), "is no time zone that is known here; write UTC or Europe/Berlin")
  .default("UTC");

function isZone(given: string): boolean {
  try {
    new Intl.DateTimeFormat("en", { timeZone: given });
    return true;
  } catch {
    return false;
  }
}

const labelsMax = 32;
const headersMax = 32;

const labelNames = z
  .record(
    z
      .string()
      .regex(/^[a-zA-Z_][a-zA-Z0-9_]{0,510}$/, "is no name of a label: letters, digits and underscores")
      .refine((given) => !given.startsWith("__"), "begins with __, which is for receivers themselves"),
    z.string("is the value of a label, as text (quoted)").max(1023, "is longer than 1023 characters"),
    "is a section of labels",
  )
  .superRefine((labels, context) => {
    const names = Object.keys(labels);
    if (names.length > labelsMax) context.addIssue(`has more than ${labelsMax} labels`);
    // Azure Monitor takes no sample with both.
    const lower = names.map((name) => name.toLowerCase());
    for (const [at, name] of names.entries())
      if (lower.indexOf(name.toLowerCase()) < at)
        context.addIssue({
          code: "custom",
          path: [name],
          message: "differs from another label in case alone",
        });
  });

// Those that make the protocol, or carry a secret.
const reserved =
  /^(authorization|proxy-authorization|cookie|host|content-(type|encoding|length)|transfer-encoding|connection|user-agent|x-prometheus-remote-write-version)$/i;

const headerName = z
  .string("is the name of a header")
  .regex(/^[A-Za-z0-9-]{1,128}$/, "is no name of a header")
  .refine((given) => !reserved.test(given), "is a header that Fovea sets itself; secrets belong into auth");

const headers = z
  .record(
    headerName.refine(
      (given) => secretWord(given) === undefined,
      "sounds like a secret, which belongs into a file: auth.apiKey has header and keyFile",
    ),
    z.string("is the value of a header, as text").regex(/^[\x20-\x7e]{0,1024}$/, "is no value of a header"),
    "is a section of headers",
  )
  .refine((given) => Object.keys(given).length <= headersMax, `has more than ${headersMax} headers`)
  .default({});

/** As a part of 1. */
export const liveShareDefault = 0.7;

const common = {
  name,
  enabled: flag(true),
  filter: section({
    include: rules(filterRuleSchema),
    exclude: rules(excludeRuleSchema),
    metrics: z
      .array(text("is a name or a pattern such as kappie_* (quoted)"), 'is a list of patterns: ["kappie_*"]')
      .max(listMax, `has more than ${listMax} entries`)
      .default([]),
  }).prefault({}),
  externalLabels: labelNames.default({}),
  schedule: section({
    /** Live data goes at most so often. */
    every: duration({ default: "5s", min: 100, max: hour }),
    /** When it sends at all, and when it sends what is left from an outage; empty: always. */
    windows: windows(),
    backlogWindows: windows(),
    timeZone: zone,
  }).prefault({}),
  pace: section({
    /** 0: as fast as the upstream takes it. */
    bytesPerSecond: bytes({ default: "0B", min: 0, max: 10 * gib }),
    /** Of the rate, for live data while there is a backlog. */
    liveShare: share(printShare(liveShareDefault)),
  }).prefault({}),
  /** What the receiver takes, where it differs from what its type usually does. */
  limits: section({
    ageMax: reach(3650 * day),
    outOfOrder: reach(3650 * day),
    spanMax: reach(3650 * day),
    recordsMax: amount({ default: 0, min: 0, max: 100_000 }),
    bytesMax: bytes({ default: "0B", min: 0, max: 64 * mib }),
  }).prefault({}),
  /**
   * Where records go that are too old for this receiver: the name of another sink, which then gets nothing else of the
   * signals that this one has.
   */
  divertTo: name.optional(),
  start: choice(["oldest", "newest"], "oldest"),
};

const cloud = choice(["public", "usgovernment", "china"], "public");

const auth = section({
  bearerFile: path(),
  basic: section({
    user: text("is the name of a user"),
    passwordFile: text("is the path of a file"),
  }).optional(),
  /** A secret in a header of its own, as hosted collectors want it. */
  apiKey: section({ header: headerName, keyFile: text("is the path of a file") }).optional(),
  /** Microsoft Entra ID: with secretFile or certificateFile an application, else a workload or a managed identity. */
  entra: section({
    kind: choice(["secret", "certificate", "workload", "managed"], "managed"),
    tenantId: text("is the id of a tenant").optional(),
    clientId: text("is the id of an application").optional(),
    secretFile: path(),
    certificateFile: path(),
    /** Workload identity: default AZURE_FEDERATED_TOKEN_FILE. */
    tokenFile: path(),
    cloud,
    /** Where tokens come from, when it is not the cloud's own. */
    authorityHost: url.optional(),
  }).optional(),
}).prefault({});

const web = {
  url,
  timeout: duration({ default: "30s", min: second, max: hour }),
  headers,
  auth,
  tls: section({
    caFile: path(),
    certFile: path(),
    keyFile: path(),
    /** The name that the certificate must have, when it is not the URL's. */
    serverName: text("is the name of a host").optional(),
  }).prefault({}),
  /** A URL, `none`, or `env`: HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the environment. */
  proxy,
};

const signal = z.enum(["flows", "metrics"], "is flows or metrics");
const signalsOf = (fallback: readonly ("flows" | "metrics")[]) =>
  z
    .array(signal, "is a list of flows and metrics")
    .min(1, "names nothing: write [flows], [metrics] or both")
    .default([...fallback])
    .transform((given) => [...new Set(given)]);

const remoteWrite = z.strictObject({
  ...common,
  ...web,
  type: z.literal("remote-write"),
  /** Decides what is taken of old data: see `limits`. */
  receiver: choice(["prometheus", "mimir", "thanos", "victoriametrics", "azure"], "prometheus"),
  protocol: choice(["1.0", "2.0"], "1.0"),
});

const azureLogs = z.strictObject({
  ...common,
  ...web,
  type: z.literal("azure-logs"),
  signals: signalsOf(["flows"]),
  /** The immutable id of the data collection rule; `url` is the endpoint, of a DCE or of the rule itself. */
  ruleId: z
    .string("is the immutable id of a rule")
    .regex(/^dcr-[0-9a-zA-Z-]{1,64}$/, "is no immutable id: dcr-..."),
  stream: text("is the name of a stream").default("Custom-FoveaContainerNetworkLogs"),
  metricsStream: text("is the name of a stream").default("Custom-FoveaMetrics"),
});

const otlp = z.strictObject({
  ...common,
  ...web,
  type: z.literal("otlp"),
  signals: signalsOf(["flows", "metrics"]),
  /** `url` is the base: /v1/logs and /v1/metrics are added to it. */
  encoding: choice(["protobuf", "json"], "protobuf"),
  compression: choice(["gzip", "none"], "gzip"),
});

const loki = z.strictObject({
  ...common,
  ...web,
  type: z.literal("loki"),
  /** Sent as X-Scope-OrgID. */
  tenant: text("is the name of a tenant").optional(),
});

const file = z.strictObject({
  ...common,
  type: z.literal("file"),
  signals: signalsOf(["flows", "metrics"]),
  directory: text("is the path of a directory"),
  /** A file is ended at this size or age; of ended files the oldest go when there are more than `totalMax` bytes. */
  fileBytesMax: bytes({ default: "16MiB", min: 64 * kib, max: 4 * gib }),
  fileAgeMax: duration({ default: "1h", min: second, max: 30 * day }),
  totalMax: bytes({ default: "1GiB", min: mib, max: 1024 * gib }),
  compress: flag(true),
});

export const sinkTypes = ["remote-write", "azure-logs", "otlp", "loki", "file"] as const;

export const sinkSchema = z.discriminatedUnion("type", [remoteWrite, azureLogs, otlp, loki, file], {
  error: ({ input }) =>
    typeof input === "object" && input !== null && !Array.isArray(input)
      ? `is not one of ${sinkTypes.join(", ")}`
      : "is no sink: a section with name, type and more",
});

export type SinkConfig = z.output<typeof sinkSchema>;
export type WebSinkConfig = Exclude<SinkConfig, { type: "file" }>;
export type RemoteWriteConfig = z.output<typeof remoteWrite>;
export type AzureLogsConfig = z.output<typeof azureLogs>;
export type OtlpConfig = z.output<typeof otlp>;
export type LokiConfig = z.output<typeof loki>;
export type FileSinkConfig = z.output<typeof file>;
