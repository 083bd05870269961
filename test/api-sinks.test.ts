// The sinks in the API and on the command line: what is told, and what needs a token.

import { describe, expect, test } from "bun:test";
import { apiApp } from "../src/api/app.ts";
import { hoursLeft } from "../src/forward/buffer.ts";
import { UnknownSinkError } from "../src/forward/errors.ts";
import { apiParts, local, now, storeOfRows } from "./api.parts.ts";
import { fileFacts, forwardFacts } from "./forward.facts.ts";

const token = { matches: (given: string) => given === "the-right-token-0", problem: () => undefined };

function opened(access: object = { token }) {
  const asked: string[] = [];
  const known = (name: string) => {
    if (name !== "logs" && name !== "central") throw new UnknownSinkError(name, ["central", "logs"]);
  };
  const store = storeOfRows();
  const app = apiApp(
    apiParts(store, {
      access: { loopback: true, mutualTls: false, openMetrics: () => false, ...access },
      ledger: () => ({ totals: store.ledger(), rows: store.stats().rows, sinks: forwardFacts(now) }),
      sinks: {
        facts: () => [...forwardFacts(now), fileFacts(now)],
        pause: (name) => {
          known(name);
          asked.push(`pause ${name}`);
        },
        resume: (name) => {
          known(name);
          asked.push(`resume ${name}`);
        },
        discard: (name, before) => {
          known(name);
          asked.push(`drop ${name} ${now - before}`);
          return 60;
        },
        deadLetters: ({ sink = "any", limit }) => {
          asked.push(`letters ${sink} ${limit}`);
          const facts = { at: now, reason: "4xx", code: "400", message: "no", records: 1, text: "{}" };
          return [{ id: 1, sink: "logs", signal: "flows", ...facts }];
        },
        deadLettersEvicted: () => 3,
      },
    }),
  );
  const ask = async (method: string, path: string, headers: Record<string, string> = {}) => {
    const response = await app.request(`/api/v1/${path}`, {
      method,
      headers: { ...local.headers, ...headers },
    });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  };
  return { ask, asked, [Symbol.dispose]: () => store.close() };
}

const right = { Authorization: "Bearer the-right-token-0", "Content-Type": "application/json" };

describe("what is told", () => {
  test("each sink and signal, without what only a scrape can show", async () => {
    using api = opened();
    const { status, body } = await api.ask("GET", "sinks", right);
    expect(status).toBe(200);
    expect(body["deadLettersEvicted"]).toBe(3);
    expect((body["sinks"] as unknown[])[1]).toEqual({
      ...{ name: "logs", signal: "flows", type: "loki", target: "http://127.0.0.1:3100/loki/api/v1/push" },
      ...{ state: "retrying", connected: false },
      pending: {
        records: 600,
        bytes: 54_000,
        oldestAt: now - 90_000,
        oldestAgeSeconds: 90,
        live: 100,
        backlog: 500,
      },
      bufferHoursLeft: 12.5,
      offered: 1000,
      counts: { sent: 300, discarded: 60, "evicted.size": 40 },
      sentBytes: 4096,
      requests: { network: 3, "204": 2 },
      retries: { network: 3 },
      ...{ partialSuccesses: 1, writtenMismatches: 0, staleMarkers: 0, backoffSeconds: 4, tokenErrors: 0 },
      lastSentAt: now - 95_000,
      lastError: {
        ...{ at: now - 2000, code: "network", reason: "network" },
        ...{ message: "connection refused", times: 3 },
      },
    });
  });

  test("of one that writes files what became of them", async () => {
    using api = opened();
    const { body } = await api.ask("GET", "sinks", right);
    const all = (body["sinks"] as { files?: unknown }[]).map(({ files }) => files);
    expect(all).toEqual([undefined, undefined, fileFacts(now).files]);
  });

  test("the ledger has the law of each", async () => {
    using api = opened();
    const { body } = await api.ask("GET", "ledger", right);
    const laws = body["laws"] as { law: string; ok: boolean; left: number; right: number }[];
    const own = laws.filter(({ law }) => law.startsWith("sink "));
    expect(own.map(({ ok, left, right: other }) => [ok, left, other])).toEqual([
      [true, 5000, 5000],
      [true, 1000, 1000],
    ]);
    expect((body["sinks"] as { name: string }[]).map(({ name }) => name)).toEqual(["central", "logs"]);
  });

  test("dead letters, of all sinks or one", async () => {
    using api = opened();
    expect((await api.ask("GET", "sinks/dead-letters", right)).status).toBe(200);
    expect((await api.ask("GET", "sinks/dead-letters?sink=logs&limit=5", right)).body).toMatchObject({
      deadLetters: [{ id: 1, sink: "logs", reason: "4xx" }],
    });
    expect(api.asked).toEqual(["letters any 100", "letters logs 5"]);
    expect((await api.ask("GET", "sinks/dead-letters?limit=0", right)).body).toMatchObject({
      error: { parameter: "limit" },
    });
  });
});

describe("what an operator may do", () => {
  test("with the token: pause, resume, drop what is older", async () => {
    using api = opened();
    expect(await api.ask("POST", "sinks/logs/pause", right)).toEqual({
      status: 200,
      body: { sink: "logs", paused: true },
    });
    expect((await api.ask("POST", "sinks/logs/resume", right)).body).toEqual({ sink: "logs", paused: false });
    expect((await api.ask("POST", "sinks/logs/drop?olderThan=2h", right)).body).toEqual({ records: 60 });
    expect((await api.ask("POST", "sinks/logs/drop?olderThan=0s", right)).status).toBe(200);
    expect(api.asked).toEqual(["pause logs", "resume logs", "drop logs 7200000", "drop logs 0"]);
  });

  test.each(["pause", "resume", "drop?olderThan=1h"])(
    "%s: nothing without a token, by a form, or of a wrong name",
    async (verb) => {
      using open = opened({});
      const refused = await open.ask("POST", `sinks/logs/${verb}`, { "Content-Type": "application/json" });
      expect(refused.status).toBe(403);
      expect(JSON.stringify(refused.body)).toContain("api.tokenFile");
      using api = opened();
      expect(
        (await api.ask("POST", `sinks/logs/${verb}`, { "Content-Type": "application/json" })).status,
      ).toBe(401);
      const { Authorization } = right;
      expect((await api.ask("POST", `sinks/logs/${verb}`, { Authorization })).status).toBe(415);
      const unknown = await api.ask("POST", `sinks/nobody/${verb}`, right);
      expect(unknown).toEqual({
        status: 404,
        body: { error: { message: 'there is no sink "nobody"; there are central, logs' } },
      });
      expect([...api.asked, ...open.asked]).toEqual([]);
    },
  );

  test("mutual TLS is as good as a token", async () => {
    using api = opened({ mutualTls: true });
    const { "Content-Type": type } = right;
    expect((await api.ask("POST", "sinks/logs/pause", { "Content-Type": type })).status).toBe(200);
  });

  test("a drop without an age, or with a wrong one, drops nothing", async () => {
    using api = opened();
    for (const query of ["", "?olderThan=soon", "?olderThan=-2h", "?olderThan=2h&other=1"]) {
      const { status, body } = await api.ask("POST", `sinks/logs/drop${query}`, right);
      expect([status, Object.keys(body)]).toEqual([400, ["error"]]);
    }
    expect(api.asked).toEqual([]);
  });
});

describe("hours of buffer left", () => {
  const hour = 3_600_000;
  const buffer = { bytes: 100, bytesMax: 100, ageMaxMs: 1000 * hour, oldestAt: now - 10 * hour };

  test("a full history holds what it holds now", () => {
    expect(hoursLeft(buffer, { now })).toBe(10);
    expect(hoursLeft(buffer, { now, oldestPendingAt: now - 4 * hour })).toBe(6);
    expect(hoursLeft(buffer, { now, oldestPendingAt: now - 11 * hour })).toBe(0);
  });

  test("another one grows on as it grew, but not beyond its age", () => {
    expect(hoursLeft({ ...buffer, bytes: 25 }, { now, oldestPendingAt: now - hour })).toBe(39);
    expect(
      hoursLeft({ ...buffer, bytes: 25, ageMaxMs: 24 * hour }, { now, oldestPendingAt: now - hour }),
    ).toBe(23);
  });

  test("is not known of a history that is empty or young", () => {
    expect(hoursLeft({ bytes: 0, bytesMax: 100, ageMaxMs: hour }, { now })).toBeUndefined();
    expect(hoursLeft({ ...buffer, oldestAt: now - 1000 }, { now })).toBeUndefined();
  });
});
