// A node with two pods behind a bridge, and the world outside: addresses of each, quiet links between them.

import { addAddresses, addNeighbour, type Lab, linkFacts, openLab, outsideV4, outsideV6 } from "./lab.ts";
import type { TestNamespace } from "./proc-namespace.ts";

export type Member = {
  readonly at: TestNamespace;
  readonly v4: string;
  readonly v6: string;
};

export type Pods = {
  readonly lab: Lab;
  readonly host: Member;
  readonly outside: Member;
  readonly podA: Member;
  readonly podB: Member;
};

export const bridgeName = "br0";
export const uplinkName = "up0";
/** Interfaces of the host by what is behind them. */
export const podInterfaces = { podA: "veth-a", podB: "veth-b" } as const;

const addresses = (subnet: number, host: number) => ({
  v4: `10.${subnet}.0.${host}`,
  v6: `2001:db8:${subnet}::${host}`,
});

const onLink = ({ v4, v6 }: { v4: string; v6: string }): readonly string[] => [`${v4}/24`, `${v6}/64`];

function addBridge(host: TestNamespace, own: readonly string[]): void {
  // Without its own questions to the ports about who listens to which group.
  host.ip("link", "add", bridgeName, "type", "bridge", "mcast_snooping", "0");
  addAddresses({ at: host, name: bridgeName, addresses: own });
  host.ip("link", "set", bridgeName, "up");
}

function addDefaultRoutes(at: TestNamespace, v4: string, v6: string): void {
  at.ip("route", "add", "default", "via", v4);
  at.ip("-6", "route", "add", "default", "via", v6);
}

/** Members of one segment know each other's addresses from the start. */
function introduce(
  members: readonly {
    readonly at: TestNamespace;
    readonly device: string;
    readonly v4: string;
    readonly v6: string;
  }[],
): void {
  for (const one of members)
    for (const other of members) {
      if (one === other) continue;
      const mac = linkFacts(other.at, other.device).address;
      addNeighbour(one.at, one.device, other.v4, mac);
      addNeighbour(one.at, one.device, other.v6, mac);
    }
}

/**
 * Pods at ports of a bridge of the host. `uplink: "routed"` leaves the uplink beside the bridge, with the host
 * forwarding between; `"bridged"` makes it a port as well, and puts the outside into the segment of the pods.
 */
export function openPods(uplink: "routed" | "bridged"): Pods {
  using undo = new DisposableStack();
  const lab = undo.use(openLab());
  const host = lab.namespace({ forwarding: true });
  const [podA, podB, outside] = [lab.namespace(), lab.namespace(), lab.namespace()];
  const routed = uplink === "routed";
  const bridge = addresses(1, 1);
  const a = addresses(1, 2);
  const b = addresses(1, 3);
  const world = routed ? { v4: outsideV4, v6: outsideV6 } : addresses(1, 9);
  addBridge(host, onLink(bridge));
  lab.connect({ at: host, name: podInterfaces.podA }, { at: podA, name: "eth0", addresses: onLink(a) });
  lab.connect({ at: host, name: podInterfaces.podB }, { at: podB, name: "eth0", addresses: onLink(b) });
  const own = { v4: "192.0.2.1", v6: "2001:db8::1" };
  lab.connect(
    { at: host, name: uplinkName, addresses: routed ? onLink(own) : [] },
    { at: outside, name: "wan0", addresses: onLink(world) },
  );
  const ports = [podInterfaces.podA, podInterfaces.podB, ...(routed ? [] : [uplinkName])];
  for (const port of ports) host.ip("link", "set", port, "master", bridgeName);
  // A bridge that has yet to learn where an address is sends to every port.
  const teach = (member: TestNamespace, device: string, port: string): string =>
    host.run("bridge", "fdb", "replace", linkFacts(member, device).address, "dev", port, "master", "static");
  teach(podA, "eth0", podInterfaces.podA);
  teach(podB, "eth0", podInterfaces.podB);
  if (!routed) teach(outside, "wan0", uplinkName);
  introduce([
    { at: host, device: bridgeName, ...bridge },
    { at: podA, device: "eth0", ...a },
    { at: podB, device: "eth0", ...b },
    ...(routed ? [] : [{ at: outside, device: "wan0", ...world }]),
  ]);
  addDefaultRoutes(podA, bridge.v4, bridge.v6);
  addDefaultRoutes(podB, bridge.v4, bridge.v6);
  addDefaultRoutes(host, world.v4, world.v6);
  if (routed) addDefaultRoutes(outside, own.v4, own.v6);
  undo.move();
  return {
    lab,
    host: { at: host, ...(routed ? own : bridge) },
    outside: { at: outside, ...world },
    podA: { at: podA, ...a },
    podB: { at: podB, ...b },
  };
}
