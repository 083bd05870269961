// Turns the kernel's jiffies into monotonic nanoseconds and wall clock time.

import { clock as clockLayout } from "./contract.gen.ts";
import type { Libbpf } from "./libbpf.ts";
import { type KernelObject, openKernelObject } from "./object.ts";

/** Nanoseconds a jiffy for every HZ that Linux offers: 100, 250, 300, 1000. */
const JIFFY_NS = [10_000_000, 4_000_000, 1e9 / 300, 1_000_000];

export type KernelClock = {
  /** Reads both clocks; call it after a swap and before turning times of that half. */
  refresh(): void;
  /** Monotonic nanoseconds as of the last refresh. */
  nowNs(): number;
  /** The low 32 bits of jiffies at or before the last refresh, as monotonic nanoseconds. */
  jiffiesToNs(jiffies: number): number;
  /** The same for the low 16 bits, of a time that is at the most 62,768 jiffies old. */
  shortJiffiesToNs(jiffies: number): number;
  /** Monotonic nanoseconds as epoch milliseconds. */
  toEpochMs(ns: number): number;
};

/** The HZ that two readings of both clocks agree with best. */
export function jiffyNs(jiffies: number, ns: number): number {
  const measured = ns / Math.max(1, jiffies);
  return JIFFY_NS.reduce((best, each) =>
    Math.abs(each - measured) < Math.abs(best - measured) ? each : best,
  );
}

/**
 * Of the 65.5 s that 16 bits tell apart at 1000 Hz, the longest tick takes 60. One half of the rest is for a tick that is
 * late, the other for what happens between a reading of the clocks and the swap of the halves.
 */
const SHORT_JIFFIES_MAX = (60_000 + 0x10000) / 2;

/** How many jiffies before a reading a time was, of which 16 bits are known; negative when it was after it. */
export function shortJiffiesBefore(now: number, jiffies: number): number {
  const distance = (now - jiffies) & 0xffff;
  return distance > SHORT_JIFFIES_MAX ? distance - 0x10000 : distance;
}

/** Needs CAP_BPF and CAP_PERFMON. */
export const openClockObject = (libbpf: Libbpf, bytes: Uint8Array): KernelObject =>
  openKernelObject({ libbpf, name: "clock", bytes, mapEntries: {} });

export function createKernelClock(options: {
  libbpf: Pick<Libbpf, "testRun">;
  object: Pick<KernelObject, "programFd" | "mapArray">;
  now: () => number;
}): KernelClock {
  const { libbpf, object } = options;
  const programFd = object.programFd("read_clock");
  const noPacket = new Uint8Array(0);
  const words = new BigUint64Array(object.mapArray(".data.clock", 1, clockLayout.size, true).buffer, 0, 2);
  const read = (): { jiffies: number; ns: number } => {
    libbpf.testRun(programFd, noPacket, 0);
    return { jiffies: Number((words[0] ?? 0n) & 0xffffffffn), ns: Number(words[1] ?? 0n) };
  };
  const first = read();
  let last = first;
  let perJiffy = 4_000_000; // HZ=250, until half a second has shown which it is.
  let wallOffsetMs = options.now() - last.ns / 1e6;
  const nsBefore = (jiffies: number): number => last.ns - jiffies * perJiffy;
  return {
    refresh() {
      last = read();
      wallOffsetMs = options.now() - last.ns / 1e6;
      const ns = last.ns - first.ns;
      if (ns > 5e8 && ns < 3600e9) perJiffy = jiffyNs((last.jiffies - first.jiffies) >>> 0, ns);
    },
    nowNs: () => last.ns,
    jiffiesToNs: (jiffies) => nsBefore((last.jiffies - jiffies) | 0),
    shortJiffiesToNs: (jiffies) => nsBefore(shortJiffiesBefore(last.jiffies, jiffies)),
    toEpochMs: (ns) => Math.round(wallOffsetMs + ns / 1e6),
  };
}
