// Summaries of batches: they never hide a row that matches, seldom show a batch without one, and stay small.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import type { FlowRecord } from "../src/flow.ts";
import { formatAddress } from "../src/store/address.ts";
import { createBatchValues, summaryTest } from "../src/store/batch-summary.ts";
import { bloomOf, mayHold, mix } from "../src/store/bloom.ts";
import type { FlowFilter } from "../src/store/filter.ts";
import type { FlowQuery } from "../src/store/query.ts";
import { checkRow, type EncodedRow } from "../src/store/rows.ts";
import { openDatabase } from "../src/store/sqlite.ts";
import { openStore, type Store, type StoreOptions } from "../src/store/store.ts";
import { append, readAll } from "./store.contract.ts";
import { anyFlow, flow, flows, startAt } from "./store.flows.ts";

setDefaultTimeout(60_000);

const root = mkdtempSync(join(tmpdir(), "fovea-summaries-"));
afterAll(() => rmSync(root, { recursive: true }));

const encoded = (rows: readonly FlowRecord[]): EncodedRow[] =>
  rows.map(checkRow).filter((row) => typeof row !== "string");

/** As large a batch as has a summary at all. */
function summaryOf(rows: readonly FlowRecord[], padding = flows(64)): Buffer {
  const values = createBatchValues();
  values.add(encoded(padding));
  values.add(encoded(rows));
  const summary = values.summary(padding.length + rows.length);
  if (summary === null) throw new Error("The batch is too small for a summary.");
  return summary;
}

const passes = (filter: FlowFilter, summary: Buffer | null): boolean =>
  summaryTest(filter)?.(summary) ?? true;

describe("a Bloom filter", () => {
  test("holds what was put in, and one in fifty of what was not at the most", () => {
    const filter = bloomOf(new Set(Array.from({ length: 1000 }, (_, value) => mix(value))), 10_000);
    expect(filter.length).toBe(1 + 1250);
    const held = (from: number, count: number) =>
      Array.from({ length: count }, (_, value) => mayHold(filter, mix(from + value))).filter(Boolean).length;
    expect(held(0, 1000)).toBe(1000);
    expect(held(1000, 10_000)).toBeLessThan(200);
  });

  test("keeps to its bytes, and has none when they are too few", () => {
    const hashes = new Set(Array.from({ length: 1000 }, (_, value) => mix(value)));
    expect(bloomOf(hashes, 400).length).toBe(400);
    for (const hash of hashes) expect(mayHold(bloomOf(hashes, 400), hash)).toBe(true);
    expect(bloomOf(hashes, 200)).toHaveLength(0);
    expect(mayHold(new Uint8Array(0), 7)).toBe(true);
    expect(bloomOf(new Set(), 100)).toHaveLength(0);
  });
});

/** Filters that a row matches, with any prefix of its addresses. */
const filtersOf = (row: FlowRecord): fc.Arbitrary<FlowFilter> => {
  const network = (address: string) =>
    fc.nat(address.includes(":") ? 128 : 32).map((bits) => [`${address}/${bits}`]);
  const ends = fc.oneof(network(row.source), network(row.destination), fc.constant([row.source]));
  return fc.record(
    {
      addresses: ends,
      sources: network(row.source),
      destinations: network(row.destination),
      ports: fc.constantFrom([row.sourcePort], [row.destinationPort, 1]),
      sourcePorts: fc.constant([row.sourcePort]),
      destinationPorts: fc.constant([9, row.destinationPort]),
      protocol: fc.constant(row.protocol),
      direction: fc.constant(row.direction),
      verdict: fc.constant(row.verdict),
      ...(row.dropReason === undefined ? {} : { dropReason: fc.constant(row.dropReason) }),
    },
    { requiredKeys: [] },
  );
};

const anyV4 = fc.nat(0xffff_ffff).map(formatAddress);
const anyV6 = fc
  .uint8Array({ minLength: 16, maxLength: 16 })
  .map((bytes) => formatAddress(Buffer.from(bytes)));
const anyRow = fc
  .tuple(
    anyFlow,
    fc.record(
      {
        source: fc.oneof(anyV4, anyV6),
        destination: fc.oneof(anyV4, anyV6),
        sourcePort: fc.nat(65_535),
        destinationPort: fc.nat(65_535),
        protocol: fc.nat(255),
        dropReason: fc.oneof(fc.string({ maxLength: 200 }), fc.constant("(other)")),
      },
      { requiredKeys: [] },
    ),
  )
  .map(([row, changes]): FlowRecord => ({ ...row, ...changes }));

describe("a summary", () => {
  test("passes for every filter that one of its rows matches", () => {
    const rowsAndFilter = fc
      .tuple(fc.array(anyRow, { minLength: 1, maxLength: 200 }), fc.nat())
      .chain(([rows, place]) =>
        fc.tuple(fc.constant(rows), filtersOf(rows[place % rows.length] ?? flow(0)), fc.nat(300)),
      );
    fc.assert(
      fc.property(rowsAndFilter, ([rows, filter, padding]) => {
        expect(passes(filter, summaryOf(rows, flows(64 + padding)))).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  test("passes for rows among more addresses, ports, protocols and reasons than it has room for", () => {
    const many = Array.from({ length: 20_000 }, (_, number) =>
      flow(number, {
        source: formatAddress((number * 2_654_435_761) >>> 0),
        destination: formatAddress(Buffer.from(`${number}`.padStart(16, "x"))),
        sourcePort: number,
        destinationPort: 65_535 - number,
        protocol: number % 256,
        verdict: "dropped",
        dropReason: `reason ${number}`,
      }),
    );
    const summary = summaryOf(many, []);
    expect(summary.length).toBeLessThanOrEqual(many.length * 1.5);
    for (const { source, destination, sourcePort, protocol, dropReason = "" } of many.slice(0, 500)) {
      expect(passes({ sources: [source], destinations: [`${destination}/64`] }, summary)).toBe(true);
      expect(passes({ ports: [sourcePort], protocol, dropReason }, summary)).toBe(true);
    }
  });

  test("rules out what none of its rows has", () => {
    const rows = Array.from({ length: 500 }, (_, number) =>
      flow(number, {
        source: `10.1.${number % 4}.${number % 200}`,
        destination: number % 2 === 0 ? "10.2.0.1" : "2001:db8:1:2::7",
        destinationPort: 443,
        protocol: 6,
        direction: "egress",
        verdict: "forwarded",
      }),
    ).map(({ dropReason: _none, ...row }) => row);
    const summary = summaryOf(rows, []);
    expect(summary.length).toBeLessThanOrEqual(rows.length * 1.5);
    const out: readonly FlowFilter[] = [
      { protocol: 17 },
      { direction: "ingress" },
      { verdict: "dropped" },
      { dropReason: "NO_SOCKET" },
      { addresses: ["10.9.0.0/16"] },
      { sources: ["10.1.9.0/24", "192.0.2.1"] },
      { addresses: ["2001:db8:1:3::/64"] },
      { addresses: ["2001:db8:2::/48"] },
      { destinationPorts: [22] },
    ];
    expect(out.filter((filter) => passes(filter, summary))).toEqual([]);
    const wide: FlowFilter[] = [{ addresses: ["11.0.0.0/8"] }, { addresses: ["10.9.0.1", "fd00::/8"] }, {}];
    expect(wide.map((filter) => summaryTest(filter))).toEqual([undefined, undefined, undefined]);
    const hosts = Array.from({ length: 2000 }, (_, number) => `172.16.${number >> 8}.${number & 255}`);
    expect(hosts.filter((host) => passes({ addresses: [host] }, summary)).length).toBeLessThan(200);
  });

  test("is not believed when it is absent, of another version, or cut short", () => {
    const filter: FlowFilter = { protocol: 250, addresses: ["203.0.113.1"] };
    const summary = summaryOf([]);
    expect(passes(filter, summary)).toBe(false);
    expect(passes(filter, null)).toBe(true);
    expect(passes(filter, Buffer.from([2, ...summary.subarray(1)]))).toBe(true);
    for (let length = 0; length < summary.length; length++)
      expect(passes(filter, summary.subarray(0, length))).toBe(true);
  });

  test("is not made for a few rows", () => {
    const values = createBatchValues();
    values.add(encoded(flows(63)));
    expect(values.summary(63)).toBeNull();
  });
});

describe("a store with summaries", () => {
  let dirs = 0;
  const open = (options: Partial<StoreOptions> = {}): { readonly store: Store; readonly dir: string } => {
    const dir = join(root, `${++dirs}`);
    const bytesMax = 64 * 1024 * 1024;
    return { dir, store: openStore({ dir, bytesMax, ageMaxMs: 1e10, now: () => startAt, ...options }) };
  };
  const edit = (dir: string, sql: string): void => {
    const database = openDatabase({ path: join(dir, "fovea.db"), timeoutMs: 1000 });
    database.exec(sql);
    database.close();
  };

  /** Batches of 200 rows, each of one host of its own; grown by two appends each. */
  function filled(): ReturnType<typeof open> {
    const opened = open();
    for (let batch = 0; batch < 20; batch++)
      for (const half of [0, 100]) {
        const rows = flows(100, batch * 200 + half).map((row) => ({ ...row, source: `10.77.${batch}.1` }));
        append(opened.store, rows, startAt + batch * 60_000 + half);
      }
    return opened;
  }

  test("passes over batches that cannot match, in either order", () => {
    using store = filled().store;
    for (const order of ["newest", "oldest"] as const) {
      const page = store.queryFlows({ order, sources: ["10.77.4.1"], limit: 1000 });
      expect(page.flows).toHaveLength(200);
      expect(page.more).toBe(false);
      expect(page.scanned).toBeLessThanOrEqual(4 * 200); // Its own, the open one, and by chance one or two.
    }
  });

  test("reads batches whose summary is gone or not known", () => {
    const { store, dir } = filled();
    using _store = store;
    const query: FlowQuery = { sources: ["10.77.4.0/24"], destinationPorts: [443], limit: 1000 };
    const { flows: found } = store.queryFlows(query);
    expect(found).toHaveLength(100);
    for (const summary of ["NULL", "x'02'", "x''", "substr(summary, 1, 9)"]) {
      edit(dir, `UPDATE batches SET summary = ${summary}`);
      expect(store.queryFlows(query)).toMatchObject({ flows: found, scanned: 4000, more: false });
    }
  });

  test("writes one for each batch that is closed, of 1.5 bytes a row at the most", () => {
    const { store, dir } = filled();
    using _store = store;
    const database = openDatabase({ path: join(dir, "fovea.db"), readonly: true });
    const lengths = database
      .prepare<unknown[], number>("SELECT coalesce(length(summary), -1) FROM batches ORDER BY first_seq")
      .pluck()
      .all();
    database.close();
    expect(lengths).toHaveLength(20);
    expect(lengths.at(-1)).toBe(-1);
    expect(lengths.slice(0, -1).every((length) => length > 0 && length <= 300)).toBe(true);
  });

  test("finds every row by its own values", () => {
    fc.assert(
      fc.property(fc.array(anyRow, { minLength: 300, maxLength: 400 }), fc.nat(), (rows, place) => {
        using store = open().store;
        for (let start = 0; start < rows.length; start += 100)
          append(store, rows.slice(start, start + 100), startAt + start * 600);
        const row = rows[place % rows.length] ?? flow(0);
        const { source, destination, sourcePort, destinationPort, protocol, direction, verdict } = row;
        const { dropReason } = row;
        const found = readAll(store, {
          ...{ sources: [source], destinations: [destination], protocol, direction, verdict },
          ...{ sourcePorts: [sourcePort], destinationPorts: [destinationPort] },
          ...(dropReason === undefined ? {} : { dropReason: dropReason.slice(0, 128) }),
        });
        expect(found.length).toBeGreaterThan(0);
      }),
      { numRuns: 40 },
    );
  });
});
