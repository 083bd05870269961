// Programs of ours beside those of others: everybody sees every packet, and what others attached stays theirs.

import { afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { openScratch } from "./compile.ts";
import { kernelObjects, survivors } from "./kernel-objects.ts";
import { hostV4, openPair, outsideV4, type Pair } from "./lab.ts";
import { type Observer, observe } from "./observer.ts";
import { ethernet, etherTypes, ipv4, protocols, udp, zeros } from "./packets.ts";
import { mayMakeNamespaces } from "./proc-namespace.ts";
import { openPacketSocket } from "./sockets.ts";
import { attachWitness } from "./witness.ts";

const ports = { sourcePort: 4000, destinationPort: 4001 };
const frame = ethernet(
  { to: "02:00:00:00:00:01", from: "02:00:00:00:00:02" },
  etherTypes.ip,
  ipv4({ source: hostV4, destination: outsideV4 }, protocols.udp, udp(ports, zeros(100))),
);

describe.skipIf(!mayMakeNamespaces)("attaching", () => {
  let object: Uint8Array;
  let pair: Pair;
  let undo: AsyncDisposableStack;
  beforeAll(() => {
    using scratch = openScratch();
    object = scratch.object("witness");
  });
  beforeEach(() => {
    undo = new AsyncDisposableStack();
    pair = openPair();
    undo.use(pair.lab);
  });
  afterEach(() => undo.disposeAsync());

  const start = async (attach: "tcx" | "clsact" | "auto"): Promise<Observer> => {
    return undo.use(await observe(pair.host, { interfaces: { attach } }));
  };

  const witness = (priority?: number) =>
    pair.lab.use(
      attachWitness({
        object,
        at: pair.host,
        device: "up0",
        ...(priority === undefined ? {} : { priority }),
      }),
    );

  /** `out` frames out of the uplink, `back` into it. */
  function send(out: number, back: number): void {
    using sender = openPacketSocket(pair.host, "up0");
    using answerer = openPacketSocket(pair.outside, "wan0");
    for (let i = 0; i < out; i++) sender.send(frame);
    for (let i = 0; i < back; i++) answerer.send(frame);
  }

  const seen = (observer: Observer) => ({
    ingress: observer.totals("ingress").packets,
    egress: observer.totals("egress").packets,
  });

  const qdiscs = (): string => pair.host.run("tc", "qdisc", "show", "dev", "up0");
  const filters = (): string =>
    pair.host.run("tc", "filter", "show", "dev", "up0", "ingress") +
    pair.host.run("tc", "filter", "show", "dev", "up0", "egress");

  test("tcx: programs before and after ours see every packet, before, while and after we run", async () => {
    const before = witness();
    const observer = await start("tcx");
    const after = witness();
    send(30, 20);
    await observer.until(() => seen(observer).ingress >= 20);
    const first = { ingress: 20, egress: 30 };
    expect([seen(observer), before.seen(), after.seen()]).toEqual([first, first, first]);
    await observer.quit();
    send(3, 2);
    const all = { ingress: 22, egress: 33 };
    expect([before.seen(), after.seen()]).toEqual([all, all]);
  });

  test("tcx makes no qdisc", async () => {
    const observer = await start("auto");
    expect(qdiscs()).not.toContain("clsact");
    expect(kernelObjects(observer.pid).links.length).toBeGreaterThanOrEqual(2);
  });

  test("clsact: another's qdisc and filters stay, and see every packet", async () => {
    pair.host.run("tc", "qdisc", "add", "dev", "up0", "clsact");
    const before = witness(1);
    const after = witness(1000);
    const theirs = filters();
    const observer = await start("clsact");
    send(30, 20);
    await observer.until(() => seen(observer).ingress >= 20);
    const first = { ingress: 20, egress: 30 };
    expect([seen(observer), before.seen(), after.seen()]).toEqual([first, first, first]);
    await observer.quit();
    expect(qdiscs()).toContain("clsact");
    expect(filters()).toBe(theirs);
    send(3, 2);
    const all = { ingress: 22, egress: 33 };
    expect([before.seen(), after.seen()]).toEqual([all, all]);
  });

  test("clsact: the qdisc that we made goes with us", async () => {
    const observer = await start("clsact");
    send(4, 5);
    await observer.until(() => seen(observer).ingress >= 5);
    expect(seen(observer)).toEqual({ ingress: 5, egress: 4 });
    expect(qdiscs()).toContain("clsact");
    await observer.quit();
    expect(qdiscs()).not.toContain("clsact");
  });

  test("clsact: the qdisc that we made stays when another has come to use it", async () => {
    const observer = await start("clsact");
    const late = witness(5);
    await observer.quit();
    send(4, 5);
    expect(late.seen()).toEqual({ ingress: 5, egress: 4 });
    expect(filters()).not.toContain("fovea");
  });

  test("tcx beside another's clsact: both see every packet", async () => {
    pair.host.run("tc", "qdisc", "add", "dev", "up0", "clsact");
    const theirs = witness(1);
    const observer = await start("tcx");
    send(4, 5);
    await observer.until(() => seen(observer).ingress >= 5);
    const all = { ingress: 5, egress: 4 };
    expect([seen(observer), theirs.seen()]).toEqual([all, all]);
    await observer.quit();
    expect(filters()).toContain("witness");
  });

  test("clsact: a start takes over what a crash left, and counts once", async () => {
    const crashed = await start("clsact");
    process.kill(crashed.pid, "SIGKILL");
    await crashed[Symbol.asyncDispose]();
    expect(filters()).toContain("fovea");
    const observer = await start("clsact");
    send(4, 5);
    await observer.until(() => seen(observer).ingress >= 5);
    expect(seen(observer)).toEqual({ ingress: 5, egress: 4 });
    await observer.quit();
    expect(filters()).toBe("");
  });

  test("tcx: nothing of ours outlives a crash", async () => {
    const observer = await start("tcx");
    const objects = kernelObjects(observer.pid);
    expect(objects.programs.length).toBeGreaterThan(0);
    expect(objects.maps.length).toBeGreaterThan(0);
    process.kill(observer.pid, "SIGKILL");
    await observer[Symbol.asyncDispose]();
    expect(await survivors(objects)).toEqual([]);
    expect(qdiscs()).not.toContain("clsact");
    expect(filters()).toBe("");
  });
});
