// The Windows backend as a whole, against stub libraries and programs: the contract, and what one failing part leaves.

import { afterAll, afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Backend, Snapshot } from "../../src/snapshot.ts";
import { openWindowsBackend, type WindowsOptions } from "../../windows/backend.ts";
import { backendContract } from "../backend.contract.ts";
import { openHnsStub } from "./hns.stub.ts";
import { openStub } from "./stub-files.ts";

const stub = openHnsStub();
afterAll(() => stub[Symbol.dispose]());
afterEach(() => stub.set({}));

const stateDirectory = mkdtempSync(join(tmpdir(), "fovea-backend-"));
afterAll(() => rmSync(stateDirectory, { recursive: true }));

const open = (timeoutMs = 20_000, pktmon = false, log?: WindowsOptions["log"]): Backend =>
  openWindowsBackend({
    interfaces: { include: ["*"], exclude: [], loopback: true },
    hns: { everyMs: 0, timeoutMs, endpointsMax: 100 },
    vfp: { everyMs: 1000, timeoutMs: 5000 },
    pktmon: pktmon ? { everyMs: 0, timeoutMs: 20_000 } : undefined,
    stateDirectory,
    log,
  });

backendContract({ name: "windows", open: () => open() });

const never = new AbortController().signal;

async function collect({ collectors }: Backend, name: string): Promise<Snapshot> {
  const found = collectors.find((collector) => collector.name === name);
  if (found === undefined) throw new Error(`no collector ${name}`);
  return await found.collect(never);
}

/** Collects until something is so. */
async function until(backend: Backend, isSo: (snapshot: Snapshot) => boolean): Promise<Snapshot> {
  const giveUpAt = performance.now() + 20_000;
  for (;;) {
    const snapshot = await collect(backend, "endpoints").catch((): Snapshot => ({}));
    if (isSo(snapshot)) return snapshot;
    if (performance.now() > giveUpAt) throw new Error(`not within 20 s: ${JSON.stringify(snapshot)}`);
    await Bun.sleep(20);
  }
}

const packetsOf = ({ totals }: Snapshot): number | undefined => totals?.forward.ingress.packets;

test("totals are the sum of what all endpoints counted since the start", async () => {
  stub.set({ endpoints: 3, tick: 10 });
  await using backend = open();
  const first = await collect(backend, "endpoints");
  expect(first.totals).toMatchObject({ uplinks: [], forward: { ingress: { packets: 0 } } });
  const before = first.endpoints?.map(({ forward }) => forward.ingress.packets) ?? [];
  stub.set({ endpoints: 3, tick: 25 });
  const grownBy = (now: Snapshot): number =>
    (now.endpoints ?? []).reduce(
      (sum, { forward }, index) => sum + forward.ingress.packets - (before[index] ?? 0),
      0,
    );
  const after = await until(backend, (now) => grownBy(now) > 0);
  expect(before).toHaveLength(3);
  expect(packetsOf(after)).toBe(grownBy(after));
});

test("a call that hangs holds no tick: the last answer stands until the deadline, then the reason", async () => {
  stub.set({ endpoints: 2, tick: 1 });
  await using backend = open(1000);
  await collect(backend, "endpoints");
  stub.set({ endpoints: 2, tick: 1, fault: "hang", seconds: 30 });
  const waits: number[] = [];
  let message = "";
  for (const giveUpAt = performance.now() + 15_000; message === "" && performance.now() < giveUpAt; ) {
    const startMs = performance.now();
    await collect(backend, "endpoints").catch((error: Error) => {
      message = error.message;
    });
    waits.push(performance.now() - startMs);
    await Bun.sleep(50);
  }
  expect(message).toMatch(/^HNS (has not answered within 1\.0 s|is still at work)/);
  expect(Math.max(...waits)).toBeLessThan(10_000);
  expect(await collect(backend, "protocols")).toHaveProperty("tcpStatistics");
  stub.set({ endpoints: 2, tick: 2 });
  await until(backend, ({ endpoints }) => endpoints?.length === 2);
});

test("an abort ends the wait for the first answer", async () => {
  stub.set({ fault: "hang", seconds: 600 });
  await using backend = open();
  const stop = new AbortController();
  const found = backend.collectors.find(({ name }) => name === "endpoints");
  const waiting = Promise.resolve(found?.collect(stop.signal));
  stop.abort(new Error("stop"));
  await expect(waiting).rejects.toThrow("HNS has not answered yet");
});

test("endpoints that a slow HNS does not come to stay, and come next", async () => {
  stub.set({ endpoints: 3, tick: 1 });
  await using backend = open(1000);
  await until(backend, ({ endpoints }) => endpoints?.length === 3);
  stub.set({ endpoints: 3, tick: 2, fault: "hang", at: "stats", only: 1, seconds: 600 });
  await until(backend, ({ endpoints }) => endpoints === undefined); // Until the deadline.
  stub.set({ endpoints: 3, tick: 2 });
  const packetsIn = ({ endpoints = [] }: Snapshot) => endpoints.map(({ forward }) => forward.ingress.packets);
  const late = await until(backend, ({ endpoints }) => endpoints?.length === 3);
  expect(packetsIn(late).toSorted((a, b) => a - b)).toEqual([2, 3, 4]); // The third is as it was.
  expect(packetsOf(late)).toBe(1 + 2);
  expect(late.limits?.filter((limit) => limit.startsWith("HNS is slow: 2 of 3"))).toHaveLength(1);
  const after = await until(backend, (snapshot) => packetsOf(snapshot) === 1 + 2 + 3);
  expect(packetsIn(after).toSorted((a, b) => a - b)).toEqual([2, 4, 6]);
});

test("without HNS the rest goes on", async () => {
  stub.set({ fault: "denied", at: "list" });
  await using backend = open();
  const refused = collect(backend, "endpoints");
  expect(refused).rejects.toThrow(/^HNS refuses this account/);
  await refused.catch(() => undefined);
  expect(await collect(backend, "interfaces")).toHaveProperty("interfaces");
});

test("what the switch counts comes beside the counts of HNS", async () => {
  stub.set({ endpoints: 2, tick: 1 });
  await using backend = open();
  const seen = await until(
    backend,
    ({ endpointUse }) =>
      endpointUse?.sources.some(({ source, endpoints }) => source === "vfpctrl" && endpoints > 0) === true,
  );
  expect(seen.endpoints?.some(({ tcpFlags }) => tcpFlags.length > 0)).toBe(true);
  expect(seen.endpoints?.map(({ forward }) => forward.ingress.packets > 0)).toEqual([true, true]);
});

test("the drops of the node come from pktmon alone while it has some, those of endpoints stay", async () => {
  using pktmon = openStub("pktmon");
  const counters = { Name: "Drops", Type: "Drops", Inbound: { Packets: 3, Bytes: 180 } };
  const components = [{ Name: "TCPIP", Id: 30, Counters: [counters] }];
  pktmon.write("counters.json", JSON.stringify([{ Group: "Ethernet", Components: components }]));
  stub.set({ endpoints: 2, tick: 1 });
  await using backend = open(20_000, true);
  expect(await collect(backend, "endpoints")).toHaveProperty("drops");
  for (const giveUpAt = performance.now() + 20_000; performance.now() < giveUpAt; await Bun.sleep(50))
    if ((await collect(backend, "pktmon")).drops !== undefined) break;
  expect(await collect(backend, "pktmon")).toHaveProperty("drops");
  const { drops, endpoints } = await collect(backend, "endpoints");
  expect(drops).toBeUndefined();
  expect(endpoints?.every((endpoint) => endpoint.drops.length > 0)).toBe(true);
});

test("a pktmon that fails at the end is told, and keeps nothing from closing", async () => {
  using pktmon = openStub("pktmon");
  const told: unknown[] = [];
  const backend = open(20_000, true, { warn: (message, fields) => void told.push([message, fields]) });
  for (const giveUpAt = performance.now() + 20_000; performance.now() < giveUpAt; await Bun.sleep(50))
    if ((await collect(backend, "pktmon")).drops !== undefined) break;
  pktmon.write("mode", "fail");
  await backend[Symbol.asyncDispose]();
  expect(told).toEqual([
    [
      expect.stringContaining("pktmon stop"),
      { error: expect.stringMatching(/^pktmon\.exe status ended with 5|^pktmon\.exe was ended/) },
    ],
  ]);
});
