// The streams of flows: what a client gets, where it goes on, and when it is let go.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { apiApp } from "../src/api/app.ts";
import { openServer } from "../src/api/server.ts";
import { createStreams, type StreamBounds } from "../src/api/streams.ts";
import { thrownBetween } from "../src/api/supply.ts";
import { StoreQueryError, StoreUnreadableError } from "../src/store/failure.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { apiParts, flow, historyOf, local, now, streamsOf } from "./api.parts.ts";

const cleanup = new DisposableStack();
afterAll(() => cleanup.dispose());

function emptyStore(options: { readonly ageMaxMs?: number; readonly clock?: () => number } = {}): Store {
  const { ageMaxMs = 86_400_000, clock = () => now } = options;
  const dir = mkdtempSync(join(tmpdir(), "fovea-stream-"));
  const store = openStore({ dir, bytesMax: 2 ** 24, ageMaxMs, now: clock });
  cleanup.defer(() => {
    store.close();
    rmSync(dir, { recursive: true, force: true });
  });
  return store;
}

const rowsFrom = (first: number, count: number) =>
  Array.from({ length: count }, (_, index) => ({ ...flow, sourcePort: 1 + ((first + index) % 60_000) }));

type Opened = {
  readonly store: Store;
  /** Appends rows and tells the streams, as a tick does. */
  readonly append: (count: number, ledger?: Record<string, number>) => void;
  readonly streams: ReturnType<typeof streamsOf>;
  readonly ask: (path: string, headers?: Record<string, string>) => Promise<Response>;
};

function opened(
  options: { streamsMax?: number; bounds?: Partial<StreamBounds>; store?: Store } = {},
): Opened {
  const store = options.store ?? emptyStore();
  const streams = streamsOf(store, options);
  const app = apiApp(apiParts(store, { streams }));
  return {
    store,
    streams,
    append: (count, ledger = {}) => {
      const rows = rowsFrom(store.stats().lastSeq, count);
      const thrown = Object.values(ledger).reduce((sum, one) => sum + one, 0);
      store.append({ rows, ledger: { "rows.offered": count + thrown, ...ledger } });
      streams.ticked();
    },
    ask: async (path, headers = {}) =>
      await app.request(`/api/v1/flows${path}`, { headers: { ...local.headers, ...headers } }),
  };
}

type Line = Record<string, unknown> & { readonly seq?: number; readonly cursor?: string };

/** Reads a body line by line; `until` gives all lines up to one that fits, that one included. */
function linesOf(response: Response) {
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const decoder = new TextDecoder();
  let text = "";
  const next = async (): Promise<string | undefined> => {
    for (;;) {
      const end = text.indexOf("\n");
      if (end >= 0) {
        const line = text.slice(0, end);
        text = text.slice(end + 1);
        return line;
      }
      const { value, done } = await reader.read();
      if (done) return undefined;
      text += decoder.decode(value);
    }
  };
  const nextValue = async (): Promise<Line | undefined> => {
    for (;;) {
      const line = await next();
      if (line === undefined) return undefined;
      if (line !== "") return JSON.parse(line) as Line;
    }
  };
  return {
    next,
    nextValue,
    flows: async (count: number): Promise<Line[]> => {
      const found: Line[] = [];
      while (found.length < count) {
        const value = await nextValue();
        if (value === undefined) throw new Error("the stream ended");
        if (value.seq !== undefined) found.push(value);
      }
      return found;
    },
    rest: async (): Promise<Line[]> => {
      const found: Line[] = [];
      for (let value = await nextValue(); value !== undefined; value = await nextValue()) found.push(value);
      return found;
    },
    cancel: () => reader.cancel(),
  };
}

const seqs = (lines: readonly Line[]) => lines.map(({ seq }) => seq);
const upTo = (first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, index) => first + index);

test("server-sent events: begins with now, an id an event, the flow as JSON", async () => {
  const { append, ask } = opened();
  append(3);
  const response = await ask("/stream");
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("text/event-stream");
  expect(response.headers.get("cache-control")).toBe("no-store");
  const lines = linesOf(response);
  expect([await lines.next(), await lines.next()]).toEqual(["retry: 2000", ""]);
  append(1);
  expect(await lines.next()).toBe("event: flow");
  expect(await lines.next()).toMatch(/^id: [\w-]+$/);
  const [, data = ""] = /^data: (.*)$/.exec((await lines.next()) ?? "") ?? [];
  expect(JSON.parse(data)).toEqual({ ...flow, sourcePort: 4, seq: 4 });
  expect(await lines.next()).toBe("");
  await lines.cancel();
});

test.each([
  ["/stream?format=ndjson&since=10m", {}],
  ["/stream?since=10m", { Accept: "application/x-ndjson" }],
  ["?follow=true&since=10m", {}],
  ["?follow=true&since=10m&order=oldest&format=ndjson", {}],
])("NDJSON by %s %p: from the past on, a flow a line", async (path, headers) => {
  const { append, ask } = opened();
  append(3);
  const response = await ask(path, headers);
  expect(response.headers.get("content-type")).toBe("application/x-ndjson");
  const lines = linesOf(response);
  const before = await lines.flows(3);
  expect(before[0]).toEqual({ ...flow, sourcePort: 1, seq: 1, cursor: expect.any(String) });
  append(2);
  expect(seqs([...before, ...(await lines.flows(2))])).toEqual([1, 2, 3, 4, 5]);
  await lines.cancel();
});

test.each([
  ["?follow=true&limit=3", "limit"],
  ["?follow=true&order=newest", "order"],
  ["?follow=true&to=now", "to"],
  ["?follow=true&format=json", "format"],
  ["/stream?order=oldest", "order"],
  ["/stream?cursor=bm9uZQ", "cursor"],
  ["/stream?since=1h&from=-2h", "since"],
])("%s is refused for %s", async (path, parameter) => {
  const { ask, streams } = opened();
  const response = await ask(path);
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ error: { parameter } });
  expect(streams.facts().open).toBe(0);
});

test("a Last-Event-ID that is none is refused, one of an event goes on there, before the cursor", async () => {
  const { append, ask } = opened();
  expect((await ask("/stream", { "Last-Event-ID": "no id" })).status).toBe(400);
  append(5);
  const [first, , third] = await linesOf(await ask("?follow=true&since=10m")).flows(3);
  const path = `/stream?format=ndjson&cursor=${first?.cursor}`;
  const resumed = linesOf(await ask(path, { "Last-Event-ID": third?.cursor ?? "" }));
  expect(seqs(await resumed.flows(2))).toEqual([4, 5]);
});

test("wherever a client breaks off, the cursor of its last line gives it each row once", async () => {
  const { append, ask } = opened({ bounds: { chunkBytes: 1000 } });
  append(40);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 12 }), { maxLength: 5 }), async (breaks) => {
      const found: Line[] = [];
      for (const count of [...breaks, 40]) {
        const cursor = found.at(-1)?.cursor;
        const place = cursor === undefined ? "since=10m" : `cursor=${cursor}`;
        const lines = linesOf(await ask(`/stream?format=ndjson&${place}`));
        found.push(...(await lines.flows(Math.min(count, 40 - found.length))));
        await lines.cancel();
        if (found.length === 40) break;
      }
      expect(seqs(found)).toEqual(upTo(1, 40));
    }),
    { numRuns: 30 },
  );
});

test("filters are those of the pages", async () => {
  const { store, streams, ask } = opened();
  const lines = linesOf(await ask("/stream?format=ndjson&verdict=dropped&port=23&address=198.51.100.0/24"));
  const dropped = { ...flow, source: "198.51.100.9", destinationPort: 23, verdict: "dropped" as const };
  store.append({ rows: [flow, dropped, { ...dropped, destinationPort: 24 }, dropped] });
  streams.ticked();
  expect(seqs(await lines.flows(2))).toEqual([2, 4]);
  await lines.cancel();
});

test("what is thrown away meanwhile is told, by the names of the ledger", async () => {
  const { append, ask } = opened();
  const lines = linesOf(await ask("?follow=true"));
  expect(await lines.next()).toBe("");
  append(1, { "rows.throttled.window": 7, "rows.filtered.excluded": 2 });
  const told = [await lines.nextValue(), await lines.nextValue()];
  expect(seqs(told.map((line) => line ?? {}))).toEqual([1, undefined]);
  expect(told[1]).toMatchObject({
    lost: { "rows.throttled.window": 7, "rows.filtered.excluded": 2 },
    passed: 0,
  });
  await lines.cancel();
});

test("rows that retention took before the client came to them are told", async () => {
  let clock = now;
  const store = emptyStore({ ageMaxMs: 60_000, clock: () => clock });
  const { append, ask } = opened({ store });
  append(3);
  const [first] = await linesOf(await ask("?follow=true&since=10m")).flows(1);
  clock += 3_600_000;
  append(1);
  const lines = linesOf(await ask(`?follow=true&cursor=${first?.cursor}`));
  const told = [await lines.nextValue(), await lines.nextValue()];
  expect(told[0]?.seq).toBe(4);
  expect(told[1]).toMatchObject({ passed: 2 });
  await lines.cancel();
});

test("only what grew, and only what was thrown away, is a loss", () => {
  const before = { "rows.kept": 1, "rows.throttled.window": 5, "rows.evicted.age": 1, "rows.lost.busy": 2 };
  const after = { "rows.kept": 9, "rows.throttled.window": 8, "rows.evicted.age": 4, "rows.lost.busy": 2 };
  expect(thrownBetween(before, after)).toEqual({ "rows.throttled.window": 3 });
});

test("heartbeats while nothing happens, with the place to go on from", async () => {
  const { append, ask, store, streams } = opened({ bounds: { heartbeatMs: 20 } });
  const events = linesOf(await ask("/stream?port=9"));
  const lines = linesOf(await ask("?follow=true&port=9"));
  append(3);
  streams.ticked(); // Ticks do not put the heartbeat off.
  const place = store.cursorAt({ seq: 3, order: "oldest" });
  expect(await events.next()).toBe("retry: 2000");
  for (const expected of ["", ": heartbeat", `id: ${place}`, ""]) expect(await events.next()).toBe(expected);
  expect(await lines.nextValue()).toEqual({ cursor: place });
  await Promise.all([events.cancel(), lines.cancel()]);
});

test("a client that takes nothing is cut off, told so, and its rows counted", async () => {
  const { append, ask, streams } = opened({ bounds: { stalledMs: 20, chunkBytes: 1000 } });
  append(50);
  const response = await ask("?follow=true&since=10m");
  expect(streams.facts()).toMatchObject({ open: 1, served: 1, cutOff: 0 });
  while (streams.facts().open > 0) await Bun.sleep(5);
  expect(streams.facts()).toMatchObject({ open: 0, cutOff: 1, rowsUnsent: 50 });
  expect(await linesOf(response).rest()).toEqual([{ cut: { reason: "slow", rowsUnsent: 50 } }]);
});

test("a client that takes less than comes is cut off; one that takes much at once is not", async () => {
  const { append, ask, streams } = opened({ bounds: { behindMax: 100, chunkBytes: 400 } });
  const slow = linesOf(await ask("/stream?format=ndjson"));
  expect(await slow.next()).toBe("");
  append(500); // More than the bound in one tick, taken before the next.
  expect(seqs(await slow.flows(500))).toEqual(upTo(1, 500));
  for (let tick = 0; tick < 2; tick++) {
    append(40);
    await slow.flows(1);
  }
  append(40);
  expect(streams.facts().open).toBe(1);
  append(40);
  expect(streams.facts()).toMatchObject({ open: 0, cutOff: 1 });
  const rest = await slow.rest();
  const read = rest.findLast(({ seq }) => seq !== undefined)?.seq ?? 502;
  expect(rest.at(-1)).toEqual({ cut: { reason: "slow", rowsUnsent: 660 - read } });
});

test("a client that begins far in the past is not behind for that", async () => {
  const { append, ask, streams } = opened({ bounds: { behindMax: 10, chunkBytes: 400 } });
  append(1000);
  const lines = linesOf(await ask("?follow=true&since=10m"));
  for (let tick = 0; tick < 20; tick++) {
    await lines.flows(10);
    append(1);
  }
  expect(streams.facts()).toMatchObject({ open: 1, cutOff: 0 });
  expect(seqs(await lines.flows(820)).at(-1)).toBe(1020);
  await lines.cancel();
});

test("above the bound it is 503; room comes back when one leaves", async () => {
  const { ask, streams } = opened({ streamsMax: 2 });
  const first = await ask("/stream");
  await ask("/stream");
  const refused = await ask("/stream");
  expect(refused.status).toBe(503);
  expect(refused.headers.get("retry-after")).toBe("10");
  expect(await refused.json()).toMatchObject({
    error: { message: expect.stringContaining("api.streamsMax") },
  });
  expect(streams.facts()).toMatchObject({ open: 2, served: 2, refused: 1 });
  await first.body?.cancel();
  expect((await ask("/stream")).status).toBe(200);
});

test("HEAD opens no stream", async () => {
  const { store, streams } = opened();
  const app = apiApp(apiParts(store, { streams }));
  for (const path of ["/stream", "?follow=true"]) {
    const response = await app.request(`/api/v1/flows${path}`, { method: "HEAD", ...local });
    expect(response.status).toBe(200);
  }
  expect(streams.facts()).toMatchObject({ open: 0, served: 0 });
});

test("disposing ends each stream at once, one that nobody reads too, and opens no more", async () => {
  const { ask, streams } = opened();
  const lines = linesOf(await ask("?follow=true"));
  expect(await lines.next()).toBe("");
  const waiting = lines.rest();
  await ask("/stream");
  streams[Symbol.dispose]();
  expect(await waiting).toEqual([]);
  expect(streams.facts().open).toBe(0);
  expect((await ask("/stream")).status).toBe(503);
});

test("a store that cannot be read for a while is asked again; one that was replaced ends the stream", async () => {
  const { store, append } = opened();
  let failure: Error | undefined;
  const history = historyOf(store);
  const flows: typeof history.flows = async (query) => {
    if (failure !== undefined) throw failure;
    return await history.flows(query);
  };
  const told: unknown[] = [];
  const streams = createStreams({
    source: {
      ...history,
      flows,
      head: () => ({ generation: store.place().generation, seq: store.stats().lastSeq }),
      ledger: store.ledger,
    },
    streamsMax: 1,
    failed: (error) => void told.push(error),
  });
  const app = apiApp(apiParts(store, { streams }));
  const lines = linesOf(await app.request("/api/v1/flows?follow=true", local));
  expect(await lines.next()).toBe("");
  failure = new StoreUnreadableError("disk I/O error");
  const flowsLater = lines.flows(2);
  append(2);
  streams.ticked();
  while (told.length === 0) await Bun.sleep(1);
  expect(told[0]).toBe(failure);
  failure = undefined;
  streams.ticked();
  expect(seqs(await flowsLater)).toEqual([1, 2]);
  failure = new StoreQueryError("cursor", "replaced");
  streams.ticked();
  expect(await lines.rest()).toEqual([{ cut: { reason: "replaced", rowsUnsent: 0 } }]);
});

async function served(open: Opened) {
  const app = apiApp(apiParts(open.store, { streams: open.streams }));
  return await openServer({
    listen: { host: "127.0.0.1", port: 0 },
    address: "127.0.0.1",
    fetch: (request) => app.fetch(request),
    connectionsMax: 10,
    bodyBytesMax: 1024,
    graceMs: 600_000, // Who waits for it fails by the time of the test.
  });
}

test("over a socket: a client that goes frees its place, and the stop waits for none", async () => {
  const open = opened();
  const server = await served(open);
  const gone = new AbortController();
  const url = `${server.url}/api/v1/flows?follow=true`;
  const first = await fetch(url, { signal: gone.signal });
  const second = linesOf(await fetch(url));
  expect([first.status, await second.next()]).toEqual([200, ""]);
  expect(open.streams.facts().open).toBe(2);
  gone.abort();
  while (open.streams.facts().open === 2) await Bun.sleep(5);
  open.append(1);
  expect(seqs(await second.flows(1))).toEqual([1]);
  const rest = second.rest();
  open.streams[Symbol.dispose]();
  await server[Symbol.asyncDispose]();
  expect(await rest).toEqual([]);
});
