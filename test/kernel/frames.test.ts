// Frames written byte by byte to a packet socket, seen by both hooks: outgoing on the host, incoming from outside.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Direction, FlowRecord } from "../../src/flow.ts";
import { tcpFlagNames } from "../../src/snapshot.ts";
import { openPair, type Pair } from "./lab.ts";
import { type Observer, observe } from "./observer.ts";
import {
  concat,
  ethernet,
  etherTypes,
  extension,
  extensions,
  fragment6,
  icmp,
  ipv4,
  ipv6,
  protocols,
  tcp,
  tcpFlags,
  udp,
  zeros,
} from "./packets.ts";
import { mayMakeNamespaces } from "./proc-namespace.ts";
import { openPacketSocket, type PacketSocket } from "./sockets.ts";

// To nobody's address, so that no stack answers.
const link = { to: "02:00:00:00:00:01", from: "02:00:00:00:00:02" };
const v4 = { source: "198.51.100.1", destination: "198.51.100.2" };
const v6 = { source: "2001:db8:1::1", destination: "2001:db8:1::2" };
const vlan = { type: etherTypes.vlan, id: 100 };
const qinq = { type: etherTypes.qinq, id: 200 };
const tripleTag = [qinq, vlan, vlan];

/** Each frame of a test has ports of its own: a row shows which frame made it. */
let ports = { sourcePort: 1000, destinationPort: 7000 };
const data = (length = 32): Uint8Array => udp(ports, zeros(length));

const ip4 = (payload: Uint8Array, more?: Parameters<typeof ipv4>[3]) =>
  ipv4(v4, protocols.udp, payload, more);
const frame4 = (packet: Uint8Array, tags?: Parameters<typeof ethernet>[3]) =>
  ethernet(link, etherTypes.ip, packet, tags);
const frame6 = (packet: Uint8Array, tags?: Parameters<typeof ethernet>[3]) =>
  ethernet(link, etherTypes.ipv6, packet, tags);

const { udp: UDP } = protocols;
const { hopByHop, routing, fragment, destination } = extensions;
const atomic = { offset: 0, more: false, id: 7 };
const authentication = (next: number, payload: Uint8Array): Uint8Array =>
  concat(Uint8Array.of(next, 4), zeros(22), payload);

type Case = { readonly name: string; readonly frame: () => Uint8Array; readonly row?: Partial<FlowRecord> };

const whole: readonly Case[] = [
  { name: "IPv4", frame: () => frame4(ip4(data())) },
  { name: "IPv4 in a VLAN", frame: () => frame4(ip4(data()), [vlan]) },
  { name: "IPv4 in QinQ", frame: () => frame4(ip4(data()), [qinq, vlan]) },
  { name: "IPv4 in three tags", frame: () => frame4(ip4(data()), tripleTag) },
  { name: "IPv4 with 4 bytes of options", frame: () => frame4(ip4(data(), { options: zeros(4) })) },
  { name: "IPv4 with 40 bytes of options", frame: () => frame4(ip4(data(), { options: zeros(40) })) },
  { name: "options in QinQ", frame: () => frame4(ip4(data(), { options: zeros(12) }), [qinq, vlan]) },
  { name: "IPv4 padded by the link", frame: () => concat(frame4(ip4(data(1))), zeros(17)) },
  { name: "IPv6", frame: () => frame6(ipv6(v6, UDP, data())), row: v6 },
  { name: "IPv6 in a VLAN", frame: () => frame6(ipv6(v6, UDP, data()), [vlan]), row: v6 },
  { name: "IPv6 in QinQ", frame: () => frame6(ipv6(v6, UDP, data()), [qinq, vlan]), row: v6 },
  { name: "hop-by-hop options", frame: () => frame6(ipv6(v6, hopByHop, extension(UDP, data(), 1))), row: v6 },
  { name: "a routing header", frame: () => frame6(ipv6(v6, routing, extension(UDP, data(), 2))), row: v6 },
  {
    name: "destination options",
    frame: () => frame6(ipv6(v6, destination, extension(UDP, data()))),
    row: v6,
  },
  {
    name: "an atomic fragment",
    frame: () => frame6(ipv6(v6, fragment, fragment6(UDP, data(), atomic))),
    row: v6,
  },
  {
    name: "an authentication header",
    frame: () => frame6(ipv6(v6, 51, authentication(UDP, data()))),
    row: v6,
  },
  {
    name: "four extension headers in QinQ",
    frame: () => {
      const inner = fragment6(destination, extension(UDP, data()), atomic);
      return frame6(ipv6(v6, hopByHop, extension(routing, extension(fragment, inner, 3))), [qinq, vlan]);
    },
    row: v6,
  },
];

/** Without ports: what tells them apart is the protocol, or ICMP's type and code. */
const portless: readonly Case[] = [
  {
    name: "ICMP",
    frame: () => frame4(ipv4(v4, protocols.icmp, icmp(13, 5, zeros(12)))),
    row: { protocol: protocols.icmp, icmpType: 13, icmpCode: 5 },
  },
  {
    name: "ICMPv6 after an extension header",
    frame: () => frame6(ipv6(v6, destination, extension(protocols.icmpv6, icmp(160, 9, zeros(4))))),
    row: { protocol: protocols.icmpv6, icmpType: 160, icmpCode: 9 },
  },
  { name: "GRE", frame: () => frame4(ipv4(v4, 47, zeros(8))), row: { protocol: 47 } },
  { name: "IPv6 without a next header", frame: () => frame6(ipv6(v6, 59, zeros(0))), row: { protocol: 59 } },
  {
    name: "an unknown protocol of no bytes",
    frame: () => frame4(ipv4(v4, 253, zeros(0))),
    row: { protocol: 253 },
  },
];

type Reason = "flow_not_ip" | "flow_truncated" | "flow_extensions";
type Refused = { readonly name: string; readonly frame: () => Uint8Array; readonly reason: Reason };

const cut = (frame: Uint8Array, bytes: number): Uint8Array => frame.subarray(0, frame.length - bytes);
const nested = (depth: number, inner: Uint8Array): Uint8Array =>
  depth === 1 ? extension(UDP, inner) : extension(destination, nested(depth - 1, inner));

const refused: readonly Refused[] = [
  { name: "ARP", frame: () => ethernet(link, etherTypes.arp, zeros(28)), reason: "flow_not_ip" },
  { name: "an unknown type", frame: () => ethernet(link, 0x1234, zeros(46)), reason: "flow_not_ip" },
  {
    name: "ARP in a VLAN",
    frame: () => ethernet(link, etherTypes.arp, zeros(28), [vlan]),
    reason: "flow_not_ip",
  },
  { name: "a frame of its header alone", frame: () => frame4(zeros(0)), reason: "flow_truncated" },
  { name: "IPv4 cut in its header", frame: () => cut(frame4(ip4(zeros(0))), 1), reason: "flow_truncated" },
  { name: "IPv4 cut in its ports", frame: () => frame4(ip4(zeros(7))), reason: "flow_truncated" },
  {
    name: "IPv4 with less than 5 words",
    frame: () => frame4(Uint8Array.of(0x44, ...ip4(data()).subarray(1))),
    reason: "flow_truncated",
  },
  {
    name: "options longer than the frame",
    frame: () => cut(frame4(ip4(zeros(0), { options: zeros(40) })), 30),
    reason: "flow_truncated",
  },
  {
    name: "TCP cut before its flags",
    frame: () => frame4(ipv4(v4, protocols.tcp, zeros(13))),
    reason: "flow_truncated",
  },
  { name: "ICMP cut", frame: () => frame4(ipv4(v4, protocols.icmp, zeros(3))), reason: "flow_truncated" },
  {
    name: "IPv6 cut in its header",
    frame: () => cut(frame6(ipv6(v6, 59, zeros(0))), 1),
    reason: "flow_truncated",
  },
  {
    name: "IPv6 cut in an extension header",
    frame: () => frame6(ipv6(v6, hopByHop, zeros(7))),
    reason: "flow_truncated",
  },
  {
    name: "IPv6 cut after an extension header",
    frame: () => frame6(ipv6(v6, hopByHop, extension(UDP, zeros(7)))),
    reason: "flow_truncated",
  },
  {
    name: "nine extension headers",
    frame: () => frame6(ipv6(v6, destination, nested(9, data()))),
    reason: "flow_extensions",
  },
  {
    name: "five tags",
    frame: () => frame4(ip4(data()), [...tripleTag, vlan, vlan]),
    reason: "flow_extensions",
  },
];

const reasons: readonly Reason[] = ["flow_not_ip", "flow_truncated", "flow_extensions"];

describe.skipIf(!mayMakeNamespaces)("frames", () => {
  let pair: Pair;
  let observer: Observer;
  const undo = new AsyncDisposableStack();
  const senders = new Map<Direction, PacketSocket>();
  beforeAll(async () => {
    pair = openPair();
    undo.use(pair.lab);
    observer = undo.use(await observe(pair.host));
    senders.set("egress", pair.lab.use(openPacketSocket(pair.host, "up0")));
    senders.set("ingress", pair.lab.use(openPacketSocket(pair.outside, "wan0")));
  });
  beforeEach(() => {
    ports = { ...ports, sourcePort: ports.sourcePort + 1 };
  });
  afterEach(() => {
    expect(observer.answer.errors).toEqual({});
    expect(observer.law().accounted).toBe(observer.law().seen);
    expect(observer.aggregation().inRows).toBe(observer.aggregation().aggregated);
  });
  afterAll(() => undo.disposeAsync());

  const send = (direction: Direction, frame: Uint8Array, count = 1): void => {
    for (let i = 0; i < count; i++) senders.get(direction)?.send(frame);
  };
  const untracked = () => reasons.map((reason) => observer.untracked(reason));
  const grownBy = (before: readonly number[]) => untracked().map((value, i) => value - (before[i] ?? 0));

  describe.each(["egress", "ingress"] as const)("%s", (direction) => {
    test.each(whole)("$name", async ({ frame, row }) => {
      const before = observer.totals(direction);
      const bytes = frame();
      send(direction, bytes, 7);
      const flow = { ...(row ?? v4), ...ports, protocol: UDP, direction, interface: "up0" };
      await observer.until(() => observer.sum(flow).packets >= 7);
      expect(observer.counted(flow)).toEqual({ packets: 7, bytes: 7 * bytes.length });
      expect(observer.totals(direction)).toEqual({
        packets: before.packets + 7,
        bytes: before.bytes + 7 * bytes.length,
      });
    });

    test.each(portless)("$name", async ({ frame, row }) => {
      const bytes = frame();
      send(direction, bytes, 3);
      const flow = { ...row, direction, sourcePort: 0, destinationPort: 0 };
      await observer.until(() => observer.sum(flow).packets >= 3);
      expect(observer.counted(flow)).toEqual({ packets: 3, bytes: 3 * bytes.length });
    });

    test.each(refused)("$name is counted as $reason, and in the totals", async ({ frame, reason }) => {
      const before = untracked();
      const totals = observer.totals(direction);
      const rows = observer.sum({ direction }).packets;
      const bytes = frame();
      send(direction, bytes, 5);
      await observer.until(() => observer.totals(direction).packets >= totals.packets + 5);
      expect(grownBy(before)).toEqual(reasons.map((each) => (each === reason ? 5 : 0)));
      expect(observer.sum({ direction }).packets).toBe(rows);
      expect(observer.totals(direction)).toEqual({
        packets: totals.packets + 5,
        bytes: totals.bytes + 5 * bytes.length,
      });
    });

    test.each(["IPv4", "IPv6"])("fragments of %s belong to the flow of the first", async (family) => {
      const datagram = data(1392); // 1400 bytes with its header
      const id = 0x1000 + ports.sourcePort;
      const parts = [0, 560, 1120].map((offset) => {
        const part = datagram.subarray(offset, offset + 560);
        const more = offset < 1120;
        return family === "IPv4"
          ? frame4(ip4(part, { id, offset, moreFragments: more }))
          : frame6(ipv6(v6, fragment, fragment6(UDP, part, { offset, more, id })));
      });
      for (const part of parts) send(direction, part);
      const flow = { ...(family === "IPv4" ? v4 : v6), ...ports, protocol: UDP, direction };
      await observer.until(() => observer.sum(flow).packets >= 3);
      expect(observer.counted(flow)).toEqual({
        packets: 3,
        bytes: parts.reduce((sum, part) => sum + part.length, 0),
      });
    });

    test("SCTP has ports", async () => {
      const frame = frame4(ipv4(v4, protocols.sctp, data(24)));
      send(direction, frame, 2);
      const flow = { ...v4, ...ports, protocol: protocols.sctp, direction };
      await observer.until(() => observer.sum(flow).packets >= 2);
      expect(observer.counted(flow)).toEqual({ packets: 2, bytes: 2 * frame.length });
    });

    test("each flag of TCP is counted where it stands", async () => {
      const before = tcpFlagNames.map((flag) => observer.flag(flag, direction));
      for (let flags = 0; flags < 256; flags++)
        send(direction, frame4(ipv4(v4, protocols.tcp, tcp(ports, flags, zeros(flags)))));
      const flow = { ...v4, ...ports, protocol: protocols.tcp, direction };
      await observer.until(() => observer.sum(flow).packets >= 256);
      const sets = Array.from({ length: 256 }, (_, flags) => flags);
      const expected = tcpFlagNames.map((name) => {
        if (name === "SYN-ACK") return sets.filter((flags) => (flags & 0x12) === 0x12).length;
        const bit = tcpFlags[name];
        const alone = name === "SYN" ? 0x10 : name === "ACK" ? 0x02 : 0; // SYN and ACK together are SYN-ACK.
        return sets.filter((flags) => (flags & bit) !== 0 && (flags & alone) === 0).length;
      });
      expect(tcpFlagNames.map((flag, i) => observer.flag(flag, direction) - (before[i] ?? 0))).toEqual(
        expected,
      );
      expect(observer.sum(flow).tcpFlags).toBe(255);
    });

    test("of thousands of random frames each is in a row or untracked", async () => {
      const before = untracked();
      const rows = observer.sum({ direction });
      const totals = observer.totals(direction);
      let bytes = 0;
      const types = Object.values(etherTypes);
      for (let i = 0; i < 4000; i++) {
        const body = crypto.getRandomValues(zeros(Math.floor(Math.random() * 200) + 4));
        // Half of them begin as IP does; a tag that ends the frame is taken for an error before any hook.
        if (i % 2 === 0) body[0] = i % 4 === 0 ? 0x45 : 0x60;
        const frame = ethernet(link, types[i % types.length] ?? 0, concat(body, zeros(8)));
        bytes += frame.length;
        send(direction, frame);
      }
      await observer.until(() => observer.totals(direction).packets >= totals.packets + 4000);
      const all =
        grownBy(before).reduce((sum, value) => sum + value, 0) +
        observer.sum({ direction }).packets -
        rows.packets;
      expect(all).toBe(4000);
      expect(observer.totals(direction)).toEqual({
        packets: totals.packets + 4000,
        bytes: totals.bytes + bytes,
      });
    });
  });
});
