// Readings of endpoints to sections of a snapshot: the counts of each endpoint as they are, and node totals that never fall.

import type { Endpoint, EndpointUse, Snapshot, Statistics } from "../src/snapshot.ts";
import { type EndpointReading, type SwitchCounters, type SwitchSource, switchSources } from "./counters.ts";
import { advance, type Counts, createEndpointCounters } from "./endpoint-sums.ts";
import type { HnsReading } from "./hns-reading.ts";

export type EndpointSections = Required<Pick<Snapshot, "totals" | "drops" | "endpoints" | "endpointUse">> &
  Pick<Snapshot, "switchTcpStatistics">;

export type EndpointTable = {
  /**
   * `switches` is what was read last of the switch, by endpoint id; what HNS itself tells of the switch goes before it.
   * An endpoint that is not in it keeps what was known.
   */
  take(reading: HnsReading, switches: ReadonlyMap<string, SwitchCounters>): EndpointSections;
};

/** What is remembered of an endpoint, whether it is there or not. */
type Life = {
  /** It was there before it was first read: what it had counted by then is no part of the totals. */
  readonly old: boolean;
  /** Network and address; empty where it has none, or where another endpoint has it now. */
  place: string;
  /** What was last read of it: of HNS, and of the switch by its present source. */
  readonly own: Counts;
  ofSwitch: Counts;
  source?: SwitchSource;
};

type Present = { readonly endpoint: EndpointReading; readonly life: Life };

/** Networks may use the same addresses. */
const placeOf = ({ network, address }: EndpointReading): string =>
  address === "" ? "" : `${network} ${address}`;

/** The switch tells of a connection at both of its directions; the totals are of those at ingress. */
function ingressOf(tcpStatistics: Endpoint["tcpStatistics"]): Statistics | undefined {
  const ofIngress = tcpStatistics.filter(({ direction }) => direction === "ingress");
  if (ofIngress.length === 0) return undefined; // Absent is not zero.
  return Object.fromEntries(ofIngress.map(({ statistic, count }) => [statistic, count]));
}

/** By what is known of each, so that a reading that failed changes nothing. */
function sourcesOf(lives: readonly Life[]): EndpointUse["sources"] {
  return [...switchSources, "none" as const].map((source) => ({
    source,
    endpoints: lives.filter((life) => (life.source ?? "none") === source).length,
  }));
}

/** The lives of endpoints: present ones, and as many that are gone, of which the latest stay. */
function createLives(endpointsMax: number) {
  const lives = new Map<string, Life>(); // Those that are gone come first, the longest gone at the head.
  let old: ReadonlySet<string> = new Set();
  let readings = 0;
  let replaced = 0;

  const isOld = (id: string): boolean => readings === 0 || old.has(id);
  const start = ({ id }: EndpointReading): Life => ({
    old: isOld(id),
    place: "",
    own: [],
    ofSwitch: [],
  });
  const goneByPlace = (present: ReadonlySet<string>): ReadonlyMap<string, Life> =>
    new Map([...lives].filter(([id]) => !present.has(id)).map(([, life]) => [life.place, life]));
  /** Only one endpoint comes in the place of one that is gone. */
  const replace = (gone: Life | undefined): void => {
    if (gone === undefined || gone.place === "") return;
    replaced += 1;
    gone.place = "";
  };

  return {
    /** Each endpoint with its life, in their order. */
    follow(endpoints: readonly EndpointReading[]): readonly Present[] {
      const gone = goneByPlace(new Set(endpoints.map(({ id }) => id)));
      return endpoints.map((endpoint) => {
        const place = placeOf(endpoint);
        let life = lives.get(endpoint.id);
        if (life === undefined) {
          life = start(endpoint);
          replace(gone.get(place));
        }
        life.place = place;
        lives.delete(endpoint.id); // To the end.
        lives.set(endpoint.id, life);
        return { endpoint, life };
      });
    },
    /** Ends a reading. One that waits is as old as it was when it was first listed. */
    settle(presentCount: number, unread: readonly string[], waiting: readonly string[]): void {
      old = new Set([...unread, ...waiting.filter(isOld)]);
      readings += 1;
      for (const id of lives.keys()) {
        if (lives.size <= presentCount + endpointsMax) break;
        lives.delete(id);
      }
    },
    replaced: (): number => replaced,
  };
}

export function createEndpointTable({ endpointsMax }: { readonly endpointsMax: number }): EndpointTable {
  const counters = createEndpointCounters();
  const sums: Counts = [];
  const lives = createLives(endpointsMax);
  let resets = 0;

  /** Sources count from different moments on: another one goes on from where it stands. */
  const advanceSwitch = (life: Life, ofSwitch: SwitchCounters | undefined): boolean => {
    if (ofSwitch === undefined) return false;
    const changed = life.source !== undefined && life.source !== ofSwitch.source;
    if (changed) life.ofSwitch = [];
    life.source = ofSwitch.source;
    return advance(sums, life.ofSwitch, counters.ofSwitch(ofSwitch), life.old || changed);
  };
  const seriesOf = ({ id, name, address, network }: EndpointReading, life: Life): Endpoint => {
    const own = counters.sections(life.own);
    const ofSwitch = counters.sections(life.ofSwitch);
    const { forward } = own;
    return { id, name, address, network, ...ofSwitch, forward, drops: [...own.drops, ...ofSwitch.drops] };
  };
  const totals = (): Omit<EndpointSections, "endpoints" | "endpointUse"> => {
    const { forward, tcpFlags, drops, tcpStatistics } = counters.sections(sums);
    const switchTcpStatistics = ingressOf(tcpStatistics);
    return {
      totals: { uplinks: [], forward, tcpFlags },
      drops,
      ...(switchTcpStatistics === undefined ? {} : { switchTcpStatistics }),
    };
  };
  return {
    take({ endpoints, remote, overflow, failures, unread = [], waiting = [] }, switches) {
      const present = lives.follow(endpoints);
      const series = present.map(({ endpoint, life }) => {
        const reset = advance(sums, life.own, counters.ofEndpoint(endpoint), life.old);
        const switchReset = advanceSwitch(life, endpoint.switch ?? switches.get(endpoint.id));
        if (reset || switchReset) resets += 1;
        return seriesOf(endpoint, life);
      });
      lives.settle(endpoints.length, unread, waiting);
      const use = { local: endpoints.length, remote, overflow, resets, replaced: lives.replaced() };
      const sources = sourcesOf(present.map(({ life }) => life));
      return { ...totals(), endpoints: series, endpointUse: { ...use, sources, failures } };
    },
  };
}
