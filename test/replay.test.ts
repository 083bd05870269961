// Replay: what is recorded comes back, at the time of now, in any number of rounds; a bad line is named.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import type { FlowRecord } from "../src/flow.ts";
import { openReplay, recordTick } from "../src/replay.ts";
import { countsOf } from "../src/replay-counts.ts";
import type { DnsError, Snapshot } from "../src/snapshot.ts";
import { backendContract } from "./backend.contract.ts";

const fixture = join(import.meta.dir, "fixtures/replay/node.ndjson");
const now = () => 1_700_000_000_000;

backendContract({ name: "replay", open: () => openReplay({ file: fixture, loop: false, now }), ticks: 14 });
backendContract({
  name: "replay in a loop",
  open: () => openReplay({ file: fixture, loop: true, now }),
  ticks: 40,
});

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "fovea-replay-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

const flow: FlowRecord = {
  startAt: 1000,
  endAt: 1900,
  source: "192.0.2.1",
  destination: "192.0.2.2",
  sourcePort: 1,
  destinationPort: 53,
  protocol: 17,
  direction: "egress",
  verdict: "forwarded",
  packets: 2,
  bytes: 200,
  tcpFlags: 0,
  interface: "eth0",
  evictReason: "idle",
};

const dnsError: DnsError = {
  ...{ source: "192.0.2.53", sourcePort: 53, destination: "192.0.2.1", destinationPort: 4000 },
  ...{ protocol: 17, code: "NXDOMAIN" },
};

const written = (...lines: readonly unknown[]) => {
  const file = join(directory, "r.ndjson");
  writeFileSync(
    file,
    lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n"),
  );
  return file;
};
const tick = (atMs: number, snapshots: Record<string, Snapshot>) => ({ atMs, snapshots });
const signal = new AbortController().signal;
const opened = (file: string, loop = false) => {
  const [collector, ...others] = openReplay({ file, loop, now }).collectors;
  if (collector === undefined) throw new Error("no collector");
  return { collect: () => collector.collect(signal), others };
};

describe("playing", () => {
  test("gives one line a call, its records as if they had just been seen", () => {
    const { collect } = opened(
      written(
        tick(2000, { a: { flows: [flow], udpActiveSockets: 1 } }),
        "",
        tick(3000, { a: { udpActiveSockets: 2 } }),
      ),
    );
    expect(collect()).toEqual({
      flows: [{ ...flow, startAt: now() - 1000, endAt: now() - 100 }],
      udpActiveSockets: 1,
    });
    expect(collect()).toEqual({ udpActiveSockets: 2 });
  });

  test("ends with the last state, and without records", async () => {
    const replay = openReplay({
      file: written(tick(0, { a: { flows: [flow], dnsErrors: [dnsError], udpActiveSockets: 1 }, b: {} })),
      loop: false,
      now,
    });
    const [first, second] = replay.collectors;
    expect(await first?.collect(signal)).toMatchObject({ dnsErrors: [dnsError] });
    expect(await Promise.race([replay.ended.then(() => "ended"), Promise.resolve("goes on")])).toBe(
      "goes on",
    );
    second?.collect(signal);
    await replay.ended;
    expect(first?.collect(signal)).toEqual({ udpActiveSockets: 1 });
  });

  test("in a loop lets counts go on, states begin again, records come again", () => {
    const snapshot = (ingress: number, sockets: number, drops: number): Snapshot => ({
      totals: {
        uplinks: ["eth0"],
        forward: { ingress: { packets: ingress, bytes: 10 * ingress }, egress: { packets: 0, bytes: 0 } },
        tcpFlags: [],
      },
      drops: [{ reason: "A", direction: "ingress", packets: drops, bytes: drops }],
      udpActiveSockets: sockets,
      flows: [flow],
      dnsErrors: [dnsError],
    });
    const { collect } = opened(
      written(tick(0, { a: snapshot(100, 5, 1) }), tick(1000, { a: snapshot(130, 6, 4) })),
      true,
    );
    const seen = Array.from({ length: 5 }, () => collect() as Snapshot);
    expect(seen.map(({ totals }) => totals?.forward.ingress.packets)).toEqual([100, 130, 130, 160, 160]);
    expect(seen.map(({ drops }) => drops?.[0]?.packets)).toEqual([1, 4, 4, 7, 7]);
    expect(seen.map(({ udpActiveSockets }) => udpActiveSockets)).toEqual([5, 6, 5, 6, 5]);
    expect(seen.map(({ flows }) => flows?.length)).toEqual([1, 1, 1, 1, 1]);
    expect(seen.map(({ dnsErrors }) => dnsErrors)).toEqual(Array(5).fill([dnsError]));
  });

  test("knows members of a list by their texts, wherever they stand", () => {
    const drops = (...packets: [string, number][]): Snapshot => ({
      drops: packets.map(([reason, count]) => ({ reason, direction: "ingress", packets: count, bytes: 0 })),
    });
    const { collect } = opened(
      written(
        tick(0, { a: drops(["A", 1], ["B", 50]) }),
        tick(1, { a: drops(["B", 60], ["A", 3], ["C", 7]) }),
      ),
      true,
    );
    const seen = Array.from({ length: 4 }, () => countsOf(collect() as Snapshot));
    expect(
      [...(seen[3] ?? [])].filter(([place]) => place.endsWith("packets")).map(([, value]) => value),
    ).toEqual([70, 5, 14]);
  });

  test("a collector that a line lacks had failed then, and fails again", () => {
    const file = written(tick(0, { a: {}, b: {} }), tick(1, { b: {} }), tick(2, { a: {} }));
    const { collect } = opened(file);
    expect(collect()).toEqual({});
    expect(collect).toThrow(`${file}:2 has no snapshot of a`);
    expect(collect()).toEqual({});
  });

  test("a collector that is called with an aborted signal keeps its line", () => {
    const { collect } = opened(
      written(tick(0, { a: { udpActiveSockets: 1 } }), tick(1, { a: { udpActiveSockets: 2 } })),
    );
    const [collector] = openReplay({ file: fixture, loop: false, now }).collectors;
    expect(() => collector?.collect(AbortSignal.abort(new Error("stop")))).toThrow("stop");
    expect(collect()).toEqual({ udpActiveSockets: 1 });
  });
});

describe("a recording that is none", () => {
  test.each([
    ["not json", ":1 is no JSON"],
    ["[]", ":1: the line"],
    ['{"atMs":0}', ":1: snapshots"],
    ['{"atMs":0,"snapshots":{"a":{"flowz":[]}}}', ":1: snapshots.a"],
    ['{"atMs":0,"snapshots":{"a":{"udpActiveSockets":"3"}}}', ":1: snapshots.a.udpActiveSockets"],
    ['{"atMs":0,"snapshots":{"a":{"udpActiveSockets":-3}}}', ":1: snapshots.a.udpActiveSockets"],
    ['{"atMs":0,"snapshots":{"a":{"flows":[{"startAt":1}]}}}', ":1: snapshots.a.flows.0"],
    ['{"atMs":0,"snapshots":{}}\n\n{"atMs":1,"snapshots":5}', ":3: snapshots"],
    ['{"atMs":0,"snapshots":{}}', "has no snapshot"],
    ["\n \n", "has no line"],
  ])("%j", (text, message) => {
    const file = written(text);
    const open = () => openReplay({ file, loop: false, now });
    expect(open).toThrow(message);
    expect(open).toThrow(file);
  });

  test("or is too long, or is not there", () => {
    const file = written(tick(0, { a: {} }), " ".repeat(100) + JSON.stringify(tick(0, { a: {} })));
    expect(() => openReplay({ file, loop: false, now, lineBytesMax: 90 })).toThrow(`${file}:2 has`);
    expect(() => openReplay({ file, loop: false, now, fileBytesMax: 90 })).toThrow("more than 90");
    expect(() => openReplay({ file: join(directory, "absent"), loop: false, now })).toThrow("absent");
  });
});

test("what is recorded plays as it was, shifted to now", () => {
  const time = fc.integer({ min: 0, max: 5000 });
  const recorded = fc.array(fc.record({ startAt: time, lastMs: time, sockets: fc.nat(100) }), {
    minLength: 1,
    maxLength: 5,
  });
  fc.assert(
    fc.property(recorded, fc.integer({ min: 10 ** 12, max: 2 * 10 ** 12 }), (ticks, startedAt) => {
      const snapshots = ticks.map(({ startAt, lastMs, sockets }, index) => ({
        at: startedAt + (index + 1) * 1000,
        snapshot: {
          udpActiveSockets: sockets,
          flows: [{ ...flow, startAt: startedAt + startAt, endAt: startedAt + startAt + lastMs }],
        },
      }));
      const lines = snapshots.map(({ at, snapshot }) =>
        recordTick({ startedAt, at, snapshots: { a: snapshot } }),
      );
      const file = join(directory, "recorded.ndjson");
      writeFileSync(file, lines.join(""));
      const { collect } = opened(file);
      for (const { at, snapshot } of snapshots) {
        const shiftMs = now() - at;
        const flows = snapshot.flows.map((record) => ({
          ...record,
          startAt: record.startAt + shiftMs,
          endAt: record.endAt + shiftMs,
        }));
        expect(collect()).toEqual({ ...snapshot, flows });
      }
    }),
    { numRuns: 30 },
  );
});
