// A device without a link header: bytes count from layer 3, on an uplink too.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { openScratch } from "./compile.ts";
import { openLab } from "./lab.ts";
import { type Observer, observe } from "./observer.ts";
import { protocols, zeros } from "./packets.ts";
import { mayMakeNamespaces, type TestNamespace } from "./proc-namespace.ts";
import { openUdp } from "./sockets.ts";
import { countSegments, sendTcp, serveTcp } from "./tcp.ts";
import { joinByTun } from "./tun.ts";

const families = [
  {
    name: "IPv4",
    near: "10.9.0.1",
    far: "10.9.0.2",
    headers: 20,
    protocol: protocols.icmp,
    request: 8,
    reply: 0,
  },
  {
    ...{ name: "IPv6", near: "2001:db8:9::1", far: "2001:db8:9::2", headers: 40 },
    ...{ protocol: protocols.icmpv6, request: 128, reply: 129 },
  },
] as const;

describe.skipIf(!mayMakeNamespaces)("a TUN device as uplink", () => {
  let near: TestNamespace;
  let far: TestNamespace;
  let observer: Observer;
  const undo = new AsyncDisposableStack();
  beforeAll(async () => {
    const scratch = undo.use(openScratch());
    const lab = undo.use(openLab());
    near = lab.namespace();
    far = lab.namespace();
    const addresses = (own: 1 | 2) => [`10.9.0.${own}/24`, `2001:db8:9::${own}/64`];
    undo.use(
      await joinByTun({
        program: scratch.program("tun-relay"),
        ends: [
          { at: near, name: "tun0", addresses: addresses(1) },
          { at: far, name: "tun0", addresses: addresses(2) },
        ],
        delayMs: 0,
      }),
    );
    near.ip("route", "add", "default", "dev", "tun0");
    observer = undo.use(await observe(near));
  });
  afterEach(() => {
    expect(observer.answer.errors).toEqual({});
    expect(observer.law().accounted).toBe(observer.law().seen);
  });
  afterAll(() => undo.disposeAsync());

  test("is the uplink", () => {
    expect(observer.latest.totals?.uplinks).toEqual(["tun0"]);
  });

  describe.each(families)("$name", ({ near: own, far: other, headers, protocol, request, reply }) => {
    test("pings", async () => {
      const before = { in: observer.totals("ingress"), out: observer.totals("egress") };
      near.run("ping", "-q", "-f", "-c", "100", "-s", "64", other);
      const sent = { packets: 100, bytes: 100 * (headers + 8 + 64) };
      const out = {
        source: own,
        destination: other,
        protocol,
        icmpType: request,
        direction: "egress",
      } as const;
      const back = {
        source: other,
        destination: own,
        protocol,
        icmpType: reply,
        direction: "ingress",
      } as const;
      await observer.until(() => observer.sum(back).packets >= 100);
      expect(observer.counted(out)).toEqual(sent);
      expect(observer.counted(back)).toEqual(sent);
      expect(observer.totals("egress").bytes - before.out.bytes).toBe(sent.bytes);
      expect(observer.totals("ingress").bytes - before.in.bytes).toBe(sent.bytes);
    });

    test("datagrams, whole and in fragments", async () => {
      using sender = openUdp(near, { address: own, port: 6000 });
      using receiver = openUdp(far, { address: other, port: 6001 });
      for (let i = 0; i < 20; i++) {
        sender.send({ address: other, port: 6001 }, zeros(700));
        sender.send({ address: other, port: 6001 }, zeros(2000));
      }
      const ofFragments = headers === 20 ? 2008 + 2 * 20 : 2008 + 2 * 48;
      const flow = { source: own, destination: other, sourcePort: 6000, destinationPort: 6001 };
      await observer.until(() => observer.sum(flow).packets >= 60);
      expect(observer.counted(flow)).toEqual({ packets: 60, bytes: 20 * (headers + 708 + ofFragments) });
      await observer.until(() => receiver.received().packets === 0);
    });

    test("a TCP transfer", async () => {
      const segments = countSegments(near);
      await using server = await serveTcp({ at: far, address: other, port: 6002 });
      await sendTcp(near, { at: far, address: other, port: 6002 }, 500_000);
      expect(await server.ended()).toEqual([500_000]);
      const flow = { source: own, destination: other, destinationPort: 6002, direction: "egress" } as const;
      await observer.until(() => observer.sum(flow).packets === segments().out);
      const { out, again } = segments();
      expect(again).toBe(0);
      expect(observer.counted(flow)).toEqual({ packets: out, bytes: 500_000 + out * (headers + 32) + 8 });
    });
  });
});
