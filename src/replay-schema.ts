// The shape of a recording: one JSON object a line, with what each collector gave in that tick.

import { z } from "zod";
import { evictReasons, type FlowRecord } from "./flow.ts";
import { type Endpoint, type EndpointUse, type Snapshot, tcpFlagNames } from "./snapshot.ts";

const name = z.string().max(1024);
const count = z.number().min(0);
const port = z.int().min(0).max(65_535);
const direction = z.enum(["ingress", "egress"]);
const packetCount = { packets: count, bytes: count };
const statistics = z.record(name, count);

const flow: z.ZodType<FlowRecord> = z.strictObject({
  startAt: z.number(),
  endAt: z.number(),
  source: name,
  destination: name,
  sourcePort: port,
  destinationPort: port,
  protocol: z.int().min(0).max(255),
  icmpType: z.int().min(0).max(255).exactOptional(),
  icmpCode: z.int().min(0).max(255).exactOptional(),
  direction,
  verdict: z.enum(["forwarded", "dropped"]),
  dropReason: name.exactOptional(),
  packets: count,
  bytes: count,
  tcpFlags: z.int().min(0).max(255),
  interface: name,
  rttUs: count.exactOptional(),
  retransmits: count.exactOptional(),
  evictReason: z.enum(evictReasons),
});

const flag = z.strictObject({ direction, flag: z.enum(tcpFlagNames), packets: count });

const endpoint: z.ZodType<Endpoint> = z.strictObject({
  ...{ id: name, name, address: name, network: name },
  forward: z.strictObject({ ingress: z.strictObject(packetCount), egress: z.strictObject(packetCount) }),
  drops: z.array(z.strictObject({ reason: name, direction, packets: count })),
  tcpFlags: z.array(flag),
  tcpStatistics: z.array(z.strictObject({ direction, statistic: name, count })),
});

const endpointUse: z.ZodType<EndpointUse> = z.strictObject({
  ...{ local: count, remote: count, overflow: count, resets: count, replaced: count },
  sources: z.array(z.strictObject({ source: name, endpoints: count })),
  failures: z.array(z.strictObject({ source: name, failures: count })),
});

const snapshot: z.ZodType<Snapshot> = z.strictObject({
  totals: z
    .strictObject({
      uplinks: z.array(name),
      forward: z.strictObject({ ingress: z.strictObject(packetCount), egress: z.strictObject(packetCount) }),
      tcpFlags: z.array(flag),
    })
    .exactOptional(),
  drops: z
    .array(z.strictObject({ reason: name, direction, packets: count, bytes: count.exactOptional() }))
    .exactOptional(),
  flows: z.array(flow).exactOptional(),
  flowTable: z
    .strictObject({
      live: count,
      max: count,
      evicted: z.array(z.strictObject({ reason: name, flows: count })),
    })
    .exactOptional(),
  packets: z
    .strictObject({
      seen: count,
      aggregated: count,
      duplicate: count,
      untracked: z.array(z.strictObject({ reason: name, packets: count })),
    })
    .exactOptional(),
  dns: z
    .strictObject({
      queries: z.array(z.strictObject({ type: name, count })),
      responses: z.array(z.strictObject({ type: name, code: name, count })),
      latency: z.strictObject({ bounds: z.array(count), counts: z.array(count), sum: count, count }),
      unanswered: count,
      unsolicited: count,
      lost: count,
    })
    .exactOptional(),
  dnsAnswers: z.array(z.strictObject({ name, address: name, ttlSeconds: count })).exactOptional(),
  dnsErrors: z
    .array(
      z.strictObject({
        ...{ source: name, destination: name, sourcePort: port, destinationPort: port },
        ...{ protocol: z.int().min(0).max(255), code: name },
      }),
    )
    .exactOptional(),
  interfaces: z.array(z.strictObject({ interface: name, statistics })).exactOptional(),
  tcpSockets: z
    .strictObject({
      states: statistics,
      remotes: z.array(z.strictObject({ address: name, port, connections: count })).exactOptional(),
      remotesOther: count.exactOptional(),
    })
    .exactOptional(),
  tcpStatistics: statistics.exactOptional(),
  ipStatistics: statistics.exactOptional(),
  udpStatistics: statistics.exactOptional(),
  udpActiveSockets: count.exactOptional(),
  switchTcpStatistics: statistics.exactOptional(),
  protocols: z.array(z.strictObject({ protocol: name, statistics })).exactOptional(),
  endpoints: z.array(endpoint).exactOptional(),
  endpointUse: endpointUse.exactOptional(),
  maps: z.array(z.strictObject({ map: name, entries: count, capacity: count, bytes: count })).exactOptional(),
  attached: z.array(name).exactOptional(),
  limits: z.array(name).exactOptional(),
});

export const recordedTickSchema = z.strictObject({
  /** Milliseconds since the recording began; times of flow records count from there too. */
  atMs: z.number(),
  snapshots: z.record(name, snapshot),
});

export type RecordedTick = z.output<typeof recordedTickSchema>;
