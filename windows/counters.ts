// What is read of an endpoint, before it is added up: 64-bit counts, which a number holds to 2^53 alone.

import type { Direction } from "../src/flow.ts";
import type { TcpFlag } from "../src/snapshot.ts";

export type DropCount = {
  /** `endpoint` of HNS, `aclrule` of an access list, or the switch's own word. */
  readonly reason: string;
  readonly direction: Direction;
  readonly packets: bigint;
};

/** In the order in which they are preferred. */
export const switchSources = ["hns", "vfpctrl", "performance-counters", "vfpctrl-text"] as const;
export type SwitchSource = (typeof switchSources)[number];

/** What the virtual switch (VFP) counts at the port of one endpoint. */
export type SwitchCounters = {
  readonly source: SwitchSource;
  readonly drops: readonly DropCount[];
  readonly tcpFlags: readonly {
    readonly direction: Direction;
    readonly flag: TcpFlag;
    readonly packets: bigint;
  }[];
  /** By the names of the source documents: ResetCount, ClosedFin, ResetSyn, TcpHalfOpenTimeouts, Verified, … */
  readonly tcpStatistics: readonly {
    readonly direction: Direction;
    readonly statistic: string;
    readonly count: bigint;
  }[];
};

/** A local endpoint as the last listing of HNS has it. */
export type EndpointFacts = {
  /** Lower case, without braces. */
  readonly id: string;
  readonly name: string;
  /** Empty where it has none. */
  readonly address: string;
  readonly network: string;
  /** The port of the virtual switch, lower case, without braces; absent where it has none, as on a NAT network. */
  readonly port?: string;
};

/** All that was read of one endpoint at once. */
export type EndpointReading = EndpointFacts & {
  readonly forward: Readonly<Record<Direction, { readonly packets: bigint; readonly bytes: bigint }>>;
  readonly drops: readonly DropCount[];
  readonly switch?: SwitchCounters;
};
