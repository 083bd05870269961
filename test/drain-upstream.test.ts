// The drain with the real store, worker, sinks and HTTP client, against an upstream that fails in every way.

import { afterAll, describe, expect, test } from "bun:test";
import type { ForwardFacts } from "../src/forward/facts.ts";
import { createForwarder } from "../src/forward/forwarder.ts";
import { systemClock } from "../src/loop.ts";
import { openSink } from "../src/sinks/open.ts";
import { type SinkConfig, sinkSchema } from "../src/sinks/schema.ts";
import { openQueries } from "../src/store/queries.ts";
import { createFakeLog } from "./drain.rig.ts";
import { append, newDir, openWorld, removeDirs } from "./sinks.world.ts";
import { openUpstream, type Step, type UpstreamRequest } from "./upstream.world.ts";

afterAll(removeDirs);

/** Pauses pass so much faster; requests take the time that they take. */
const haste = 100;

async function openRun(given: Record<string, unknown>, { timeoutMs = 30_000 } = {}) {
  const stack = new AsyncDisposableStack();
  const upstream = stack.use(await openUpstream());
  const world = openWorld({ sinks: [], now: Date.now }, newDir());
  stack.defer(() => world.store.close());
  const queries = stack.use(openQueries({ store: world.store }));
  const { log, told } = createFakeLog();
  const clock = systemClock();
  const identity = { node: "n1", cluster: "c1", version: "1.2.3" };
  const parsed = sinkSchema.parse({
    name: "up",
    url: upstream.url,
    proxy: "none",
    schedule: { every: "100ms" },
    ...given,
  });
  const config = (parsed.type === "file" ? parsed : { ...parsed, timeout: timeoutMs }) satisfies SinkConfig;
  const forwarder = stack.use(
    createForwarder({
      ...{ states: world.states, batch: queries.batch, log, now: Date.now, random: () => 0.5 },
      commit: () => undefined,
      open: (one) => openSink(one, { identity, now: Date.now, env: {}, log: createFakeLog().log }),
      elapsedMs: () => performance.now() * haste,
      sleep: (ms, signal) => clock.sleep(ms / haste, signal),
      ...{ rowBytes: () => 100, hoursLeft: () => undefined },
    }),
  );
  await forwarder.apply([config]);
  const facts = (): ForwardFacts => forwarder.facts()[0]!;
  return {
    ...{ upstream, forwarder, told, facts },
    append: (more: { rows?: number; series?: number }) => {
      append(world, Date.now(), more);
      forwarder.ticked();
    },
    until: async (holds: (now: ForwardFacts) => boolean) => {
      while (!holds(facts())) await Bun.sleep(2);
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

const logs = { type: "otlp", signals: ["flows"], encoding: "json", compression: "none" };

/** Numbers of the rows in a body. */
const seqsIn = ({ body }: UpstreamRequest): number[] =>
  [...body.toString().matchAll(/"fovea\.record_id","value":\{"stringValue":"[^"]*-([0-9a-z]+)"/g)].map(
    ([, seq = ""]) => Number.parseInt(seq, 36),
  );

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

const faults: Record<string, { readonly step: Step; readonly reason: string; readonly doubles?: boolean }> = {
  "answers 503": { step: { kind: "answer", status: 503 }, reason: "server" },
  "answers 429 and when to come back": {
    ...{ step: { kind: "answer", status: 429, headers: { "Retry-After": "2" } }, reason: "throttled" },
  },
  "answers 401": { step: { kind: "answer", status: 401 }, reason: "auth" },
  "answers 403": { step: { kind: "answer", status: 403 }, reason: "forbidden" },
  "answers 404": { step: { kind: "answer", status: 404 }, reason: "not_found" },
  redirects: {
    ...{
      step: { kind: "answer", status: 307, headers: { Location: "http://127.0.0.2/" } },
      reason: "redirect",
    },
  },
  hangs: { step: { kind: "hang" }, reason: "timeout" },
  "resets before the body": { step: { kind: "reset-before" }, reason: "network" },
  "loses the acknowledgement": { step: { kind: "reset-after" }, reason: "network", doubles: true },
  "closes in the middle of the answer": { step: { kind: "half" }, reason: "network", doubles: true },
  "drips the answer": { step: { kind: "drip", everyMs: 500 }, reason: "timeout", doubles: true },
};

describe("an upstream that", () => {
  test.each(Object.keys(faults))("%s gets every record in the end", async (name) => {
    const { step, reason, doubles = false } = faults[name]!;
    // Short alone where it has to pass.
    await using run = await openRun(logs, { timeoutMs: reason === "timeout" ? 2000 : 30_000 });
    run.upstream.script.push(step, step);
    run.append({ rows: 30 });
    await run.until(({ pending, lastSentAt }) => pending === 0 && lastSentAt !== undefined);
    const facts = run.facts();
    expect(facts).toMatchObject({
      ...{ counts: { sent: 30 }, offered: 30, phase: "live", connected: true, retries: { [reason]: 2 } },
      retriedRecords: { [reason]: 60 },
      ...{ requests: { "200": 1 }, lastError: { reason, times: 0 } },
    });
    expect(run.upstream.begun).toBe(3);
    expect(run.upstream.stored.flatMap(seqsIn)).toEqual(
      doubles ? [...numbers(30), ...numbers(30), ...numbers(30)] : numbers(30),
    );
    expect(run.told.map(({ level, fields }) => [level, fields["reason"]])).toEqual([
      ["warn", reason],
      ["info", undefined],
    ]);
  });

  test("is not there at all is waited for", async () => {
    await using run = await openRun({ ...logs, url: "http://127.0.0.1:1" });
    run.append({ rows: 5 });
    await run.until(({ lastError }) => (lastError?.times ?? 0) >= 3);
    expect(run.facts()).toMatchObject({ phase: "retrying", connected: false, pending: 5, counts: {} });
    expect(run.facts().lastError).toMatchObject({ code: "network", reason: "network" });
  });

  test("takes less at once gets it in parts", async () => {
    await using run = await openRun(logs);
    const status = (request: UpstreamRequest): number => (seqsIn(request).length > 20 ? 413 : 200);
    run.upstream.usual = { kind: "answer", status, body: "{}" };
    run.append({ rows: 64 });
    await run.until(({ pending }) => pending === 0);
    expect(run.facts()).toMatchObject({ counts: { sent: 64 }, requests: { "413": 2, "200": 4 } });
    expect(run.upstream.stored.flatMap(seqsIn)).toEqual(numbers(64));
  });

  test("refuses a record gets all the others", async () => {
    await using run = await openRun(logs);
    const status = (request: UpstreamRequest): number => (seqsIn(request).includes(17) ? 400 : 200);
    run.upstream.usual = { kind: "answer", status, body: "{}" };
    run.append({ rows: 40 });
    await run.until(({ pending }) => pending === 0);
    expect(run.facts().counts).toEqual({ sent: 39, "rejected.4xx": 1 });
    expect(run.upstream.stored.flatMap(seqsIn)).toEqual(numbers(40).filter((seq) => seq !== 17));
  });

  test("stores a part says so, and the rest is accounted for", async () => {
    await using run = await openRun(logs);
    const body = JSON.stringify({
      partialSuccess: { rejectedLogRecords: "4", errorMessage: "four were bad" },
    });
    run.upstream.script.push({
      kind: "answer",
      status: 200,
      headers: { "Content-Type": "application/json" },
      body,
    });
    run.append({ rows: 10 });
    await run.until(({ pending }) => pending === 0);
    expect(run.facts()).toMatchObject({
      ...{ counts: { sent: 6, "rejected.partial": 4 }, partialSuccesses: 1, offered: 10 },
      lastError: { message: "four were bad" },
    });
  });

  test("blocks the tenant with 260 has stored nothing", async () => {
    await using run = await openRun({ type: "loki", limits: { ageMax: "any" } });
    run.upstream.script.push({ kind: "answer", status: 260 });
    run.upstream.usual = { kind: "answer", status: 204 };
    run.append({ rows: 10 });
    await run.until(({ pending }) => pending === 0);
    expect(run.facts()).toMatchObject({
      ...{ counts: { sent: 10 }, retries: { blocked: 1 }, requests: { "204": 1, "260": 1 } },
    });
    expect(run.upstream.stored.length).toBe(1);
  });
});

describe("a receiver of Remote-Write 2.0 that", () => {
  const written = (samples: string): Step => ({
    ...{ kind: "answer", status: 204, headers: { "X-Prometheus-Remote-Write-Samples-Written": samples } },
  });
  const metrics = { type: "remote-write", protocol: "2.0", limits: { outOfOrder: "any" } };

  test("says that it wrote fewer has the rest counted", async () => {
    await using run = await openRun(metrics);
    run.upstream.script.push(written("7"));
    run.append({ series: 10 });
    await run.until(({ pending }) => pending === 0);
    expect(run.facts()).toMatchObject({
      ...{ signal: "metrics", counts: { sent: 7, "rejected.partial": 3 }, writtenMismatches: 1 },
    });
  });

  test("says nothing of that gets 1.0 at once", async () => {
    await using run = await openRun(metrics);
    run.upstream.usual = { kind: "answer", status: 204 };
    run.append({ series: 10 });
    await run.until(({ pending, counts }) => pending === 0 && counts["sent"] === 10);
    expect(run.facts()).toMatchObject({ counts: { sent: 10 }, requests: { "204": 2 }, retries: {} });
    const versions = run.upstream.requests.map(({ headers }) =>
      headers.get("X-Prometheus-Remote-Write-Version"),
    );
    expect(versions).toEqual(["2.0.0", "0.1.0"]);
  });
});

test("a stop in the middle of a request loses nothing, and the next start sends it again", async () => {
  await using run = await openRun(logs);
  run.upstream.script.push({ kind: "hang" });
  run.append({ rows: 10 });
  while (run.upstream.requests.length === 0) await Bun.sleep(2);
  await run.forwarder.apply([]);
  await run.forwarder.apply([
    sinkSchema.parse({ ...logs, name: "up", url: run.upstream.url, proxy: "none" }),
  ]);
  await run.until(({ pending }) => pending === 0);
  expect(run.facts()).toMatchObject({ counts: { sent: 10 }, retries: {} });
  expect(run.upstream.stored.flatMap(seqsIn)).toEqual(numbers(10));
});
