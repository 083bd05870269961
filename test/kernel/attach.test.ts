// Programs of ours beside those of others: everybody sees every packet, and what others attached stays theirs.

import { afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
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

  const start = async (
    attach: "tcx" | "clsact" | "auto",
    owner: "service" | "check" = "service",
  ): Promise<Observer> => {
    return undo.use(await observe(pair.host, { interfaces: { attach }, owner }));
  };

  const witness = (priority?: number, more: { handle?: number; verdict?: number } = {}) =>
    pair.lab.use(
      attachWitness({
        ...{ object, at: pair.host, device: "up0" },
        ...(priority === undefined ? {} : { priority }),
        ...more,
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

  const limits = (observer: Observer): readonly string[] =>
    Object.values(observer.answer.snapshots).flatMap(({ limits = [] }) => limits);

  /** Of all links of a process, tracing programs having them too. */
  function detachTcx(pid: number): void {
    for (const fd of readdirSync(`/proc/${pid}/fdinfo`)) {
      const text = readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8");
      const id = /^link_type:\s+tcx$/m.test(text) ? /^link_id:\s+(\d+)$/m.exec(text)?.[1] : undefined;
      if (id !== undefined) pair.host.run("bpftool", "link", "detach", "id", id);
    }
  }

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

  test("tcx: a program with a verdict ends the way to those behind it, and we stand before it", async () => {
    const before = witness(undefined, { verdict: 0 });
    const observer = await start("tcx");
    send(30, 20);
    await observer.until(() => seen(observer).ingress >= 20);
    const all = { ingress: 20, egress: 30 };
    expect([seen(observer), before.seen()]).toEqual([all, all]);
    expect(limits(observer)).toEqual([]);
  });

  test("clsact: filters with a verdict behind ours hide nothing, and one before ours is told", async () => {
    pair.host.run("tc", "qdisc", "add", "dev", "up0", "clsact");
    witness(5, { verdict: 0 });
    const observer = await start("clsact");
    send(30, 20);
    await observer.until(() => seen(observer).ingress >= 20);
    expect(seen(observer)).toEqual({ ingress: 20, egress: 30 });
    expect(limits(observer)).toEqual([]);
    const first = witness(1, { verdict: 0 });
    await observer.until(() => limits(observer).length > 0);
    expect(limits(observer)).toEqual([
      expect.stringMatching(/^up0: another's bpf filter witness_in\S* of pri/),
    ]);
    first[Symbol.dispose]();
    pair.host.run("tc", "filter", "del", "dev", "up0", "ingress", "pref", "1", "handle", "1", "bpf");
    pair.host.run("tc", "filter", "del", "dev", "up0", "egress", "pref", "1", "handle", "1", "bpf");
    await observer.until(() => limits(observer).length === 0);
    expect(limits(observer)).toEqual([]);
  });

  test("clsact: behind a filter that has the first priority", async () => {
    pair.host.run("tc", "qdisc", "add", "dev", "up0", "clsact");
    const before = witness(1);
    const observer = await start("clsact");
    send(4, 5);
    await observer.until(() => seen(observer).ingress >= 5);
    const all = { ingress: 5, egress: 4 };
    expect([seen(observer), before.seen()]).toEqual([all, all]);
    expect(limits(observer)).toEqual([expect.stringContaining("of priority 1, ingress stands before ours")]);
  });

  test.each(["clsact", "tcx"] as const)(
    "%s: a check beside a service leaves it its sight",
    async (attach) => {
      const service = await start(attach);
      const check = await start(attach, "check");
      expect(limits(check)).toEqual([]);
      send(4, 5);
      await check.until(() => seen(check).ingress >= 5);
      expect(seen(check)).toEqual({ ingress: 5, egress: 4 });
      await check.quit();
      send(2, 3);
      await service.until(() => seen(service).ingress >= 8);
      expect(seen(service)).toEqual({ ingress: 8, egress: 6 });
      expect(limits(service)).toEqual([]);
      await service.quit();
      expect(filters()).toBe("");
      expect(qdiscs()).not.toContain("clsact");
    },
  );

  const removed = expect.stringContaining("put back 1 times, last on up0");

  test("clsact: what another removes is put back", async () => {
    const observer = await start("clsact");
    pair.host.run("tc", "qdisc", "del", "dev", "up0", "clsact");
    await observer.tick();
    send(4, 5);
    await observer.until(() => seen(observer).ingress >= 5);
    expect(seen(observer)).toEqual({ ingress: 5, egress: 4 });
    expect(limits(observer)).toEqual([removed]);
    pair.host.run("tc", "filter", "del", "dev", "up0", "egress");
    await observer.tick();
    send(4, 5);
    await observer.until(() => seen(observer).ingress >= 10);
    expect(seen(observer)).toEqual({ ingress: 10, egress: 8 });
    await observer.quit();
    expect(qdiscs()).not.toContain("clsact");
  });

  test("clsact: a filter in the place of ours stays, and ours finds another place", async () => {
    const observer = await start("clsact");
    const theirs = witness(1, { handle: 0xf0 });
    await observer.tick();
    send(4, 5);
    await observer.until(() => seen(observer).ingress >= 5);
    const all = { ingress: 5, egress: 4 };
    expect([seen(observer), theirs.seen()]).toEqual([all, all]);
    expect(limits(observer)).toEqual([expect.stringContaining("stands before ours"), removed]);
    await observer.quit();
    expect(filters()).toContain("witness");
    expect(filters()).not.toContain("fovea");
  });

  test("tcx: links that were detached by force are made again", async () => {
    const observer = await start("tcx");
    detachTcx(observer.pid);
    await observer.tick();
    send(4, 5);
    await observer.until(() => seen(observer).ingress >= 5);
    expect(seen(observer)).toEqual({ ingress: 5, egress: 4 });
    expect(limits(observer)).toEqual([removed]);
  });

  test("clsact: a plain ingress qdisc is not mistaken for one", async () => {
    pair.lab.connect({ at: pair.host, name: "in0" }, { at: pair.outside, name: "in1" });
    pair.host.run("tc", "qdisc", "add", "dev", "up0", "ingress");
    const observer = await start("clsact");
    expect(limits(observer)).toEqual([expect.stringContaining("up0 has an ingress qdisc")]);
    expect(observer.latest.attached).toEqual(["in0"]);
    expect(filters()).toBe("");
    pair.host.run("tc", "qdisc", "del", "dev", "up0", "ingress");
    await observer.tick();
    send(4, 5);
    await observer.until(() => seen(observer).ingress >= 5);
    expect(seen(observer)).toEqual({ ingress: 5, egress: 4 });
    expect(limits(observer)).toEqual([]);
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
