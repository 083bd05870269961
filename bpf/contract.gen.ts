// Made by `npm run gen` from bpf/contract.h. Do not edit.

/** Size and member offsets in bytes. */
export const clock = {
  size: 16,
  jiffies: 0,
  timeNs: 8,
} as const;

/** Size and member offsets in bytes. */
export const dnsEvent = {
  size: 568,
  source: 0,
  destination: 16,
  sourcePort: 32,
  destinationPort: 34,
  protocol: 36,
  hook: 37,
  length: 38,
  ifindex: 40,
  timeNs: 48,
  payload: 56,
} as const;

/** Size and member offsets in bytes. */
export const dropRecord = {
  size: 64,
  source: 0,
  destination: 16,
  sourcePort: 32,
  destinationPort: 34,
  protocol: 36,
  hook: 37,
  tcpFlags: 38,
  cause: 40,
  ifindex: 44,
  firstJiffies: 48,
  lastJiffies: 50,
  packets: 52,
  bytes: 56,
} as const;

/** Size and member offsets in bytes. */
export const dropTotals = {
  size: 65536,
  drops: 0,
} as const;

/** Size and member offsets in bytes. */
export const flowRecord = {
  size: 64,
  source: 0,
  destination: 16,
  sourcePort: 32,
  destinationPort: 34,
  protocol: 36,
  hook: 37,
  tcpFlags: 38,
  ifindex: 40,
  firstJiffies: 44,
  lastJiffies: 48,
  packets: 52,
  bytes: 56,
} as const;

/** Size and member offsets in bytes. */
export const forward = {
  size: 16,
  packets: 0,
  bytes: 8,
} as const;

export const hook = {
  INGRESS: 1,
  EGRESS: 2,
} as const;

export const limits = {
  TABLE_WAYS: 15,
  TCP_FLAG_SETS: 256,
  DROP_REASONS: 2048,
  DROP_REASON_BITS: 11,
  DNS_PAYLOAD_MAX: 512,
} as const;

/** Size and member offsets in bytes. */
export const settings = {
  size: 64,
  hashKeys: 0,
  shards: 40,
  setsLog2: 44,
  cpus: 48,
  dnsEnabled: 52,
  networkNamespace: 56,
} as const;

/** Size and member offsets in bytes. */
export const socketRecord = {
  size: 64,
  source: 0,
  destination: 16,
  sourcePort: 32,
  destinationPort: 34,
  protocol: 36,
  hook: 37,
  tcpFlags: 38,
  scope: 40,
  rttUs: 44,
  rttSamples: 48,
  retransmits: 52,
} as const;

/** Size and member offsets in bytes. */
export const tableSet = {
  size: 1024,
  tags: 0,
  victim: 16,
  slots: 64,
} as const;

/** Size and member offsets in bytes. */
export const tally = {
  size: 64,
  seen: 0,
  spilled: 8,
  untracked: 16,
  dnsLost: 48,
} as const;

/** Size and member offsets in bytes. */
export const totals = {
  size: 8224,
  forward: 0,
  flagBuffers: 32,
  flagPackets: 4128,
} as const;

export const untracked = {
  NOT_IP: 0,
  TRUNCATED: 1,
  EXTENSIONS: 2,
  SPILL_FULL: 3,
  MAX: 4,
} as const;
