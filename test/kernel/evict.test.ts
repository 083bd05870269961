// Why and when a flow is reported, and that its rows add up to what was sent, however it came to leave the table.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { openPair, type Pair } from "./lab.ts";
import { matching, type Observer, type ObserverOptions, observe } from "./observer.ts";
import { ethernet, etherTypes, ipv4, protocols, tcp, tcpFlags, zeros } from "./packets.ts";
import { mayMakeNamespaces } from "./proc-namespace.ts";
import { openPacketSocket, type PacketSocket } from "./sockets.ts";

const { FIN, SYN, RST, PSH, ACK } = tcpFlags;
const link = { to: "02:00:00:00:00:01", from: "02:00:00:00:00:02" };
const ends = { source: "198.51.100.1", destination: "198.51.100.2" };
const never = 600_000;

const segment = (sourcePort: number, flags: number, payload: number): Uint8Array =>
  ethernet(
    link,
    etherTypes.ip,
    ipv4(ends, protocols.tcp, tcp({ sourcePort, destinationPort: 80 }, flags, zeros(payload))),
  );

describe.skipIf(!mayMakeNamespaces)("eviction", () => {
  let undo: AsyncDisposableStack;
  let pair: Pair;
  let sender: PacketSocket;
  let observer: Observer;
  beforeEach(() => {
    undo = new AsyncDisposableStack();
    pair = openPair();
    undo.use(pair.lab);
    sender = undo.use(openPacketSocket(pair.outside, "wan0"));
  });
  afterEach(() => undo.disposeAsync());

  const start = async (flows: ObserverOptions["flows"]): Promise<void> => {
    observer = undo.use(await observe(pair.host, { flows: { idleMs: never, activeMs: never, ...flows } }));
  };

  const rowsOf = (sourcePort: number) =>
    matching(observer.rows, { ...ends, sourcePort, verdict: "forwarded", direction: "ingress" }).map(
      ({ packets, bytes, tcpFlags: flags, evictReason }) => ({ packets, bytes, flags, evictReason }),
    );

  test.each([
    { name: "fin", flag: FIN },
    { name: "rst", flag: RST },
  ] as const)("a flow that ended is reported one tick later, with reason $name", async ({ name, flag }) => {
    await start({});
    for (const flags of [SYN, ACK, ACK | PSH, ACK | flag]) sender.send(segment(1, flags, 10));
    await observer.tick(); // Sees the end.
    expect(rowsOf(1)).toEqual([]);
    sender.send(segment(1, ACK, 10)); // The last words of the connection belong to it.
    await observer.tick();
    const all = { packets: 5, bytes: 5 * 64, flags: SYN | ACK | PSH | flag, evictReason: name };
    expect(rowsOf(1)).toEqual([all]);
    sender.send(segment(1, SYN, 10));
    await observer.tick();
    expect(observer.latest.flowTable?.live).toBe(1); // Another connection, with the same ports.
    expect(observer.latest.flowTable?.evicted).toEqual([{ reason: name, flows: 1 }]);
    await observer.quit();
    expect(rowsOf(1)).toEqual([all, { packets: 1, bytes: 64, flags: SYN, evictReason: "shutdown" }]);
  });

  test("a flow without packets for the idle time leaves with reason idle", async () => {
    await start({ idleMs: 150 });
    for (let i = 0; i < 3; i++) sender.send(segment(2, ACK, 0));
    await observer.until(() => rowsOf(2).length > 0);
    expect(rowsOf(2)).toEqual([{ packets: 3, bytes: 3 * 54, flags: ACK, evictReason: "idle" }]);
    expect(observer.latest.flowTable).toEqual({
      live: 0,
      max: 131_072,
      evicted: [{ reason: "idle", flows: 1 }],
    });
  });

  test("a flow that goes on is reported each active time, and only what is new", async () => {
    await start({ activeMs: 100 });
    let sent = 0;
    await observer.until(() => {
      sender.send(segment(3, ACK, 6));
      sent += 1;
      return rowsOf(3).length >= 3;
    });
    await observer.quit();
    const rows = rowsOf(3);
    expect(rows.reduce((sum, row) => sum + row.packets, 0)).toBe(sent);
    expect(rows.reduce((sum, row) => sum + row.bytes, 0)).toBe(60 * sent);
    expect(rows.slice(0, 3).map(({ evictReason }) => evictReason)).toEqual(["active", "active", "active"]);
    // One is always left: sent before the tick that ended the wait, or reported by the tick after it.
    expect(rows.every((row) => row.packets > 0)).toBe(true);
  });

  test("times of a row are those of its packets", async () => {
    await start({});
    const sendNoting = (): readonly [number, number] => {
      const before = Date.now();
      sender.send(segment(4, ACK, 0));
      return [before, Date.now()];
    };
    const first = sendNoting();
    await observer.until(() => Date.now() - first[0] > 300);
    const last = sendNoting();
    await observer.quit();
    const [row] = matching(observer.rows, { sourcePort: 4, verdict: "forwarded" });
    const slackMs = 250; // Less than what lies between the two; readings of two clocks on a busy machine lie apart.
    for (const [at, [before, after]] of [
      [row?.startAt, first],
      [row?.endAt, last],
    ] as const) {
      expect(at).toBeGreaterThanOrEqual(before - slackMs);
      expect(at).toBeLessThanOrEqual(after + slackMs);
    }
  });

  test("rows of flows that end, fall idle, go on and give way add up to what was sent", async () => {
    await start({ idleMs: 25, activeMs: 60, flowsMax: 40 });
    const sent = new Map<number, { packets: number; bytes: number }>();
    const flags = [SYN, ACK, ACK, ACK, ACK, ACK, ACK, ACK | FIN, RST];
    for (let round = 0; round < 60; round++) {
      for (let i = 0; i < 50; i++) {
        const port = 100 + Math.floor(Math.random() ** 2 * 80);
        const frame = segment(port, flags[Math.floor(Math.random() * flags.length)] ?? 0, (i * 7) % 1000);
        sender.send(frame);
        const known = sent.get(port) ?? { packets: 0, bytes: 0 };
        sent.set(port, { packets: known.packets + 1, bytes: known.bytes + frame.length });
      }
      await observer.tick();
    }
    await observer.quit();
    const wrong = [...sent].filter(([port, { packets, bytes }]) => {
      const counted = observer.counted({ ...ends, sourcePort: port, direction: "ingress" });
      return counted.packets !== packets || counted.bytes !== bytes;
    });
    expect(wrong).toEqual([]);
    const rows = matching(observer.rows, { ...ends, verdict: "forwarded" });
    const reasons = new Set(rows.map(({ evictReason }) => evictReason));
    expect(reasons).toEqual(new Set(["fin", "rst", "idle", "active", "full", "shutdown"]));
  });
});
