// Round trip time and retransmits of TCP, against a delay and losses that the test makes.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { openScratch } from "./compile.ts";
import {
  hostV4,
  hostV6,
  openLab,
  openPair,
  outsideV4,
  outsideV6,
  ownPorts,
  type Pair,
  setOffloads,
  setSysctls,
} from "./lab.ts";
import { matching, type Observer, observe } from "./observer.ts";
import { protocols } from "./packets.ts";
import { mayMakeNamespaces, type TestNamespace } from "./proc-namespace.ts";
import { readStatistics, sendTcp, serveTcp } from "./tcp.ts";
import { joinByTun } from "./tun.ts";

describe.skipIf(!mayMakeNamespaces)("round trip time", () => {
  const undo = new DisposableStack();
  let relay: string;
  beforeAll(() => {
    const scratch = undo.use(openScratch());
    relay = scratch.program("tun-relay");
  });
  afterAll(() => undo.dispose());

  const ends = [
    { family: "IPv4", near: "10.9.0.1", far: "10.9.0.2" },
    { family: "IPv6", near: "2001:db8:9::1", far: "2001:db8:9::2" },
  ];

  test.each([40, 100])("follows a path of %i ms each way", async (delayMs) => {
    using lab = openLab();
    const [near, far] = [lab.namespace(), lab.namespace()];
    // The kernel tells of segments of established connections: a small buffer keeps the sender from closing early.
    setSysctls(near, { "ipv4/tcp_wmem": "4096 16384 65536" });
    const addresses = (own: 1 | 2) => [`10.9.0.${own}/24`, `2001:db8:9::${own}/64`];
    await using _relay = await joinByTun({
      program: relay,
      ends: [
        { at: near, name: "tun0", addresses: addresses(1) },
        { at: far, name: "tun0", addresses: addresses(2) },
      ],
      delayMs,
    });
    await using observer = await observe(near);
    for (const { far: address, near: own } of ends) {
      await using server = await serveTcp({ at: far, address, port: 7000 });
      await sendTcp(near, { at: far, address, port: 7000 }, 400_000);
      expect(await server.ended()).toEqual([400_000]);
      const out = { source: own, destination: address, destinationPort: 7000, direction: "egress" } as const;
      const back = { source: address, sourcePort: 7000, destination: own, direction: "ingress" } as const;
      await observer.until(() => observer.sum(out).bytes >= 400_000);
      for (const flow of [out, back]) {
        const rttUs = matching(observer.rows, flow).findLast((row) => row.rttUs !== undefined)?.rttUs;
        expect(rttUs).toBeGreaterThan(2 * delayMs * 1000 * 0.8);
        // The relay is a process, which a busy processor holds up.
        expect(rttUs).toBeLessThan(2 * delayMs * 1000 * 2);
      }
    }
    expect(observer.law().accounted).toBe(observer.law().seen);
  });
});

function loseAt(at: TestNamespace, hook: "input" | "output", which: string): void {
  const rule = `meta l4proto tcp numgen ${which} drop`;
  at.run("nft", `table inet t { chain c { type filter hook ${hook} priority 0; ${rule}; }; }`);
}

const families = [
  { name: "IPv4", host: hostV4, outside: outsideV4 },
  { name: "IPv6", host: hostV6, outside: outsideV6 },
] as const;

// Timers of TCP run in whatever thread they interrupt. Some kernels run no tracing program on top of a thread of process
// 1, so that such a retransmit is in the kernel's counters and not in ours: rare, and another attempt has other timers.
const attempts = { retry: 3, timeout: 30_000 };

describe.skipIf(!mayMakeNamespaces).each(families)("retransmits, $name", ({ host, outside }) => {
  // A pair of their own for each test: the last words of one connection must not count for the next.
  let pair: Pair;
  let observer: Observer;
  let undo: AsyncDisposableStack;
  beforeEach(async () => {
    undo = new AsyncDisposableStack();
    pair = openPair();
    undo.use(pair.lab);
    // All that the kernel has to find losses with.
    const recovery = { "ipv4/tcp_sack": "1", "ipv4/tcp_reordering": "3", "ipv4/tcp_early_retrans": "3" };
    for (const at of [pair.host, pair.outside]) setSysctls(at, recovery);
    observer = undo.use(await observe(pair.host));
  });
  afterEach(() => undo.disposeAsync());

  const ends = { source: host, destination: outside, destinationPort: ownPorts, protocol: protocols.tcp };
  const left = () => observer.sum({ ...ends, direction: "egress" });
  const dropped = () => observer.sum({ ...ends, verdict: "dropped", dropReason: "NETFILTER_DROP" });
  const counters = () => {
    const value = readStatistics(pair.host);
    return {
      sent: value("TcpOutSegs") + value("TcpRetransSegs"),
      again: value("TcpRetransSegs") - value("TcpExtTCPRetransFail"),
    };
  };

  async function transfer(offloads: "on" | "off"): Promise<void> {
    setOffloads(pair.host, "up0", offloads);
    setOffloads(pair.outside, "wan0", offloads);
    await using server = await serveTcp({ at: pair.outside, address: outside, port: ownPorts });
    await sendTcp(pair.host, { at: pair.outside, address: outside, port: ownPorts }, 200_000);
    expect(await server.ended()).toEqual([200_000]);
  }

  function isLawful(): void {
    expect(observer.answer.errors).toEqual({});
    expect(observer.law().accounted).toBe(observer.law().seen);
  }

  test.each(["on", "off"] as const)(
    "of a path that loses a fifth, offloads %s",
    async (offloads) => {
      loseAt(pair.outside, "input", "random mod 100 < 20");
      await transfer(offloads);
      // With offloads a transfer is some ten buffers, of which chance may spare every one.
      for (let more = 0; more < 10 && counters().again === 0; more++) await transfer(offloads);
      await observer.until(() => left().packets === counters().sent);
      expect(left().packets).toBe(counters().sent);
      expect(left().retransmits).toBeGreaterThan(0);
      expect(left().retransmits).toBe(counters().again);
      isLawful();
      if (offloads === "on") return; // The receiver's counter then counts buffers, not segments.
      // What left here came in there, or was dropped there.
      expect(readStatistics(pair.outside)("TcpInSegs") + dropped().packets).toBe(left().packets);
    },
    attempts,
  );

  test(
    "what is dropped before it is cut into segments counts as segments",
    async () => {
      loseAt(pair.host, "output", "inc mod 5 == 3"); // Of few buffers, too, and not the first.
      await transfer("on");
      await observer.until(() => left().packets + dropped().packets === counters().sent);
      expect(dropped().packets).toBeGreaterThan(0);
      expect(left().packets + dropped().packets).toBe(counters().sent);
      expect(left().retransmits).toBe(counters().again);
      isLawful();
    },
    attempts,
  );
});
