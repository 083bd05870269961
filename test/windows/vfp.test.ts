// The counters of the switch against stand-ins for vfpctrl.exe and pdh.dll: which source is used, and what faults cost.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { renameSync } from "node:fs";
import { createSpawner, SpawnError, type Spawner } from "../../windows/spawn.ts";
import { systemPath } from "../../windows/system.ts";
import { createVfp, type Vfp, type VfpEndpoint } from "../../windows/vfp.ts";
import { lives, openStub, type Stub, until } from "./stub-files.ts";

const ports = ["36279ca2-afda-4f06-8d32-14a921aba14d", "924950c2-4d3f-47e2-a7ba-c0e322c51c66"];

const endpoint = (id: number, port = ports[id % 2]): VfpEndpoint => ({
  id: `7eb7bc15-4510-4225-8535-${String(id).padStart(12, "0")}`,
  name: `pod-${id}`,
  address: `10.244.0.${id}`,
  network: "azure",
  ...(port === undefined ? {} : { port }),
});

const pair = [endpoint(0), endpoint(1)];
const timeoutMs = 20_000;

let stub: Stub;
let pdh: Stub;

beforeEach(() => {
  stub = openStub("vfpctrl");
  pdh = openStub("pdh");
});

afterEach(() => {
  stub[Symbol.dispose]();
  pdh[Symbol.dispose]();
});

/** A clock that stands until it is moved, so that rounds begin when a test says so. */
function open(options: { readonly timeoutMs?: number; readonly spawner?: Spawner } = {}) {
  let atMs = 0;
  const vfp = createVfp({ everyMs: 1000, timeoutMs, pauseMs: 60_000, elapsedMs: () => atMs, ...options });
  return {
    vfp,
    move: (byMs: number): void => {
      atMs += byMs;
    },
    /** A whole round. */
    async round(endpoints: readonly VfpEndpoint[] = pair): Promise<void> {
      atMs += 1000;
      vfp.poll(endpoints);
      await until(() => vfp.facts().ageMs === 0);
    },
    [Symbol.asyncDispose]: () => vfp[Symbol.asyncDispose](),
  };
}

const failuresOf = (vfp: Vfp): Record<string, number> =>
  Object.fromEntries(vfp.facts().failures.map(({ source, failures }) => [source, failures]));

const none = { vfpctrl: 0, "performance-counters": 0, "vfpctrl-text": 0 };

const listPdh = (instance: string): void =>
  pdh.write(
    "counters",
    [
      `VFP Port Total Inbound Dropped Network Packets|Total Inbound Dropped ACL Packets|${instance}|70`,
      `VFP Port Total Inbound Network Traffic|Total Inbound TCP SYN Packets|${instance}|50`,
      "",
    ].join("\r\n"),
  );

/** Runs with the program away from the system directory, as where VFP is not installed. */
async function withoutTool(work: () => Promise<void>): Promise<void> {
  const path = systemPath("vfpctrl.exe");
  renameSync(path, `${path}.away`);
  try {
    await work();
  } finally {
    renameSync(`${path}.away`, path);
  }
}

describe("sources", () => {
  test("JSON comes first", async () => {
    listPdh(ports[0] ?? "");
    await using opened = open();
    await opened.round();
    const { vfp } = opened;
    expect(vfp.facts()).toMatchObject({ source: "vfpctrl", limits: [] });
    expect(failuresOf(vfp)).toEqual(none);
    expect([...vfp.counters().keys()]).toEqual(pair.map(({ id }) => id));
    expect(vfp.counters().get(endpoint(0).id)?.drops).toEqual([
      { reason: "aclrule", direction: "egress", packets: 4n },
      { reason: "aclrule", direction: "ingress", packets: 7n },
    ]);
    const last = stub.takeLog().at(-1);
    expect(last?.arguments).toBe(`/port ${ports[1]?.toUpperCase()} /get-port-counter /format 1`);
  });

  test("counts past 2^53 are exact", async () => {
    stub.write("mode", "large");
    await using opened = open();
    await opened.round();
    const { tcpStatistics = [] } = opened.vfp.counters().get(endpoint(1).id) ?? {};
    expect(tcpStatistics).toContainEqual({
      direction: "egress",
      statistic: "Verified",
      count: 9007199254740993n,
    });
  });

  test("performance counters come next, found by the port", async () => {
    stub.write("mode", "text");
    listPdh(`{${ports[0]?.toUpperCase()}}`);
    await using opened = open();
    await opened.round();
    const { vfp } = opened;
    expect(vfp.facts().source).toBe("performance-counters");
    expect(failuresOf(vfp)).toEqual(none);
    expect([...vfp.counters()]).toEqual([
      [
        endpoint(0).id,
        {
          source: "performance-counters",
          drops: [{ reason: "aclrule", direction: "ingress", packets: 70n }],
          tcpFlags: [{ flag: "SYN", direction: "ingress", packets: 50n }],
          tcpStatistics: [],
        },
      ],
    ]);
  });

  test.each(["text", "deaf"])("the text form comes last (%s)", async (mode) => {
    stub.write("mode", mode);
    await using opened = open();
    await opened.round();
    const { vfp } = opened;
    expect(vfp.facts()).toMatchObject({ source: "vfpctrl-text", limits: [] });
    expect(failuresOf(vfp)).toEqual(none);
    expect(vfp.counters().get(endpoint(0).id)?.tcpFlags).toEqual([
      { flag: "SYN", direction: "egress", packets: 12n },
      { flag: "SYN", direction: "ingress", packets: 5n },
    ]);
  });

  test("a better one is taken again after the pause", async () => {
    stub.write("mode", "text");
    await using opened = open();
    await opened.round();
    stub.write("mode", "json");
    await opened.round();
    expect(opened.vfp.facts().source).toBe("vfpctrl-text");
    opened.move(60_000);
    await opened.round();
    expect(opened.vfp.facts().source).toBe("vfpctrl");
  });

  test("none at all is no fault", async () => {
    await withoutTool(async () => {
      await using opened = open();
      await opened.round();
      const { vfp } = opened;
      expect(vfp.facts().source).toBeUndefined();
      expect(vfp.facts().limits).toEqual([
        expect.stringMatching(/^Neither vfpctrl\.exe nor performance counters/),
      ]);
      expect(failuresOf(vfp)).toEqual(none);
      expect(vfp.counters().size).toBe(0);
    });
  });

  test("performance counters serve where there is no vfpctrl", async () => {
    listPdh(`port of ${endpoint(1).id.toUpperCase()}`); // By the friendly name of the port.
    await withoutTool(async () => {
      await using opened = open();
      await opened.round();
      expect(opened.vfp.facts()).toMatchObject({ source: "performance-counters", limits: [] });
      expect([...opened.vfp.counters().keys()]).toEqual([endpoint(1).id]);
    });
  });

  test("endpoints without a port, with a port that is no GUID, or known from HNS start nothing", async () => {
    await using opened = open();
    const { switch: known } = {
      switch: { source: "hns", drops: [], tcpFlags: [], tcpStatistics: [] } as const,
    };
    const { port: _, ...portless } = endpoint(0);
    await opened.round([portless, endpoint(1, "x /format 1 & calc"), { ...endpoint(2), switch: known }]);
    expect(stub.takeLog()).toEqual([]);
    expect(opened.vfp.facts().limits).toEqual([
      expect.stringMatching(/^No endpoint has a port .* NAT network/),
    ]);
  });
});

describe("faults", () => {
  test("a program that fails is counted, told, and tried again after the pause alone", async () => {
    stub.write("mode", "fail");
    await using opened = open();
    await opened.round();
    const { vfp } = opened;
    expect(failuresOf(vfp)).toEqual({ vfpctrl: 1, "performance-counters": 0, "vfpctrl-text": 1 });
    expect(vfp.facts().limits).toEqual([
      expect.stringMatching(
        /cannot be read, so .*: vfpctrl\.exe .* ended with 31: The port was not found\.$/,
      ),
    ]);
    stub.takeLog();
    await opened.round();
    expect(stub.takeLog()).toEqual([]);
    stub.write("mode", "json");
    opened.move(60_000);
    await opened.round();
    expect(vfp.facts()).toMatchObject({ source: "vfpctrl", limits: [] });
    expect(vfp.counters().size).toBe(2);
  });

  test("garbage is a failure, and never a count", async () => {
    stub.write("mode", "garbage");
    await using opened = open();
    await opened.round();
    expect(opened.vfp.counters().size).toBe(0);
    expect(failuresOf(opened.vfp)).toMatchObject({ vfpctrl: 1, "vfpctrl-text": 1 });
    expect(opened.vfp.facts().limits[0]).toContain("printed what makes no sense");
  });

  test("output without an end is cut", async () => {
    stub.write("mode", "huge");
    await using opened = open({ timeoutMs: 60_000 });
    await opened.round();
    expect(failuresOf(opened.vfp)).toMatchObject({ vfpctrl: 1, "vfpctrl-text": 1 });
    expect(opened.vfp.facts().limits[0]).toContain("it wrote more than");
    for (const { pid } of stub.takeLog()) expect(lives(pid)).toBe(false);
  });

  test("one port that fails costs the others nothing", async () => {
    stub.write(`${ports[0]?.toUpperCase()}.json`, "Port not found\r\n");
    await using opened = open();
    await opened.round();
    await opened.round();
    expect(opened.vfp.facts().source).toBe("vfpctrl");
    expect([...opened.vfp.counters().keys()]).toEqual([endpoint(1).id]);
    expect(failuresOf(opened.vfp)).toMatchObject({ vfpctrl: 2 });
  });

  test("a program that hangs is ended, while what was read before still stands", async () => {
    const events: string[] = [];
    const real = createSpawner();
    const spawner: Spawner = {
      async run(request) {
        try {
          return await real.run(request);
        } catch (error) {
          events.push(error instanceof SpawnError ? error.problem : "other");
          throw error;
        }
      },
    };
    await using opened = open({ timeoutMs: 15_000, spawner });
    const one = [endpoint(0)];
    await opened.round(one);
    stub.takeLog();
    stub.write("mode", "hang");
    opened.move(1000);
    opened.vfp.poll(one);
    await until(() => stub.logged());
    // It hangs now, and nobody who asks waits for it.
    expect(opened.vfp.counters().size).toBe(1);
    opened.vfp.poll(one);
    await until(() => opened.vfp.facts().ageMs === 0);
    expect(events).toEqual(["timeout"]);
    const calls = stub.takeLog();
    expect(calls.map(({ pid, concurrent }) => ({ lives: lives(pid), concurrent }))).toEqual([
      { lives: false, concurrent: false },
    ]);
    stub.write("mode", "json");
    await opened.round();
    expect(stub.takeLog().filter(({ concurrent }) => concurrent)).toEqual([]);
  });

  test("performance counters that hang hold up nothing but their own thread", async () => {
    stub.write("mode", "fail");
    listPdh(ports[0] ?? "");
    pdh.write("mode", "hang");
    await using opened = open({ timeoutMs: 300 });
    await opened.round();
    expect(failuresOf(opened.vfp)).toMatchObject({ "performance-counters": 1 });
    opened.move(60_000);
    await opened.round();
    expect(failuresOf(opened.vfp)).toMatchObject({ "performance-counters": 2 });
  });
});

describe("processes", () => {
  test("run one after the other, however often a round is asked for", async () => {
    stub.write("mode", "slow");
    const many = Array.from({ length: 6 }, (_, id) => endpoint(id));
    await using opened = open();
    opened.vfp.poll(many);
    for (let more = 0; more < 20; more += 1) {
      opened.move(1000);
      opened.vfp.poll(many);
    }
    await until(() => opened.vfp.facts().ageMs !== undefined);
    const calls = stub.takeLog();
    expect(calls).toHaveLength(7); // One to find the source.
    expect(calls.filter(({ concurrent }) => concurrent)).toEqual([]);
  });

  test("a stand-in that runs beside another one would be seen", async () => {
    stub.write("mode", "slow");
    const run = () =>
      createSpawner().run({ file: "vfpctrl.exe", arguments: ["/get-port-counter"], timeoutMs: 20_000 });
    await Promise.all([run(), run()]);
    expect(stub.takeLog().filter(({ concurrent }) => concurrent)).toHaveLength(1);
  });

  test("none is left behind at the end", async () => {
    stub.write("mode", "hang");
    const opened = open({ timeoutMs: 60_000 });
    opened.vfp.poll(pair);
    await until(() => stub.logged());
    await opened[Symbol.asyncDispose]();
    const [call] = stub.takeLog();
    expect(lives(call?.pid ?? process.pid)).toBe(false);
    opened.move(10_000);
    opened.vfp.poll(pair);
    expect(stub.takeLog()).toEqual([]);
  });
});
