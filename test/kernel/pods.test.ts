// A packet that crosses veth, bridge and uplink is one packet: in its flow, and in the totals of the node.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { AttachMode } from "../../bpf/attachments.ts";
import type { Direction } from "../../src/flow.ts";
import type { PacketCount } from "../../src/snapshot.ts";
import { setReceiveSteering } from "./lab.ts";
import { type Observer, observe } from "./observer.ts";
import { protocols, zeros } from "./packets.ts";
import { bridgeName, type Member, openPods, type Pods, podInterfaces, uplinkName } from "./pods.ts";
import { mayMakeNamespaces } from "./proc-namespace.ts";
import { openUdp } from "./sockets.ts";
import { countSegments, sendTcp, serveTcp } from "./tcp.ts";

const directions = ["ingress", "egress"] as const;
const members = ["podA", "podB", "host", "outside"] as const;
type Name = (typeof members)[number];

/** What a path must show: directions of its rows, and of the totals. */
type Path = { from: Name; to: Name; rows: readonly Direction[]; totals: readonly Direction[] };

const paths: readonly Path[] = [
  { from: "podA", to: "outside", rows: ["egress"], totals: ["egress"] },
  { from: "outside", to: "podB", rows: ["ingress"], totals: ["ingress"] },
  { from: "podA", to: "podB", rows: ["egress", "ingress"], totals: [] },
  { from: "host", to: "podA", rows: ["egress", "ingress"], totals: [] },
  { from: "podB", to: "host", rows: ["egress", "ingress"], totals: [] },
  { from: "host", to: "outside", rows: ["egress"], totals: ["egress"] },
  { from: "outside", to: "host", rows: ["ingress"], totals: ["ingress"] },
];

type Setting = {
  readonly uplink: "routed" | "bridged";
  readonly attach: AttachMode;
  readonly steering: "on" | "off";
};

const settings: readonly Setting[] = [
  { uplink: "routed", attach: "tcx", steering: "off" },
  { uplink: "routed", attach: "tcx", steering: "on" },
  { uplink: "routed", attach: "clsact", steering: "on" },
  { uplink: "bridged", attach: "tcx", steering: "on" },
];

const zero: PacketCount = { packets: 0, bytes: 0 };

describe.skipIf(!mayMakeNamespaces).each(settings)(
  "uplink $uplink, $attach, receive steering $steering",
  (setting) => {
    let pods: Pods;
    let observer: Observer;
    const undo = new AsyncDisposableStack();
    let port = 30_000;
    beforeAll(async () => {
      pods = openPods(setting.uplink);
      undo.use(pods.lab);
      for (const device of [uplinkName, bridgeName, ...Object.values(podInterfaces)])
        setReceiveSteering(pods.host.at, device, setting.steering);
      const interfaces = { attach: setting.attach, uplinks: [uplinkName] };
      observer = undo.use(await observe(pods.host.at, { interfaces }));
    });
    afterEach(() => {
      expect(observer.answer.errors).toEqual({});
      expect(observer.law().accounted).toBe(observer.law().seen);
      expect(observer.aggregation().inRows).toBe(observer.aggregation().aggregated);
    });
    afterAll(() => undo.disposeAsync());

    const totals = () => directions.map((direction) => observer.totals(direction));
    const grown = (before: readonly PacketCount[]): readonly PacketCount[] =>
      totals().map((now, i) => ({
        packets: now.packets - (before[i]?.packets ?? 0),
        bytes: now.bytes - (before[i]?.bytes ?? 0),
      }));
    const only = (wanted: readonly Direction[], sent: PacketCount): readonly PacketCount[] =>
      directions.map((direction) => (wanted.includes(direction) ? sent : zero));

    test("the uplink is the named one", () => {
      expect(observer.latest.totals?.uplinks).toEqual([uplinkName]);
      expect(new Set(observer.latest.attached)).toEqual(new Set(["br0", "up0", "veth-a", "veth-b"]));
    });

    describe.each(["v4", "v6"] as const)("%s", (family) => {
      test.each(paths)("datagrams from $from to $to", async (path) => {
        port += 1;
        const from: Member = pods[path.from];
        const to: Member = pods[path.to];
        const before = totals();
        const flow = {
          source: from[family],
          sourcePort: port,
          destination: to[family],
          destinationPort: 9000,
        };
        using receiver = openUdp(to.at, { address: to[family], port: 9000 });
        using sender = openUdp(from.at, { address: from[family], port });
        // In two parts: the interface that the first tick chose stays the one.
        for (const half of [1, 2]) {
          for (let i = 0; i < 40; i++) sender.send({ address: to[family], port: 9000 }, zeros(200));
          await observer.until(() =>
            path.rows.every((direction) => observer.sum({ ...flow, direction }).packets >= 40 * half),
          );
        }
        const sent = { packets: 80, bytes: 80 * (14 + (family === "v4" ? 20 : 40) + 8 + 200) };
        expect(receiver.received().packets).toBe(80);
        expect(directions.map((direction) => observer.counted({ ...flow, direction }))).toEqual([
          ...only(path.rows, sent),
        ]);
        expect(grown(before)).toEqual([...only(path.totals, sent)]);
      });

      test("a TCP transfer from a pod, read while it runs", async () => {
        port += 1;
        const bytes = 20_000_000;
        const { podA, outside } = pods;
        const before = totals();
        const segments = countSegments(podA.at);
        await using server = await serveTcp({ at: outside.at, address: outside[family], port });
        const sending = sendTcp(podA.at, { at: outside.at, address: outside[family], port }, bytes);
        let running = true;
        void sending.finally(() => {
          running = false;
        });
        await observer.until(() => !running);
        await sending;
        expect(await server.ended()).toEqual([bytes]);
        await observer.until(() => {
          const { out, back } = segments();
          return grown(before)[0]?.packets === back && grown(before)[1]?.packets === out;
        });
        const { out, back, again } = segments();
        expect(again).toBe(0);
        const header = 14 + (family === "v4" ? 20 : 40) + 32;
        const expected = [back, out].map((count, i) => ({
          packets: count,
          bytes: count * header + 8 + (i === 1 ? bytes : 0),
        }));
        const ends = { protocol: protocols.tcp };
        expect([
          observer.counted({ ...ends, source: outside[family], sourcePort: port, direction: "ingress" }),
          observer.counted({
            ...ends,
            destination: outside[family],
            destinationPort: port,
            direction: "egress",
          }),
        ]).toEqual(expected);
        expect(grown(before)).toEqual(expected);
      });
    });
  },
);
