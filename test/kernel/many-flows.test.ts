// A hundred thousand flows: each of them exact while they fit, and every packet accounted for when they do not.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { openPair, type Pair } from "./lab.ts";
import { matching, type Observer, type ObserverOptions, observe } from "./observer.ts";
import { ethernet, etherTypes, ipv4, protocols, udp, zeros } from "./packets.ts";
import { mayMakeNamespaces } from "./proc-namespace.ts";
import { openPacketSocket } from "./sockets.ts";

const FLOWS = 100_000;
const SOURCES = 250;
const destination = "203.0.113.7";
const template = ethernet(
  { to: "02:00:00:00:00:01", from: "02:00:00:00:00:02" },
  etherTypes.ip,
  ipv4(
    { source: "10.20.0.0", destination },
    protocols.udp,
    udp({ sourcePort: 0, destinationPort: 53_000 }, zeros(22)),
  ),
);
const SOURCE_LOW = 14 + 12 + 3;
const SOURCE_PORT = 14 + 20;

/** The name of flow `i`, as its rows show it. */
const nameOf = (i: number): string => `10.20.0.${i % SOURCES} ${1000 + Math.floor(i / SOURCES)}`;

describe.skipIf(!mayMakeNamespaces)("a hundred thousand flows", () => {
  let pair: Pair;
  let undo: AsyncDisposableStack;
  beforeEach(() => {
    undo = new AsyncDisposableStack();
    pair = openPair();
    undo.use(pair.lab);
  });
  afterEach(() => undo.disposeAsync());

  const start = async (flows: ObserverOptions["flows"]): Promise<Observer> =>
    undo.use(await observe(pair.host, { flows: { activeMs: 600_000, ...flows } }));

  /** A packet of each flow into the uplink. */
  function sendRound(): void {
    using sender = openPacketSocket(pair.outside, "wan0");
    const frame = template.slice();
    const view = new DataView(frame.buffer, frame.byteOffset);
    for (let i = 0; i < FLOWS; i++) {
      frame[SOURCE_LOW] = i % SOURCES;
      view.setUint16(SOURCE_PORT, 1000 + Math.floor(i / SOURCES));
      sender.send(frame);
    }
  }

  const counted = (observer: Observer) =>
    matching(observer.rows, {
      verdict: "forwarded",
      destination,
      destinationPort: 53_000,
      direction: "ingress",
    });

  /** Packets and bytes of each flow, over all of its rows. */
  function byFlow(observer: Observer): ReadonlyMap<string, { packets: number; bytes: number }> {
    const flows = new Map<string, { packets: number; bytes: number }>();
    for (const { source, sourcePort, packets, bytes } of counted(observer)) {
      const name = `${source} ${sourcePort}`;
      const known = flows.get(name) ?? { packets: 0, bytes: 0 };
      flows.set(name, { packets: known.packets + packets, bytes: known.bytes + bytes });
    }
    return flows;
  }

  function isExact(observer: Observer, packets: number): void {
    expect(observer.answer.errors).toEqual({});
    expect(observer.totals("ingress")).toEqual({ packets, bytes: packets * template.length });
    expect(observer.law().accounted).toBe(observer.law().seen);
  }

  test("with default sizes every flow is there, with its packets and bytes", async () => {
    const observer = await start({});
    sendRound();
    await observer.tick();
    sendRound();
    sendRound();
    await observer.until(() => observer.totals("ingress").packets >= 3 * FLOWS);
    isExact(observer, 3 * FLOWS);
    expect(observer.untracked("flow_table_full")).toBe(0);
    expect(observer.latest.flowTable?.live).toBe(FLOWS);
    await observer.quit();
    const flows = byFlow(observer);
    expect(flows.size).toBe(FLOWS);
    const wrong = Array.from({ length: FLOWS }, (_, i) => nameOf(i)).filter((name) => {
      const flow = flows.get(name);
      return flow?.packets !== 3 || flow.bytes !== 3 * template.length;
    });
    expect(wrong).toEqual([]);
  }, 60_000);

  test("with the smallest table what is in no row is untracked, and the totals know it all", async () => {
    const observer = await start({ tableBytes: 1 << 16, spillBytes: 1 << 16, flowsMax: 131_072 });
    sendRound();
    await observer.until(() => observer.totals("ingress").packets >= FLOWS);
    isExact(observer, FLOWS);
    const full = observer.untracked("flow_table_full");
    expect(full).toBeGreaterThan(FLOWS / 2);
    await observer.quit();
    const flows = byFlow(observer);
    expect(flows.size + full).toBe(FLOWS);
    expect(
      [...flows.values()].filter(({ packets, bytes }) => packets !== 1 || bytes !== template.length),
    ).toEqual([]);
  }, 60_000);

  test("with room for few live flows those that give way are reported as full", async () => {
    const observer = await start({ flowsMax: 1000 });
    sendRound();
    await observer.until(() => observer.totals("ingress").packets >= FLOWS);
    isExact(observer, FLOWS);
    await observer.quit();
    expect(byFlow(observer).size).toBe(FLOWS);
    const rows = counted(observer);
    expect(rows.reduce((sum, row) => sum + row.packets, 0)).toBe(FLOWS);
    const reasons = Map.groupBy(rows, ({ evictReason }) => evictReason);
    expect(reasons.get("full")?.length).toBe(FLOWS - 1000);
    expect(reasons.get("shutdown")?.length).toBe(1000);
    const evicted = observer.latest.flowTable?.evicted.find(({ reason }) => reason === "full")?.flows;
    expect(evicted).toBe(FLOWS - 1000);
  }, 60_000);
});
