// Bodies for the Logs Ingestion API of Azure Monitor: a JSON array of rows, compressed.

import { createHash } from "node:crypto";
import { type FlowRecord, protocolNames } from "../flow.ts";
import { layer4 } from "../hubble.ts";
import { type Labels, labelsText } from "../store/sample-series.ts";
import {
  type EncodedBody,
  type EncodedSeries,
  EncodeError,
  type EncoderLimits,
  type EncoderSpec,
  type Encoders,
  type FlowEncoder,
  type SampleEncoder,
} from "./encoder.ts";

/**
 * Of one call, both as it is and compressed: "1 MB" in azure-monitor-limits-custom-logs.md, of which the smaller reading
 * is safe.
 */
export const azureBytesMax = 1_000_000;

/**
 * The service cuts a field at 64 KB (the same page), a dynamic one in the middle of its JSON. Cut here, at the
 * smaller reading, it stays text and JSON.
 */
export const azureFieldBytesMax = 64_000;

/** Sent later than so after it happened, a row is one of a replay. */
export const replayAfterMs = 5 * 60_000;

/** The end of the year 9999: KQL knows no later datetime. */
const timeMax = 253_402_300_799_999;

/** Names as a stream declares them; a table says `dateTime`. */
export type AzureColumnType = "string" | "datetime" | "boolean" | "long" | "real" | "dynamic";

/**
 * In both tables. TimeGenerated is the time of the record as well, but the service replaces it by the time of
 * receipt when it is more than 2 days old, or more than 1 day ahead (log-standard-columns.md): EventTime stays true.
 * There is no key that would let the service refuse a row it has: after an answer that was lost, rows stand there
 * twice, with one RecordId. A name begins with a letter and has at most 45 letters, digits and underscores.
 */
const everyRow = {
  TimeGenerated: "datetime",
  EventTime: "datetime",
  RecordId: "string",
  ReplayBatch: "boolean",
  Node: "string",
  Cluster: "string",
  ExternalLabels: "dynamic",
} as const;

/**
 * The names of Azure's own ContainerNetworkLogs, in the shape of Hubble, as far as there is a value; what that table
 * has no column for stands behind them.
 */
export const azureFlowColumns = {
  ...everyRow,
  Verdict: "string",
  DropReason: "string",
  IP: "dynamic",
  Layer4: "dynamic",
  FlowType: "string",
  NodeName: "string",
  EventType: "dynamic",
  TrafficDirection: "string",
  TraceObservationPoint: "string",
  StartTime: "datetime",
  Protocol: "string",
  Interface: "string",
  Packets: "long",
  Bytes: "long",
  RttUs: "long",
  Retransmits: "long",
  DnsError: "string",
  EvictReason: "string",
} as const satisfies Readonly<Record<string, AzureColumnType>>;

export const azureMetricColumns = {
  ...everyRow,
  Name: "string",
  Labels: "dynamic",
  Value: "real",
  /** Of a value that JSON has no number for: NaN, +Inf, -Inf. */
  ValueText: "string",
  /** The series ended here; such a row has no value. */
  Stale: "boolean",
} as const satisfies Readonly<Record<string, AzureColumnType>>;

type ValueOf = {
  readonly string: string;
  readonly datetime: string;
  readonly boolean: boolean;
  readonly long: number;
  readonly real: number | null;
  readonly dynamic: object;
};

/** A column that is undefined is left out. */
type RowOf<Columns extends Readonly<Record<string, AzureColumnType>>> = {
  readonly [Name in keyof Columns]?: ValueOf[Columns[Name]] | undefined;
};

function timeText(at: number): string {
  if (!(at >= 0 && at <= timeMax))
    throw new EncodeError(`${at} is no time that a row of Azure Monitor can have: 0 to ${timeMax} ms`);
  return new Date(at).toISOString();
}

/** A lone surrogate, and half a character at the end, would be no UTF-8. */
export function cutText(text: string, bytesMax: number = azureFieldBytesMax): string {
  const whole = text.toWellFormed();
  if (whole.length * 3 <= bytesMax) return whole;
  const bytes = Buffer.from(whole);
  if (bytes.length <= bytesMax) return whole;
  let end = bytesMax;
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return bytes.toString("utf8", 0, end);
}

const presentText = (text: string | undefined): string | undefined =>
  text === undefined || text === "" ? undefined : cutText(text);

const jsonBytes = (value: unknown): number => Buffer.byteLength(JSON.stringify(value));

/** All names, with values cut to what the field has room for. Throws when the names alone are too long. */
export function fittingLabels(labels: Labels): Labels {
  for (let valueMax = azureFieldBytesMax; valueMax > 0; valueMax >>= 1) {
    const cut = Object.fromEntries(
      Object.entries(labels).map(([name, value]) => [cutText(name), cutText(value, valueMax)]),
    );
    if (jsonBytes(cut) <= azureFieldBytesMax) return cut;
  }
  throw new EncodeError(
    `has labels whose names take more than ${azureFieldBytesMax} bytes, which no field of Azure Monitor holds`,
  );
}

/** Rows of JSON, counted to the byte: brackets and commas too. */
function createRows(bytesMax: number) {
  const rows: string[] = [];
  let bytes = 2;
  return {
    /** False: it does not fit, and nothing of it was taken. */
    add(row: object): boolean {
      const text = JSON.stringify(row);
      const size = Buffer.byteLength(text);
      if (size + 2 > azureBytesMax)
        throw new EncodeError(
          `takes ${size} bytes as a row, and Azure Monitor takes ${azureBytesMax} a call`,
        );
      const more = rows.length === 0 ? size : size + 1;
      if (rows.length > 0 && bytes + more > bytesMax) return false;
      rows.push(text);
      bytes += more;
      return true;
    },
    finish(): EncodedBody {
      const raw = new TextEncoder().encode(`[${rows.join(",")}]`);
      // Names of columns and times repeat: what is within the limit as it is, is so compressed.
      return { body: Bun.gzipSync(raw), rawBytes: raw.length };
    },
  };
}

const isReplay = (at: number, { now }: EncoderLimits): boolean => now - at > replayAfterMs;

const optionalLabels = (labels: Labels): Labels | undefined =>
  Object.keys(labels).length === 0 ? undefined : fittingLabels(labels);

/** Of Cilium's event types and observation points, as in Hubble: 1 a drop, 4 a trace; 10 from and 11 to the network. */
function eventOf({ verdict, direction }: FlowRecord) {
  if (verdict === "dropped") return { EventType: { type: 1 } };
  return direction === "egress"
    ? { EventType: { type: 4, sub_type: 11 }, TraceObservationPoint: "TO_NETWORK" }
    : { EventType: { type: 4, sub_type: 10 }, TraceObservationPoint: "FROM_NETWORK" };
}

function createFlowEncoder(spec: EncoderSpec, limits: EncoderLimits): FlowEncoder {
  const rows = createRows(limits.bytesMax);
  const externalLabels = optionalLabels(spec.externalLabels);
  const cluster = presentText(spec.cluster);
  return {
    add: (flow, id) => {
      const time = timeText(flow.endAt);
      const node = presentText(flow.node ?? spec.node);
      const row: RowOf<typeof azureFlowColumns> = {
        TimeGenerated: time,
        EventTime: time,
        RecordId: cutText(id),
        ReplayBatch: isReplay(flow.endAt, limits),
        Node: node,
        Cluster: cluster,
        Verdict: flow.verdict === "dropped" ? "DROPPED" : "FORWARDED",
        DropReason: presentText(flow.dropReason),
        IP: {
          source: flow.source,
          destination: flow.destination,
          ipVersion: flow.source.includes(":") ? "IPv6" : "IPv4",
        },
        Layer4: layer4(flow),
        FlowType: "L3_L4",
        NodeName: node,
        TrafficDirection: flow.direction === "egress" ? "EGRESS" : "INGRESS",
        ...eventOf(flow),
        StartTime: timeText(flow.startAt),
        Protocol: protocolNames[flow.protocol] ?? String(flow.protocol),
        Interface: presentText(flow.interface),
        Packets: flow.packets,
        Bytes: flow.bytes,
        RttUs: flow.rttUs,
        Retransmits: flow.retransmits,
        DnsError: presentText(flow.dnsError),
        EvictReason: flow.evictReason,
        ExternalLabels: externalLabels,
      };
      return rows.add(row);
    },
    finish: rows.finish,
  };
}

/** What all samples of a series have in common. */
type SeriesParts = { readonly digest: string; readonly name: string; readonly labels: Labels };

const nonNumber = (value: number): string => (Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf");

function createSampleEncoder(spec: EncoderSpec, limits: EncoderLimits): SampleEncoder {
  const rows = createRows(limits.bytesMax);
  const externalLabels = optionalLabels(spec.externalLabels);
  const node = presentText(spec.node);
  const cluster = presentText(spec.cluster);
  let last: (SeriesParts & { readonly series: EncodedSeries }) | undefined;
  // Samples of a series follow each other: its parts are made once.
  const partsOf = (series: EncodedSeries): SeriesParts => {
    if (last?.series === series) return last;
    const key = JSON.stringify([spec.cluster, spec.node, series.name, labelsText(series.labels)]);
    const digest = createHash("sha256").update(key).digest("hex").slice(0, 32);
    last = { series, digest, name: cutText(series.name), labels: fittingLabels(series.labels) };
    return last;
  };
  return {
    add: (series, at, value) => {
      const { digest, name, labels } = partsOf(series);
      const time = timeText(at);
      const row: RowOf<typeof azureMetricColumns> = {
        TimeGenerated: time,
        EventTime: time,
        RecordId: `${digest}-${at}`,
        ReplayBatch: isReplay(at, limits),
        Node: node,
        Cluster: cluster,
        Name: name,
        Labels: labels,
        Value: Number.isFinite(value) ? value : null,
        ValueText: value === null || Number.isFinite(value) ? undefined : nonNumber(value),
        Stale: value === null,
        ExternalLabels: externalLabels,
      };
      return rows.add(row);
    },
    finish: rows.finish,
  };
}

export const azureLogsEncoders: Encoders = { flows: createFlowEncoder, metrics: createSampleEncoder };
