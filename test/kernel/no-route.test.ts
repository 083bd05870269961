// A node without a way out says nothing to anybody whom its configuration does not name: tcpdump sees every packet.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hostV4, type Lab, openLab, outsideV4 } from "./lab.ts";
import type { TestNamespace } from "./proc-namespace.ts";

const binary = join(import.meta.dir, "../../dist/fovea");
const api = "127.0.0.1:10093";
const authority = "127.0.0.1:9443";
const upstreamPort = 9009;

let lab: Lab;
let host: TestNamespace;
let scratch: string;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), "fovea-no-route-"));
  lab = openLab();
  host = lab.namespace();
  const outside = lab.namespace();
  // A neighbour, but no gateway.
  lab.connect(
    { at: host, name: "up0", addresses: [`${hostV4}/24`] },
    { at: outside, name: "wan0", addresses: [`${outsideV4}/24`] },
  );
  const upstream = `
    Bun.serve({ hostname: "${outsideV4}", port: ${upstreamPort}, fetch: () => new Response(null, { status: 204 }) });
    const { reply } = await Bun.udpSocket({ hostname: "${outsideV4}", port: 53, socket: { data(socket, query, port, from) {
      query[2] |= 0x80; query[3] = (query[3] & 0xf0) | 3; // No such domain (RFC 1035 4.1.1).
      socket.send(query, port, from);
    } } });`;
  outside.spawn(process.execPath, "-e", upstream);
  await eventually("the neighbour's upstream", () =>
    outside.run("ss", "-Hltn").includes(`:${upstreamPort}`) ? true : undefined,
  );
});

afterAll(() => {
  lab[Symbol.dispose]();
  rmSync(scratch, { recursive: true, force: true });
});

async function eventually<T>(what: string, look: () => T | undefined | Promise<T | undefined>): Promise<T> {
  const giveUpAt = performance.now() + 40_000;
  for (;;) {
    const seen = await look();
    if (seen !== undefined) return seen;
    if (performance.now() > giveUpAt) throw new Error(`not within 40 s: ${what}`);
    await Bun.sleep(100);
  }
}

type Packet = { readonly device: string; readonly to: string; readonly text: string };

/** Every packet that left through an interface: a line such as `up0 Out IP 192.0.2.1.5 > 192.0.2.2.53: 7+ A? x. (3)`. */
function startCapture(): AsyncDisposable & { packets(): readonly Packet[] } {
  const child = Bun.spawn(
    [
      ...["ip", "netns", "exec", host.name, "tcpdump", "-nn", "-t", "-l", "--immediate-mode", "-i", "any"],
      ...["-s", "256", "-B", "8192"], // With whole packets its ring has room for five.
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let output = "";
  const reading = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of child.stdout) output += decoder.decode(chunk, { stream: true });
  })();
  const told = new Response(child.stderr).text();
  return {
    packets: () =>
      output.split("\n").flatMap((text) => {
        const [device = "", direction, , , , to = ""] = text.trim().split(/\s+/);
        // What goes through the loopback is shown where it comes in.
        return direction === (device === "lo" ? "In" : "Out")
          ? [{ device, to: to.replace(/\.(\d+):$/, ":$1"), text }]
          : [];
      }),
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGTERM");
      await Promise.all([child.exited, reading]);
      expect(await told).toContain("\n0 packets dropped by kernel");
    },
  };
}

let markers = 1;

/** Waits until the capture sees a packet that is made to be seen, and so all that were sent before. */
async function seenBy({ packets }: ReturnType<typeof startCapture>): Promise<readonly Packet[]> {
  markers += 1;
  const marker = `127.0.0.${markers}`;
  return await eventually("the marker in the capture", () => {
    host.run("ping", "-q", "-c", "1", marker);
    const seen = packets();
    return seen.some(({ text }) => text.includes(` > ${marker}: ICMP echo request`)) ? seen : undefined;
  });
}

type Running = AsyncDisposable & { get(path: string): string | undefined };

/** The binary in the namespace, with a resolver that is the neighbour. */
function startFovea(name: string, config: string): Running {
  const dir = join(scratch, name);
  mkdirSync(dir);
  writeFileSync(join(dir, "fovea.yaml"), config);
  writeFileSync(join(dir, "resolv.conf"), `nameserver ${outsideV4}\noptions timeout:1 attempts:1\n`);
  // `ip netns exec` gives a command mounts of its own.
  const bind = 'mount --bind "$1" /etc/resolv.conf; shift; exec "$@"';
  const child = Bun.spawn(
    [
      ...["ip", "netns", "exec", host.name, "sh", "-ec", bind, "sh", join(dir, "resolv.conf")],
      ...[binary, "run", "--config", join(dir, "fovea.yaml"), "--data-dir", join(dir, "data")],
    ],
    { stdio: ["ignore", "ignore", "inherit"] },
  );
  const script = "process.stdout.write(await (await fetch(process.argv[1])).text())";
  return {
    get: (path) => {
      if (child.exitCode !== null) throw new Error(`fovea ended with ${child.exitCode}`);
      const command = [process.execPath, "-e", script, `http://${api}${path}`];
      const done = Bun.spawnSync(["ip", "netns", "exec", host.name, ...command]);
      return done.exitCode === 0 ? done.stdout.toString() : undefined;
    },
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGTERM");
      await child.exited;
    },
  };
}

/** Packets of the tests' own questions to the API, and of their pings, left out. */
const foreign = (packets: readonly Packet[]): readonly Packet[] =>
  packets.filter(({ device, text }) => !(device === "lo" && / 127\.0\.0\.1\.10093[ :]|ICMP echo/.test(text)));

describe("without a route", () => {
  test("no packet leaves a node that has no upstream", async () => {
    const capture = startCapture();
    await using _end = capture;
    await seenBy(capture);
    await using fovea = startFovea("quiet", "samples: {step: 1s}\n");
    await eventually("ten ticks", () =>
      Number(/^fovea_ticks_total (\d+)/m.exec(fovea.get("/metrics") ?? "")?.[1] ?? 0) >= 10
        ? true
        : undefined,
    );
    expect(foreign(await seenBy(capture))).toEqual([]);
  }, 90_000);

  test("what leaves goes to the upstreams that are named, and asks for their names alone", async () => {
    const secretFile = join(scratch, "secret");
    writeFileSync(secretFile, "a-secret-of-some-length");
    chmodSync(secretFile, 0o600);
    mkdirSync(join(scratch, "carried"));
    const entra = `{kind: secret, tenantId: tenant-1, clientId: client-1, secretFile: ${secretFile}, authorityHost: "https://${authority}"}`;
    const config = `
node: edge-1
samples: {step: 1s}
sinks:
  - {name: near, type: remote-write, url: "http://${outsideV4}:${upstreamPort}/api/v1/write", schedule: {every: 500ms}}
  - {name: far, type: otlp, url: "http://203.0.113.7:4318", schedule: {every: 500ms}}
  - {name: named, type: otlp, url: "http://otlp.invalid:4318", schedule: {every: 500ms}}
  - name: azure
    type: remote-write
    url: https://azure.invalid/write
    schedule: {every: 500ms}
    auth: {entra: ${entra}}
  - {name: disk, type: file, directory: ${join(scratch, "carried")}, schedule: {every: 500ms}}
`;
    const capture = startCapture();
    await using _end = capture;
    await seenBy(capture);
    await using fovea = startFovea("sinks", config);
    type Facts = { name: string; signal: string; counts: { sent: number }; lastError: object | null };
    const ask = (): readonly Facts[] => JSON.parse(fovea.get("/api/v1/sinks") ?? '{"sinks":[]}').sinks;
    await eventually("samples sent and errors told", () => {
      const metrics = new Map(
        ask().flatMap((facts) => (facts.signal === "metrics" ? [[facts.name, facts]] : [])),
      );
      const sent = ["near", "disk"].every((name) => (metrics.get(name)?.counts.sent ?? 0) > 0);
      const failed = ["far", "named", "azure"].every((name) => metrics.get(name)?.lastError);
      return sent && failed ? true : undefined;
    });
    const packets = foreign(await seenBy(capture));
    const resolver = `${outsideV4}:53`;
    const [asked, others] = [
      packets.filter(({ to }) => to === resolver),
      packets.filter(({ to }) => to !== resolver),
    ];
    const names = asked.map(({ text }) => /(?:A|AAAA)\? (\S+)\. /.exec(text)?.[1] ?? text);
    expect([...new Set(names)]).toEqual(["otlp.invalid"]);
    const answers = (text: string): boolean => text.includes(`> 127.0.0.1.`) && text.includes("Flags [R.]");
    const targets = others.filter(({ text }) => !answers(text)).map(({ device, to }) => `${device} ${to}`);
    expect(new Set(targets)).toEqual(new Set([`up0 ${outsideV4}:${upstreamPort}`, `lo ${authority}`]));
  }, 90_000);
});
