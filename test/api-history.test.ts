// The routes that tell of the past beyond rows: totals, samples, and the ledger of a time.

import { afterAll, expect, test } from "bun:test";
import { type ApiParts, apiApp } from "../src/api/app.ts";
import { errorSchema, ledgerSchema, samplesSchema, topSchema } from "../src/api/schemas.ts";
import { StoreQueryError } from "../src/store/failure.ts";
import { apiParts, historyOf, local, now, storeOfRows } from "./api.parts.ts";

const store = storeOfRows();
afterAll(() => store.close());

const hourMs = 3_600_000;

/** What was asked of the history, and what a path answers. */
function asked(changed: Partial<ApiParts["queries"]> = {}) {
  const seen: unknown[] = [];
  const noting =
    <Query, Answer>(ask: (query: Query) => Promise<Answer>) =>
    (query: Query) => {
      seen.push(query);
      return ask(query);
    };
  const queries = { ...historyOf(store), ...changed };
  const app = apiApp(
    apiParts(store, {
      queries: {
        ...queries,
        top: noting(queries.top),
        series: noting(queries.series),
        samples: noting(queries.samples),
        lost: noting(queries.lost),
        summaries: noting(queries.summaries),
      },
    }),
  );
  return { seen, get: async (path: string) => await app.request(`/api/v1${path}`, local) };
}

test.each([
  ["/top", { fromAt: now - hourMs, by: "address", order: "bytes", limit: 10 }],
  ["/top?to=now", { toAt: now, by: "address", order: "bytes", limit: 10 }],
  [
    "/top?by=port&order=records&limit=3&since=5m",
    { fromAt: now - 300_000, by: "port", order: "records", limit: 3 },
  ],
  [
    "/top?address=10.0.0.0/8&address=::1&port=53&protocol=udp&direction=egress&verdict=dropped&from=-1m",
    {
      fromAt: now - 60_000,
      ...{ by: "address", order: "bytes", limit: 10, address: ["10.0.0.0/8", "::1"], port: 53, protocol: 17 },
      ...{ direction: "egress", verdict: "dropped" },
    },
  ],
])("%s asks for %p", async (path, query) => {
  const { seen, get } = asked();
  const response = await get(path);
  expect(response.status).toBe(200);
  expect(seen).toEqual([query]);
  const answer = topSchema.parse(await response.json());
  expect([answer.by, answer.order]).toEqual([query.by, query.order] as (typeof answer.by)[]);
  expect(answer.ranks[0]?.key).toBe("10.0.0.1");
});

test.each([
  ["/top?by=colour", "by"],
  ["/top?limit=1001", "limit"],
  ["/top?port=53&port=54", "port"],
  ["/top?since=1h&from=-2h", "since"],
  ["/samples", "name"],
  ["/samples?name=a-b", "name"],
  ["/samples?name=up&label=novalue", "label"],
  ["/samples?name=up&label=Direction=ingress&label=Direction=egress", "label"],
  ["/series?label=Direction=ingress&label=State=LISTEN&label=Direction=egress", "label"],
  ["/samples?name=up&step=0s", "step"],
  ["/samples?name=up&since=10m&to=-1h", "to"],
  ["/samples?name=up&from=-1h&to=-1h", "to"],
  ["/samples?name=up&from=2026-02-01T00:00:00Z", "from"],
  ["/samples?name=up&since=0s", "since"],
  ["/top?since=10m&to=-1h", "to"],
  ["/ledger?from=-10m&to=-1h", "to"],
  ["/series?name=*", "name"],
  ["/ledger?limit=0", "limit"],
])("%s is refused for %s", async (path, parameter) => {
  const { seen, get } = asked();
  const response = await get(path);
  expect(response.status).toBe(400);
  expect(errorSchema.parse(await response.json()).error.parameter).toBe(parameter);
  expect(seen).toEqual([]);
});

test.each([
  ["stepMs", "stepMs: 0 is not positive.", { parameter: "step", message: "0 is not positive." }],
  ["sources", "sources has 65 values", { parameter: "source", message: "has 65 values" }],
  ["cursor", "The cursor is another's.", { parameter: "cursor", message: "The cursor is another's." }],
])("what the store refuses of %s is told by the parameter's name here", async (own, message, error) => {
  const wrong = { samples: () => Promise.reject(new StoreQueryError(own, message)) };
  const response = await asked(wrong).get("/samples?name=up");
  expect(response.status).toBe(400);
  expect(errorSchema.parse(await response.json()).error).toEqual(error);
});

test.each([
  ["/samples?name=up", { name: "up", labels: {}, fromAt: now - hourMs, toAt: now, seriesMax: 100 }],
  [
    "/samples?name=up*&label=Direction=egress&label=Reason=a=b&since=1d&step=5m&limit=2",
    {
      ...{ name: "up*", labels: { Direction: "egress", Reason: "a=b" }, seriesMax: 2, stepMs: 300_000 },
      ...{ fromAt: now - 24 * hourMs, toAt: now },
    },
  ],
  ["/series?name=kappie_*&limit=5", { name: "kappie_*", labels: {}, limit: 5 }],
  ["/series?label=State=LISTEN", { labels: { State: "LISTEN" }, limit: 1000 }],
])("%s asks for %p", async (path, query) => {
  const { seen, get } = asked();
  expect((await get(path)).status).toBe(200);
  expect(seen).toEqual([query]);
});

test("values that JSON has no number for, and the end of a series, are told apart", async () => {
  const answer = samplesSchema.parse(await (await asked().get("/samples?name=up")).json());
  expect(answer.series[0]?.points.map(([, value]) => value)).toEqual([1.5, "NaN", "+Inf", null]);
});

test("the ledger of a time: what is missing there, and the throttled intervals", async () => {
  const summary = {
    ...{ startAt: now - 2000, endAt: now - 1000, rows: 3, packets: 30, bytes: 3000 },
    by: [
      { verdict: "forwarded", direction: "egress", protocol: 6, rows: 3, packets: 30, bytes: 3000 } as const,
    ],
  };
  const { seen, get } = asked({
    lost: () => Promise.resolve({ sinceAt: now - 60_000, lost: { "rows.throttled.window": 3 } }),
    summaries: () => Promise.resolve([summary]),
  });
  const { range, throttled, totals } = ledgerSchema.parse(
    await (await get("/ledger?since=1h&limit=7")).json(),
  );
  const fromAt = now - hourMs;
  expect(range).toEqual({ fromAt, lost: { "rows.throttled.window": 3 }, lostSince: now - 60_000 });
  expect(throttled).toEqual([summary]);
  expect(totals["rows.kept"]).toBe(5);
  expect(seen).toEqual([{ fromAt }, { fromAt, limit: 7 }]);
  const within = ledgerSchema.parse(await (await get("/ledger?since=30s")).json());
  expect(within.range).not.toHaveProperty("lostSince");
});

test("without a time the ledger asks the history nothing", async () => {
  const { seen, get } = asked();
  const answer = ledgerSchema.parse(await (await get("/ledger")).json());
  expect([answer.range, answer.throttled, seen]).toEqual([undefined, undefined, []]);
});
