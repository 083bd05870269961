// Live flows of this node: adds up the CPUs, picks one interface a flow and direction, and decides when to report.

import type { EvictReason } from "../src/flow.ts";
import { createFlowColumns, type FlowColumns } from "./flow-columns.ts";

/** How good an interface is to count a flow on; the best of the first tick wins. */
export type Rank = 0 | 1 | 2 | 3;

/** What one kernel record says; times are kernel monotonic nanoseconds. */
export type Sighting = {
  ifindex: number;
  rank: Rank;
  packets: number;
  bytes: number;
  tcpFlags: number;
  firstNs: number;
  lastNs: number;
};

type State = {
  readonly flows: FlowColumns;
  readonly idleNs: number;
  readonly activeNs: number;
  readonly drops: boolean;
  readonly report: (slot: number, reason: EvictReason) => void;
  /** Where the next sweep begins, and how many reports it may still make. */
  sweepFrom: number;
  reportsLeft: number;
  readonly evicted: Map<EvictReason, number>;
  /** Next to give way when the table is full. */
  hand: number;
  tick: number;
  duplicates: number;
};

const FIN = 1;
const RST = 4;

/**
 * Ticks that the chosen interface must be silent before another takes over (failover): a packet that the one saw before
 * a swap and the other after it must not count twice. What the other sees until then counts nowhere but in the totals.
 */
const SILENT_TICKS = 2;

function count(state: State, slot: number, reason: EvictReason): void {
  const { flows } = state;
  state.evicted.set(reason, (state.evicted.get(reason) ?? 0) + 1);
  state.reportsLeft--;
  state.report(slot, reason);
  flows.packets[slot] = 0;
  flows.bytes[slot] = 0;
  flows.flags[slot] = 0;
  flows.retransmits[slot] = 0;
}

function addCounts(flows: FlowColumns, slot: number, packets: number, bytes: number, firstNs: number): void {
  const before = flows.packets[slot] ?? 0;
  if (before === 0 || firstNs < (flows.firstNs[slot] ?? 0)) flows.firstNs[slot] = firstNs;
  flows.packets[slot] = before + packets;
  flows.bytes[slot] = (flows.bytes[slot] ?? 0) + bytes;
}

function evict(state: State, slot: number, reason: EvictReason): void {
  if ((state.flows.packets[slot] ?? 0) > 0) count(state, slot, reason);
  state.flows.remove(slot);
}

function choose(state: State, slot: number, sighting: Sighting): void {
  const { flows } = state;
  flows.ifindex[slot] = sighting.ifindex;
  flows.rank[slot] = sighting.rank;
  flows.seenTick[slot] = state.tick;
}

function insert(state: State, key: Uint32Array, sighting: Sighting): number {
  const { flows } = state;
  if (flows.live() === flows.max) {
    evict(state, state.hand, "full");
    state.hand = (state.hand + 1) % flows.max;
  }
  const slot = flows.insert(key);
  flows.firstTick[slot] = state.tick;
  flows.endTick[slot] = 0;
  flows.ended[slot] = 0;
  flows.flags[slot] = 0;
  flows.rttUs[slot] = 0;
  flows.retransmits[slot] = 0;
  flows.reportNs[slot] = sighting.firstNs;
  flows.lastNs[slot] = sighting.lastNs;
  flows.packets[slot] = 0;
  flows.bytes[slot] = 0;
  choose(state, slot, sighting);
  return slot;
}

/** In the tick that a flow appears a better interface takes over, and what the lesser one saw is a duplicate. */
function place(state: State, slot: number, sighting: Sighting): void {
  const { flows } = state;
  // A drop happens once, wherever: there is nothing to choose between.
  if (state.drops) flows.ifindex[slot] = sighting.ifindex;
  const chosen = sighting.ifindex === flows.ifindex[slot];
  const better = flows.firstTick[slot] === state.tick && sighting.rank > (flows.rank[slot] ?? 0);
  const silent = state.tick - (flows.seenTick[slot] ?? 0) >= SILENT_TICKS;
  if (!chosen && !better && !silent) {
    state.duplicates += sighting.packets;
    return;
  }
  if (!chosen && better) {
    state.duplicates += flows.packets[slot] ?? 0;
    flows.packets[slot] = 0;
    flows.bytes[slot] = 0;
  }
  if (!chosen) choose(state, slot, sighting);
  flows.seenTick[slot] = state.tick;
  addCounts(flows, slot, sighting.packets, sighting.bytes, sighting.firstNs);
}

function add(state: State, key: Uint32Array, sighting: Sighting): void {
  const { flows } = state;
  const known = flows.find(key);
  const slot = known < 0 ? insert(state, key, sighting) : known;
  if (sighting.lastNs > (flows.lastNs[slot] ?? 0)) flows.lastNs[slot] = sighting.lastNs;
  flows.flags[slot] = (flows.flags[slot] ?? 0) | sighting.tcpFlags;
  const ends = sighting.tcpFlags & (FIN | RST);
  if (ends !== 0) {
    flows.ended[slot] = (flows.ended[slot] ?? 0) | ends;
    if (flows.endTick[slot] === 0) flows.endTick[slot] = state.tick;
  }
  place(state, slot, sighting);
}

/** Why a flow leaves the table now, if it does: a tick after its end, or after its idle time. */
function due(state: State, slot: number, nowNs: number): EvictReason | undefined {
  const { flows } = state;
  const endTick = flows.endTick[slot] ?? 0;
  if (endTick !== 0 && state.tick > endTick) return ((flows.ended[slot] ?? 0) & RST) === 0 ? "fin" : "rst";
  return nowNs - (flows.lastNs[slot] ?? 0) >= state.idleNs ? "idle" : undefined;
}

/** Why a flow that stays is reported now, if it is. */
function reportDue(state: State, slot: number, nowNs: number): EvictReason | undefined {
  const { flows } = state;
  if ((flows.packets[slot] ?? 0) === 0) return undefined;
  if (state.drops && flows.firstTick[slot] === state.tick) return "first";
  return nowNs - (flows.reportNs[slot] ?? 0) >= state.activeNs ? "active" : undefined;
}

/**
 * A sweep reports so many flows at most, so that a hundred thousand that fall idle together do not become as many rows
 * in one tick; the others are due again in the next. More live flows may report more.
 */
const REPORTS_MIN = 8192;
const reportsMax = (live: number): number => REPORTS_MIN + (live >>> 5);

/** Goes round from where the last sweep ran out of reports. */
function sweep(state: State, nowNs: number): void {
  const { flows } = state;
  const end = flows.highest();
  const from = state.sweepFrom < end ? state.sweepFrom : 0;
  state.reportsLeft = reportsMax(flows.live());
  state.sweepFrom = 0;
  for (let i = 0; i < end; i++) {
    const slot = from + i < end ? from + i : from + i - end;
    if (flows.used[slot] === 1) sweepSlot(state, slot, nowNs);
    if (state.reportsLeft > 0) continue;
    state.sweepFrom = slot + 1;
    return;
  }
}

function sweepSlot(state: State, slot: number, nowNs: number): void {
  const { flows } = state;
  const ending = due(state, slot, nowNs);
  if (ending !== undefined) {
    evict(state, slot, ending);
    return;
  }
  const reason = reportDue(state, slot, nowNs);
  if (reason === undefined) return;
  flows.reportNs[slot] = nowNs;
  count(state, slot, reason);
}

/**
 * `drops`: records are drops, and a new one is reported in the tick that it appears. `report` is called in no particular order, with
 * the flow's counts still in the columns.
 */
export function createFlowTable(options: {
  max: number;
  idleNs: number;
  activeNs: number;
  drops: boolean;
  report: (slot: number, reason: EvictReason) => void;
}) {
  const flows = createFlowColumns(options.max);
  const state: State = {
    ...{ ...options, flows, evicted: new Map(), sweepFrom: 0, reportsLeft: 0 },
    ...{ hand: 0, tick: 1, duplicates: 0 },
  };
  return {
    flows,
    /** Adds one kernel record; `key` and `sighting` are copied. */
    add: (key: Uint32Array, sighting: Sighting): void => add(state, key, sighting),
    /** Reports and evicts what is due, then begins the next tick. */
    sweep(nowNs: number): void {
      sweep(state, nowNs);
      state.tick++;
    },
    /** Reports all that is unreported and empties the table. */
    drain(): void {
      for (let slot = 0; slot < flows.highest(); slot++)
        if (flows.used[slot] === 1) evict(state, slot, "shutdown");
    },
    evicted: (): { reason: EvictReason; flows: number }[] =>
      [...state.evicted].map(([reason, count]) => ({ reason, flows: count })),
    /** Packets met again on another interface. */
    duplicates: (): number => state.duplicates,
  };
}
