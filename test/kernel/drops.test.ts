// Dropped packets by reason, direction, 5-tuple and interface, against how many the test had dropped. The kernel tells of
// drops of the whole machine: each test looks at its own 5-tuple.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Direction } from "../../src/flow.ts";
import { hostV4, hostV6, linkFacts, openPair, outsideV4, outsideV6, ownPorts, type Pair } from "./lab.ts";
import { type Observer, observe } from "./observer.ts";
import {
  ethernet,
  etherTypes,
  ipv4,
  ipv6,
  protocols,
  tcp,
  tcpFlags,
  tcpPacket,
  udp,
  withGuestHeader,
  zeros,
} from "./packets.ts";
import type { TestNamespace } from "./proc-namespace.ts";
import { mayMakeNamespaces } from "./proc-namespace.ts";
import { openPacketSocket, openUdp } from "./sockets.ts";
import { openTap } from "./tun.ts";

const innerV4 = "198.51.100.2";
const innerV6 = "2001:db8:5::2";

const bridgedV4 = "203.0.113.2";
const bridgedV6 = "2001:db8:7::2";

const families = [
  {
    name: "IPv4",
    host: hostV4,
    outside: outsideV4,
    inner: innerV4,
    bridge: bridgedV4,
    headers: 14 + 20,
    type: etherTypes.ip,
  },
  {
    name: "IPv6",
    host: hostV6,
    outside: outsideV6,
    inner: innerV6,
    bridge: bridgedV6,
    headers: 14 + 40,
    type: etherTypes.ipv6,
  },
] as const;

const { udp: UDP, tcp: TCP } = protocols;
const COUNT = 60;
const SIZE = 300;

/** Sends; the kernel tells the sender of what a rule at its own output dropped. */
function sendAll(
  at: TestNamespace,
  from: { address: string; port: number },
  to: { address: string; port: number },
): void {
  using socket = openUdp(at, from);
  for (let i = 0; i < COUNT; i++)
    try {
      socket.send(to, zeros(SIZE));
    } catch (error) {
      if (!String(error).includes("not permitted")) throw error;
    }
}

describe.skipIf(!mayMakeNamespaces)("drops", () => {
  let pair: Pair;
  let inner: TestNamespace;
  let bridged: TestNamespace;
  let observer: Observer;
  const undo = new AsyncDisposableStack();
  let port = ownPorts;
  beforeAll(async () => {
    pair = openPair({ forwarding: true });
    undo.use(pair.lab);
    inner = pair.lab.namespace();
    pair.lab.connect(
      { at: pair.host, name: "in0", addresses: ["198.51.100.1/24", "2001:db8:5::1/64"] },
      { at: inner, name: "eth0", addresses: [`${innerV4}/24`, `${innerV6}/64`] },
    );
    inner.ip("route", "add", "default", "via", "198.51.100.1");
    inner.ip("-6", "route", "add", "default", "via", "2001:db8:5::1");
    pair.outside.ip("route", "add", "default", "via", hostV4);
    pair.outside.ip("-6", "route", "add", "default", "via", hostV6);
    bridged = pair.lab.namespace();
    pair.lab.connect(
      { at: pair.host, name: "port0" },
      { at: bridged, name: "eth0", addresses: [`${bridgedV4}/24`, `${bridgedV6}/64`] },
    );
    pair.host.batch([
      ...["link add br0 type bridge", "link set port0 master br0", "link set br0 up"],
      ...["addr add 203.0.113.1/24 dev br0", "addr add 2001:db8:7::1/64 dev br0"],
    ]);
    bridged.ip("route", "add", "default", "via", "203.0.113.1");
    bridged.ip("-6", "route", "add", "default", "via", "2001:db8:7::1");
    observer = undo.use(await observe(pair.host));
  });
  beforeEach(() => {
    port += 1;
  });
  afterEach(() => {
    pair.host.run("nft", "flush", "ruleset");
    expect(observer.answer.errors).toEqual({});
    expect(observer.law().accounted).toBe(observer.law().seen);
  });
  afterAll(() => undo.disposeAsync());

  const dropAt = (hook: "input" | "output" | "forward" | "postrouting"): void =>
    void pair.host.run(
      "nft",
      `table inet t { chain c { type filter hook ${hook} priority 0; udp dport ${port} drop; }; }`,
    );

  const total = (reason: string, direction: Direction): number =>
    observer.latest.drops?.find((row) => row.reason === reason && row.direction === direction)?.packets ?? 0;

  describe.each(families)(
    "$name",
    ({ host, outside, inner: innerAddress, bridge: behindBridge, headers, type }) => {
      const from = (address: string) => ({ address, port: 5000 });
      const flow = (source: string, destination: string, direction: Direction, dropReason: string) => ({
        ...{ source, sourcePort: 5000, destination, destinationPort: port, protocol: UDP },
        ...{ direction, dropReason, verdict: "dropped" as const },
      });
      const sent = { packets: COUNT, bytes: COUNT * (headers + 8 + SIZE) };

      test("a rule at the input", async () => {
        dropAt("input");
        const before = total("NETFILTER_DROP", "ingress");
        sendAll(pair.outside, from(outside), { address: host, port });
        const wanted = flow(outside, host, "ingress", "NETFILTER_DROP");
        await observer.until(() => observer.sum(wanted).packets >= COUNT);
        expect(observer.counted({ ...wanted, interface: "up0" })).toEqual(sent);
        expect(observer.sum({ destinationPort: port, verdict: "dropped" }).packets).toBe(COUNT);
        expect(total("NETFILTER_DROP", "ingress")).toBeGreaterThanOrEqual(before + COUNT);
        // The packets had come in, before they were dropped.
        expect(observer.counted({ source: outside, destinationPort: port, direction: "ingress" })).toEqual(
          sent,
        );
      });

      test("a rule at the output", async () => {
        dropAt("output");
        const before = total("NETFILTER_DROP", "egress");
        sendAll(pair.host, from(host), { address: outside, port });
        const wanted = flow(host, outside, "egress", "NETFILTER_DROP");
        await observer.until(() => observer.sum(wanted).packets >= COUNT);
        expect(observer.counted({ ...wanted, interface: "up0" })).toEqual(sent);
        expect(observer.sum({ destinationPort: port, verdict: "dropped" }).packets).toBe(COUNT);
        expect(observer.sum({ destinationPort: port }).packets).toBe(0); // None came to leave.
        expect(total("NETFILTER_DROP", "egress")).toBeGreaterThanOrEqual(before + COUNT);
      });

      test("a rule after routing", async () => {
        dropAt("postrouting");
        sendAll(pair.host, from(host), { address: outside, port });
        const wanted = flow(host, outside, "egress", "NETFILTER_DROP");
        await observer.until(() => observer.sum(wanted).packets >= COUNT);
        expect(observer.counted({ ...wanted, interface: "up0" })).toEqual(sent);
      });

      test("a rule on what is forwarded", async () => {
        dropAt("forward");
        sendAll(inner, from(innerAddress), { address: outside, port });
        // What comes from an endpoint leaves it, whether it was passed on or not.
        const wanted = flow(innerAddress, outside, "egress", "NETFILTER_DROP");
        await observer.until(() => observer.sum(wanted).packets >= COUNT);
        expect(observer.counted({ ...wanted, interface: "in0" })).toEqual(sent);
        expect(observer.sum({ destinationPort: port, verdict: "dropped" }).packets).toBe(COUNT);
        expect(observer.counted({ destinationPort: port, direction: "egress" })).toEqual(sent);
      });

      test("a rule on what comes from outside for an endpoint", async () => {
        dropAt("forward");
        sendAll(pair.outside, from(outside), { address: innerAddress, port });
        const wanted = flow(outside, innerAddress, "ingress", "NETFILTER_DROP");
        await observer.until(() => observer.sum(wanted).packets >= COUNT);
        expect(observer.counted({ ...wanted, interface: "up0" })).toEqual(sent);
        expect(observer.sum({ destinationPort: port, verdict: "dropped" }).packets).toBe(COUNT);
      });

      test("a rule on what an endpoint sends to the node itself", async () => {
        dropAt("input");
        sendAll(inner, from(innerAddress), { address: host, port });
        const wanted = flow(innerAddress, host, "egress", "NETFILTER_DROP");
        await observer.until(() => observer.sum(wanted).packets >= COUNT);
        expect(observer.counted({ ...wanted, interface: "in0" })).toEqual(sent);
        // The same packets as the hook of the interface has them: none of them is of another direction.
        expect(observer.counted({ destinationPort: port, direction: "ingress" })).toEqual({
          packets: 0,
          bytes: 0,
        });
      });

      test("what a bridge of endpoints hands up to be routed", async () => {
        dropAt("forward");
        sendAll(bridged, from(behindBridge), { address: outside, port });
        const wanted = flow(behindBridge, outside, "egress", "NETFILTER_DROP");
        await observer.until(() => observer.sum(wanted).packets >= COUNT);
        expect(observer.counted({ ...wanted, interface: "br0" })).toEqual(sent);
        expect(observer.counted({ destinationPort: port, direction: "egress" })).toEqual(sent);
      });

      test("in an endpoint's own namespace: its own view, and no interface of this node", async () => {
        inner.run(
          "nft",
          `table inet t { chain c { type filter hook output priority 0; udp dport ${port} drop; }; }`,
        );
        sendAll(inner, from(innerAddress), { address: outside, port });
        inner.run("nft", "delete", "table", "inet", "t");
        const out = flow(innerAddress, outside, "egress", "NETFILTER_DROP");
        await observer.until(() => observer.sum(out).packets >= COUNT);
        expect(observer.counted({ ...out, interface: "" })).toEqual(sent);
        // A closed port: the namespaces count their interfaces alike, so that eth0's number is one of this node too.
        sendAll(pair.outside, from(outside), { address: innerAddress, port });
        const back = flow(outside, innerAddress, "ingress", "NO_SOCKET");
        await observer.until(() => observer.sum(back).packets >= COUNT);
        expect(observer.counted({ ...back, interface: "" })).toEqual(sent);
      });

      test("a closed UDP port", async () => {
        sendAll(pair.outside, from(outside), { address: host, port });
        const wanted = flow(outside, host, "ingress", "NO_SOCKET");
        await observer.until(() => observer.sum(wanted).packets >= COUNT);
        expect(observer.counted({ ...wanted, interface: "up0" })).toEqual(sent);
      });

      test("a closed TCP port", async () => {
        const ends = { source: outside, destination: host };
        const ports = { sourcePort: 5000, destinationPort: port };
        const link = {
          to: linkFacts(pair.host, "up0").address,
          from: linkFacts(pair.outside, "wan0").address,
        };
        const frame = ethernet(link, type, tcpPacket(ends, ports, tcpFlags.SYN, zeros(0)));
        using sender = openPacketSocket(pair.outside, "wan0");
        for (let i = 0; i < COUNT; i++) sender.send(frame);
        const wanted = { ...flow(outside, host, "ingress", "NO_SOCKET"), protocol: TCP };
        await observer.until(() => observer.sum(wanted).packets >= COUNT);
        expect(observer.counted({ ...wanted, interface: "up0" })).toEqual({
          packets: COUNT,
          bytes: COUNT * frame.length,
        });
        expect(observer.sum(wanted).tcpFlags).toBe(tcpFlags.SYN);
      });

      test("a full socket: what was received and what was dropped is what was sent", async () => {
        using full = openUdp(pair.host, { address: host, port }, 20_000);
        sendAll(pair.outside, from(outside), { address: host, port });
        const wanted = flow(outside, host, "ingress", "SOCKET_RCVBUFF");
        const received = full.received().packets;
        await observer.until(() => observer.sum(wanted).packets + received >= COUNT);
        expect(received).toBeGreaterThan(0);
        expect(received).toBeLessThan(COUNT);
        expect(observer.counted(wanted)).toEqual({
          packets: COUNT - received,
          bytes: (COUNT - received) * (headers + 8 + SIZE),
        });
      });

      test("buffers of a guest, which say how long their segments are and not how many", async () => {
        using tap = openTap(pair.host, "tap0");
        pair.host.run(
          "nft",
          `table inet t { chain c { type filter hook input priority 0; tcp dport ${port} drop; }; }`,
        );
        const link = { to: linkFacts(pair.host, "tap0").address, from: "02:00:00:00:00:02" };
        const headerBytes = headers + 20;
        const segment = tcp({ sourcePort: 5000, destinationPort: port }, tcpFlags.ACK, zeros(4500));
        const ends = { source: outside, destination: host };
        const packet = type === etherTypes.ip ? ipv4(ends, TCP, segment) : ipv6(ends, TCP, segment);
        const frame = ethernet(link, type, packet);
        for (let i = 0; i < COUNT; i++) tap.send(withGuestHeader({ frame, headerBytes, segmentBytes: 1000 }));
        const wanted = { ...flow(outside, host, "egress", "NETFILTER_DROP"), protocol: TCP };
        await observer.until(() => observer.sum(wanted).packets >= COUNT * 5);
        expect(observer.counted({ ...wanted, interface: "tap0" })).toEqual({
          packets: COUNT * 5,
          bytes: COUNT * (4500 + 5 * headerBytes),
        });
      });

      test("a frame to another's link address", async () => {
        const link = { to: "02:00:00:00:00:01", from: "02:00:00:00:00:02" };
        const datagram = udp({ sourcePort: 5000, destinationPort: port }, zeros(SIZE));
        const ends = { source: outside, destination: host };
        const packet = type === etherTypes.ip ? ipv4(ends, UDP, datagram) : ipv6(ends, UDP, datagram);
        const frame = ethernet(link, type, packet);
        using sender = openPacketSocket(pair.outside, "wan0");
        for (let i = 0; i < COUNT; i++) sender.send(frame);
        const wanted = flow(outside, host, "ingress", "OTHERHOST");
        await observer.until(() => observer.sum(wanted).packets >= COUNT);
        expect(observer.counted({ ...wanted, interface: "up0" })).toEqual(sent);
      });
    },
  );
});
