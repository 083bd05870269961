// Traffic between two namespaces over a veth pair without offloads: what the programs are put in the way of.

import { readFileSync } from "node:fs";
import { makeNamespace, type TestNamespace } from "../kernel/proc-namespace.ts";

const CLIENT = "10.77.0.1";
const SERVER = "10.77.0.2";
const PORT = 5201;
const LISTENING = `:${PORT.toString(16).toUpperCase()} 00000000:0000 0A`; // as /proc/net/tcp says it, in IPv4
const LISTENING_V6 = `:${PORT.toString(16).toUpperCase()} ${"0".repeat(32)}:0000 0A`;
const WAIT_MS_MAX = 5000;
const SECONDS_MAX = 300;

export type Pair = {
  readonly client: TestNamespace;
  readonly server: TestNamespace;
  /** The server's end of the veth pair. */
  readonly ifindex: number;
};

/** Packets of 1500 bytes are packets of 1500 bytes: nothing is cut or joined on the way. */
const OFFLOADS = ["tso", "gso", "gro", "lro", "tx-udp-segmentation"];

function withoutOffloads(namespace: TestNamespace, name: string): void {
  for (const offload of OFFLOADS)
    Bun.spawnSync(["ip", "netns", "exec", namespace.name, "ethtool", "-K", name, offload, "off"]);
  const features = namespace.run("ethtool", "-k", name);
  for (const feature of [
    "tcp-segmentation-offload",
    "generic-segmentation-offload",
    "generic-receive-offload",
  ])
    if (!features.includes(`${feature}: off`))
      throw new Error(`${feature} of ${name} cannot be switched off`);
}

export function openPair(owner: DisposableStack): Pair {
  const client = owner.use(makeNamespace());
  const server = owner.use(makeNamespace());
  client.batch([`link add left type veth peer name right netns ${server.name}`]);
  for (const [namespace, name, address] of [
    [client, "left", CLIENT],
    [server, "right", SERVER],
  ] as const) {
    namespace.batch([`address add ${address}/24 dev ${name}`, `link set ${name} up`]);
    withoutOffloads(namespace, name);
  }
  const ifindex: number = JSON.parse(server.ip("-j", "link", "show", "right"))[0].ifindex;
  return { client, server, ifindex };
}

export type Received = { readonly packets: number; readonly ms: number };

/** What the server's end has received. */
export function received({ server }: Pair): Received {
  const text = server.inside(() => readFileSync("/proc/thread-self/net/dev", "utf8"));
  const packets = /right: *\d+ +(\d+)/.exec(text)?.[1];
  if (packets === undefined) throw new Error("/proc/net/dev has no line for right");
  return { packets: Number(packets), ms: performance.now() };
}

async function waitFor(what: string, condition: () => boolean): Promise<void> {
  const endMs = performance.now() + WAIT_MS_MAX;
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`${what}: nothing after ${WAIT_MS_MAX} ms`);
    await Bun.sleep(5);
  }
}

function spawn(owner: AsyncDisposableStack, namespace: TestNamespace, command: readonly string[]): void {
  const child = Bun.spawn(["ip", "netns", "exec", namespace.name, ...command], {
    stdio: ["ignore", "ignore", "ignore"],
  });
  owner.defer(async () => {
    child.kill("SIGKILL");
    await child.exited;
  });
}

/** Starts iperf3 between the two, the sender on one CPU and the receiver on another, and waits until packets flow. */
export async function startTraffic(
  pair: Pair,
  kind: "tcp" | "udp",
  owner: AsyncDisposableStack,
): Promise<void> {
  const { client, server } = pair;
  const listening = (): boolean =>
    ["tcp", "tcp6"].some((file) => {
      const text = server.inside(() => readFileSync(`/proc/thread-self/net/${file}`, "utf8"));
      return text.includes(LISTENING) || text.includes(LISTENING_V6);
    });
  spawn(owner, server, ["iperf3", "--server", "--one-off", "--port", `${PORT}`]);
  await waitFor("iperf3 --server", listening);
  const before = received(pair).packets;
  // 64 bytes are 22 and the headers of Ethernet, IPv4 and UDP.
  const udp = kind === "udp" ? ["--udp", "--bitrate", "0", "--length", "22"] : [];
  spawn(owner, client, [
    ...["iperf3", "--client", SERVER, "--port", `${PORT}`, "--time", `${SECONDS_MAX}`],
    ...["--affinity", "0,1", ...udp],
  ]);
  await waitFor("iperf3 --client", () => received(pair).packets > before + 1000);
}
