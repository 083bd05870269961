// The collector of drops against a stand-in for pktmon.exe: the session is started and stopped only where it may be.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { renameSync } from "node:fs";
import type { Snapshot } from "../../src/snapshot.ts";
import { createPktmon, type PktmonOptions } from "../../windows/pktmon.ts";
import { systemPath } from "../../windows/system.ts";
import { lives, openStub, type Stub, type StubCall, until } from "./stub-files.ts";

let stub: Stub;

beforeEach(() => {
  stub = openStub("pktmon");
});

afterEach(() => stub[Symbol.dispose]());

const { signal } = new AbortController();

/** The end takes as long as it likes, but for tests of what ends it: a busy machine starts few processes in 3 s. */
function open(timeoutMs = 20_000, options: Partial<PktmonOptions> = {}) {
  let atMs = 0;
  const common = { everyMs: 1000, timeoutMs, elapsedMs: () => atMs, endMs: 60_000 };
  const pktmon = createPktmon({ ...common, ...options });
  const collect = async (): Promise<Snapshot> => await pktmon.collect(signal);
  return {
    pktmon,
    collect,
    /** Begins a round, and gives what it led to. */
    async round(): Promise<Snapshot> {
      atMs += 1000;
      await collect().catch(() => {});
      await until(() => !pktmon.atWork());
      return await collect();
    },
    [Symbol.asyncDispose]: () => pktmon[Symbol.asyncDispose](),
  };
}

const calls = (): readonly string[] => stub.takeLog().map((call) => call.arguments);

const dropped = (packets: number, bytes: number, reason = "Inspection drop"): void =>
  stub.write(
    "counters.json",
    JSON.stringify([
      {
        Group: "Ethernet",
        Components: [
          {
            Name: "TCPIP",
            Id: 30,
            Counters: [
              { Name: "Upper", Type: "Flow", Inbound: { Packets: 5000, Bytes: 5e6 } },
              {
                Name: "Drops",
                Type: "Drops",
                Inbound: { Packets: packets, Bytes: bytes },
                DropReason: reason,
              },
            ],
          },
        ],
      },
    ]),
  );

const total = (packets: number, bytes: number) => [
  { reason: "InspectionDrop", direction: "ingress" as const, packets, bytes },
];

const startCommand = "start --capture --counters-only --type drop";
const countersCommand = "counters --type drop --json";
const foreign = "Collected data:\r\n    Packet counters, packet capture\r\n\r\nLog file: C:\\trace.etl\r\n";

describe("drops", () => {
  test("are counted from the start of the session, with their bytes", async () => {
    dropped(100, 10_000);
    await using opened = open();
    expect(await opened.collect()).toEqual({});
    await until(() => !opened.pktmon.atWork());
    expect(await opened.collect()).toEqual({ drops: total(0, 0) });
    expect(calls()).toEqual(["status", startCommand, "status", countersCommand]);
    dropped(107, 10_700);
    expect(await opened.round()).toEqual({ drops: total(7, 700) });
    expect(calls()).toEqual(["status", countersCommand]);
  });

  test("stay when counters are reset", async () => {
    dropped(0, 0);
    await using opened = open();
    await opened.round();
    dropped(50, 5000);
    await opened.round();
    dropped(3, 300);
    expect(await opened.round()).toEqual({ drops: total(53, 5300) });
  });

  test("are not asked for before it is time", async () => {
    await using opened = open();
    await opened.round();
    stub.takeLog();
    await opened.collect();
    await opened.collect();
    expect(opened.pktmon.atWork()).toBe(false);
    expect(calls()).toEqual([]);
  });
});

describe("the session", () => {
  test("is stopped at the end, once", async () => {
    const opened = open();
    await opened.round();
    expect(stub.has("session")).toBe(true);
    stub.takeLog();
    await opened[Symbol.asyncDispose]();
    await opened[Symbol.asyncDispose]();
    expect(calls()).toEqual(["status", "stop"]);
    expect(stub.has("session")).toBe(false);
  });

  test("of somebody else is left alone, and ours begins after it", async () => {
    stub.write("session", foreign);
    const opened = open();
    const { drops, limits } = await opened.round();
    expect({ drops, limits }).toEqual({
      drops: undefined,
      limits: [expect.stringContaining("Somebody else's session")],
    });
    expect(calls()).toEqual(["status"]);
    stub.write("session", undefined);
    expect(await opened.round()).toEqual({ drops: [] });
    await opened[Symbol.asyncDispose]();
    expect(stub.has("session")).toBe(false);
  });

  test("that took the place of ours is neither read nor stopped", async () => {
    dropped(0, 0);
    const opened = open();
    await opened.round();
    dropped(9, 900);
    await opened.round();
    stub.write("session", foreign);
    dropped(1_000_000, 1);
    const { drops = [], limits } = await opened.round();
    expect(drops).toEqual(total(9, 900));
    expect(limits).toHaveLength(1);
    await opened[Symbol.asyncDispose]();
    expect(stub.has("session")).toBe(true);
    expect(calls()).not.toContain("stop");
  });

  test("that came just before the end is not stopped", async () => {
    const opened = open();
    await opened.round();
    stub.write("session", foreign);
    await opened[Symbol.asyncDispose]();
    expect(stub.has("session")).toBe(true);
  });

  test("is started again when somebody stopped it", async () => {
    dropped(0, 0);
    await using opened = open();
    await opened.round();
    dropped(5, 500);
    await opened.round();
    stub.write("session", undefined);
    dropped(1000, 100_000); // Of no meaning for the new session.
    expect(await opened.round()).toEqual({ drops: total(5, 500) });
    dropped(1001, 100_100);
    expect(await opened.round()).toEqual({ drops: total(6, 600) });
  });

  test("that a killed process left behind is taken over, by the file that remembers it", async () => {
    const marker = "C:\\fovea-stubs\\pktmon\\marker";
    dropped(3, 300);
    const killed = open(20_000, { marker });
    await killed.round();
    const next = open(20_000, { marker });
    stub.takeLog();
    expect(await next.round()).toEqual({ drops: total(0, 0) });
    expect(calls()).toEqual(["status", countersCommand]);
    await next[Symbol.asyncDispose]();
    expect([stub.has("session"), stub.has("marker")]).toEqual([false, false]);
    stub.write("session", foreign);
    stub.write("marker", "another text");
    await using other = open(20_000, { marker });
    expect((await other.round()).limits).toHaveLength(1);
    expect(stub.has("marker")).toBe(false);
    await killed[Symbol.asyncDispose]();
    expect(stub.has("session")).toBe(true);
  });

  test("is known in other languages too", async () => {
    stub.write("idle", "数据包监视器未运行。\r\n");
    const opened = open();
    expect(await opened.round()).toEqual({ drops: [] });
    await opened[Symbol.asyncDispose]();
    expect(stub.has("session")).toBe(false);
    stub.write("session", "Monitoraggio pacchetti in esecuzione.\r\n"); // One line: only the refusal tells.
    stub.takeLog();
    const other = open();
    expect((await other.round()).limits).toEqual([expect.stringContaining("already started")]);
    await other[Symbol.asyncDispose]();
    expect(calls()).not.toContain("stop");
    expect(stub.has("session")).toBe(true);
  });
});

describe("an end", () => {
  const marker = "C:\\fovea-stubs\\pktmon\\marker";

  /** What a pktmon that was opened so heard of what is left behind. */
  const heard = () => {
    const reasons: string[] = [];
    return { reasons, left: (error: unknown) => void reasons.push(`${error}`) };
  };

  test("that fails is told, throws nothing, and leaves the session to the next", async () => {
    const { reasons, left } = heard();
    const opened = open(20_000, { marker, left });
    await opened.round();
    stub.write("mode", "fail");
    await opened[Symbol.asyncDispose]();
    expect(reasons).toEqual(["Error: pktmon.exe status ended with 5: Access is denied."]);
    expect([stub.has("session"), stub.has("marker")]).toEqual([true, true]);
    stub.write("mode", undefined);
    const next = open(20_000, { marker });
    expect(await next.round()).toEqual({ drops: [] });
    await next[Symbol.asyncDispose]();
    expect([stub.has("session"), stub.has("marker")]).toEqual([false, false]);
  });

  test("hears of a status without a word, which says nothing of the session", async () => {
    const { reasons, left } = heard();
    const opened = open(20_000, { marker, left });
    await opened.round();
    stub.write("session", "");
    await opened[Symbol.asyncDispose]();
    expect(reasons).toEqual(["Error: pktmon.exe status printed nothing"]);
    expect([stub.has("session"), stub.has("marker")]).toEqual([true, true]);
  });

  test("waits for no pktmon that hangs", async () => {
    const { reasons, left } = heard();
    const opened = open(600_000, { endMs: 1500, left });
    await opened.round();
    stub.takeLog();
    stub.write("mode", "hang");
    await opened[Symbol.asyncDispose]();
    expect(reasons).toEqual([expect.stringMatching(/pktmon\.exe (was ended|did not end within 1500 ms)/)]);
    await until(() => stub.takeLog().every(({ pid }) => !lives(pid)));
  });

  test("waits for no start of a session that hangs", async () => {
    const { reasons, left } = heard();
    stub.write("mode", "hang-start");
    const opened = open(600_000, { endMs: 1500, left });
    await opened.collect();
    const started: StubCall[] = [];
    await until(() => {
      started.push(...stub.takeLog());
      return started.some((call) => call.arguments === startCommand);
    });
    await opened[Symbol.asyncDispose]();
    expect(reasons).toHaveLength(1);
    await until(() => started.every(({ pid }) => !lives(pid)));
  });
});

describe("faults", () => {
  test("a status without a word is no answer, and starts nothing", async () => {
    stub.write("idle", "");
    await using opened = open();
    await expect(opened.round()).rejects.toThrow("pktmon.exe status printed nothing");
    expect(calls()).toEqual(["status"]);
  });

  test("a version without an option is asked without it", async () => {
    stub.write("mode", "old");
    dropped(1, 100);
    await using opened = open();
    expect(await opened.round()).toEqual({ drops: total(0, 0) });
    expect(calls()).toEqual([
      ...["status", startCommand, "start --capture --counters-only", "status"],
      ...[countersCommand, "counters --json"],
    ]);
  });

  test("a version that cannot count alone is a limit", async () => {
    stub.write("mode", "ancient");
    await using opened = open();
    expect((await opened.round()).limits).toEqual([expect.stringContaining("does not know --capture")]);
  });

  test("no pktmon is a limit", async () => {
    const path = systemPath("pktmon.exe");
    renameSync(path, `${path}.away`);
    try {
      await using opened = open();
      expect(await opened.round()).toEqual({ limits: [expect.stringContaining("There is no pktmon.exe")] });
    } finally {
      renameSync(`${path}.away`, path);
    }
  });

  test("access denied is an error that says so", async () => {
    stub.write("mode", "fail");
    await using opened = open();
    await expect(opened.round()).rejects.toThrow("pktmon.exe status ended with 5: Access is denied.");
  });

  test("garbage is an error, and takes nothing away", async () => {
    dropped(0, 0);
    await using opened = open();
    await opened.round();
    dropped(4, 400);
    await opened.round();
    stub.write("mode", "garbage");
    await expect(opened.round()).rejects.toThrow("printed what makes no sense");
    stub.write("mode", undefined);
    expect(await opened.round()).toEqual({ drops: total(4, 400) });
  });

  test("one that hangs is ended, and nobody waits for it", async () => {
    await using opened = open(1500);
    stub.write("mode", "hang");
    expect(await opened.collect()).toEqual({});
    await until(() => stub.logged());
    expect(await opened.collect()).toEqual({});
    await until(() => !opened.pktmon.atWork());
    await expect(opened.collect()).rejects.toThrow("pktmon.exe was ended: it did not end within 1500 ms");
    expect(stub.takeLog().map(({ pid }) => lives(pid))).toEqual([false]);
  });
});
