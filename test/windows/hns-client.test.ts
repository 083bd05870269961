// Asking HNS through its worker: deadlines, calls that hang, and a process that ends all the same.

import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { createHnsClient, type HnsClient } from "../../windows/hns-client.ts";
import type { HnsReading } from "../../windows/hns-reading.ts";
import { openLibrary } from "../../windows/system.ts";
import { openHnsStub } from "./hns.stub.ts";

const stub = openHnsStub();
afterAll(() => stub[Symbol.dispose]());

const signal = new AbortController().signal;

const messageOf = (reading: Promise<unknown>): Promise<string> =>
  reading.then(
    () => "it was read",
    (error: Error) => error.message,
  );

const failuresIn = ({ failures }: HnsReading): Readonly<Record<string, number>> =>
  Object.fromEntries(failures.map(({ source, failures: count }) => [source, count]));

const failuresOf = async (client: HnsClient): Promise<Readonly<Record<string, number>>> =>
  failuresIn(await client.read(signal));

/** Calls of HNSCall in this process. */
const callsOfStub = (): number =>
  openLibrary("vmcompute.dll", { StubCalls: { args: [], returns: "i32" } }).symbols.StubCalls();

/** Until HNS has come to an end with what it was asked before. */
async function readAgain(client: HnsClient): Promise<HnsReading> {
  for (;;) {
    try {
      return await client.read(signal);
    } catch {
      await Bun.sleep(5);
    }
  }
}

afterEach(() => stub.set({})); // Whatever hangs goes on.

describe("a client", () => {
  test("reads, and reads again", async () => {
    await using client = createHnsClient({ timeoutMs: 20_000, endpointsMax: 2 });
    stub.set({ endpoints: 3, tick: 1, start: `${2n ** 63n}` });
    const first = await client.read(signal);
    stub.set({ endpoints: 3, tick: 2, start: `${2n ** 63n}` });
    const second = await client.read(signal);
    const packets = [first, second].map(({ endpoints }) => endpoints[0]?.forward.ingress.packets);
    expect(packets).toEqual([2n ** 63n + 1n, 2n ** 63n + 2n]);
    expect(second).toMatchObject({
      remote: 1,
      overflow: 1,
      failures: [
        { source: "hns-list", failures: 0 },
        { source: "hns-stats", failures: 0 },
        { source: "hns-deadline", failures: 0 },
        { source: "hns-worker", failures: 0 },
      ],
    });
  });

  test("tells that there is no HNS each time it is asked, and would find it later", async () => {
    const library = "no-such-library.dll";
    await using client = createHnsClient({ timeoutMs: 20_000, endpointsMax: 10, library });
    for (let attempt = 0; attempt < 2; attempt += 1)
      expect(await messageOf(client.read(signal))).toStartWith("The Containers feature, and HNS with it,");
  });

  test("counts what failed, by its source", async () => {
    await using client = createHnsClient({ timeoutMs: 20_000, endpointsMax: 10 });
    stub.set({ fault: "denied", at: "list" });
    expect(await messageOf(client.read(signal))).toMatch(/^HNS refuses this account; run Fovea as SYSTEM/);
    stub.set({ fault: "garbage", at: "stats" });
    expect(await messageOf(client.read(signal))).toStartWith("HNS gives no statistics of any endpoint");
    stub.set({ endpoints: 3, fault: "refused", at: "stats", only: 2 });
    expect(await failuresOf(client)).toMatchObject({ "hns-list": 1, "hns-stats": 2, "hns-deadline": 0 });
    stub.set({});
    expect(await failuresOf(client)).toMatchObject({ "hns-list": 1, "hns-stats": 2 });
  });

  test("is not heard after an abort, and not asked after the end", async () => {
    const client = createHnsClient({ timeoutMs: 20_000, endpointsMax: 10 });
    expect(await messageOf(client.read(AbortSignal.abort(new Error("stop"))))).toBe("stop");
    const stop = new AbortController();
    stub.set({ fault: "hang", seconds: 600 });
    const reading = messageOf(client.read(stop.signal));
    stop.abort(new Error("stop at once"));
    expect(await reading).toBe("stop at once");
    await client[Symbol.asyncDispose]();
    await client[Symbol.asyncDispose]();
    expect(await messageOf(client.read(signal))).toBe("HNS is no longer asked: the backend is closed");
  });

  test("leaves who still waits with an error when it ends", async () => {
    stub.set({ fault: "hang", seconds: 600 });
    const client = createHnsClient({ timeoutMs: 20_000, endpointsMax: 10 });
    const reading = messageOf(client.read(signal));
    await client[Symbol.asyncDispose]();
    expect(await reading).toBe("HNS is no longer asked: the backend is closed");
  });
});

describe("a worker", () => {
  const withWorker = (source: string) => {
    const entry = new URL(`data:text/javascript,${encodeURIComponent(source)}`);
    return createHnsClient({ timeoutMs: 20_000, endpointsMax: 10, entry });
  };

  for (const [what, source] of [
    ["that throws", "onmessage = () => { throw new Error('broken\\nin two lines'); };"],
    ["that ends", "onmessage = () => process.exit(1);"],
    ["that cannot start", "throw new Error('broken from the beginning');"],
  ] as const)
    test(`${what} is told, and started again`, async () => {
      await using client = withWorker(source);
      for (let attempt = 0; attempt < 2; attempt += 1) {
        const message = await messageOf(client.read(signal));
        expect(message).toStartWith("the worker that asks HNS is gone: ");
        expect(message).not.toContain("\n");
      }
    });

  test("that is wrongly asked tells it, and goes on", async () => {
    const library = "..\\vmcompute.dll";
    await using client = createHnsClient({ timeoutMs: 20_000, endpointsMax: 10, library });
    for (let attempt = 0; attempt < 2; attempt += 1)
      expect(await messageOf(client.read(signal))).toBe(
        `the worker that asks HNS failed: ${library} is no name of a file`,
      );
  });
});

describe("a call that hangs", () => {
  for (const at of ["list", "stats"])
    test(`is waited for until the deadline, and asked nothing more (${at})`, async () => {
      let nowMs = 0;
      await using client = createHnsClient({ timeoutMs: 300, endpointsMax: 10, elapsedMs: () => nowMs });
      await readAgain(client); // The thread has started, and its first call has been answered.
      stub.set({ fault: "hang", seconds: 600, at });
      const calls = callsOfStub() + (at === "list" ? 1 : 2);
      expect(await messageOf(client.read(signal))).toBe(
        "HNS has not answered within 0.3 s; is the service hns at work?",
      );
      while (callsOfStub() < calls) await Bun.sleep(5);
      for (const [laterMs, since] of [
        [2000, "2.0 s"],
        [28_000, "30 s"],
      ] as const) {
        nowMs += laterMs;
        expect(await messageOf(client.read(signal))).toBe(
          `HNS is still at work since ${since} on what it was asked before; is the service hns at work?`,
        );
      }
      expect(callsOfStub()).toBe(calls);
      stub.set({ tick: 1000 });
      // The answer to that call, and to one endpoint at least, came too late, and is given now.
      const late = await readAgain(client);
      const answered = callsOfStub();
      expect(answered).toBe(at === "list" ? calls + 1 : calls);
      expect(late.endpoints[0]?.forward.ingress.packets).toBe(1000n);
      expect(late.limits).toEqual([expect.stringMatching(/^HNS is slow: 1 of 2 endpoints were read in /)]);
      const failures = failuresIn(await readAgain(client));
      expect(callsOfStub()).toBeGreaterThan(answered);
      expect(failures["hns-deadline"]).toBeGreaterThanOrEqual(3);
      expect(failures["hns-list"]).toBe(0);
    });

  for (const end of ["disposed of", "left alone"])
    test(`does not keep the process, its client ${end}`, async () => {
      stub.set({ fault: "hang", seconds: 600 });
      const script = `
        const { createHnsClient } = require(${JSON.stringify(join(import.meta.dir, "../../windows/hns-client.ts"))});
        const client = createHnsClient({ timeoutMs: 100, endpointsMax: 10 });
        await client.read(new AbortController().signal).catch(({ message }) => console.log(message));
        ${end === "disposed of" ? "await client[Symbol.asyncDispose]();" : ""}
      `;
      const child = Bun.spawn([process.execPath, "-e", script], {
        env: { ...process.env, FOVEA_STUB_HNS: stub.file },
        stdio: ["ignore", "pipe", "ignore"],
        timeout: 25_000,
      });
      const [out, exitCode] = await Promise.all([child.stdout.text(), child.exited]);
      expect({ out: out.trim(), exitCode }).toEqual({
        out: "HNS has not answered within 0.1 s; is the service hns at work?",
        exitCode: 0,
      });
    });
});
