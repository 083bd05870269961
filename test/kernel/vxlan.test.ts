// An overlay: packets count inside on its device and outside on the uplink, each with all headers that the wire has.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { Direction } from "../../src/flow.ts";
import {
  addAddresses,
  addNeighbour,
  hostV4,
  hostV6,
  linkFacts,
  openPair,
  outsideV4,
  outsideV6,
  ownPorts,
  type Pair,
  setOffloads,
} from "./lab.ts";
import { type Observer, observe } from "./observer.ts";
import {
  ethernet,
  etherTypes,
  ipv4,
  ipv6,
  protocols,
  tcp,
  tcpFlags,
  withGuestHeader,
  zeros,
} from "./packets.ts";
import { mayMakeNamespaces, type TestNamespace } from "./proc-namespace.ts";
import { openPacketSocket, openUdp } from "./sockets.ts";
import { countSegments, sendTcp, serveTcp, type TcpEnd } from "./tcp.ts";

const { tcp: TCP } = protocols;
const VXLAN_PORT = ownPorts;
const outers = [
  { outer: "IPv4", local: hostV4, remote: outsideV4, headers: 14 + 20 + 8 + 8 },
  { outer: "IPv6", local: hostV6, remote: outsideV6, headers: 14 + 40 + 8 + 8 },
] as const;
const inners = [
  { inner: "IPv4", own: "10.42.0.1", other: "10.42.0.2", ipBytes: 20 },
  { inner: "IPv6", own: "2001:db8:42::1", other: "2001:db8:42::2", ipBytes: 40 },
] as const;

/** The pair with a VXLAN device on both sides. */
function openOverlay({ local, remote }: { local: string; remote: string }): Pair {
  const pair = openPair();
  const addVxlan = (
    at: TestNamespace,
    ends: readonly [string, string],
    device: string,
    host: 1 | 2,
  ): void => {
    const [own, other] = ends;
    const words = ["id", "42", "local", own, "remote", other, "dstport", String(VXLAN_PORT), "dev", device];
    at.ip("link", "add", "vx0", "type", "vxlan", ...words);
    addAddresses({ at, name: "vx0", addresses: [`10.42.0.${host}/24`, `2001:db8:42::${host}/64`] });
    at.ip("link", "set", "vx0", "up");
  };
  addVxlan(pair.host, [local, remote], "up0", 1);
  addVxlan(pair.outside, [remote, local], "wan0", 2);
  for (const { own, other } of inners) {
    addNeighbour(pair.host, "vx0", other, linkFacts(pair.outside, "vx0").address);
    addNeighbour(pair.outside, "vx0", own, linkFacts(pair.host, "vx0").address);
  }
  return pair;
}

async function transfer(from: TestNamespace, to: TcpEnd, bytes: number): Promise<void> {
  await using server = await serveTcp(to);
  await sendTcp(from, to, bytes);
  expect(await server.ended()).toEqual([bytes]);
}

function setAllOffloads({ host, outside }: Pair, state: "on" | "off"): void {
  for (const device of ["vx0", "up0"]) setOffloads(host, device, state);
  for (const device of ["vx0", "wan0"]) setOffloads(outside, device, state);
}

/** Packets of the tunnel on the uplink. */
function tunnelled(
  observer: Observer,
  { local, remote }: { local: string; remote: string },
  direction: Direction,
) {
  return observer.counted({
    ...(direction === "egress"
      ? { source: local, destination: remote }
      : { source: remote, destination: local }),
    ...{ destinationPort: VXLAN_PORT, protocol: protocols.udp, direction, interface: "up0" },
  });
}

describe.skipIf(!mayMakeNamespaces).each(outers)("VXLAN over $outer", (ends) => {
  const { headers } = ends;
  let pair: Pair;
  let observer: Observer;
  let port = 7000;
  const undo = new AsyncDisposableStack();
  beforeAll(async () => {
    pair = openOverlay(ends);
    undo.use(pair.lab);
    observer = undo.use(await observe(pair.host));
  });
  afterEach(() => {
    expect(observer.answer.errors).toEqual({});
    expect(observer.law().accounted).toBe(observer.law().seen);
  });
  afterAll(() => undo.disposeAsync());

  const outside = (direction: Direction) => tunnelled(observer, ends, direction);
  const both = () => ({ egress: outside("egress"), ingress: outside("ingress") });
  const grown = (before: ReturnType<typeof both>, direction: "ingress" | "egress") => ({
    packets: outside(direction).packets - before[direction].packets,
    bytes: outside(direction).bytes - before[direction].bytes,
  });

  describe.each(inners)("$inner inside", ({ own, other, ipBytes }) => {
    test("datagrams", async () => {
      port += 1;
      const before = both();
      using sender = openUdp(pair.host, { address: own, port });
      using receiver = openUdp(pair.outside, { address: other, port: 9000 });
      for (let i = 0; i < 50; i++) sender.send({ address: other, port: 9000 }, zeros(600));
      const inside = { packets: 50, bytes: 50 * (14 + ipBytes + 608) };
      const flow = {
        source: own,
        destination: other,
        sourcePort: port,
        interface: "vx0",
        direction: "egress",
      } as const;
      await observer.until(() => grown(before, "egress").packets >= 50);
      expect(receiver.received().packets).toBe(50);
      expect(observer.counted(flow)).toEqual(inside);
      expect(grown(before, "egress")).toEqual({ packets: 50, bytes: inside.bytes + 50 * headers });
    });

    test.each([
      { offloads: "on", direction: "egress" },
      { offloads: "on", direction: "ingress" },
      { offloads: "off", direction: "egress" },
    ] as const)("a TCP transfer, offloads $offloads, $direction", async ({ offloads, direction }) => {
      port += 1;
      const bytes = 1_000_000;
      const sends = direction === "egress";
      const opposite = sends ? "ingress" : "egress";
      setAllOffloads(pair, offloads);
      const before = both();
      const from = sends ? pair.host : pair.outside;
      const to = sends ? { at: pair.outside, address: other, port } : { at: pair.host, address: own, port };
      const segments = countSegments(from);
      await transfer(from, to, bytes);
      await observer.until(() => {
        const { out, back } = segments();
        return grown(before, direction).packets === out && grown(before, opposite).packets === back;
      });
      const { out, back, again } = segments();
      expect(again).toBe(0);
      const header = 14 + ipBytes + 32;
      const inside = { packets: out, bytes: bytes + out * header + 8 };
      const answers = { packets: back, bytes: back * header + 8 };
      expect(observer.counted({ destinationPort: port, interface: "vx0", direction })).toEqual(inside);
      expect(observer.counted({ sourcePort: port, interface: "vx0" })).toEqual(answers);
      expect(grown(before, direction)).toEqual({ packets: out, bytes: inside.bytes + out * headers });
      expect(grown(before, opposite)).toEqual({ packets: back, bytes: answers.bytes + back * headers });
    });
  });
});

/** Sums of what the test sends: wire packets, and bytes with all headers. */
const sumOf = (sizes: readonly { readonly packets: number; readonly bytes: number }[]) => ({
  packets: sizes.reduce((sum, { packets }) => sum + packets, 0),
  bytes: sizes.reduce((sum, { bytes }) => sum + bytes, 0),
});

// Sent by this process frame by frame, so that the drops are made in its own system calls: a TCP connection sends again in
// timers, which run on top of any process, and a kernel may spare a process that it guards the programs that trace it.
describe.skipIf(!mayMakeNamespaces).each(outers)("VXLAN over $outer", (ends) => {
  test.each(inners)("$inner dropped before it is cut into segments has all its headers", async (inner) => {
    const { own, other, ipBytes } = inner;
    await using undo = new AsyncDisposableStack();
    const pair = openOverlay(ends);
    undo.use(pair.lab);
    setAllOffloads(pair, "on");
    await using observer = await observe(pair.host);
    const rule = `udp dport ${VXLAN_PORT} numgen inc mod 5 == 3 drop`;
    pair.host.run("nft", `table inet t { chain c { type filter hook output priority 0; ${rule}; }; }`);
    const headerBytes = 14 + ipBytes + 20;
    const link = { to: linkFacts(pair.outside, "vx0").address, from: linkFacts(pair.host, "vx0").address };
    const flow = { source: own, destination: other };
    const segmentBytes = 1000;
    using sender = openPacketSocket(pair.host, "vx0", true);
    const sent = Array.from({ length: 100 }, (_, i) => {
      const packets = 2 + (i % 40);
      const payload = zeros(packets * segmentBytes - (i % 3));
      const segment = tcp({ sourcePort: 5000, destinationPort: 7000 }, tcpFlags.ACK, payload);
      const packet = ipBytes === 20 ? ipv4(flow, TCP, segment) : ipv6(flow, TCP, segment);
      const frame = ethernet(link, ipBytes === 20 ? etherTypes.ip : etherTypes.ipv6, packet);
      sender.send(withGuestHeader({ frame, headerBytes, segmentBytes }));
      return { packets, bytes: payload.length + packets * headerBytes };
    });
    const outer = sent.map(({ packets, bytes }) => ({ packets, bytes: bytes + packets * ends.headers }));
    const lost = sumOf(outer.filter((_, i) => i % 5 === 3));
    const left = sumOf(outer.filter((_, i) => i % 5 !== 3));
    const dropped = {
      source: ends.local,
      destinationPort: VXLAN_PORT,
      protocol: protocols.udp,
      verdict: "dropped",
      dropReason: "NETFILTER_DROP",
      direction: "egress",
      interface: "vx0",
    } as const;
    const inside = { interface: "vx0", direction: "egress" } as const;
    await observer.until(
      () =>
        observer.counted(inside).packets >= left.packets + lost.packets &&
        observer.counted(dropped).packets >= lost.packets,
    );
    expect(observer.counted(inside)).toEqual(sumOf(sent));
    expect(observer.counted(dropped)).toEqual(lost);
    expect(tunnelled(observer, ends, "egress")).toEqual(left);
    expect(observer.answer.errors).toEqual({});
    expect(observer.law().accounted).toBe(observer.law().seen);
  });
});
