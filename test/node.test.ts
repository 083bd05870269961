// The node: what it makes of the snapshots of good, bad, slow and disagreeing collectors.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { FlowRecord } from "../src/flow.ts";
import { createDnsNames } from "../src/identity/dns.ts";
import { createNode } from "../src/node.ts";
import { type Collector, FatalError, type Snapshot } from "../src/snapshot.ts";

const flow = (packets: number): FlowRecord => ({
  startAt: 0,
  endAt: 1,
  source: "192.0.2.1",
  destination: "192.0.2.2",
  sourcePort: 1,
  destinationPort: 2,
  protocol: 17,
  direction: "egress",
  verdict: "forwarded",
  packets,
  bytes: packets * 100,
  tcpFlags: 0,
  interface: "eth0",
  evictReason: "idle",
});

const collector = (name: string, collect: Collector["collect"]): Collector => ({ name, collect });
const gives = (name: string, snapshot: Snapshot) => collector(name, () => snapshot);

function opened() {
  const clock = { at: 1_000_000, elapsedMs: 0 };
  const names = createDnsNames({ namesMax: 8 });
  const node = createNode({ names, now: () => clock.at, elapsedMs: () => clock.elapsedMs });
  return { node, names, clock };
}

const never = new AbortController().signal;

describe("sections", () => {
  test("stand in the state with the collectors that gave them", async () => {
    const { node } = opened();
    const { model } = await node.observe(
      [
        gives("kernel", { udpActiveSockets: 3, interfaces: [{ interface: "eth0", statistics: { a: 1 } }] }),
        collector("driver", () =>
          Promise.resolve({ interfaces: [{ interface: "eth0", statistics: { b: 2 } }] }),
        ),
      ],
      never,
    );
    expect(model).toMatchObject({
      at: 1_000_000,
      state: {
        udpActiveSockets: 3,
        interfaces: [
          { interface: "eth0", statistics: { a: 1 } },
          { interface: "eth0", statistics: { b: 2 } },
        ],
      },
      sections: { udpActiveSockets: ["kernel"], interfaces: ["kernel", "driver"] },
    });
    expect(node.model()).toBe(model);
  });

  test("are absent, not zero and not old, when their collector fails", async () => {
    const { node } = opened();
    const state: { broken: boolean } = { broken: false };
    const sockets = collector("sockets", () => {
      if (state.broken) throw new Error("read /proc/net/sockstat", { cause: new Error("ENOENT") });
      return { udpActiveSockets: 3 };
    });
    const other = gives("other", { ipStatistics: { InReceives: 1 } });
    await node.observe([sockets, other], never);
    state.broken = true;
    const { model } = await node.observe([sockets, other], never);
    expect(model.state).toEqual({ ipStatistics: { InReceives: 1 } });
    expect(model.health.map(({ name, success, error }) => [name, success, error])).toEqual([
      ["sockets", false, "read /proc/net/sockstat: ENOENT"],
      ["other", true, undefined],
    ]);
  });

  test("that two collectors give and that are no lists: the first stands, the second is told", async () => {
    const { node } = opened();
    const { model } = await node.observe(
      [gives("one", { udpActiveSockets: 1 }), gives("two", { udpActiveSockets: 2, ipStatistics: {} })],
      never,
    );
    expect(model.state).toEqual({ udpActiveSockets: 1, ipStatistics: {} });
    expect(model.health[1]).toMatchObject({
      success: false,
      error: "udpActiveSockets was given by one already",
      failures: 1,
    });
  });

  test("do not hold what is handed over or told in the health", async () => {
    const { node } = opened();
    const snapshot = {
      ...{ flows: [flow(1)], dnsAnswers: [], dnsErrors: [] },
      ...{ limits: ["no BTF"], attached: ["eth0"] },
    };
    const { model } = await node.observe([gives("flows", snapshot)], never);
    expect(model.state).toEqual({ attached: ["eth0"] });
    expect(model.health[0]?.limits).toEqual(["no BTF"]);
  });
});

describe("health", () => {
  test("counts failures, keeps the last success, and has the time that it took", async () => {
    const { node, clock } = opened();
    const state: { broken: boolean } = { broken: false };
    const slow = collector("slow", async () => {
      clock.elapsedMs += 7;
      await Promise.resolve();
      if (state.broken) throw new Error("no");
      return {};
    });
    expect((await node.observe([slow], never)).model.health).toEqual([
      { name: "slow", success: true, durationMs: 7, limits: [], failures: 0, lastSuccessAt: 1_000_000 },
    ]);
    state.broken = true;
    clock.at += 1000;
    await node.observe([slow], never);
    expect((await node.observe([slow], never)).model.health).toEqual([
      {
        name: "slow",
        success: false,
        error: "no",
        durationMs: 7,
        limits: [],
        failures: 2,
        lastSuccessAt: 1_000_000,
      },
    ]);
  });

  test("knows collectors that throw what is no error, or return nothing", async () => {
    const { node } = opened();
    const { model } = await node.observe(
      [
        collector("text", () => Promise.reject("a text")),
        collector("nothing", () => undefined as unknown as Snapshot),
        gives("good", { udpActiveSockets: 1 }),
      ],
      never,
    );
    expect(model.health.map(({ success }) => success)).toEqual([false, false, true]);
    expect(model.health[0]?.error).toBe("a text");
    expect(model.state.udpActiveSockets).toBe(1);
  });
});

describe("a collector that hangs", () => {
  test("is given up at the deadline, takes no other down and is not called twice at once", async () => {
    const { node, clock } = opened();
    const hang = Promise.withResolvers<Snapshot>();
    let calls = 0;
    const hanging = collector("hanging", () => {
      calls += 1;
      return hang.promise;
    });
    const good = gives("good", { udpActiveSockets: 1 });
    const stop = new AbortController();
    const first = node.observe([hanging, good], stop.signal);
    stop.abort(new Error("the tick was not done in 1000 ms"));
    const { model } = await first;
    expect(model.state).toEqual({ udpActiveSockets: 1 });
    expect(model.health[0]).toMatchObject({ success: false, error: "the tick was not done in 1000 ms" });

    clock.elapsedMs += 1500;
    const second = await node.observe([hanging, good], never);
    expect(second.model.health[0]?.error).toBe("still at work since 1500 ms, not called again");
    expect(calls).toBe(1);
  });

  test("loses none of its records: what it gives late is handed over in the next tick, once", async () => {
    const { node, names } = opened();
    const hang = Promise.withResolvers<Snapshot>();
    const results = [hang.promise, Promise.resolve({ flows: [flow(2)], udpActiveSockets: 2 })];
    const hanging = collector("hanging", () => results.shift() ?? {});
    await node.observe([hanging], AbortSignal.abort());
    const dnsAnswers = [{ name: "late.example", address: "192.0.2.9", ttlSeconds: 60 }];
    hang.resolve({ flows: [flow(1)], dnsAnswers, udpActiveSockets: 1 });
    await hang.promise;
    const next = await node.observe([hanging], never);
    expect(next.flows.map(({ packets }) => packets)).toEqual([1, 2]);
    expect(next.model.state.udpActiveSockets).toBe(2);
    expect(names.nameOf("192.0.2.9", 1_000_001)).toBe("late.example");
    expect((await node.observe([hanging], never)).flows).toEqual([]);
  });

  test("and fails late is called again in the next tick", async () => {
    const { node } = opened();
    const hang = Promise.withResolvers<Snapshot>();
    const results = [hang.promise, Promise.resolve({ udpActiveSockets: 2 })];
    const hanging = collector("hanging", () => results.shift() ?? {});
    await node.observe([hanging], AbortSignal.abort());
    hang.reject(new Error("late"));
    await hang.promise.catch(() => undefined);
    const next = await node.observe([hanging], never);
    expect(next.model.health[0]).toMatchObject({ success: true, failures: 1 });
  });
});

describe("records", () => {
  test("are handed over in the tick that gave them; names are learnt before", async () => {
    const { node, names } = opened();
    const results: Snapshot[] = [
      {
        flows: [flow(1), flow(2)],
        dnsAnswers: [{ name: "a.example", address: "192.0.2.1", ttlSeconds: 60 }],
      },
      {},
    ];
    const flows = collector("flows", () => results.shift() ?? {});
    const first = await node.observe([flows, gives("drops", { flows: [flow(3)] })], never);
    expect(first.flows.map(({ packets }) => packets)).toEqual([1, 2, 3]);
    expect(names.nameOf("192.0.2.1", 1_000_001)).toBe("a.example");
    expect((await node.observe([flows], never)).flows).toEqual([]);
  });

  test("carry the DNS error that came with them, before, or at the end; the model counts those that wait", async () => {
    const { node } = opened();
    const query = { ...flow(1), sourcePort: 4000, destinationPort: 53 };
    const response = {
      ...flow(1),
      ...{ source: query.destination, sourcePort: 53, destination: query.source, destinationPort: 4000 },
    };
    const { source, sourcePort, destination, destinationPort, protocol } = response;
    const dnsErrors = [{ source, sourcePort, destination, destinationPort, protocol, code: "NXDOMAIN" }];
    const first = await node.observe(
      [gives("flows", { flows: [query] }), gives("dns", { dnsErrors })],
      never,
    );
    expect(first.flows).toEqual([{ ...query, dnsError: "NXDOMAIN" }]);
    expect(first.model.dnsErrors?.kept).toBe(1);
    expect(node.take({ flows: [response, response] })).toEqual([
      { ...response, dnsError: "NXDOMAIN" },
      response,
    ]);
    expect((await node.observe([], never)).model.dnsErrors?.kept).toBe(0);
    expect(node.take({ flows: [query], dnsErrors })).toEqual([{ ...query, dnsError: "NXDOMAIN" }]);
  });

  test("are not copied while no DNS error waits", async () => {
    const { node } = opened();
    const flows = [flow(1)];
    expect(
      (await node.observe([gives("flows", { flows }), gives("dns", { dnsErrors: [] })], never)).flows,
    ).toBe(flows);
  });

  test("of a backend that closes come with those of collectors that were late", async () => {
    const { node } = opened();
    const hang = Promise.withResolvers<Snapshot>();
    await node.observe([collector("hanging", () => hang.promise)], AbortSignal.abort());
    hang.resolve({ flows: [flow(1)] });
    await hang.promise;
    expect(node.take({ flows: [flow(2)] }).map(({ packets }) => packets)).toEqual([1, 2]);
    expect(node.take({})).toEqual([]);
  });

  test("are each handed over exactly once, whatever fails, hangs or comes late", async () => {
    const behaviour = fc.constantFrom("now", "later", "late", "throws");
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(behaviour, { minLength: 1, maxLength: 4 }), { maxLength: 12 }),
        async (ticks) => {
          const { node } = opened();
          const sent: number[] = [];
          const got: number[] = [];
          for (const behaviours of ticks) {
            const stop = new AbortController();
            const release: (() => void)[] = [];
            const collectors = behaviours.map((how, index) =>
              collector(`c${index}`, () => {
                if (how === "throws") throw new Error("no");
                sent.push(sent.length);
                const snapshot = { flows: [flow(sent.length - 1)] };
                if (how === "now") return snapshot;
                if (how === "later") return Promise.resolve(snapshot);
                return new Promise((resolve) => release.push(() => resolve(snapshot)));
              }),
            );
            const seen = node.observe(collectors, stop.signal);
            await Bun.sleep(0);
            stop.abort(new Error("over"));
            got.push(...(await seen).flows.map(({ packets }) => packets));
            for (const go of release) go();
            await Promise.resolve();
          }
          await Bun.sleep(0);
          got.push(...node.take({}).map(({ packets }) => packets));
          expect(got.toSorted((a, b) => a - b)).toEqual(sent);
        },
      ),
      { numRuns: 40 },
    );
  });
});

test("what must end the process is not caught", () => {
  const node = createNode({ names: createDnsNames({ namesMax: 1 }), now: () => 0 });
  const fatal = {
    name: "sockets",
    collect: () => {
      throw new FatalError("in another network namespace");
    },
  };
  return expect(node.observe([fatal], new AbortController().signal)).rejects.toThrow(
    "in another network namespace",
  );
});

test("a collector that answers at once is not charged for those after it", async () => {
  let clockMs = 0;
  const takes = (name: string, ms: number): Collector => ({
    name,
    collect: () => {
      clockMs += ms;
      return {};
    },
  });
  const node = createNode({
    names: createDnsNames({ namesMax: 1 }),
    now: () => 0,
    elapsedMs: () => clockMs,
  });
  const { model } = await node.observe([takes("quick", 1), takes("slow", 50)], new AbortController().signal);
  expect(model.health.map(({ durationMs }) => durationMs)).toEqual([1, 50]);
});
