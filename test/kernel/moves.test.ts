// Interfaces that change under way: another name, another namespace, another role. What is counted stays exact.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { hostV4, openPair, outsideV4, type Pair } from "./lab.ts";
import { matching, type Observer, observe } from "./observer.ts";
import { ethernet, etherTypes, ipv4, protocols, udp, zeros } from "./packets.ts";
import { mayMakeNamespaces, type TestNamespace } from "./proc-namespace.ts";
import { openPacketSocket, type PacketSocket } from "./sockets.ts";

const ends = { source: "198.51.100.1", destination: "198.51.100.2" };
const secondV4 = "203.0.113.1";
const beyondSecondV4 = "203.0.113.2";

const frameOf = (sourcePort: number): Uint8Array =>
  ethernet(
    { to: "02:00:00:00:00:01", from: "02:00:00:00:00:02" },
    etherTypes.ip,
    ipv4(ends, protocols.udp, udp({ sourcePort, destinationPort: 7000 }, zeros(58))),
  );
const FRAME = 100;

const send = (socket: PacketSocket, sourcePort: number, count: number): void => {
  for (let i = 0; i < count; i++) socket.send(frameOf(sourcePort));
};

describe.skipIf(!mayMakeNamespaces).each(["tcx", "clsact"] as const)("%s: an interface", (attach) => {
  let pair: Pair;
  let second: TestNamespace;
  let observer: Observer;
  let undo: AsyncDisposableStack;
  beforeEach(async () => {
    undo = new AsyncDisposableStack();
    pair = openPair();
    undo.use(pair.lab);
    second = pair.lab.namespace();
    pair.lab.connect(
      { at: pair.host, name: "up1", addresses: [`${secondV4}/24`] },
      { at: second, name: "wan0", addresses: [`${beyondSecondV4}/24`] },
    );
    observer = undo.use(await observe(pair.host, { interfaces: { attach } }));
  });
  afterEach(() => undo.disposeAsync());

  const rows = (sourcePort: number) => matching(observer.rows, { ...ends, sourcePort, verdict: "forwarded" });

  function isSound(): void {
    expect(observer.answer.errors).toEqual({});
    expect(observer.latest.limits).toEqual([]);
    expect(observer.law().accounted).toBe(observer.law().seen);
  }

  test("that gets another name counts on under that name", async () => {
    using outgoing = openPacketSocket(pair.host, "up0");
    send(outgoing, 1, 20);
    await observer.tick();
    send(outgoing, 1, 5);
    pair.host.ip("link", "set", "up0", "name", "wan7");
    send(outgoing, 1, 10);
    await observer.until(() => observer.sum({ sourcePort: 1 }).packets >= 35);
    send(outgoing, 1, 7);
    await observer.until(() => observer.sum({ sourcePort: 1 }).packets >= 42);
    expect(observer.counted({ ...ends, sourcePort: 1 })).toEqual({ packets: 42, bytes: 42 * FRAME });
    expect(observer.totals("egress")).toEqual({ packets: 42, bytes: 42 * FRAME });
    expect(rows(1).at(0)?.interface).toBe("up0");
    expect(rows(1).at(-1)?.interface).toBe("wan7");
    expect(observer.latest.totals?.uplinks).toEqual(["wan7"]);
    isSound();
  });

  test.each(["seen by a tick", "between two ticks"])(
    "that leaves the namespace and comes back, %s, is counted while it is here",
    async (when) => {
      using incoming = openPacketSocket(second, "wan0");
      const { host, outside } = pair;
      send(incoming, 2, 11);
      await observer.until(() => observer.sum({ sourcePort: 2 }).packets >= 11);
      host.ip("link", "set", "up1", "netns", outside.name);
      outside.ip("link", "set", "up1", "up");
      if (when === "seen by a tick") {
        await observer.tick();
        expect(new Set(observer.latest.attached)).toEqual(new Set(["up0"]));
        send(incoming, 2, 100); // To somewhere else.
        await observer.tick();
        expect(observer.sum({ sourcePort: 2 }).packets).toBe(11);
      }
      outside.ip("link", "set", "up1", "netns", host.name);
      host.ip("link", "set", "up1", "up");
      await observer.tick();
      expect(new Set(observer.latest.attached)).toEqual(new Set(["up0", "up1"]));
      send(incoming, 2, 13);
      await observer.until(() => observer.sum({ sourcePort: 2 }).packets >= 24);
      expect(observer.counted({ ...ends, sourcePort: 2 })).toEqual({ packets: 24, bytes: 24 * FRAME });
      isSound();
    },
  );

  test("that becomes the uplink, and no longer is, counts for the totals while it is", async () => {
    using sockets = new DisposableStack();
    const uplinks = ["up0", "up1"].map((name) => ({
      name,
      out: sockets.use(openPacketSocket(pair.host, name)),
      via: name === "up0" ? outsideV4 : beyondSecondV4,
    }));
    const sent = new Map<string, number>();
    let now = "up0";
    const sendOnAll = (count: number): void => {
      for (const { name, out } of uplinks) {
        send(out, name === "up0" ? 3 : 4, count);
        sent.set(name, (sent.get(name) ?? 0) + count);
        if (name === now) sent.set("totals", (sent.get("totals") ?? 0) + count);
      }
    };
    for (const next of [...uplinks, ...uplinks, ...uplinks].toReversed()) {
      sendOnAll(10);
      await observer.tick();
      sendOnAll(5);
      pair.host.ip("route", "replace", "default", "via", next.via);
      pair.host.run("ip", "-6", "route", "flush", "exact", "default");
      sendOnAll(3); // The change takes effect with the next tick.
      await observer.tick();
      now = next.name;
      expect(observer.latest.totals?.uplinks).toEqual([now]);
    }
    sendOnAll(1);
    await observer.until(() => observer.sum({ sourcePort: 4 }).packets >= (sent.get("up1") ?? 0));
    for (const [sourcePort, name] of [
      [3, "up0"],
      [4, "up1"],
    ] as const)
      expect(observer.counted({ ...ends, sourcePort, interface: name })).toEqual({
        packets: sent.get(name) ?? 0,
        bytes: (sent.get(name) ?? 0) * FRAME,
      });
    expect(observer.totals("egress").packets).toBe(sent.get("totals") ?? 0);
    isSound();
  });

  test("that changes its role misses no packet meanwhile", async () => {
    const pinging = Bun.spawn(
      ["ip", "netns", "exec", pair.host.name, "ping", "-q", "-i", "0.004", "-c", "400", outsideV4],
      { stdout: "ignore" },
    );
    let running = true;
    void pinging.exited.then(() => {
      running = false;
    });
    let changes = 0;
    await observer.until(() => {
      const via = changes % 2 === 0 ? beyondSecondV4 : outsideV4;
      pair.host.ip("route", "replace", "default", "via", via);
      changes += 1;
      return !running;
    }, 20_000);
    expect(changes).toBeGreaterThan(2);
    const sent = { packets: 400, bytes: 400 * 98 };
    expect(observer.counted({ source: hostV4, destination: outsideV4, direction: "egress" })).toEqual(sent);
    expect(observer.counted({ source: outsideV4, destination: hostV4, direction: "ingress" })).toEqual(sent);
    isSound();
  }, 30_000);
});
