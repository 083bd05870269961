// Node totals against the kernel's own counters of the uplink, at rest and while packets fly.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { PacketCount } from "../../src/snapshot.ts";
import { openPair, outsideV4, outsideV6, type Pair, setOffloads } from "./lab.ts";
import { type Observer, observe } from "./observer.ts";
import { mayMakeNamespaces } from "./proc-namespace.ts";
import { sendTcp, serveTcp } from "./tcp.ts";

type Device = { readonly ingress: PacketCount; readonly egress: PacketCount };

describe.skipIf(!mayMakeNamespaces)("totals and /proc/net/dev", () => {
  let pair: Pair;
  let observer: Observer;
  const undo = new AsyncDisposableStack();
  beforeAll(async () => {
    pair = openPair();
    undo.use(pair.lab);
    // The device counts buffers: here each is one packet.
    setOffloads(pair.host, "up0", "off");
    setOffloads(pair.outside, "wan0", "off");
    observer = undo.use(await observe(pair.host));
  });
  afterAll(() => undo.disposeAsync());

  function readDevice(): Device {
    const line = /^\s*up0:(.*)$/m.exec(pair.host.run("cat", "/proc/net/dev"))?.[1] ?? "";
    const fields = line.trim().split(/\s+/).map(Number);
    const count = (at: number): PacketCount => ({ bytes: fields[at] ?? 0, packets: fields[at + 1] ?? 0 });
    return { ingress: count(0), egress: count(8) };
  }

  const totals = (): Device => ({ ingress: observer.totals("ingress"), egress: observer.totals("egress") });

  const numbers = ({ ingress, egress }: Device): readonly number[] => [
    ...[ingress.packets, ingress.bytes, egress.packets, egress.bytes],
  ];

  test("are equal at rest, whatever was sent", async () => {
    const offset = numbers(readDevice()).map((value, i) => value - (numbers(totals())[i] ?? 0));
    for (const address of [outsideV4, outsideV6])
      for (const size of [1, 1000, 5000])
        pair.host.run("ping", "-q", "-f", "-c", "50", "-s", String(size), address);
    await observer.tick();
    expect(numbers(totals())).toEqual(numbers(readDevice()).map((value, i) => value - (offset[i] ?? 0)));
  });

  test("differ by no more than what passes between two reads", async () => {
    const offset = numbers(readDevice()).map((value, i) => value - (numbers(totals())[i] ?? 0));
    const device = (): readonly number[] => numbers(readDevice()).map((value, i) => value - (offset[i] ?? 0));
    await using server = await serveTcp({ at: pair.outside, address: outsideV4, port: 9000 });
    let running = true;
    const sending = sendTcp(
      pair.host,
      { at: pair.outside, address: outsideV4, port: 9000 },
      150_000_000,
    ).finally(() => {
      running = false;
    });
    let compared = 0;
    while (running) {
      const before = device();
      await observer.tick();
      const now = numbers(totals());
      const after = device();
      now.forEach((value, i) => {
        expect(value).toBeGreaterThanOrEqual(before[i] ?? 0);
        expect(value).toBeLessThanOrEqual(after[i] ?? 0);
      });
      compared += 1;
    }
    await sending;
    expect(await server.ended()).toEqual([150_000_000]);
    expect(compared).toBeGreaterThan(3);
    await observer.tick();
    expect(numbers(totals())).toEqual(device());
  }, 30_000);
});
