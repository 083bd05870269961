// The tables are swapped and read as fast as it goes while every CPU sends: nothing is lost between two halves, nor read twice.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { hostV4, openPair, outsideV4, type Pair, setOffloads, setReceiveSteering } from "./lab.ts";
import { type Observer, observe } from "./observer.ts";
import { protocols } from "./packets.ts";
import { mayMakeNamespaces } from "./proc-namespace.ts";
import { readStatistics, sendTcp, serveTcp } from "./tcp.ts";

describe.skipIf(!mayMakeNamespaces)("ticks without a pause", () => {
  let pair: Pair;
  let observer: Observer;
  const undo = new AsyncDisposableStack();
  beforeAll(async () => {
    pair = openPair();
    undo.use(pair.lab);
    for (const [at, device] of [
      [pair.host, "up0"],
      [pair.outside, "wan0"],
    ] as const) {
      setOffloads(at, device, "off"); // Many packets rather than many bytes.
      setReceiveSteering(at, device, "on");
    }
    observer = undo.use(await observe(pair.host));
  });
  afterAll(() => undo.disposeAsync());

  test("count what both ends count", async () => {
    const bytes = 250_000_000;
    const out = { at: pair.outside, address: outsideV4, port: 7000 };
    const back = { at: pair.host, address: hostV4, port: 7001 };
    await using outServer = await serveTcp(out);
    await using backServer = await serveTcp(back);
    let running = true;
    const sending = Promise.all([sendTcp(pair.host, out, bytes), sendTcp(pair.outside, back, bytes)]);
    void sending.finally(() => {
      running = false;
    });
    let ticks = 0;
    while (running) {
      await observer.tick();
      ticks += 1;
      expect(observer.law().accounted).toBe(observer.law().seen);
      expect(observer.aggregation().inRows).toBe(observer.aggregation().aggregated);
    }
    await sending;
    expect([await outServer.ended(), await backServer.ended()]).toEqual([[bytes], [bytes]]);
    expect(ticks).toBeGreaterThan(10);
    const sent = (at: Pair["host"]): number => {
      const value = readStatistics(at);
      return value("TcpOutSegs") + value("TcpRetransSegs") - value("TcpExtTCPRetransFail");
    };
    const counted = (direction: "ingress" | "egress") =>
      observer.counted({ protocol: protocols.tcp, direction });
    await observer.until(() => counted("egress").packets === sent(pair.host));
    expect(counted("egress").packets).toBe(sent(pair.host));
    expect(counted("egress")).toEqual(observer.totals("egress"));
    expect(counted("ingress").packets).toBeLessThanOrEqual(sent(pair.outside)); // Less where a backlog was full.
    expect(counted("ingress")).toEqual(observer.totals("ingress"));
    expect(observer.answer.errors).toEqual({});
  }, 60_000);
});
