// Interfaces that come and go by the hundred while traffic runs: attached within a tick, and nothing left behind.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { kernelObjects } from "./kernel-objects.ts";
import { hostV4, openPair, outsideV4, type Pair } from "./lab.ts";
import { type Observer, observe } from "./observer.ts";
import { zeros } from "./packets.ts";
import { makeNamespace, mayMakeNamespaces, type TestNamespace } from "./proc-namespace.ts";
import { openUdp, type UdpSocket } from "./sockets.ts";

const INTERFACES = 500;
const range = Array.from({ length: INTERFACES }, (_, i) => i);

describe.skipIf(!mayMakeNamespaces)("interfaces that come and go", () => {
  let pair: Pair;
  let far: TestNamespace;
  let observer: Observer;
  let sender: UdpSocket;
  let undo: AsyncDisposableStack;
  beforeEach(() => {
    undo = new AsyncDisposableStack();
    pair = openPair();
    undo.use(pair.lab);
    far = makeNamespace();
    undo.defer(() => far[Symbol.dispose]());
    sender = undo.use(openUdp(pair.host, { address: hostV4, port: 7000 }));
    undo.use(openUdp(pair.outside, { address: outsideV4, port: 7001 }));
  });
  afterEach(() => undo.disposeAsync());

  let sent = 0;
  const send = (): void => {
    for (let i = 0; i < 10; i++) sender.send({ address: outsideV4, port: 7001 }, zeros(100));
    sent += 10;
  };

  const held = () => {
    const { programs, maps, links } = kernelObjects(observer.pid);
    return {
      programs: programs.length,
      maps: maps.length,
      links: links.length,
      files: observer.answer.files,
    };
  };

  const attached = (): number => observer.latest.attached?.length ?? 0;

  const add = (some: readonly number[]): void =>
    pair.host.batch(some.map((i) => `link add many${i} up type veth peer name many${i} netns ${far.name}`));

  const remove = (some: readonly number[]): void => pair.host.batch(some.map((i) => `link del many${i}`));

  async function residentBytes(): Promise<number> {
    observer.collectGarbage();
    return (await observer.tick()).residentBytes;
  }

  // A tcx link costs the kernel a grace period a hook, to make and to remove: of those some are enough.
  test.each([
    { attach: "tcx", atOnce: 200, aTick: 2 },
    { attach: "clsact", atOnce: 500, aTick: 4 },
  ] as const)(
    "$attach: $atOnce at once, and hundreds a few at a time",
    async ({ attach, atOnce, aTick }) => {
      sent = 0;
      observer = undo.use(await observe(pair.host, { interfaces: { attach } }));
      // Once around, so that what is made once is made.
      add(range.slice(0, 5));
      await observer.until(() => attached() === 1 + 5);
      remove(range.slice(0, 5));
      await observer.until(() => attached() === 1);
      const before = held();
      const residentBefore = await residentBytes();

      const many = range.slice(0, atOnce);
      send();
      add(many);
      send();
      await observer.until(() => attached() === 1 + atOnce, 30_000);
      expect(attached()).toBe(1 + atOnce);
      expect(observer.latest.limits).toEqual([]);
      send();
      far[Symbol.dispose](); // All of them go at once.
      await observer.until(() => attached() === 1, 30_000);
      expect(attached()).toBe(1);

      far = makeNamespace();
      for (let i = 0; i < 200; i += 10) {
        const some = range.slice(i, i + aTick);
        const unseen = range.slice(i + aTick, i + 10); // Of these nothing is ever seen but their events.
        add([...some, ...unseen]);
        send();
        remove(unseen);
        await observer.until(() => attached() === 1 + some.length);
        remove(some);
        send();
        await observer.until(() => attached() === 1);
        expect(observer.answer.errors).toEqual({});
      }

      await observer.until(() => observer.sum({ sourcePort: 7000 }).packets >= sent);
      expect(observer.counted({ sourcePort: 7000, direction: "egress" })).toEqual({
        packets: sent,
        bytes: sent * 142,
      });
      expect(observer.totals("egress").packets).toBe(sent);
      expect(observer.law().accounted).toBe(observer.law().seen);
      expect(held()).toEqual(before);
      expect(await residentBytes()).toBeLessThan(residentBefore + 20e6);
    },
    60_000,
  );
});
