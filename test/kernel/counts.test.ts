// Packets and bytes of ordinary traffic, against what the test sent itself.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { Direction } from "../../src/flow.ts";
import { hostV4, hostV6, openPair, outsideV4, outsideV6, type Pair, setOffloads } from "./lab.ts";
import { type Observer, observe } from "./observer.ts";
import { protocols, zeros } from "./packets.ts";
import { mayMakeNamespaces } from "./proc-namespace.ts";
import { openUdp } from "./sockets.ts";
import { countSegments, sendTcp, serveTcp } from "./tcp.ts";

const { icmp, icmpv6, udp } = protocols;
const ETHERNET = 14;
const MTU = 1500;

const families = [
  { name: "IPv4", host: hostV4, outside: outsideV4, ipBytes: 20, protocol: icmp, request: 8, reply: 0 },
  { name: "IPv6", host: hostV6, outside: outsideV6, ipBytes: 40, protocol: icmpv6, request: 128, reply: 129 },
] as const;

/** Frames of `count` datagrams with so much payload: whole, or in fragments that end on a multiple of 8 bytes. */
function datagramFrames(ipBytes: number, payload: number, count: number): { packets: number; bytes: number } {
  const data = payload + 8;
  if (ipBytes + data <= MTU) return { packets: count, bytes: count * (ETHERNET + ipBytes + data) };
  const header = ipBytes === 40 ? 48 : 20; // IPv6 has a header for fragments.
  const room = Math.floor((MTU - header) / 8) * 8;
  const fragments = Math.ceil(data / room);
  return { packets: count * fragments, bytes: count * (fragments * (ETHERNET + header) + data) };
}

describe.skipIf(!mayMakeNamespaces)("ordinary traffic", () => {
  let pair: Pair;
  let observer: Observer;
  const undo = new AsyncDisposableStack();
  let port = 20_000;
  beforeAll(async () => {
    pair = openPair();
    undo.use(pair.lab);
    observer = undo.use(await observe(pair.host));
  });
  afterEach(() => {
    expect(observer.answer.errors).toEqual({});
    expect(observer.law().accounted).toBe(observer.law().seen);
    expect(observer.aggregation().inRows).toBe(observer.aggregation().aggregated);
  });
  afterAll(() => undo.disposeAsync());

  const totals = () => ({ ingress: observer.totals("ingress"), egress: observer.totals("egress") });
  const grown = (before: ReturnType<typeof totals>, direction: "ingress" | "egress") => ({
    packets: observer.totals(direction).packets - before[direction].packets,
    bytes: observer.totals(direction).bytes - before[direction].bytes,
  });

  const flags = (direction: Direction): readonly number[] =>
    (["FIN", "SYN", "SYN-ACK", "RST", "ACK"] as const).map((flag) => observer.flag(flag, direction));

  describe.each(families)("$name", ({ host, outside, ipBytes, protocol, request, reply }) => {
    test("each ping is one packet out and one in", async () => {
      const before = totals();
      pair.host.run("ping", "-q", "-f", "-c", "200", "-s", "100", outside);
      const sent = { packets: 200, bytes: 200 * (ETHERNET + ipBytes + 8 + 100) };
      const out = { source: host, destination: outside, protocol, icmpType: request, icmpCode: 0 };
      const back = { source: outside, destination: host, protocol, icmpType: reply, icmpCode: 0 };
      await observer.until(() => observer.sum(back).packets >= sent.packets);
      expect(observer.counted({ ...out, direction: "egress", interface: "up0" })).toEqual(sent);
      expect(observer.counted({ ...back, direction: "ingress", interface: "up0" })).toEqual(sent);
      expect(observer.counted(out)).toEqual(sent);
      expect(observer.counted(back)).toEqual(sent);
      expect(grown(before, "egress")).toEqual(sent);
      expect(grown(before, "ingress")).toEqual(sent);
    });

    // The last four: the most that fits, one byte more, several fragments, the largest.
    const fits = MTU - ipBytes - 8;
    test.each([1, 64, 512, 1400, fits, fits + 1, 4000, 65_000])("datagrams of %i bytes", async (size) => {
      port += 1;
      const count = 25;
      const before = totals();
      using sender = openUdp(pair.host, { address: host, port });
      using receiver = openUdp(pair.outside, { address: outside, port: 9000 });
      for (let i = 0; i < count; i++) {
        sender.send({ address: outside, port: 9000 }, zeros(size));
        receiver.send({ address: host, port }, zeros(size));
      }
      const sent = datagramFrames(ipBytes, size, count);
      const flow = {
        source: host,
        sourcePort: port,
        destination: outside,
        destinationPort: 9000,
        protocol: udp,
      };
      const back = {
        source: outside,
        sourcePort: 9000,
        destination: host,
        destinationPort: port,
        protocol: udp,
      };
      await observer.until(() => observer.sum(back).packets >= sent.packets);
      expect(receiver.received()).toEqual({ packets: count, bytes: count * size });
      expect(sender.received()).toEqual({ packets: count, bytes: count * size });
      expect(observer.counted({ ...flow, direction: "egress" })).toEqual(sent);
      expect(observer.counted({ ...back, direction: "ingress" })).toEqual(sent);
      expect(grown(before, "egress")).toEqual(sent);
      expect(grown(before, "ingress")).toEqual(sent);
    });

    test.each([
      { offloads: "on", direction: "egress" },
      { offloads: "on", direction: "ingress" },
      { offloads: "off", direction: "egress" },
      { offloads: "off", direction: "ingress" },
    ] as const)("a TCP transfer, offloads $offloads, $direction", async ({ offloads, direction }) => {
      port += 1;
      const bytes = 3_000_000;
      setOffloads(pair.host, "up0", offloads);
      setOffloads(pair.outside, "wan0", offloads);
      const sends = direction === "egress";
      const opposite = sends ? "ingress" : "egress";
      const sender = sends ? pair.host : pair.outside;
      const to = sends
        ? { at: pair.outside, address: outside, port }
        : { at: pair.host, address: host, port };
      const before = totals();
      const flagsBefore = { data: flags(direction), answers: flags(opposite) };
      const segments = countSegments(sender);
      await using server = await serveTcp(to);
      await sendTcp(sender, to, bytes);
      expect(await server.ended()).toEqual([bytes]);
      await observer.until(() => {
        const { out, back } = segments();
        return grown(before, direction).packets === out && grown(before, opposite).packets === back;
      });
      const { out: packets, back: answered, again } = segments();
      expect(again).toBe(0);
      // 20 bytes of TCP and 12 of time stamps each; SYN and SYN-ACK have 8 bytes of options more.
      const header = ETHERNET + ipBytes + 32;
      const data = { packets, bytes: bytes + packets * header + 8 };
      const answers = { packets: answered, bytes: answered * header + 8 };
      expect(packets).toBeGreaterThanOrEqual(Math.ceil(bytes / (MTU - ipBytes - 32)) + 3);
      expect(observer.counted({ destination: to.address, destinationPort: port, direction })).toEqual(data);
      expect(grown(before, direction)).toEqual(data);
      expect(observer.counted({ source: to.address, sourcePort: port, direction: opposite })).toEqual(
        answers,
      );
      expect(grown(before, opposite)).toEqual(answers);
      const flagsGrown = (of: Direction, at: readonly number[]) =>
        flags(of).map((count, i) => count - (at[i] ?? 0));
      expect(flagsGrown(direction, flagsBefore.data)).toEqual([1, 1, 0, 0, packets - 1]);
      expect(flagsGrown(opposite, flagsBefore.answers)).toEqual([1, 0, 1, 0, answered - 1]);
    });
  });
});
