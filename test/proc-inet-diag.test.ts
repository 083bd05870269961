// TCP sockets by state and remote: what the answers of inet_diag add up to, and which remotes are kept.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import ipaddr from "ipaddr.js";
import type { NetlinkMessage } from "../bpf/netlink.ts";
import { ipv4Text, ipv6Text } from "../bpf/proc/address.ts";
import { addSocket, emptyTally, sumTallies, type TcpTally } from "../bpf/proc/inet-diag.ts";

const AF_INET = 2;
const AF_INET6 = 10;

/** Struct inet_diag_msg of a socket. */
function message(socket: { state: number; address: string; port: number }): NetlinkMessage {
  const address = ipaddr.parse(socket.address);
  const view = new DataView(new ArrayBuffer(72));
  view.setUint8(0, address.kind() === "ipv4" ? AF_INET : AF_INET6);
  view.setUint8(1, socket.state);
  view.setUint16(6, socket.port);
  address.toByteArray().forEach((byte, index) => {
    view.setUint8(24 + index, byte);
  });
  return { type: 20, flags: 2, sequence: 1, view, start: 0, end: 72 };
}

function tallyOf(
  sockets: readonly { state: number; address: string; port: number }[],
  addressesMax = 1000,
): TcpTally {
  const tally = emptyTally(addressesMax);
  for (const socket of sockets) addSocket(tally, message(socket));
  return tally;
}

const established = (address: string, port: number) => ({ state: 1, address, port });

describe("addresses", () => {
  const byte = fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, fc.integer({ min: 0, max: 255 }));

  test("of IPv6 are written as RFC 5952 says", () => {
    fc.assert(
      fc.property(fc.array(byte, { minLength: 16, maxLength: 16 }), (bytes) => {
        const view = new DataView(new Uint8Array(bytes).buffer);
        const address = new ipaddr.IPv6(bytes);
        const expected = address.isIPv4MappedAddress()
          ? address.toIPv4Address().toString()
          : address.toRFC5952String();
        expect(ipv6Text(view, 0)).toBe(expected);
      }),
    );
  });

  test.each([
    ["::", "::"],
    ["::1", "::1"],
    ["1::", "1::"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["0:0:1:0:0:0:1:1", "0:0:1::1:1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["fe80:0:0:0:0:0:0:abcd", "fe80::abcd"],
  ])("%s is %s", (written, canonical) => {
    const view = new DataView(new Uint8Array(ipaddr.IPv6.parse(written).toByteArray()).buffer);
    expect(ipv6Text(view, 0)).toBe(canonical);
  });

  test("of IPv4 are dotted", () => {
    expect(ipv4Text(new DataView(new Uint8Array([9, 192, 0, 2, 255]).buffer), 1)).toBe("192.0.2.255");
  });
});

describe("states", () => {
  test("have all names, zeros included, and count connection requests as SYN_RECV", () => {
    const states = Array.from({ length: 12 }, (_, index) => index + 1);
    const tally = tallyOf(states.map((state) => ({ state, address: "192.0.2.1", port: 80 })));
    expect(sumTallies([tally], 10).states).toEqual({
      ESTABLISHED: 1,
      SYN_SENT: 1,
      SYN_RECV: 2,
      FIN_WAIT1: 1,
      FIN_WAIT2: 1,
      TIME_WAIT: 1,
      CLOSE: 1,
      CLOSE_WAIT: 1,
      LAST_ACK: 1,
      LISTEN: 1,
      CLOSING: 1,
    });
    const none = sumTallies([], 10);
    expect(Object.values(none.states)).toEqual(new Array(11).fill(0));
    expect(none).toMatchObject({ remotes: [], remotesOther: 0 });
  });

  test("an answer that is too short is an error", () => {
    const short = { ...message(established("192.0.2.1", 1)), end: 71 };
    expect(() => addSocket(emptyTally(1), short)).toThrow("inet_diag message of 71 bytes");
  });
});

describe("remotes", () => {
  test("are of connections, not of listening or closed sockets", () => {
    const tally = tallyOf([
      { state: 10, address: "0.0.0.0", port: 0 },
      { state: 7, address: "192.0.2.9", port: 9 },
      { state: 6, address: "192.0.2.1", port: 443 },
      { state: 3, address: "2001:db8::1", port: 50000 },
    ]);
    expect(sumTallies([tally], 10)).toMatchObject({
      remotes: [
        { address: "192.0.2.1", port: 443, connections: 1 },
        { address: "2001:db8::1", port: 50000, connections: 1 },
      ],
      remotesOther: 0,
    });
  });

  test("show an IPv4-mapped address as IPv4, and together with it", () => {
    const tally = tallyOf([established("::ffff:192.0.2.1", 443), established("192.0.2.1", 443)]);
    expect(sumTallies([tally], 10).remotes).toEqual([{ address: "192.0.2.1", port: 443, connections: 2 }]);
  });

  test("of several tallies are added up", () => {
    const one = tallyOf([established("192.0.2.1", 1), established("192.0.2.2", 1)]);
    const two = tallyOf([established("192.0.2.2", 1), established("192.0.2.3", 1)]);
    expect(sumTallies([one, two], 2)).toMatchObject({
      remotes: [
        { address: "192.0.2.2", port: 1, connections: 2 },
        { address: "192.0.2.1", port: 1, connections: 1 },
      ],
      remotesOther: 1,
    });
  });

  test("past addressesMax are counted together", () => {
    const tally = tallyOf(
      [established("192.0.2.1", 1), established("192.0.2.2", 1), established("192.0.2.1", 1)],
      1,
    );
    expect(tally.remotes.size).toBe(1);
    expect(sumTallies([tally], 10)).toMatchObject({
      remotes: [{ address: "192.0.2.1", port: 1, connections: 2 }],
      remotesOther: 1,
    });
  });

  test("are the busiest, the same ones whatever the order, and nothing is lost to `other`", () => {
    const address = fc.constantFrom(
      "192.0.2.1",
      "192.0.2.2",
      "255.255.255.255",
      "2001:db8::1",
      "2001:db8::2",
    );
    const socket = fc
      .record({ address, port: fc.constantFrom(1, 443, 65535) })
      .map((remote) => ({ state: 1, ...remote }));
    const cases = fc.record({
      sockets: fc.array(socket, { maxLength: 60 }),
      remotesMax: fc.nat(8),
      split: fc.nat(60),
    });
    fc.assert(
      fc.property(cases, ({ sockets, remotesMax, split }) => {
        const naive = new Map<string, number>();
        for (const { address: text, port } of sockets)
          naive.set(`${text} ${port}`, (naive.get(`${text} ${port}`) ?? 0) + 1);
        const counts = [...naive.values()].sort((a, b) => b - a);
        const parts = [sockets.slice(0, split), sockets.slice(split)].map((part) => tallyOf(part));
        const sum = sumTallies(parts, remotesMax);
        expect(sum.remotes?.map(({ connections }) => connections)).toEqual(counts.slice(0, remotesMax));
        for (const { address: text, port, connections } of sum.remotes ?? [])
          expect(connections).toBe(naive.get(`${text} ${port}`) ?? 0);
        expect(sum.remotesOther).toBe(counts.slice(remotesMax).reduce((all, count) => all + count, 0));
        expect(sumTallies([tallyOf(sockets.toReversed())], remotesMax)).toEqual(sum);
      }),
    );
  });
});
